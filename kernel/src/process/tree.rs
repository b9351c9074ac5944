//! Relations between processes: parents, children, groups, sessions; and finding a process by its number.

use alloc::collections::{BTreeMap, LinkedList};
use alloc::sync::{Arc, Weak};
use core::cell::UnsafeCell;

use super::{Pid, Process, Task};
use crate::sync::{IrqGuard, IrqLock};

/// What a process has to do with others. Read and written under the tree's lock only.
pub struct Relations(UnsafeCell<Related>);

// SAFETY: reached only through `Tree::of` and `Tree::of_mut`, which need the lock.
unsafe impl Sync for Relations {}

/// Processes in some order. Moving one from list to list needs no memory, which may be gone when a process ends.
pub type Processes = LinkedList<Arc<Process>>;

/// The content of [`Relations`].
#[derive(Default)]
pub struct Related {
    /// Who made it, or who adopted it.
    pub parent: Weak<Process>,
    /// The thread of the parent's that made it; 0 if it was adopted.
    pub maker: Pid,
    /// Those it made or adopted, ended but not waited for among them.
    pub children: Processes,
    /// Process group.
    pub group: Pid,
    /// Session.
    pub session: Pid,
    /// It has ended and waits to be waited for.
    pub zombie: bool,
}

impl Relations {
    /// Related to nobody.
    pub fn new() -> Self {
        Self(UnsafeCell::new(Related::default()))
    }
}

impl Default for Relations {
    fn default() -> Self {
        Self::new()
    }
}

/// All processes and threads by number.
pub struct Tree {
    processes: BTreeMap<Pid, Weak<Process>>,
    tasks: BTreeMap<Pid, Weak<Task>>,
}

static TREE: IrqLock<Tree> = IrqLock::new(Tree { processes: BTreeMap::new(), tasks: BTreeMap::new() });

/// Takes the lock on all relations. Order: before the locks of signals and run queues.
pub fn lock() -> IrqGuard<'static, Tree> {
    TREE.lock()
}

/// The process with this number, ended but not waited for included.
pub fn find(pid: Pid) -> Option<Arc<Process>> {
    lock().process(pid)
}

/// The thread with this number.
pub fn find_task(tid: Pid) -> Option<Arc<Task>> {
    lock().task(tid)
}

/// All processes, ended but not waited for included, by number. It needs no memory: the tree is locked for one at a time,
/// so that some made meanwhile may be left out. Context: the tree is not locked.
pub fn processes() -> impl Iterator<Item = Arc<Process>> {
    processes_where(|_, _| true)
}

/// As [`processes`]: those of a group, though one that comes into it meanwhile may be left out.
pub fn group_members(group: Pid) -> impl Iterator<Item = Arc<Process>> {
    processes_where(move |tree, process| tree.of(process).group == group)
}

/// As [`processes`]: those that are as `wanted`.
pub fn processes_where(wanted: impl Fn(&Tree, &Process) -> bool) -> impl Iterator<Item = Arc<Process>> {
    let mut next = Pid(0);
    core::iter::from_fn(move || {
        let tree = lock();
        let mut rest = tree.processes.range(next..).filter_map(|(_, process)| process.upgrade());
        let found = rest.find(|process| wanted(&tree, process))?;
        next = Pid(found.pid.0 + 1);
        Some(found)
    })
}

impl Related {
    /// Takes one child out of the list, as a list of its own.
    pub fn take_child(&mut self, child: &Arc<Process>) -> Option<Processes> {
        let index = self.children.iter().position(|other| Arc::ptr_eq(other, child))?;
        let mut taken = self.children.split_off(index);
        let mut behind = taken.split_off(1);
        self.children.append(&mut behind);
        Some(taken)
    }
}

impl Tree {
    /// What `process` has to do with others.
    pub fn of<'a>(&'a self, process: &'a Process) -> &'a Related {
        // SAFETY: the lock is held, shared with `self`.
        unsafe { &*process.relations.0.get() }
    }

    /// As [`Self::of`], to change.
    pub fn of_mut<'a>(&'a mut self, process: &'a Process) -> &'a mut Related {
        // SAFETY: the lock is held, exclusively with `self`.
        unsafe { &mut *process.relations.0.get() }
    }

    /// The process with this number.
    pub fn process(&self, pid: Pid) -> Option<Arc<Process>> {
        self.processes.get(&pid).and_then(Weak::upgrade)
    }

    /// The thread with this number.
    pub fn task(&self, tid: Pid) -> Option<Arc<Task>> {
        self.tasks.get(&tid).and_then(Weak::upgrade)
    }

    /// Makes a process known.
    pub fn add_process(&mut self, process: &Arc<Process>) {
        self.processes.insert(process.pid, Arc::downgrade(process));
    }

    /// Makes a thread known.
    pub fn add_task(&mut self, task: &Arc<Task>) {
        self.tasks.insert(task.tid(), Arc::downgrade(task));
    }

    /// Forgets a process that has been waited for.
    pub fn remove_process(&mut self, pid: Pid) {
        self.processes.remove(&pid);
    }

    /// Forgets a thread that has ended.
    pub fn remove_task(&mut self, tid: Pid) {
        self.tasks.remove(&tid);
    }

    /// The processes, ended but not waited for included, that are as `wanted`.
    pub fn processes_where(
        &self,
        wanted: impl Fn(&Self, &Process) -> bool,
    ) -> impl Iterator<Item = Arc<Process>> {
        let all = self.processes.values().filter_map(Weak::upgrade);
        all.filter(move |process| wanted(self, process))
    }

    /// The processes of a group.
    pub fn group_members(&self, group: Pid) -> impl Iterator<Item = Arc<Process>> {
        self.processes_where(move |tree, process| tree.of(process).group == group)
    }

    /// Whether some process, ended but not waited for included, is as `wanted`.
    pub fn any_process(&self, mut wanted: impl FnMut(&Process) -> bool) -> bool {
        self.processes.values().filter_map(Weak::upgrade).any(|process| wanted(&process))
    }

    /// Whether a process group or a session is called by this number.
    pub fn has_group_or_session(&self, number: Pid) -> bool {
        self.any_process(|process| {
            let related = self.of(process);
            related.group == number || related.session == number
        })
    }

    /// How many threads there are.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }
}
