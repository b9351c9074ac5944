//! Making threads and processes (`clone(2)`).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use platform::{TrapFrame, UserBases, VirtAddr};
use zerocopy::FromBytes;

use super::process::NewProcess;
use super::task::VforkGate;
use super::{Current, Pid, Process, Resource, Task, current, tree};
use crate::errno::{Errno, KResult};
use crate::hook::cpu;
use crate::mm::UserAddr;
use crate::sched;
use crate::signal::{self, SignalActions, TaskSignals};
use crate::sync::interrupts;
use crate::syscall::{Call, SysResult};

bitflags::bitflags! {
    /// What parent and child share, and more (Linux include/uapi/linux/sched.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct CloneFlags: u64 {
        /// The memory.
        const VM = 0x100;
        /// Root, working directory and file mode mask.
        const FS = 0x200;
        /// Open files.
        const FILES = 0x400;
        /// What signals do.
        const SIGHAND = 0x800;
        /// A file descriptor for the child goes to the parent.
        const PIDFD = 0x1000;
        /// Accepted; there is no tracing.
        const PTRACE = 0x2000;
        /// The parent waits until the child no longer uses its memory.
        const VFORK = 0x4000;
        /// The child's parent is the caller's parent.
        const PARENT = 0x8000;
        /// A thread of the same process.
        const THREAD = 0x1_0000;
        /// System V semaphore adjustments; accepted.
        const SYSVSEM = 0x4_0000;
        /// The child's FS base is given.
        const SETTLS = 0x8_0000;
        /// The child's number is written to the parent's memory.
        const PARENT_SETTID = 0x10_0000;
        /// The word is cleared and woken when the child ends.
        const CHILD_CLEARTID = 0x20_0000;
        /// Without effect since Linux 2.6.2.
        const DETACHED = 0x40_0000;
        /// Accepted; there is no tracing.
        const UNTRACED = 0x80_0000;
        /// The child's number is written to the child's memory.
        const CHILD_SETTID = 0x100_0000;
        /// I/O context; accepted.
        const IO = 0x8000_0000;
        /// Handlers of signals are reset (`clone3` only).
        const CLEAR_SIGHAND = 0x1_0000_0000;
    }
}

/// Namespaces, which there are none of: new mount, cgroup, UTS, IPC, user, pid, net and time namespaces.
const NAMESPACES: u64 =
    0x2_0000 | 0x200_0000 | 0x400_0000 | 0x800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000 | 0x80;

/// What a clone asks for.
struct Request {
    flags: CloneFlags,
    exit_signal: u32,
    /// User stack; 0 to go on with the parent's.
    stack: u64,
    parent_tid: UserAddr,
    child_tid: UserAddr,
    tls: u64,
}

fn flags(bits: u64) -> KResult<CloneFlags> {
    if bits & NAMESPACES != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = CloneFlags::from_bits(bits).ok_or(Errno::EINVAL)?;
    let needs = |what: CloneFlags, other: CloneFlags| !flags.contains(what) || flags.contains(other);
    let consistent = needs(CloneFlags::THREAD, CloneFlags::SIGHAND)
        && needs(CloneFlags::SIGHAND, CloneFlags::VM)
        && !flags.contains(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND)
        && !flags.contains(CloneFlags::PIDFD);
    // A thread of ours shares files and directories with its process in any case.
    let thread_shares_all =
        !flags.contains(CloneFlags::THREAD) || flags.contains(CloneFlags::FILES | CloneFlags::FS);
    if consistent && thread_shares_all { Ok(flags) } else { Err(Errno::EINVAL) }
}

/// `clone(2)`
pub fn clone(call: &mut Call<'_>) -> SysResult {
    const SIGNAL_MASK: u64 = 0xff;
    let bits = call.raw(0);
    let request = Request {
        flags: flags(bits & !SIGNAL_MASK & 0xffff_ffff)?,
        exit_signal: (bits & SIGNAL_MASK) as u32,
        stack: call.raw(1),
        parent_tid: call.user(2),
        child_tid: call.user(3),
        tls: call.raw(4),
    };
    run(&request, call.frame)
}

/// `fork(2)`
pub fn fork(call: &mut Call<'_>) -> SysResult {
    run(&plain(CloneFlags::empty()), call.frame)
}

/// `vfork(2)`
pub fn vfork(call: &mut Call<'_>) -> SysResult {
    run(&plain(CloneFlags::VFORK | CloneFlags::VM), call.frame)
}

fn plain(flags: CloneFlags) -> Request {
    const SIGCHLD: u32 = 17;
    Request {
        flags,
        exit_signal: SIGCHLD,
        stack: 0,
        parent_tid: UserAddr::NULL,
        child_tid: UserAddr::NULL,
        tls: 0,
    }
}

/// Linux's `struct clone_args` up to its first published size and beyond.
#[derive(FromBytes, Default)]
#[repr(C)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `clone3(2)`
pub fn clone3(call: &mut Call<'_>) -> SysResult {
    const FIRST_SIZE: usize = 64;
    let (at, size) = (call.user(0), call.size(1));
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    if size < FIRST_SIZE {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; size_of::<CloneArgs>()];
    let known = size.min(bytes.len());
    at.read_bytes(&mut bytes[..known])?;
    for index in known..size {
        if at.offset(index as u64).read::<u8>()? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    let args = CloneArgs::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL)?;
    if args.set_tid_size != 0 || args.set_tid != 0 || args.exit_signal > 64 {
        return Err(Errno::EINVAL);
    }
    if (args.stack == 0) != (args.stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    let flags = flags(args.flags)?;
    if flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT) && args.exit_signal != 0 {
        return Err(Errno::EINVAL);
    }
    let stack = args.stack.checked_add(args.stack_size).ok_or(Errno::EINVAL)?;
    let request = Request {
        flags,
        exit_signal: args.exit_signal as u32,
        stack,
        parent_tid: UserAddr(args.parent_tid),
        child_tid: UserAddr(args.child_tid),
        tls: args.tls,
    };
    run(&request, call.frame)
}

fn run(request: &Request, frame: &TrapFrame) -> SysResult {
    let flags = request.flags;
    if flags.contains(CloneFlags::SETTLS) && request.tls >= crate::mm::user::user_top().0 {
        return Err(Errno::EPERM);
    }
    let child =
        if flags.contains(CloneFlags::THREAD) { thread(request, frame)? } else { process(request, frame)? };
    let tid = child.tid();
    if flags.contains(CloneFlags::PARENT_SETTID) {
        // As on Linux, a bad address is the caller's own misfortune.
        let _written = request.parent_tid.write(&tid.0.to_ne_bytes());
    }
    if flags.contains(CloneFlags::CHILD_SETTID) {
        child.set_child_tid.store(request.child_tid.0, Ordering::Relaxed);
    }
    if flags.contains(CloneFlags::CHILD_CLEARTID) {
        child.clear_child_tid.store(request.child_tid.0, Ordering::Relaxed);
    }
    let gate = flags.contains(CloneFlags::VFORK).then(|| {
        let gate = Arc::new(VforkGate::default());
        *child.vfork.lock() = Some(gate.clone());
        gate
    });
    sched::enqueue_new(&child);
    drop(child);
    if let Some(gate) = gate {
        // Only the end of this thread ends the wait early; the child then goes on by itself.
        gate.waiters
            .wait_killable(|| (gate.open.load(Ordering::Acquire) || signal::must_end()).then_some(()));
    }
    Ok(tid.0 as u64)
}

/// What the child starts with in user mode.
fn child_frame(request: &Request, frame: &TrapFrame) -> (TrapFrame, UserBases) {
    let mut frame = *frame;
    frame.rax = 0;
    if request.stack != 0 {
        frame.rsp = request.stack;
    }
    let mut bases = interrupts::without(cpu::user_bases);
    if request.flags.contains(CloneFlags::SETTLS) {
        bases.fs = VirtAddr(request.tls);
    }
    (frame, bases)
}

fn new_task(
    request: &Request,
    frame: &TrapFrame,
    tid: Pid,
    process: Arc<Process>,
    space: Arc<crate::mm::AddressSpace>,
) -> KResult<Arc<Task>> {
    let parent = current();
    let (frame, bases) = child_frame(request, frame);
    let sched = parent.sched.for_child();
    let shares_memory = request.flags.contains(CloneFlags::VM) && !request.flags.contains(CloneFlags::VFORK);
    let signals = TaskSignals::inherit(&parent.signals, shares_memory);
    let task = Task::user(tid, process, space, &frame, bases, sched, signals)?;
    task.copy_extended_from_current();
    task.set_name(parent.name());
    Ok(task)
}

fn thread(request: &Request, frame: &TrapFrame) -> KResult<Arc<Task>> {
    let parent = current();
    let process = parent.process.clone();
    let space = parent.space().cloned().ok_or(Errno::ESRCH)?;
    check_count(&process)?;
    let tid = Pid::allocate().ok_or(Errno::EAGAIN)?;
    let task = new_task(request, frame, tid, process.clone(), space.clone()).inspect_err(|_| tid.free())?;
    {
        let mut tree = tree::lock();
        let mut threads = process.threads.lock();
        if process.exiting.load(Ordering::Relaxed) || parent.must_exit() {
            return Err(Errno::ERESTARTNOINTR);
        }
        threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        threads.push(task.clone());
        process.live_threads.fetch_add(1, Ordering::Relaxed);
        tree.add_task(&task);
    }
    // Whoever stops or ends the process may have gone through its threads before this one was among them.
    signal::on_new_thread(&task);
    space.add_user();
    Ok(task)
}

/// How many signals the running process has been sent together with others, all of which have been dealt with.
fn broadcasts_seen() -> KResult<u32> {
    let task = current();
    let tree = tree::lock();
    let seen = task.process.signals.broadcasts(&tree);
    task.recompute_pending();
    if Current::signal_pending() { Err(Errno::ERESTARTNOINTR) } else { Ok(seen) }
}

fn process(request: &Request, frame: &TrapFrame) -> KResult<Arc<Task>> {
    let parent = current();
    let old = &parent.process;
    check_count(old)?;
    let broadcasts = broadcasts_seen()?;
    let shared_space = request.flags.contains(CloneFlags::VM);
    let own = parent.space().cloned().ok_or(Errno::ESRCH)?;
    let space = if shared_space { own } else { own.fork()? };
    let files = if request.flags.contains(CloneFlags::FILES) { old.files() } else { old.files().fork()? };
    let fs = if request.flags.contains(CloneFlags::FS) { old.fs() } else { old.fs().fork() };
    let actions: Arc<SignalActions> = if request.flags.contains(CloneFlags::SIGHAND) {
        old.actions()
    } else if request.flags.contains(CloneFlags::CLEAR_SIGHAND) {
        old.actions().for_exec()
    } else {
        old.actions().copy()
    };
    let limits = *old.limits.lock();
    let pid = Pid::allocate().ok_or(Errno::EAGAIN)?;
    let process = Process::new(NewProcess {
        pid,
        files,
        fs,
        actions,
        space: Some(space.clone()),
        credentials: old.credentials(),
        limits,
        exit_signal: request.exit_signal,
    });
    process.attributes.inherit(&old.attributes);
    process.timers.inherit_cpu_limit(limits.get(Resource::Cpu));
    if shared_space {
        space.add_user();
    }
    let task = new_task(request, frame, pid, process.clone(), space.clone()).inspect_err(|_| {
        if shared_space {
            space.remove_user();
        }
    })?;
    process.threads.lock().push(task.clone());
    process.live_threads.store(1, Ordering::Relaxed);
    let mut tree = tree::lock();
    if old.signals.broadcasts(&tree) != broadcasts {
        // Whoever has sent a signal to all of its group meanwhile did not find the new one there.
        drop(tree);
        // The two hold each other.
        process.threads.lock().clear();
        if shared_space {
            space.remove_user();
        }
        return Err(Errno::ERESTARTNOINTR);
    }
    // Not before: a session that loses its terminal loses it in all processes that there are.
    process.terminal.lock().clone_from(&old.terminal.lock());
    let related = tree.of(old);
    let (group, session) = (related.group, related.session);
    let mut new_parent = old.clone();
    let mut maker = parent.tid();
    if request.flags.contains(CloneFlags::PARENT)
        && let Some(grandparent) = related.parent.upgrade()
    {
        new_parent = grandparent;
        maker = related.maker;
    }
    {
        let child = tree.of_mut(&process);
        child.parent = Arc::downgrade(&new_parent);
        child.maker = maker;
        child.group = group;
        child.session = session;
    }
    tree.of_mut(&new_parent).children.push_back(process.clone());
    tree.add_process(&process);
    tree.add_task(&task);
    Ok(task)
}

/// RLIMIT_NPROC, for those it binds.
fn check_count(process: &Process) -> KResult<()> {
    let limit = process.limits.lock().get(Resource::Processes).soft;
    if limit != u64::MAX
        && !process.credentials().is_privileged()
        && tree::lock().task_count() as u64 >= limit
    {
        return Err(Errno::EAGAIN);
    }
    Ok(())
}
