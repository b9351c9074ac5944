//! System calls about processes and threads.

use core::sync::atomic::Ordering;

use platform::VirtAddr;

use super::{Pid, clone, current, exit, futex, tree, wait};
use crate::errno::Errno;
use crate::hook::cpu;
use crate::sync::interrupts;
use crate::syscall::{Call, Handler, SysResult, numbers as nr};

/// This subsystem's system calls.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[
    (nr::CLONE, clone::clone),
    (nr::CLONE3, clone::clone3),
    (nr::FORK, clone::fork),
    (nr::VFORK, clone::vfork),
    (nr::EXIT, exit),
    (nr::EXIT_GROUP, exit_group),
    (nr::WAIT4, wait::wait4),
    (nr::WAITID, wait::waitid),
    (nr::FUTEX, futex::futex),
    (nr::SET_TID_ADDRESS, set_tid_address),
    (nr::SET_ROBUST_LIST, set_robust_list),
    (nr::GET_ROBUST_LIST, get_robust_list),
    (nr::GETPID, getpid),
    (nr::GETTID, gettid),
    (nr::GETPPID, getppid),
    (nr::ARCH_PRCTL, arch_prctl),
    (nr::UNSHARE, unshare),
];

fn exit(call: &mut Call<'_>) -> SysResult {
    exit::exit_thread((call.uint(0) & 0xff) << 8)
}

fn exit_group(call: &mut Call<'_>) -> SysResult {
    exit::exit_group((call.uint(0) & 0xff) << 8)
}

fn set_tid_address(call: &mut Call<'_>) -> SysResult {
    let task = current();
    task.clear_child_tid.store(call.raw(0), Ordering::Relaxed);
    Ok(task.tid().0 as u64)
}

const ROBUST_LIST_HEAD_BYTES: usize = 24;

fn set_robust_list(call: &mut Call<'_>) -> SysResult {
    if call.size(1) != ROBUST_LIST_HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    current().robust_list.store(call.raw(0), Ordering::Relaxed);
    Ok(0)
}

fn get_robust_list(call: &mut Call<'_>) -> SysResult {
    let head = match call.pid(0) {
        Pid(0) => current().robust_list.load(Ordering::Relaxed),
        tid => tree::find_task(tid).ok_or(Errno::ESRCH)?.robust_list.load(Ordering::Relaxed),
    };
    call.user(1).write(&head)?;
    call.user(2).write(&ROBUST_LIST_HEAD_BYTES)?;
    Ok(0)
}

fn getpid(_: &mut Call<'_>) -> SysResult {
    Ok(current().process.pid.0 as u64)
}

fn gettid(_: &mut Call<'_>) -> SysResult {
    Ok(current().tid().0 as u64)
}

fn getppid(_: &mut Call<'_>) -> SysResult {
    let tree = tree::lock();
    let parent = tree.of(&current().process).parent.upgrade();
    Ok(parent.map_or(0, |parent| parent.pid.0 as u64))
}

fn arch_prctl(call: &mut Call<'_>) -> SysResult {
    const SET_GS: i32 = 0x1001;
    const SET_FS: i32 = 0x1002;
    const GET_FS: i32 = 0x1003;
    const GET_GS: i32 = 0x1004;
    let (what, address) = (call.int(0), call.raw(1));
    let set = matches!(what, SET_FS | SET_GS);
    if set && address >= crate::mm::user::user_top().0 {
        return Err(Errno::EPERM);
    }
    let state = interrupts::save();
    let mut bases = cpu::user_bases();
    match what {
        SET_FS => bases.fs = VirtAddr(address),
        SET_GS => bases.gs = VirtAddr(address),
        _ => {}
    }
    if set {
        cpu::set_user_bases(bases);
    }
    interrupts::restore(state);
    match what {
        SET_FS | SET_GS => {}
        GET_FS => call.user(1).write(&bases.fs.0)?,
        GET_GS => call.user(1).write(&bases.gs.0)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn unshare(call: &mut Call<'_>) -> SysResult {
    const CLONE_FS: u64 = 0x200;
    const CLONE_FILES: u64 = 0x400;
    const CLONE_SYSVSEM: u64 = 0x4_0000;
    let flags = call.raw(0);
    if flags & !(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM) != 0 {
        return Err(Errno::EINVAL);
    }
    let process = &current().process;
    if flags & CLONE_FILES != 0 {
        let own = process.files().fork()?;
        *process.files.lock() = own;
    }
    if flags & CLONE_FS != 0 {
        let own = process.fs().fork();
        *process.fs.lock() = own;
    }
    Ok(0)
}
