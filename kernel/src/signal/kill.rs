//! System calls that send signals.

use alloc::sync::Arc;

use super::info::{SIGINFO_BYTES, code};
use super::permission::{self, MaybeSignal};
use super::{SigInfo, Signal};
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::tree;
use crate::process::{Pid, Process, Task, current};
use crate::syscall::{Call, SysResult};

pub(super) fn kill(call: &mut Call<'_>) -> SysResult {
    let (pid, number) = (call.pid(0), call.int(1));
    let signal = permission::parse(number)?;
    match pid.0 {
        1.. => permission::send_checked(&find(pid)?, None, signal, by_kill)?,
        0 => kill_group(own_group(), signal)?,
        -1 => kill_everyone(signal)?,
        // No group has a number this large.
        i32::MIN => return Err(Errno::ESRCH),
        group => kill_group(Pid(-group), signal)?,
    }
    Ok(0)
}

fn own_group() -> Pid {
    tree::lock().of(&current().process).group
}

/// The process with this number, or the one that the thread with this number belongs to.
fn find(pid: Pid) -> KResult<Arc<Process>> {
    tree::find(pid).or_else(|| tree::find_task(pid).map(|task| task.process.clone())).ok_or(Errno::ESRCH)
}

fn kill_group(group: Pid, signal: MaybeSignal) -> KResult<()> {
    let mut result = Err(Errno::ESRCH);
    permission::send_to_many(
        signal,
        |tree, process| tree.of(process).group == group,
        |sent| {
            if result.is_err() {
                result = sent;
            }
        },
    );
    result
}

fn by_kill(signal: Signal) -> KResult<SigInfo> {
    Ok(SigInfo::user(signal))
}

fn by_tkill(signal: Signal) -> KResult<SigInfo> {
    Ok(SigInfo::from_current(signal, code::SI_TKILL))
}

/// All processes but the first and the running one itself.
fn kill_everyone(signal: MaybeSignal) -> KResult<()> {
    let own = current().process.pid;
    let mut found = false;
    let mut result = Ok(());
    permission::send_to_many(
        signal,
        |_, process| process.pid.0 > 1 && process.pid != own,
        |sent| {
            found = true;
            if sent != Err(Errno::EPERM) {
                result = sent;
            }
        },
    );
    if found { result } else { Err(Errno::ESRCH) }
}

pub(super) fn tkill(call: &mut Call<'_>) -> SysResult {
    let (tid, number) = (call.pid(0), call.int(1));
    if tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    let signal = permission::parse(number)?;
    kill_thread(None, tid, signal, by_tkill)
}

pub(super) fn tgkill(call: &mut Call<'_>) -> SysResult {
    let (process, tid, number) = (call.pid(0), call.pid(1), call.int(2));
    if process.0 <= 0 || tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    let signal = permission::parse(number)?;
    kill_thread(Some(process), tid, signal, by_tkill)
}

fn kill_thread(
    process: Option<Pid>,
    tid: Pid,
    signal: MaybeSignal,
    info: impl FnOnce(Signal) -> KResult<SigInfo>,
) -> SysResult {
    let own = current();
    let task: Arc<Task> =
        if tid == own.tid() { own.shared() } else { tree::find_task(tid).ok_or(Errno::ESRCH)? };
    if process.is_some_and(|process| process != task.process.pid) {
        return Err(Errno::ESRCH);
    }
    permission::send_checked(&task.process, Some(&task), signal, info)?;
    Ok(0)
}

pub(super) fn rt_sigqueueinfo(call: &mut Call<'_>) -> SysResult {
    let (pid, number, from) = (call.pid(0), call.int(1), call.user(2));
    let signal = permission::parse(number)?;
    let bytes = read_info(from, pid)?;
    permission::send_checked(&find(pid)?, None, signal, |signal| SigInfo::from_bytes(signal, &bytes))?;
    Ok(0)
}

pub(super) fn rt_tgsigqueueinfo(call: &mut Call<'_>) -> SysResult {
    let (process, tid, number, from) = (call.pid(0), call.pid(1), call.int(2), call.user(3));
    if process.0 <= 0 || tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    let signal = permission::parse(number)?;
    let bytes = read_info(from, tid)?;
    kill_thread(Some(process), tid, signal, |signal| SigInfo::from_bytes(signal, &bytes))
}

/// Reads what a program says of a signal it sends to `receiver`. Only to itself may it claim to be the kernel or
/// `kill(2)`.
fn read_info(from: UserAddr, receiver: Pid) -> KResult<[u8; SIGINFO_BYTES]> {
    let bytes: [u8; SIGINFO_BYTES] = from.read()?;
    let claimed = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let task = current();
    let to_itself = receiver == task.tid() || receiver == task.process.pid;
    if (claimed >= 0 || claimed == code::SI_TKILL) && !to_itself { Err(Errno::EPERM) } else { Ok(bytes) }
}
