//! Waiting for descriptors: `select(2)`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use platform::Nanoseconds;

use super::polling::{leave_rest, no_restart_after_handler};
use crate::errno::{Errno, KResult};
use crate::fs::file::OpenFile;
use crate::fs::poll::{PollEvents, wait_for};
use crate::fs::table::{Fd, open_file};
use crate::mm::UserAddr;
use crate::process::current;
use crate::signal;
use crate::syscall::{Call, SysResult};
use crate::time::{self, abi::Timeval};

/// What makes a descriptor count for each of the three sets.
const WANTED: [PollEvents; 3] = [
    PollEvents::READABLE.union(PollEvents::RDBAND).union(PollEvents::HUP).union(PollEvents::ERR),
    PollEvents::WRITABLE.union(PollEvents::WRBAND).union(PollEvents::ERR),
    PollEvents::PRI,
];

/// The three sets of descriptors, a bit each.
struct Sets {
    at: [UserAddr; 3],
    words: [Vec<u64>; 3],
}

impl Sets {
    fn read(at: [UserAddr; 3], count: usize) -> KResult<Self> {
        let mut words = [Vec::new(), Vec::new(), Vec::new()];
        for (at, words) in at.iter().zip(&mut words) {
            *words = if at.is_null() { Vec::new() } else { at.read_array(count.div_ceil(64))? };
            if let Some(last) = words.last_mut()
                && !count.is_multiple_of(64)
            {
                *last &= (1 << (count % 64)) - 1;
            }
        }
        Ok(Self { at, words })
    }

    fn has(&self, set: usize, fd: usize) -> bool {
        self.words[set].get(fd / 64).is_some_and(|word| word >> (fd % 64) & 1 != 0)
    }

    /// Sets of the same sizes with nothing in them.
    fn cleared(&self) -> KResult<[Vec<u64>; 3]> {
        let mut cleared = [Vec::new(), Vec::new(), Vec::new()];
        for (cleared, words) in cleared.iter_mut().zip(&self.words) {
            cleared.try_reserve_exact(words.len()).map_err(|_| Errno::ENOMEM)?;
            cleared.resize(words.len(), 0);
        }
        Ok(cleared)
    }

    fn write(&self, result: &[Vec<u64>; 3]) -> KResult<()> {
        for (at, words) in self.at.iter().zip(result) {
            for (index, word) in words.iter().enumerate() {
                at.offset(index as u64 * 8).write(word)?;
            }
        }
        Ok(())
    }
}

pub fn select(call: &mut Call<'_>) -> SysResult {
    let timeout = call.user(4);
    let deadline = if timeout.is_null() {
        None
    } else {
        let value: Timeval = timeout.read()?;
        // Linux takes more than a second's worth of microseconds here.
        let seconds = value.seconds.checked_add(value.microseconds / 1_000_000).ok_or(Errno::EINVAL)?;
        let value = Timeval { seconds, microseconds: value.microseconds % 1_000_000 };
        Some(time::now().saturating_add(value.duration()?))
    };
    let result = select_until(call, deadline).map_err(no_restart_after_handler);
    if let Some(deadline) = deadline {
        // What cannot be written is let be, as in Linux.
        let _ = timeout.write(&Timeval::from(deadline.saturating_sub(time::now())));
    }
    result
}

pub fn pselect6(call: &mut Call<'_>) -> SysResult {
    let timeout = call.user(4);
    let deadline = time::deadline_after(timeout)?;
    let mask = match call.user(5) {
        argument if argument.is_null() => None,
        argument => {
            let [mask, size] = argument.read::<[u64; 2]>()?;
            signal::read_mask(UserAddr(mask), size as usize)?
        }
    };
    let result =
        signal::with_temporary_mask(mask, || select_until(call, deadline).map_err(no_restart_after_handler));
    leave_rest(timeout, deadline);
    result
}

fn select_until(call: &Call<'_>, deadline: Option<Nanoseconds>) -> SysResult {
    let count = usize::try_from(call.int(0)).map_err(|_| Errno::EINVAL)?;
    // Descriptors there cannot be are not looked at.
    let count = count.min(current().process.files().size());
    let sets = Sets::read([call.user(1), call.user(2), call.user(3)], count)?;
    let mut watched: Vec<(usize, [bool; 3])> = Vec::new();
    let mut files: Vec<Arc<OpenFile>> = Vec::new();
    for fd in 0..count {
        let wanted = [0, 1, 2].map(|set| sets.has(set, fd));
        if wanted.contains(&true) {
            watched.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            files.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            files.push(open_file(Fd(fd as i32)).ok().filter(|file| !file.is_path()).ok_or(Errno::EBADF)?);
            watched.push((fd, wanted));
        }
    }
    let mut result = sets.cleared()?;
    let mut look = || {
        result.iter_mut().for_each(|words| words.fill(0));
        let mut ready = 0u64;
        for ((fd, wanted), file) in watched.iter().zip(&files) {
            let events = file.poll();
            for set in 0..3 {
                if wanted[set] && events.intersects(WANTED[set]) {
                    result[set][fd / 64] |= 1 << (fd % 64);
                    ready += 1;
                }
            }
        }
        (ready > 0).then_some(ready)
    };
    let ready = wait_for(files.iter(), deadline, &mut look)?.unwrap_or(0);
    sets.write(&result)?;
    Ok(ready)
}
