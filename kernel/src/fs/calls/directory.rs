//! Listing directories, and moving from one to another.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use crate::errno::{Errno, KResult};
use crate::fs::caller::{AT_FDCWD, Caller, UserPath};
use crate::fs::dynamic::Listed;
use crate::fs::file::{FileKind, OpenFile};
use crate::fs::inode::{Access, InodeKind, mode};
use crate::fs::path::Path;
use crate::fs::table::{Fd, open_file};
use crate::fs::walk::Final;
use crate::process::credentials::Uid;
use crate::process::current;
use crate::syscall::{Call, SysResult};

/// How entries are laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent`: the type is the last byte.
    Old,
    /// `struct linux_dirent64`: the type comes before the name.
    New,
}

/// Bytes before the name: number, place of the next, length (and type).
const OLD_HEAD: usize = 18;
const NEW_HEAD: usize = 19;

/// Bytes collected before they are copied to the program.
const CHUNK: usize = 4096;

struct Collector {
    bytes: Vec<u8>,
    room: usize,
    layout: Layout,
    /// Place after the last entry collected.
    next: u64,
    full: bool,
}

impl Collector {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        let length = match self.layout {
            Layout::Old => (OLD_HEAD + entry.name.len() + 2).next_multiple_of(8),
            Layout::New => (NEW_HEAD + entry.name.len() + 1).next_multiple_of(8),
        };
        if self.bytes.len() + length > self.room || self.bytes.try_reserve(length).is_err() {
            self.full = true;
            return false;
        }
        let end = self.bytes.len() + length;
        let kind = ((entry.mode & mode::TYPE) >> 12) as u8;
        let (head, kind_here) = match self.layout {
            Layout::Old => (OLD_HEAD, 0),
            Layout::New => (NEW_HEAD, u64::from(kind) << 16),
        };
        let words = [entry.inode.to_le(), entry.next.to_le(), (length as u64 | kind_here).to_le()];
        self.bytes.extend_from_slice(&words.as_bytes()[..head]);
        self.bytes.extend_from_slice(entry.name);
        // One NUL at least, and one byte for the kind, up to a multiple of 8.
        const PADDING: [u8; 10] = [0; 10];
        let padding = end - self.bytes.len();
        self.bytes.extend_from_slice(&PADDING[..padding]);
        if self.layout == Layout::Old {
            self.bytes[end - 1] = kind;
        }
        self.next = entry.next;
        true
    }
}

pub fn getdents(call: &mut Call<'_>) -> SysResult {
    list(call, Layout::Old)
}

pub fn getdents64(call: &mut Call<'_>) -> SysResult {
    list(call, Layout::New)
}

fn list(call: &Call<'_>, layout: Layout) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    file.check_readable()?;
    if !matches!(file.kind(), FileKind::Directory) {
        return Err(Errno::ENOTDIR);
    }
    let place = file.path().ok_or(Errno::ENOTDIR)?;
    let (to, size) = (call.user(1), call.uint(2) as usize);
    let mut position = file.position.lock();
    if place.dentry.is_removed() {
        return Err(Errno::ENOENT);
    }
    let mut done = 0;
    loop {
        let room = (size - done).min(CHUNK);
        let mut collector = Collector { bytes: Vec::new(), room, layout, next: *position, full: false };
        collect(place, *position, &mut collector)?;
        if collector.bytes.is_empty() {
            if done == 0 && collector.full {
                return Err(Errno::EINVAL);
            }
            break;
        }
        if let Err(error) = to.offset(done as u64).write_bytes(&collector.bytes) {
            if done == 0 {
                return Err(error);
            }
            break;
        }
        done += collector.bytes.len();
        *position = collector.next;
        if !collector.full {
            break;
        }
    }
    drop(position);
    touch(&file);
    Ok(done as u64)
}

fn touch(file: &OpenFile) {
    use crate::fs::mount::MountFlags;
    let skipped = MountFlags::NO_ATIME | MountFlags::NO_DIRATIME | MountFlags::READ_ONLY;
    if !file.path().is_some_and(|path| path.mount.flags().intersects(skipped)) {
        file.inode().touch_accessed();
    }
}

fn collect(place: &Path, from: u64, collector: &mut Collector) -> KResult<()> {
    let inode = place.inode();
    if from == 0
        && !collector.add(&Listed { name: b".", inode: inode.number, mode: mode::DIRECTORY, next: 1 })
    {
        return Ok(());
    }
    if from <= 1 {
        let mut above = place.clone();
        above.go_up(&crate::fs::tree::root());
        let number = above.inode().number;
        if !collector.add(&Listed { name: b"..", inode: number, mode: mode::DIRECTORY, next: 2 }) {
            return Ok(());
        }
    }
    match &inode.kind {
        InodeKind::Directory(directory) => {
            let entries = directory.lock();
            for (sequence, name, dentry) in entries.names.iter_from(from) {
                let entry = Listed {
                    name: name.as_bytes(),
                    inode: dentry.inode.number,
                    mode: dentry.inode.mode(),
                    next: sequence + 1,
                };
                if !collector.add(&entry) {
                    break;
                }
            }
            Ok(())
        }
        InodeKind::DynamicDirectory(directory) => {
            directory.list(from.max(2), &mut |entry| collector.add(entry))
        }
        _ => Err(Errno::ENOTDIR),
    }
}

pub fn getcwd(call: &mut Call<'_>) -> SysResult {
    let (to, size) = (call.user(0), call.size(1));
    let context = current().process.fs();
    let mut spelled = context.cwd().spell(&context.root())?;
    if spelled.removed {
        return Err(Errno::ENOENT);
    }
    if !spelled.reachable {
        spelled.bytes.splice(0..0, *b"(unreachable)");
    }
    spelled.bytes.push(0);
    if spelled.bytes.len() > size {
        return Err(Errno::ERANGE);
    }
    to.write_bytes(&spelled.bytes)?;
    Ok(spelled.bytes.len() as u64)
}

/// Says whether a place may become a working or root directory.
fn check_enter(place: &Path, caller: &Caller) -> KResult<()> {
    if !place.inode().is_directory() {
        return Err(Errno::ENOTDIR);
    }
    place.inode().check(Access::EXECUTE, &caller.who)
}

pub fn chdir(call: &mut Call<'_>) -> SysResult {
    let path = UserPath::read(call.user(0))?;
    let caller = Caller::current();
    let place = caller.resolve(AT_FDCWD, path.as_bytes(), Final::Follow)?;
    check_enter(&place, &caller)?;
    caller.context.set_cwd(place);
    Ok(0)
}

pub fn fchdir(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    let place = file.path().ok_or(Errno::ENOTDIR)?;
    let caller = Caller::current();
    check_enter(place, &caller)?;
    caller.context.set_cwd(place.clone());
    Ok(0)
}

pub fn chroot(call: &mut Call<'_>) -> SysResult {
    let path = UserPath::read(call.user(0))?;
    let caller = Caller::current();
    let place = caller.resolve(AT_FDCWD, path.as_bytes(), Final::Follow)?;
    check_enter(&place, &caller)?;
    if caller.who.euid != Uid(0) {
        return Err(Errno::EPERM);
    }
    caller.context.set_root(place);
    Ok(0)
}
