//! Which socket a name leads to.

use alloc::sync::{Arc, Weak};
use core::any::Any;

use super::address::Name;
use super::endpoint::{Endpoint, SocketType, State};
use crate::errno::{Errno, KResult};
use crate::fs::inode::{Access, Inode, InodeKind, NewInode, SocketName, mode};
use crate::fs::namespace;
use crate::fs::walk::{Final, Last, Walker};
use crate::process::current;
use crate::sync::SpinLock;
use litemap::LiteMap;

/// The names that are in no directory. Each type of socket has its own.
type Abstract = LiteMap<(SocketType, Arc<Name>), Weak<Endpoint>>;

static ABSTRACT: SpinLock<Abstract> = SpinLock::new(LiteMap::new());

/// The socket that `name` leads to.
///
/// # Errors
/// ECONNREFUSED if there is none, EPROTOTYPE if it is of another type than `kind`, EACCES, and those of a path walk.
pub fn find(name: &Name, kind: SocketType) -> KResult<Arc<Endpoint>> {
    let found = match name {
        Name::Path(path) => find_path(path)?,
        Name::Abstract(_) => {
            let key = (kind, Arc::new(name.clone()));
            ABSTRACT.lock().get(&key).and_then(Weak::upgrade)
        }
    };
    match found {
        Some(endpoint) if endpoint.state() == State::Closed => Err(Errno::ECONNREFUSED),
        Some(endpoint) if endpoint.kind != kind => Err(Errno::EPROTOTYPE),
        Some(endpoint) => Ok(endpoint),
        None => Err(Errno::ECONNREFUSED),
    }
}

fn find_path(path: &[u8]) -> KResult<Option<Arc<Endpoint>>> {
    let process = &current().process;
    let (context, who) = (process.fs(), process.credentials());
    let place = Walker::new(&context, &who).walk(None, path, Final::Follow)?;
    place.inode().check(Access::WRITE, &who)?;
    Ok(match &place.inode().kind {
        InodeKind::Socket(name) => name.socket(),
        _ => None,
    })
}

/// Makes `name` lead to `endpoint`.
///
/// # Errors
/// EADDRINUSE if it leads anywhere already; for a path also those of making a file.
pub fn enter(name: &Arc<Name>, endpoint: &Arc<Endpoint>) -> KResult<()> {
    match &**name {
        Name::Path(path) => enter_path(path, endpoint),
        Name::Abstract(_) => {
            let mut names = ABSTRACT.lock();
            let key = (endpoint.kind, name.clone());
            if names.contains_key(&key) {
                return Err(Errno::EADDRINUSE);
            }
            names.insert(key, Arc::downgrade(endpoint));
            Ok(())
        }
    }
}

fn enter_path(path: &[u8], endpoint: &Arc<Endpoint>) -> KResult<()> {
    let process = &current().process;
    let (context, who) = (process.fs(), process.credentials());
    let parent = Walker::new(&context, &who).walk_to_parent(None, path)?;
    let Last::Name(name) = parent.last else { return Err(Errno::EADDRINUSE) };
    if parent.wants_directory {
        return Err(Errno::ENOENT);
    }
    let directory = parent.directory.inode();
    let gid = if directory.mode() & mode::SET_GID != 0 { directory.gid() } else { who.fsgid };
    let with = NewInode { mode: mode::SOCKET | (0o777 & !context.umask()), uid: who.fsuid, gid };
    let socket: Weak<dyn Any + Send + Sync> = Arc::<Endpoint>::downgrade(endpoint);
    let made = namespace::create(&parent.directory, &name, &who, || {
        Inode::new(&parent.directory.mount.superblock, InodeKind::Socket(SocketName::of(socket)), with)
    });
    match made {
        Ok(_) => Ok(()),
        Err(Errno::EEXIST) => Err(Errno::EADDRINUSE),
        Err(error) => Err(error),
    }
}

/// Frees the name of an endpoint that is closed. A file stays behind, and leads nowhere.
pub fn release(endpoint: &Endpoint) {
    let Some(name) = endpoint.name().filter(|name| matches!(***name, Name::Abstract(_))) else { return };
    let key = (endpoint.kind, name.clone());
    let mut names = ABSTRACT.lock();
    // Whoever was accepted goes by the name of the socket that listens.
    if names.get(&key).is_some_and(|named| core::ptr::eq(named.as_ptr(), endpoint)) {
        names.remove(&key);
    }
}
