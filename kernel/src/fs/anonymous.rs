//! Files without a name: pipes, sockets, and what is neither.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::dentry::Dentry;
use super::device::FileOps;
use super::file::{FileKind, OpenFile, Place};
use super::flags::{O_RDONLY, O_WRONLY};
use super::inode::{Inode, InodeKind, NewInode, SocketName, mode};
use super::mount::{Mount, MountFlags};
use super::path::Path;
use super::pipe::Pipe;
use super::regular::Regular;
use super::superblock::{FsKind, Superblock, UNLIMITED};
use crate::errno::KResult;
use crate::process::credentials::{Gid, Uid};
use crate::process::current;
use crate::sync::Once;

struct Anonymous {
    pipes: Arc<Superblock>,
    sockets: Arc<Superblock>,
    memory: Arc<Superblock>,
    /// Of everything that is neither pipe nor socket.
    inode: Arc<Inode>,
    /// What is seen of such files through `/proc/PID/fd`.
    mount: Arc<Mount>,
}

fn anonymous() -> &'static Anonymous {
    static ANONYMOUS: Once<Anonymous> = Once::new();
    ANONYMOUS.call_once(|| {
        let new = |kind| {
            let superblock = Superblock::new(kind, UNLIMITED, UNLIMITED);
            superblock.add_user();
            superblock
        };
        let other = new(FsKind::Anonymous);
        let owner = NewInode { mode: 0o600, uid: Uid(0), gid: Gid(0) };
        let inode = Inode::uncounted(&other, other.new_number(), InodeKind::Anonymous, owner);
        let root = Dentry::nameless(inode.clone());
        let mount = Mount::new(other, root, b"none", MountFlags::empty());
        Anonymous {
            pipes: new(FsKind::Pipes),
            sockets: new(FsKind::Sockets),
            memory: new(FsKind::Tmpfs),
            inode,
            mount,
        }
    })
}

impl Anonymous {
    fn inode(superblock: &Arc<Superblock>, kind: InodeKind, mode: u32) -> Arc<Inode> {
        let who = current().process.credentials();
        let with = NewInode { mode, uid: who.fsuid, gid: who.fsgid };
        Inode::uncounted(superblock, superblock.new_number(), kind, with)
    }
}

/// The file that all files stand for that are neither pipe nor socket.
pub fn shared_inode() -> Arc<Inode> {
    anonymous().inode.clone()
}

/// Both ends of a new pipe, for reading and for writing; `flags` of both beside that.
pub fn pipe(flags: u32) -> [Arc<OpenFile>; 2] {
    let kind = InodeKind::Fifo(Box::<Pipe>::default());
    let inode = Anonymous::inode(&anonymous().pipes, kind, mode::FIFO | 0o600);
    if let InodeKind::Fifo(pipe) = &inode.kind {
        pipe.open(true, true);
    }
    let end = |inode, access| OpenFile::new(Place::Nameless(inode, "pipe"), FileKind::Pipe, flags | access);
    [end(inode.clone(), O_RDONLY), end(inode, O_WRONLY)]
}

/// A socket as an open file.
pub fn socket(ops: Arc<dyn FileOps>, flags: u32) -> Arc<OpenFile> {
    let kind = InodeKind::Socket(SocketName::default());
    let inode = Anonymous::inode(&anonymous().sockets, kind, mode::SOCKET | 0o777);
    OpenFile::new(Place::Nameless(inode, "socket"), FileKind::Device(ops), flags)
}

/// A file in memory without a name in any directory, called `name` where a name is shown.
pub fn memory_file(name: &[u8], seals: u32, permissions: u32) -> KResult<Path> {
    let kind = InodeKind::Regular(Regular::with_seals(seals));
    let inode = Anonymous::inode(&anonymous().memory, kind, mode::REGULAR | permissions);
    inode.set_links(0);
    let dentry = Dentry::root(name, inode)?;
    dentry.set_removed();
    Ok(Path { mount: anonymous().mount.clone(), dentry })
}

/// A place for a file that has none, as following `/proc/PID/fd/N` needs one.
pub fn place_for(inode: &Arc<Inode>) -> Path {
    Path { mount: anonymous().mount.clone(), dentry: Dentry::nameless(inode.clone()) }
}

/// Pages of files in memory that have no name.
pub fn memory_pages() -> u64 {
    anonymous().memory.page_usage().0
}
