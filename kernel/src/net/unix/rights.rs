//! Open files on their way through sockets (`SCM_RIGHTS`).
//!
//! A file that is only held by messages can never be used again if the queues those messages lie in belong to sockets
//! of the same kind. Such circles are looked for whenever a socket is closed while others are on their way, and when
//! many more are on their way than were left the last time.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::endpoint::Endpoint;
use super::socket::Socket;
use crate::errno::{Errno, KResult};
use crate::fs::file::OpenFile;
use crate::process::credentials::Uid;
use crate::process::{Resource, current};
use crate::sync::SpinLock;
use litemap::LiteMap;

/// Most files that go with one message (`SCM_MAX_FD`).
pub const MAX_FILES: usize = 253;

/// Files that go with a message.
pub struct Rights {
    files: Vec<Arc<OpenFile>>,
    /// Whose limit they count against.
    uid: Uid,
    /// They are counted as on their way.
    counted: bool,
}

impl Rights {
    /// Files to be sent by the running process.
    ///
    /// # Errors
    /// ETOOMANYREFS if its user has too many on their way already.
    pub fn new(files: Vec<Arc<OpenFile>>) -> KResult<Self> {
        let process = &current().process;
        let limit = process.limits.lock().get(Resource::OpenFiles).soft;
        let (uid, privileged) = {
            let who = process.credentials.lock();
            (who.uid, who.is_privileged())
        };
        let mut rights = Self { files, uid, counted: false };
        if SOCKETS.load(Ordering::Relaxed) >= COLLECT_AT.load(Ordering::Relaxed) {
            collect();
            let left = SOCKETS.load(Ordering::Relaxed);
            COLLECT_AT.store((2 * left).max(MANY_SOCKETS), Ordering::Relaxed);
        }
        let mut registry = REGISTRY.lock();
        if !privileged && registry.of_user(uid) as u64 > limit {
            return Err(Errno::ETOOMANYREFS);
        }
        registry.enter(&mut rights);
        Ok(rights)
    }

    /// The files.
    pub fn files(&self) -> &[Arc<OpenFile>] {
        &self.files
    }

    /// The same files, for a look at a message that stays where it is.
    pub fn peek(&self) -> Self {
        Self { files: self.files.clone(), uid: self.uid, counted: false }
    }

    /// The message was taken out of its queue, for now or for good: its files are not on their way. Must come before
    /// anything is done with them.
    pub fn leave(&mut self) {
        REGISTRY.lock().leave(self);
    }

    /// The message goes back to its queue.
    pub fn enter_again(&mut self) {
        REGISTRY.lock().enter(self);
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        self.leave();
        close_later(core::mem::take(&mut self.files));
    }
}

/// The files on their way.
struct Registry {
    /// How often each socket is held by messages, by the address of its open file.
    sockets: LiteMap<usize, (usize, Weak<OpenFile>)>,
    /// How many files of each user.
    users: LiteMap<u32, usize>,
}

static REGISTRY: SpinLock<Registry> =
    SpinLock::new(Registry { sockets: LiteMap::new(), users: LiteMap::new() });

/// Sockets in the registry, to be asked without the lock.
static SOCKETS: AtomicUsize = AtomicUsize::new(0);

/// As many sockets on their way are looked through before they are more.
const MANY_SOCKETS: usize = 256;

static COLLECT_AT: AtomicUsize = AtomicUsize::new(MANY_SOCKETS);

fn address(file: &Arc<OpenFile>) -> usize {
    Arc::as_ptr(file).addr()
}

impl Registry {
    fn of_user(&self, uid: Uid) -> usize {
        self.users.get(&uid.0).copied().unwrap_or(0)
    }

    fn enter(&mut self, rights: &mut Rights) {
        if core::mem::replace(&mut rights.counted, true) {
            return;
        }
        *self.users.entry(rights.uid.0).or_insert(0) += rights.files.len();
        for file in rights.files.iter().filter(|file| file.ops_as::<Socket>().is_some()) {
            self.sockets.entry(address(file)).or_insert_with(|| (0, Arc::downgrade(file))).0 += 1;
        }
        SOCKETS.store(self.sockets.len(), Ordering::Relaxed);
    }

    fn leave(&mut self, rights: &mut Rights) {
        if !core::mem::replace(&mut rights.counted, false) {
            return;
        }
        if let Some(count) = self.users.get_mut(&rights.uid.0) {
            *count -= rights.files.len();
            if *count == 0 {
                self.users.remove(&rights.uid.0);
            }
        }
        for file in &rights.files {
            let key = address(file);
            if let Some((count, _)) = self.sockets.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.sockets.remove(&key);
                }
            }
        }
        SOCKETS.store(self.sockets.len(), Ordering::Relaxed);
    }

    /// The endpoints of sockets that nothing but messages in each other's queues holds.
    ///
    /// Neither can a file be taken out of a queue and used nor one be put into a queue meanwhile: both enter or leave the
    /// registry, which is locked. A message that is in neither queue nor registry counts as held from outside.
    fn unreachable(&self) -> Vec<Arc<Endpoint>> {
        // Sockets held by messages alone, and how many of those messages are not accounted for by the queues of others.
        let mut candidates: LiteMap<usize, Candidate> = LiteMap::new();
        let mut kept = Vec::new();
        for (&key, (count, file)) in self.sockets.iter() {
            if file.strong_count() == *count
                && let Some(file) = file.upgrade()
            {
                if let Some(socket) = file.ops_as::<Socket>() {
                    let endpoint = socket.endpoint().clone();
                    let holds = queued_sockets(&endpoint);
                    candidates.insert(key, Candidate { endpoint, holds, outside: *count, reached: false });
                }
                kept.push(file);
            }
        }
        let held: Vec<usize> =
            candidates.values().flat_map(|candidate| candidate.holds.iter().copied()).collect();
        for key in held {
            if let Some(candidate) = candidates.get_mut(&key) {
                candidate.outside = candidate.outside.saturating_sub(1);
            }
        }
        let mut to_visit: Vec<usize> =
            candidates.iter().filter(|(_, candidate)| candidate.outside > 0).map(|(&key, _)| key).collect();
        while let Some(key) = to_visit.pop() {
            if let Some(candidate) = candidates.get_mut(&key)
                && !core::mem::replace(&mut candidate.reached, true)
            {
                to_visit.extend_from_slice(&candidate.holds);
            }
        }
        // None of these is the last reference: messages hold the others.
        drop(kept);
        candidates
            .into_iter()
            .filter(|(_, candidate)| !candidate.reached)
            .map(|(_, candidate)| candidate.endpoint)
            .collect()
    }
}

struct Candidate {
    endpoint: Arc<Endpoint>,
    /// Sockets in its queue.
    holds: Vec<usize>,
    /// Messages that hold it from outside the candidates' queues.
    outside: usize,
    reached: bool,
}

/// The sockets that the messages in `endpoint`'s queue hold, and in those of connections nobody has accepted yet.
fn queued_sockets(endpoint: &Endpoint) -> Vec<usize> {
    let mut found = Vec::new();
    endpoint.each_rights(&mut |rights| found.extend(rights.files().iter().map(address)));
    found
}

/// Frees what only circles of messages hold. Context: a task, no locks held.
pub fn collect() {
    if SOCKETS.load(Ordering::Relaxed) == 0 {
        return;
    }
    let unreachable = REGISTRY.lock().unreachable();
    for endpoint in unreachable {
        // To drop the messages drops the files, which closes the sockets and empties their queues.
        let messages = endpoint.take_messages_with_rights();
        drop(messages);
    }
}

static TO_CLOSE: SpinLock<Vec<Arc<OpenFile>>> = SpinLock::new(Vec::new());
static CLOSING: AtomicBool = AtomicBool::new(false);

/// Lets go of files one after the other: to close a socket may drop messages with further files, to any depth.
fn close_later(files: Vec<Arc<OpenFile>>) {
    if files.is_empty() {
        return;
    }
    TO_CLOSE.lock().extend(files);
    while !CLOSING.swap(true, Ordering::Acquire) {
        loop {
            let next = TO_CLOSE.lock().pop();
            match next {
                Some(file) => drop(file),
                None => break,
            }
        }
        CLOSING.store(false, Ordering::Release);
        // Whoever came while the last one was taken has left it to us.
        if TO_CLOSE.lock().is_empty() {
            return;
        }
    }
}
