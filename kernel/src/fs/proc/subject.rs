//! `/proc/PID` and `/proc/PID/task/TID`: whom they are about, and what is in them.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use super::fixed::{About, Fixed, Item, What, inode};
use super::{descriptors, memory, mounts, status, threads};
use crate::errno::{Errno, KResult};
use crate::fs::inode::{Inode, InodeKind, mode};
use crate::fs::path::Path;
use crate::process::credentials::{Gid, Uid};
use crate::process::{Pid, Process, Task, current, tree};

/// A process, or one of its threads. Does not keep it.
#[derive(Clone)]
pub struct Subject {
    process: Weak<Process>,
    task: Option<Weak<Task>>,
    /// What the directory is called.
    pub number: Pid,
}

/// The inode number of a process's directory.
pub fn process_base(pid: Pid) -> u64 {
    (1 << 32) | (pid.0 as u64) << 16
}

/// The inode number of a thread's directory.
pub fn thread_base(tid: Pid) -> u64 {
    (2 << 32) | (tid.0 as u64) << 16
}

impl Subject {
    /// A process.
    pub fn of_process(process: &Arc<Process>) -> Self {
        Self { process: Arc::downgrade(process), task: None, number: process.pid }
    }

    /// A thread.
    pub fn of_task(task: &Arc<Task>) -> Self {
        Self { process: Arc::downgrade(&task.process), task: Some(Arc::downgrade(task)), number: task.tid() }
    }

    /// The process.
    ///
    /// # Errors
    /// ESRCH if it is gone.
    pub fn process(&self) -> KResult<Arc<Process>> {
        let process = self.process.upgrade().ok_or(Errno::ESRCH)?;
        // One that has been waited for may still be held by whoever saw its end.
        match tree::find(process.pid) {
            Some(known) if Arc::ptr_eq(&known, &process) => Ok(process),
            _ => Err(Errno::ESRCH),
        }
    }

    /// The thread; for a process, its first one, or any that still lives.
    ///
    /// # Errors
    /// ESRCH if it is gone.
    pub fn task(&self) -> KResult<Arc<Task>> {
        match &self.task {
            Some(task) => {
                let task = task.upgrade().ok_or(Errno::ESRCH)?;
                // An ended one is held until its CPU has left its stack.
                match tree::find_task(task.tid()) {
                    Some(known) if Arc::ptr_eq(&known, &task) => Ok(task),
                    _ => Err(Errno::ESRCH),
                }
            }
            None => self.process()?.any_thread().ok_or(Errno::ESRCH),
        }
    }

    /// The thread, if it is about one.
    pub fn own_task(&self) -> Option<Arc<Task>> {
        self.task.as_ref().and_then(Weak::upgrade)
    }

    /// Whether it is about one thread only.
    pub fn is_thread(&self) -> bool {
        self.task.is_some()
    }

    /// The process, if the running one may look into it (`ptrace(2)`'s rule).
    ///
    /// # Errors
    /// EACCES, ESRCH.
    pub fn inspected(&self) -> KResult<Arc<Process>> {
        let process = self.process()?;
        let task = current();
        let who = task.process.credentials();
        let other = process.credentials();
        let same = [other.uid, other.euid, other.suid].iter().all(|&uid| uid == who.fsuid)
            && [other.gid, other.egid, other.sgid].iter().all(|&gid| gid == who.fsgid);
        if same || who.is_privileged() || task.process.pid == process.pid {
            Ok(process)
        } else {
            Err(Errno::EACCES)
        }
    }

    /// The directory.
    pub fn directory(&self) -> Arc<Inode> {
        let (base, items) = if self.is_thread() {
            (thread_base(self.number), THREAD)
        } else {
            (process_base(self.number), PROCESS)
        };
        let kind = InodeKind::DynamicDirectory(Box::new(Fixed::new(self.clone(), base + 1, items)));
        inode(base, kind, mode::DIRECTORY | 0o555, self.owner())
    }
}

impl About for Subject {
    fn owner(&self) -> (Uid, Gid) {
        self.process().map_or((Uid(0), Gid(0)), |process| {
            let who = process.credentials();
            (who.euid, who.egid)
        })
    }

    fn exists(&self) -> bool {
        if self.is_thread() { self.task().is_ok() } else { self.process().is_ok() }
    }
}

const fn text(name: &'static str, content: fn(&Subject) -> KResult<Vec<u8>>) -> Item<Subject> {
    Item { name, permissions: 0o444, what: What::Text(content) }
}

const fn private(name: &'static str, content: fn(&Subject) -> KResult<Vec<u8>>) -> Item<Subject> {
    Item { name, permissions: 0o400, what: What::Text(content) }
}

const fn jump(
    name: &'static str,
    target: fn(&Subject) -> KResult<Vec<u8>>,
    follow: fn(&Subject) -> KResult<Option<Path>>,
) -> Item<Subject> {
    Item { name, permissions: 0o777, what: What::Jump(target, follow) }
}

const COMM: Item<Subject> =
    Item { name: "comm", permissions: 0o644, what: What::Settable(status::name, status::set_name) };
const FD: Item<Subject> =
    Item { name: "fd", permissions: 0o500, what: What::Directory(|subject, _| descriptors::links(subject)) };
const FDINFO: Item<Subject> = Item {
    name: "fdinfo",
    permissions: 0o555,
    what: What::Directory(|subject, _| descriptors::details(subject)),
};
const OOM_SCORE_ADJ: Item<Subject> = Item {
    name: "oom_score_adj",
    permissions: 0o644,
    what: What::Settable(|_| Ok(b"0\n".to_vec()), status::set_oom_score),
};

/// What is in `/proc/PID`.
const PROCESS: &[Item<Subject>] = &[
    text("auxv", memory::auxiliary),
    text("cmdline", memory::command_line),
    COMM,
    jump("cwd", |subject| link_text(subject, false), |subject| link_place(subject, false)),
    private("environ", memory::environment),
    jump("exe", memory::executable, memory::executable_place),
    FD,
    FDINFO,
    text("io", status::input_output),
    text("limits", status::limits),
    text("maps", memory::maps),
    text("mountinfo", |subject| mounts::list_details(&subject.process()?.fs().root())),
    text("mounts", |subject| mounts::list(&subject.process()?.fs().root())),
    text("oom_score", |_| Ok(b"0\n".to_vec())),
    OOM_SCORE_ADJ,
    jump("root", |subject| link_text(subject, true), |subject| link_place(subject, true)),
    text("smaps", memory::detailed_maps),
    text("stat", status::stat),
    text("statm", status::memory_pages),
    text("status", status::status),
    Item {
        name: "task",
        permissions: 0o555,
        what: What::Directory(|subject, _| threads::directory(subject)),
    },
    text("wchan", |_| Ok(b"0".to_vec())),
];

/// What is in `/proc/PID/task/TID`.
const THREAD: &[Item<Subject>] = &[
    text("cmdline", memory::command_line),
    COMM,
    jump("cwd", |subject| link_text(subject, false), |subject| link_place(subject, false)),
    private("environ", memory::environment),
    jump("exe", memory::executable, memory::executable_place),
    FD,
    FDINFO,
    text("io", status::input_output),
    text("limits", status::limits),
    text("maps", memory::maps),
    text("mounts", |subject| mounts::list(&subject.process()?.fs().root())),
    OOM_SCORE_ADJ,
    jump("root", |subject| link_text(subject, true), |subject| link_place(subject, true)),
    text("stat", status::stat),
    text("statm", status::memory_pages),
    text("status", status::status),
    text("wchan", |_| Ok(b"0".to_vec())),
];

fn place_of(subject: &Subject, root: bool) -> KResult<Path> {
    let context = subject.inspected()?.fs();
    Ok(if root { context.root() } else { context.cwd() })
}

fn link_place(subject: &Subject, root: bool) -> KResult<Option<Path>> {
    place_of(subject, root).map(Some)
}

fn link_text(subject: &Subject, root: bool) -> KResult<Vec<u8>> {
    let task = current();
    Ok(place_of(subject, root)?.spell(&task.process.fs().root())?.for_display())
}

/// A number as a directory entry's name.
pub fn decimal(number: i32) -> Vec<u8> {
    alloc::format!("{number}").into_bytes()
}
