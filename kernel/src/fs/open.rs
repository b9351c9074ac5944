//! Opening files.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::anonymous;
use super::caller::Caller;
use super::device::{Seek, char_driver};
use super::dynamic_file::DynamicReader;
use super::file::{FileKind, OpenFile, Place};
use super::flags::{
    NOT_KEPT, O_ACCMODE, O_CREAT, O_DIRECTORY, O_EXCL, O_LARGEFILE, O_NOATIME, O_NOFOLLOW, O_NONBLOCK,
    O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY,
};
use super::inode::{Access, Inode, InodeKind, NewInode, mode};
use super::mapping;
use super::mount::MountFlags;
use super::namespace;
use super::path::Path;
use super::regular::Regular;
use super::superblock::FsKind;
use super::text::Writing;
use super::walk::{Final, Followed, Last, lookup};
use crate::errno::{Errno, KResult};
use crate::process::Credentials;

/// What `open(2)` was asked for, made sense of.
#[derive(Clone, Copy, Debug)]
pub struct OpenRequest {
    flags: u32,
    permissions: u32,
}

impl OpenRequest {
    /// Checks flags and the permissions of a new file (from which the mask has been taken off).
    ///
    /// # Errors
    /// EINVAL for flags that contradict each other.
    pub fn new(flags: u32, permissions: u32) -> KResult<Self> {
        let mut flags = flags;
        if flags & O_PATH != 0 {
            flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW;
        } else if flags & (O_TMPFILE & !O_DIRECTORY) != 0 {
            if flags & O_TMPFILE != O_TMPFILE || flags & O_CREAT != 0 || flags & O_ACCMODE == O_RDONLY {
                return Err(Errno::EINVAL);
            }
        } else if flags & (O_CREAT | O_DIRECTORY) == O_CREAT | O_DIRECTORY {
            return Err(Errno::EINVAL);
        }
        Ok(Self { flags, permissions: permissions & mode::PERMISSIONS })
    }

    fn has(self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    fn access(self) -> Access {
        let mut access = match self.flags & O_ACCMODE {
            O_RDONLY => Access::READ,
            O_WRONLY => Access::WRITE,
            _ => Access::READ | Access::WRITE,
        };
        if self.has(O_TRUNC) {
            access |= Access::WRITE;
        }
        access
    }
}

/// Opens `path`, seen from `start` (or the working directory).
///
/// # Errors
/// Those of `open(2)`.
pub fn open(
    caller: &Caller,
    start: Option<&Path>,
    path: &[u8],
    request: OpenRequest,
) -> KResult<Arc<OpenFile>> {
    let mut walker = caller.walker();
    let end = if request.has(O_NOFOLLOW) { Final::Stay } else { Final::Follow };
    if request.flags & O_TMPFILE == O_TMPFILE {
        let directory = walker.walk(start, path, end)?;
        return open_unnamed(caller, &directory, request);
    }
    if !request.has(O_CREAT) {
        return open_place(walker.walk(start, path, end)?, request, &caller.who, false);
    }
    let mut path: Cow<'_, [u8]> = Cow::Borrowed(path);
    let mut start = start.cloned();
    loop {
        let parent = walker.walk_to_parent(start.as_ref(), &path)?;
        let Last::Name(name) = parent.last else {
            return Err(if request.has(O_EXCL) { Errno::EEXIST } else { Errno::EISDIR });
        };
        if parent.wants_directory {
            return Err(Errno::EISDIR);
        }
        let Some(dentry) = lookup(&parent.directory.dentry, &name)? else {
            match create(caller, &parent.directory, &name, request) {
                // Somebody else made it meanwhile.
                Err(Errno::EEXIST) if !request.has(O_EXCL) => continue,
                other => return other,
            }
        };
        if request.has(O_EXCL) {
            return Err(Errno::EEXIST);
        }
        let mut place = Path { mount: parent.directory.mount.clone(), dentry };
        place.cross_mounts();
        if !place.inode().is_symlink() || end == Final::Stay {
            return open_place(place, request, &caller.who, false);
        }
        match walker.follow_from(&parent.directory, &place)? {
            Followed::To(place) => return open_place(place, request, &caller.who, false),
            Followed::Through(directory, target) => {
                start = Some(directory);
                path = Cow::Owned(target);
            }
        }
    }
}

/// Who owns a new file in `directory`, and its mode.
pub fn new_inode(caller: &Caller, directory: &Inode, mode: u32) -> NewInode {
    let mut with = NewInode { mode, uid: caller.who.fsuid, gid: caller.who.fsgid };
    if directory.mode() & mode::SET_GID != 0 {
        with.gid = directory.gid();
        if mode & mode::TYPE == mode::DIRECTORY {
            with.mode |= mode::SET_GID;
        }
    }
    with
}

fn create(caller: &Caller, directory: &Path, name: &[u8], request: OpenRequest) -> KResult<Arc<OpenFile>> {
    let parent = directory.inode();
    let with = new_inode(caller, parent, mode::REGULAR | request.permissions);
    let dentry = namespace::create(directory, name, &caller.who, || {
        Inode::new(&parent.superblock, InodeKind::Regular(Regular::new()), with)
    })?;
    open_place(Path { mount: directory.mount.clone(), dentry }, request, &caller.who, true)
}

fn open_unnamed(caller: &Caller, directory: &Path, request: OpenRequest) -> KResult<Arc<OpenFile>> {
    let parent = directory.inode();
    match parent.kind {
        InodeKind::Directory(_) => {}
        InodeKind::DynamicDirectory(_) => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::ENOTDIR),
    }
    directory.mount.check_writable()?;
    parent.check(Access::WRITE | Access::EXECUTE, &caller.who)?;
    let with = new_inode(caller, parent, mode::REGULAR | request.permissions);
    let inode = Inode::new(&parent.superblock, InodeKind::Regular(Regular::new()), with)?;
    inode.set_links(0);
    inode.set_linkable(!request.has(O_EXCL));
    let dentry = super::dentry::Dentry::nameless(inode);
    dentry.set_removed();
    let request = OpenRequest { flags: request.flags & !(O_TMPFILE | O_EXCL), ..request };
    open_place(Path { mount: directory.mount.clone(), dentry }, request, &caller.who, true)
}

/// Opens the file at `place`. A file that was made just now (`created`) may be opened whatever its permissions say.
///
/// # Errors
/// Those of `open(2)`.
pub fn open_place(
    place: Path,
    request: OpenRequest,
    who: &Credentials,
    created: bool,
) -> KResult<Arc<OpenFile>> {
    let inode = place.inode();
    let kept = request.flags & !NOT_KEPT;
    if request.has(O_DIRECTORY) && !inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if request.has(O_PATH) {
        return Ok(OpenFile::new(Place::Named(place), FileKind::Path, kept));
    }
    let access = request.access();
    if inode.is_symlink() {
        return Err(Errno::ELOOP);
    }
    if inode.is_directory() && (access.contains(Access::WRITE) || request.has(O_CREAT)) {
        return Err(Errno::EISDIR);
    }
    let is_device = matches!(inode.kind, InodeKind::Character(_) | InodeKind::Block(_));
    if is_device && place.mount.flags().contains(MountFlags::NO_DEV) {
        return Err(Errno::EACCES);
    }
    if !created {
        inode.check(access, who)?;
        if request.has(O_NOATIME) {
            inode.check_owner(who)?;
        }
    }
    let keeps_data = matches!(inode.kind, InodeKind::Regular(_) | InodeKind::Dynamic(_));
    if keeps_data && access.contains(Access::WRITE) {
        place.mount.check_writable()?;
    }
    let (read, write) = (kept & O_ACCMODE != O_WRONLY, matches!(kept & O_ACCMODE, O_WRONLY | O_RDWR));
    let writing = access.contains(Access::WRITE).then(|| Writing::begin(inode)).transpose()?;
    let kind = match &inode.kind {
        InodeKind::Regular(file) => {
            if request.has(O_TRUNC) && !created {
                mapping::set_file_size(inode, file, 0)?;
                inode.touch_modified();
            }
            FileKind::Regular
        }
        InodeKind::Directory(_) | InodeKind::DynamicDirectory(_) => FileKind::Directory,
        InodeKind::Fifo(pipe) => {
            // One without a name, reached through /proc/PID/fd, is opened whoever may have left it.
            if inode.superblock.kind == FsKind::Pipes {
                pipe.open(read, write);
            } else {
                pipe.open_named(read, write, kept & O_NONBLOCK != 0)?;
            }
            FileKind::Pipe
        }
        InodeKind::Character(number) => {
            let ops = char_driver(*number)?.open(*number, request.flags)?;
            if ops.seek() == Seek::Kept { FileKind::Seekable(ops) } else { FileKind::Device(ops) }
        }
        InodeKind::Block(number) => FileKind::Seekable(crate::devices::block::open(*number)?),
        InodeKind::Dynamic(_) => FileKind::Seekable(Arc::new(DynamicReader::new())),
        InodeKind::Socket(_) | InodeKind::Anonymous => return Err(Errno::ENXIO),
        InodeKind::Symlink(_) | InodeKind::DynamicLink(_) => return Err(Errno::ELOOP),
    };
    Ok(OpenFile::with_writing(Place::Named(place), kind, kept, writing.filter(|_| write)))
}

/// Opens `path` on behalf of the kernel itself, as the running task.
///
/// # Errors
/// Those of `open(2)`.
pub fn open_kernel(path: &[u8], flags: u32) -> KResult<Arc<OpenFile>> {
    let caller = Caller::current();
    open(&caller, None, path, OpenRequest::new(flags, 0)?)
}

/// The whole file at `path`, read as the running task.
///
/// # Errors
/// Those of `open(2)` and `read(2)`; EFBIG if it has more than `limit` bytes.
pub fn read_file(path: &[u8], limit: usize) -> KResult<Vec<u8>> {
    let file = open_kernel(path, O_RDONLY)?;
    let mut bytes = Vec::new();
    loop {
        let at = bytes.len();
        let part = (limit + 1 - at).min(4096);
        bytes.try_reserve(part).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(at + part, 0);
        let moved = file.read(&mut super::io::IoDst::kernel(&mut bytes[at..]))?;
        bytes.truncate(at + moved);
        if moved == 0 {
            return Ok(bytes);
        }
        if bytes.len() > limit {
            return Err(Errno::EFBIG);
        }
    }
}

/// An open file in memory without a name (`memfd_create(2)`).
///
/// # Errors
/// ENAMETOOLONG.
pub fn memory_file(name: &[u8], seals: u32, permissions: u32) -> KResult<Arc<OpenFile>> {
    let place = anonymous::memory_file(name, seals, permissions)?;
    Ok(OpenFile::new(Place::Named(place), FileKind::Regular, O_RDWR | O_LARGEFILE))
}
