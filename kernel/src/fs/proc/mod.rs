//! `/proc`: what the kernel tells of itself and of processes (`proc(5)`).

mod cpu_info;
mod descriptors;
mod fixed;
pub mod load;
mod memory;
mod mounts;
mod status;
mod subject;
mod sysctl;
mod system;
pub mod text;
mod threads;

use alloc::boxed::Box;
use alloc::sync::Arc;

use fixed::{Fixed, inode};
use subject::Subject;

use super::dentry::Dentry;
use super::dynamic::{DynamicDirectory, Listed};
use super::inode::{Inode, InodeKind, mode};
use super::mount::{Mount, MountFlags};
use super::superblock::{FsKind, Superblock, UNLIMITED};
use crate::errno::KResult;
use crate::process::credentials::{Gid, Uid};
use crate::process::{Pid, tree};
use crate::sync::Once;

fn superblock() -> &'static Arc<Superblock> {
    static SUPERBLOCK: Once<Arc<Superblock>> = Once::new();
    SUPERBLOCK.call_once(|| {
        let superblock = Superblock::new(FsKind::Proc, UNLIMITED, UNLIMITED);
        superblock.add_user();
        superblock
    })
}

/// A new mount of the file system; all of them show the same.
pub fn new_mount(source: &[u8], flags: MountFlags) -> Arc<Mount> {
    static TOP: Once<Arc<Dentry>> = Once::new();
    let top = TOP.call_once(|| {
        cpu_info::begin();
        let kind = InodeKind::DynamicDirectory(Box::new(Top));
        Dentry::nameless(inode(1, kind, mode::DIRECTORY | 0o555, (Uid(0), Gid(0))))
    });
    Mount::new(superblock().clone(), top.clone(), source, flags)
}

/// Inode numbers of the top directory's own entries.
const TOP_BASE: u64 = 16;

/// Where in the listing of the top directory the processes come.
const PROCESSES_FROM: u64 = 1 << 16;

/// The top directory.
struct Top;

fn own_entries() -> Fixed<()> {
    Fixed::new((), TOP_BASE, system::ITEMS)
}

/// A process or thread number as directories are called.
fn parse_number(name: &[u8]) -> Option<Pid> {
    if name.is_empty() || name.len() > 9 || name[0] == b'0' {
        return None;
    }
    name.iter()
        .try_fold(0i32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i32::from(byte - b'0')))
        .map(Pid)
}

impl DynamicDirectory for Top {
    fn lookup(&self, name: &[u8]) -> KResult<Option<Arc<Inode>>> {
        if let Some(own) = own_entries().find(name) {
            return Ok(Some(own));
        }
        let Some(pid) = parse_number(name) else { return Ok(None) };
        let found = {
            let tree = tree::lock();
            // A thread's number leads to its process, though listings do not show it.
            tree.process(pid).or_else(|| tree.task(pid).map(|task| task.process.clone()))
        };
        Ok(found.map(|process| Subject::of_process(&process).directory()))
    }

    fn list(&self, from: u64, emit: &mut dyn FnMut(&Listed<'_>) -> bool) -> KResult<()> {
        if from < PROCESSES_FROM && !own_entries().list_items((from - 2) as usize, 2, emit) {
            return Ok(());
        }
        let first = from.saturating_sub(PROCESSES_FROM) as i32;
        for process in tree::processes_where(|_, process| process.pid.0 >= first.max(1)) {
            let pid = process.pid;
            let name = alloc::format!("{}", pid.0);
            let entry = Listed {
                name: name.as_bytes(),
                inode: subject::process_base(pid),
                mode: mode::DIRECTORY | 0o555,
                next: PROCESSES_FROM + pid.0 as u64 + 1,
            };
            if !emit(&entry) {
                break;
            }
        }
        Ok(())
    }
}
