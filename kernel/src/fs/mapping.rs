//! Files as `mmap(2)` and `execve(2)` see them.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use platform::{PAGE_SIZE, Protection};

use super::anonymous;
use super::caller::Caller;
use super::device::DeviceMapping;
use super::file::OpenFile;
use super::inode::{Access, Inode, InodeKind, mode};
use super::io::IoDst;
use super::mount::MountFlags;
use super::path::Path;
use super::regular::{Regular, seal};
use super::table::{Fd, usable_file};
use super::text::Running;
use super::tree;
use crate::errno::{Errno, KResult};
use crate::mm::space::MapIntent;
use crate::mm::{MappedFile, Page};
use crate::process::credentials::{Gid, Uid};
use crate::process::tree as processes;

/// A file in the tree, to be mapped.
pub struct MappedInode {
    path: Path,
    /// For a program that runs from it.
    _running: Option<Running>,
}

impl MappedInode {
    fn new(path: Path) -> Self {
        Self { path, _running: None }
    }

    fn inode(&self) -> &Inode {
        self.path.inode()
    }
}

impl MappedFile for MappedInode {
    fn map_page(&self, index: u64, intent: MapIntent) -> KResult<Page> {
        let InodeKind::Regular(file) = &self.inode().kind else { return Err(Errno::EFAULT) };
        match intent {
            MapIntent::ReadIfPresent => file.present_page(index).ok_or(Errno::ENODATA),
            MapIntent::Read | MapIntent::Write => file.page(&self.inode().superblock, index),
        }
    }

    fn identity(&self) -> (u64, u64) {
        let inode = self.inode();
        (inode.superblock.device.encode(), inode.number)
    }

    fn path(&self) -> Cow<'_, [u8]> {
        spell(&self.path).map_or(Cow::Borrowed(b"?"), Cow::Owned)
    }
}

fn spell(path: &Path) -> KResult<alloc::vec::Vec<u8>> {
    Ok(path.spell(&tree::root())?.for_display())
}

/// Memory of zeros that is nobody's: `/dev/zero`, mapped privately. All of it is one page, which nobody writes.
struct Zeros(Page);

impl MappedFile for Zeros {
    fn map_page(&self, _index: u64, _intent: MapIntent) -> KResult<Page> {
        Ok(self.0.clone())
    }

    fn identity(&self) -> (u64, u64) {
        (0, 0)
    }

    fn path(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(b"/dev/zero")
    }
}

/// A file to be mapped.
pub struct Mapping {
    /// The file.
    pub file: Arc<dyn MappedFile>,
    /// A shared mapping may be written, now or later.
    pub may_write: bool,
}

/// What mapping the running process's descriptor `fd` gives.
///
/// # Errors
/// EBADF, EACCES if it is not open for what is asked, EPERM for a `noexec` mount or a sealed file, ENODEV if it cannot be
/// mapped, ENOMEM.
pub fn map_file(fd: i32, shared: bool, protection: Protection) -> KResult<Mapping> {
    let file = usable_file(Fd(fd))?;
    file.check_readable().map_err(|_| Errno::EACCES)?;
    let mut may_write = file.check_writable().is_ok();
    if shared && protection.contains(Protection::WRITE) && !may_write {
        return Err(Errno::EACCES);
    }
    if let Some(path) = file.path()
        && path.mount.flags().contains(MountFlags::NO_EXEC)
        && protection.contains(Protection::EXECUTE)
    {
        return Err(Errno::EPERM);
    }
    if let (Some(regular), Some(path)) = (file.regular(), file.path()) {
        if shared && regular.seals() & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
            if protection.contains(Protection::WRITE) {
                return Err(Errno::EPERM);
            }
            may_write = false;
        }
        regular.set_mapped(shared && may_write);
        return Ok(Mapping { file: Arc::new(MappedInode::new(path.clone())), may_write });
    }
    match file.ops().map(|ops| ops.mapping()) {
        Some(DeviceMapping::Zeros) if shared => {
            Ok(Mapping { file: shared_memory(i64::MAX as u64 & !(PAGE_SIZE - 1))?, may_write })
        }
        Some(DeviceMapping::Zeros) => Ok(Mapping { file: Arc::new(Zeros(Page::zeroed()?)), may_write }),
        _ => Err(Errno::ENODEV),
    }
}

/// Memory of `length` bytes that processes share and that is in no file (`MAP_SHARED | MAP_ANONYMOUS`).
///
/// # Errors
/// ENOMEM.
pub fn shared_memory(length: u64) -> KResult<Arc<dyn MappedFile>> {
    let place = anonymous::memory_file(b"dev/zero", seal::SEAL, 0o777)?;
    if let InodeKind::Regular(file) = &place.inode().kind {
        file.set_size(&place.inode().superblock, length, |_| {}).map_err(|_| Errno::ENOMEM)?;
    }
    Ok(Arc::new(MappedInode::new(place)))
}

/// Sets the size of a file that programs may have mapped: pages behind the end go out of their reach.
///
/// # Errors
/// As [`Regular::set_size`].
pub fn set_file_size(inode: &Inode, file: &Regular, size: u64) -> KResult<()> {
    file.set_size(&inode.superblock, size, |first| {
        if file.is_mapped() {
            forget_pages(inode, first, u64::MAX);
        }
    })
}

/// Takes the pages `first..end` of a file out of every address space; what touches them next asks the file again.
pub fn forget_pages(inode: &Inode, first: u64, end: u64) {
    let identity = (inode.superblock.device.encode(), inode.number);
    for process in processes::processes() {
        if let Some(space) = process.space() {
            space.forget_file(identity, first, end);
        }
    }
}

/// What set-user and set-group bits make of who executes a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetId {
    /// This user.
    pub user: Option<Uid>,
    /// This group.
    pub group: Option<Gid>,
}

/// A file that may be executed. It is not written while this lives, nor while anything made by [`Self::mapping`] does.
pub struct Executable {
    path: Path,
    readable: bool,
    _running: Running,
}

impl Executable {
    fn regular(&self) -> KResult<&Regular> {
        match &self.path.inode().kind {
            InodeKind::Regular(file) => Ok(file),
            _ => Err(Errno::EACCES),
        }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.path.inode().size()
    }

    /// Copies bytes from `offset` on; short only at the end of the file.
    ///
    /// # Errors
    /// None for a file in memory.
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> KResult<usize> {
        self.regular()?.read_at(offset, &mut IoDst::kernel(to))
    }

    /// To be mapped privately.
    pub fn mapping(&self) -> Arc<dyn MappedFile> {
        if let Ok(file) = self.regular() {
            file.set_mapped(false);
        }
        // Nobody can have begun to write it: this is one that runs it, too.
        let running = Running::begin(self.path.inode()).ok();
        Arc::new(MappedInode { path: self.path.clone(), _running: running })
    }

    /// Who executes it acts as these.
    pub fn owner_bits(&self) -> SetId {
        if self.path.mount.flags().contains(MountFlags::NO_SUID) {
            return SetId::default();
        }
        let inode = self.path.inode();
        let bits = inode.mode();
        SetId {
            user: (bits & mode::SET_UID != 0).then(|| inode.uid()),
            group: (bits & (mode::SET_GID | 0o010) == mode::SET_GID | 0o010).then(|| inode.gid()),
        }
    }

    /// Whether the caller may read it, too.
    pub fn is_readable(&self) -> bool {
        self.readable
    }
}

/// The file at `path`, to be executed by the running task. `directory` and `flags` as in `execveat(2)`.
///
/// # Errors
/// Those of a path walk; ELOOP for a symbolic link that is not to be followed, EACCES if it may not be executed, ETXTBSY
/// if it is open for writing.
pub fn open_executable(directory: i32, path: &[u8], flags: u32) -> KResult<Executable> {
    let caller = Caller::current();
    let path = caller.resolve_flags(directory, path, flags)?;
    let inode = path.inode();
    if inode.is_symlink() {
        return Err(Errno::ELOOP);
    }
    if !matches!(inode.kind, InodeKind::Regular(_)) || path.mount.flags().contains(MountFlags::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    inode.check(Access::EXECUTE, &caller.who)?;
    let readable = inode.check(Access::READ, &caller.who).is_ok();
    let running = Running::begin(inode)?;
    Ok(Executable { path, readable, _running: running })
}

/// What an open file shows of where it is: its path, or what stands for it.
///
/// # Errors
/// ENOMEM.
pub fn describe(file: &OpenFile, root: &Path) -> KResult<alloc::vec::Vec<u8>> {
    use super::file::Place;
    match file.place() {
        Place::Named(path) => Ok(path.spell(root)?.for_display()),
        Place::Nameless(inode, name @ ("pipe" | "socket")) => {
            Ok(alloc::format!("{name}:[{}]", inode.number).into_bytes())
        }
        Place::Nameless(_, name) => Ok(alloc::format!("anon_inode:{name}").into_bytes()),
    }
}
