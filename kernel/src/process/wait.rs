//! Waiting for children (`wait4(2)`, `waitid(2)`).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::credentials::Uid;
use super::tree::{self, Processes, Tree};
use super::usage::RawUsage;
use super::{Pid, Process, Usage, current, exit};
use crate::errno::{Errno, KResult};
use crate::mm::{UserAddr, trim_stacks};
use crate::signal::{Change, SigInfo, Signal};
use crate::syscall::{Call, SysResult};

bitflags::bitflags! {
    /// Options of `wait4` and `waitid` (Linux include/uapi/linux/wait.h).
    #[derive(Clone, Copy)]
    struct Options: u32 {
        const NOHANG = 1;
        const STOPPED = 2;
        const EXITED = 4;
        const CONTINUED = 8;
        const NOWAIT = 0x0100_0000;
        const NOTHREAD = 0x2000_0000;
        const ALL = 0x4000_0000;
        const CLONE = 0x8000_0000;
    }
}

/// Which children.
#[derive(Clone, Copy)]
enum Which {
    Any,
    Process(Pid),
    Group(Pid),
}

/// What happened to a child.
struct Report {
    pid: Pid,
    uid: Uid,
    status: u32,
    usage: Usage,
    /// To be dropped without a lock held.
    gone: Option<Processes>,
}

/// What a look at the children found.
enum Look {
    /// None of them is of interest: ECHILD.
    Nobody,
    /// Some are, but nothing has happened.
    Nothing,
    Found(Report),
}

/// What there is to report of a child.
enum Event {
    Ended,
    Changed(Change),
}

fn wait(which: Which, options: Options) -> KResult<Option<Report>> {
    let process = current().process.clone();
    let result = process.child_events.wait(|| match look(&process, which, options) {
        Look::Nobody => Some(Err(Errno::ECHILD)),
        Look::Nothing if options.contains(Options::NOHANG) => Some(Ok(None)),
        Look::Nothing => None,
        Look::Found(report) => Some(Ok(Some(report))),
    });
    let mut report = result??;
    if let Some(report) = &mut report
        && let Some(gone) = report.gone.take()
    {
        drop(gone);
        trim_stacks();
    }
    Ok(report)
}

fn look(process: &Process, which: Which, options: Options) -> Look {
    const SIGCHLD: u32 = 17;
    let mut tree = tree::lock();
    let mut candidates = false;
    let mut found = None;
    for child in &tree.of(process).children {
        let related = tree.of(child);
        let wanted = match which {
            Which::Any => true,
            Which::Process(pid) => child.pid == pid,
            Which::Group(group) => related.group == group,
        };
        let is_clone = child.exit_signal.load(Ordering::Relaxed) != SIGCHLD;
        if options.contains(Options::NOTHREAD) && !is_of_this_thread(process, related.maker) {
            continue;
        }
        if !wanted || !(options.contains(Options::ALL) || is_clone == options.contains(Options::CLONE)) {
            continue;
        }
        candidates = true;
        let event = if related.zombie {
            options.contains(Options::EXITED).then_some(Event::Ended)
        } else {
            let [stops, continues, keep] = [Options::STOPPED, Options::CONTINUED, Options::NOWAIT]
                .map(|option| options.contains(option));
            child.signals.change(stops, continues, keep).map(Event::Changed)
        };
        if let Some(event) = event {
            found = Some((child.clone(), event));
            break;
        }
    }
    match found {
        Some((child, event)) => Look::Found(report(&mut tree, process, child, event, options)),
        None if candidates => Look::Nothing,
        None => Look::Nobody,
    }
}

/// Whether a child made by `maker` counts as the running thread's own. Those of threads that have ended are the first
/// thread's.
fn is_of_this_thread(process: &Process, maker: Pid) -> bool {
    let own = current().tid();
    let threads = process.threads.lock();
    maker == own
        || (threads.first().is_some_and(|first| first.tid() == own)
            && !threads.iter().any(|thread| thread.tid() == maker))
}

fn report(tree: &mut Tree, process: &Process, child: Arc<Process>, event: Event, options: Options) -> Report {
    let mut usage = child.usage();
    usage.add(&child.children_usage.lock());
    let (pid, uid) = (child.pid, child.credentials().uid);
    let (status, gone) = match event {
        Event::Ended if options.contains(Options::NOWAIT) => {
            (child.exit_status.load(Ordering::Acquire), None)
        }
        Event::Ended => (child.exit_status.load(Ordering::Acquire), exit::reap(tree, process, &child)),
        Event::Changed(change) => (change.wait_status(), None),
    };
    if gone.is_some() {
        process.children_usage.lock().add(&usage);
    }
    Report { pid, uid, status, usage, gone }
}

/// `wait4(2)`
pub fn wait4(call: &mut Call<'_>) -> SysResult {
    let allowed = Options::NOHANG
        | Options::STOPPED
        | Options::CONTINUED
        | Options::NOTHREAD
        | Options::ALL
        | Options::CLONE;
    let options = Options::from_bits(call.uint(2)).filter(|o| allowed.contains(*o)).ok_or(Errno::EINVAL)?;
    let (status_at, usage_at) = (call.user(1), call.user(3));
    let which = match call.int(0) {
        -1 => Which::Any,
        0 => Which::Group(own_group()),
        i32::MIN => return Err(Errno::ESRCH),
        group @ ..-1 => Which::Group(Pid(-group)),
        pid => Which::Process(Pid(pid)),
    };
    let Some(report) = wait(which, options | Options::EXITED)? else { return Ok(0) };
    if !status_at.is_null() {
        status_at.write(&report.status)?;
    }
    if !usage_at.is_null() {
        usage_at.write(&RawUsage::from(&report.usage))?;
    }
    Ok(report.pid.0 as u64)
}

fn own_group() -> Pid {
    let tree = tree::lock();
    tree.of(&current().process).group
}

/// `waitid(2)`
pub fn waitid(call: &mut Call<'_>) -> SysResult {
    const P_ALL: i32 = 0;
    const P_PID: i32 = 1;
    const P_PGID: i32 = 2;
    let options = Options::from_bits(call.uint(3)).ok_or(Errno::EINVAL)?;
    if !options.intersects(Options::EXITED | Options::STOPPED | Options::CONTINUED) {
        return Err(Errno::EINVAL);
    }
    let id = call.pid(1);
    let which = match call.int(0) {
        P_ALL => Which::Any,
        P_PID if id.0 > 0 => Which::Process(id),
        P_PGID if id.0 > 0 => Which::Group(id),
        P_PGID if id.0 == 0 => Which::Group(own_group()),
        _ => return Err(Errno::EINVAL),
    };
    let (info_at, usage_at) = (call.user(2), call.user(4));
    let report = wait(which, options)?;
    if let Some(report) = &report
        && !usage_at.is_null()
    {
        usage_at.write(&RawUsage::from(&report.usage))?;
    }
    if !info_at.is_null() {
        write_info(info_at, report.as_ref())?;
    }
    Ok(0)
}

fn write_info(at: UserAddr, report: Option<&Report>) -> KResult<()> {
    const SIGCHLD: i32 = 17;
    match (report, Signal::new(SIGCHLD)) {
        (Some(report), Some(signal)) => {
            at.write_bytes(&SigInfo::child(signal, report.pid, report.uid, report.status).to_bytes())
        }
        // Linux clears signal number and process number only; the rest is nobody's business.
        _ => at.clear(128),
    }
}
