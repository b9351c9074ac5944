//! Files about the state of a process.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use platform::{Nanoseconds, PAGE_SIZE};

use super::load::TICK;
use super::subject::Subject;
use super::text::{Text, put};
use crate::errno::{Errno, KResult};
use crate::mm::vma::VmaFlags;
use crate::mm::{AddressSpace, Backing};
use crate::percpu;
use crate::process::limits::INFINITY;
use crate::process::{Process, Task, TaskName, Usage, tree};
use crate::sched::BlockedState;
use crate::signal::{Disposition, Signal, SignalSet};

/// `comm`
pub fn name(subject: &Subject) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    text.bytes(task_name(subject)?.as_bytes());
    put!(text, "\n");
    text.finish()
}

fn task_name(subject: &Subject) -> KResult<TaskName> {
    let name = subject.task().map(|task| task.name());
    name.or_else(
        |gone| if subject.is_thread() { Err(gone) } else { Ok(*subject.process()?.last_name.lock()) },
    )
}

/// Sets `comm`: only for threads of the running process.
pub fn set_name(subject: &Subject, bytes: &[u8]) -> KResult<()> {
    let task = subject.task()?;
    if task.process.pid != crate::process::current().process.pid {
        return Err(Errno::EINVAL);
    }
    task.set_name(TaskName::new(bytes.strip_suffix(b"\n").unwrap_or(bytes)));
    Ok(())
}

/// Checks what is written to `oom_score_adj`. Memory that runs out ends who asks for it, so nothing is kept.
pub fn set_oom_score(_: &Subject, bytes: &[u8]) -> KResult<()> {
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    match text.trim().parse::<i32>() {
        Ok(-1000..=1000) => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

/// What `ps` shows as a thread's state, and what that letter means.
fn state(process: &Process, task: Option<&Arc<Task>>) -> (char, &'static str) {
    // A process whose last thread is gone may still be ending: until its parent can wait for it, it is no zombie.
    if tree::lock().of(process).zombie {
        return ('Z', "zombie");
    }
    let Some(task) = task else { return ('R', "running") };
    match task.sched.blocked_state() {
        None => ('R', "running"),
        Some(BlockedState::Interruptible) => ('S', "sleeping"),
        Some(BlockedState::Uninterruptible | BlockedState::Killable) => ('D', "disk sleep"),
        Some(BlockedState::Stopped) => ('T', "stopped"),
        Some(BlockedState::Dead) => ('X', "dead"),
    }
}

/// Signals that the process ignores, and those it handles.
fn dispositions(process: &Process) -> (SignalSet, SignalSet) {
    let actions = process.actions.lock().clone();
    let (mut ignored, mut handled) = (SignalSet::EMPTY, SignalSet::EMPTY);
    for signal in (1..=64).filter_map(Signal::new) {
        match actions.get(signal).disposition() {
            Disposition::Ignore => ignored = ignored.with(signal),
            Disposition::Handler => handled = handled.with(signal),
            Disposition::Default => {}
        }
    }
    (ignored, handled)
}

/// Pages that a process has mapped, by what they are.
#[derive(Default)]
struct Pages {
    all: u64,
    resident: u64,
    peak: u64,
    data: u64,
    stack: u64,
    text: u64,
    shared: u64,
}

impl Pages {
    fn of(space: Option<&AddressSpace>) -> Self {
        let Some(space) = space else { return Self::default() };
        let mut pages =
            Self { resident: space.resident_pages(), peak: space.peak_resident_pages(), ..Self::default() };
        let layout = space.layout();
        pages.all = layout.vmas.mapped_bytes() / PAGE_SIZE;
        let (start, end) = layout.program.code;
        pages.text = end.next_multiple_of(PAGE_SIZE).saturating_sub(start & !(PAGE_SIZE - 1)) / PAGE_SIZE;
        for vma in layout.vmas.as_slice() {
            let count = (vma.range.end() - vma.range.start()) / PAGE_SIZE;
            if vma.flags.contains(VmaFlags::GROWS_DOWN) {
                pages.stack += count;
            } else if vma.protection.contains(platform::Protection::WRITE)
                && !vma.flags.contains(VmaFlags::SHARED)
            {
                pages.data += count;
            }
            if vma.flags.contains(VmaFlags::SHARED) && matches!(vma.backing, Backing::File { .. }) {
                pages.shared += count;
            }
        }
        pages
    }
}

/// Time in user mode and in the kernel: a thread's own, or all threads'.
fn usage(subject: &Subject, process: &Process) -> Usage {
    match subject.own_task() {
        None => process.usage(),
        Some(task) => {
            let (user, system) = process.split(task.runtime());
            Usage {
                user,
                system,
                minor_faults: task.minor_faults.load(Ordering::Relaxed),
                major_faults: task.major_faults.load(Ordering::Relaxed),
                voluntary_switches: task.sched.voluntary_switches.load(Ordering::Relaxed),
                involuntary_switches: task.sched.involuntary_switches.load(Ordering::Relaxed),
                max_resident_kib: 0,
            }
        }
    }
}

fn ticks(time: Nanoseconds) -> u64 {
    time.0 / TICK
}

/// `stat`
pub fn stat(subject: &Subject) -> KResult<Vec<u8>> {
    let process = subject.process()?;
    let task = subject.task().ok();
    let (letter, _) = state(&process, task.as_ref());
    let (parent, group, session) = {
        let tree = tree::lock();
        let related = tree.of(&process);
        (related.parent.upgrade().map_or(0, |parent| parent.pid.0), related.group.0, related.session.0)
    };
    let (terminal, foreground) =
        crate::tty::of_process(&process).map_or((0, -1), |(number, group)| (number.encode(), group.0));
    let used = usage(subject, &process);
    let children = *process.children_usage.lock();
    let nice = task.as_ref().map_or(0, |task| i64::from(task.sched.nice().get()));
    let space = process.space();
    let pages = Pages::of(space.as_deref());
    let (program, brk_start) = space.as_ref().map_or_else(Default::default, |space| {
        let layout = space.layout();
        (layout.program, layout.brk_start.0)
    });
    let (ignored, handled) = dispositions(&process);
    let pending = task.as_ref().map_or(SignalSet::EMPTY, |task| task.signals.pending());
    let blocked = task.as_ref().map_or(SignalSet::EMPTY, |task| task.signals.blocked());
    let threads = process.threads.lock().len();
    let limit = process.limits.lock().get(crate::process::Resource::ResidentSet).soft;
    let mut text = Text::new();
    put!(text, "{} (", subject.number.0);
    text.bytes(task_name(subject)?.as_bytes());
    put!(text, ") {letter} {parent} {group} {session} {terminal} {foreground} {} ", 0x0040_0000);
    put!(text, "{} {} ", used.minor_faults, children.minor_faults);
    put!(text, "{} {} ", used.major_faults, children.major_faults);
    put!(
        text,
        "{} {} {} {} ",
        ticks(used.user),
        ticks(used.system),
        ticks(children.user),
        ticks(children.system)
    );
    put!(text, "{} {nice} {threads} 0 {} ", 20 + nice, ticks(process.start_time));
    put!(text, "{} {} {limit} ", pages.all * PAGE_SIZE, pages.resident);
    put!(text, "{} {} {} 0 0 ", program.code.0, program.code.1, program.stack_start);
    put!(text, "{} {} {} {} 0 0 0 ", pending.0, blocked.0, ignored.0, handled.0);
    let cpu = task.as_ref().map_or(0, |task| task.sched.cpu().0);
    put!(text, "{} {cpu} 0 0 0 0 0 ", process.exit_signal.load(Ordering::Relaxed));
    put!(text, "{} {} {brk_start} ", program.data.0, program.data.1);
    put!(text, "{} {} ", program.arguments.0, program.arguments.1);
    put!(text, "{} {} ", program.environment.0, program.environment.1);
    let status = if letter == 'Z' { process.exit_status.load(Ordering::Relaxed) } else { 0 };
    put!(text, "{status}\n");
    text.finish()
}

/// `statm`
pub fn memory_pages(subject: &Subject) -> KResult<Vec<u8>> {
    let pages = Pages::of(subject.process()?.space().as_deref());
    let mut text = Text::new();
    let (all, resident) = (pages.all, pages.resident);
    put!(text, "{all} {resident} {} {} 0 {} 0\n", pages.shared, pages.text, pages.data + pages.stack);
    text.finish()
}

/// `status`
pub fn status(subject: &Subject) -> KResult<Vec<u8>> {
    let process = subject.process()?;
    let task = subject.task().ok();
    let (letter, word) = state(&process, task.as_ref());
    let parent = tree::lock().of(&process).parent.upgrade().map_or(0, |parent| parent.pid.0);
    let who = process.credentials();
    let mut text = Text::new();
    text.bytes(b"Name:\t");
    text.escaped(task_name(subject)?.as_bytes());
    put!(text, "\nUmask:\t{:04o}\nState:\t{letter} ({word})\n", process.fs().umask());
    put!(
        text,
        "Tgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{parent}\nTracerPid:\t0\n",
        process.pid.0,
        subject.number.0
    );
    put!(text, "Uid:\t{}\t{}\t{}\t{}\n", who.uid.0, who.euid.0, who.suid.0, who.fsuid.0);
    put!(text, "Gid:\t{}\t{}\t{}\t{}\n", who.gid.0, who.egid.0, who.sgid.0, who.fsgid.0);
    put!(text, "FDSize:\t{}\nGroups:\t", process.files().size());
    for group in &who.groups {
        put!(text, "{} ", group.0);
    }
    text.bytes(b"\n");
    if let Some(space) = process.space() {
        let pages = Pages::of(Some(&space));
        let mut line = |name: &str, pages: u64| put!(text, "{name}:\t{:>8} kB\n", pages * 4);
        line("VmPeak", pages.all);
        line("VmSize", pages.all);
        line("VmLck", 0);
        line("VmHWM", pages.peak);
        line("VmRSS", pages.resident);
        line("VmData", pages.data);
        line("VmStk", pages.stack);
        line("VmExe", pages.text);
        line("VmLib", 0);
        line("VmSwap", 0);
    }
    let (ignored, handled) = dispositions(&process);
    put!(text, "Threads:\t{}\n", process.threads.lock().len());
    let pending = task.as_ref().map_or(SignalSet::EMPTY, |task| task.signals.pending());
    let blocked = task.as_ref().map_or(SignalSet::EMPTY, |task| task.signals.blocked());
    put!(text, "SigPnd:\t{:016x}\nShdPnd:\t{:016x}\n", pending.0, process.signals.pending().0);
    put!(text, "SigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\n", blocked.0, ignored.0, handled.0);
    let all = if who.is_privileged() { (1u64 << 41) - 1 } else { 0 };
    put!(text, "CapInh:\t{:016x}\nCapPrm:\t{all:016x}\nCapEff:\t{all:016x}\n", 0);
    put!(text, "CapBnd:\t{:016x}\nCapAmb:\t{:016x}\n", (1u64 << 41) - 1, 0);
    put!(text, "NoNewPrivs:\t{}\n", u32::from(process.attributes.no_new_privileges.load(Ordering::Relaxed)));
    let online = percpu::online();
    let allowed = task.as_ref().map_or(online, |task| task.sched.affinity().and(online));
    put!(text, "Cpus_allowed:\t{:x}\nCpus_allowed_list:\t", allowed.bits());
    for (index, cpu) in allowed.iter().enumerate() {
        put!(text, "{}{}", if index > 0 { "," } else { "" }, cpu.0);
    }
    let used = usage(subject, &process);
    put!(text, "\nvoluntary_ctxt_switches:\t{}\n", used.voluntary_switches);
    put!(text, "nonvoluntary_ctxt_switches:\t{}\n", used.involuntary_switches);
    text.finish()
}

/// Limits in the order of their numbers: name and unit.
const LIMITS: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

/// `limits`
pub fn limits(subject: &Subject) -> KResult<Vec<u8>> {
    let limits = *subject.process()?.limits.lock();
    let mut text = Text::new();
    put!(text, "{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (number, (name, unit)) in LIMITS.iter().enumerate() {
        let limit = limits.by_number(number)?;
        put!(text, "{name:<25} ");
        for value in [limit.soft, limit.hard] {
            if value == INFINITY {
                put!(text, "{:<20} ", "unlimited");
            } else {
                put!(text, "{value:<20} ");
            }
        }
        put!(text, "{unit:<10}\n");
    }
    text.finish()
}

/// `io`: transfers are not counted.
pub fn input_output(subject: &Subject) -> KResult<Vec<u8>> {
    subject.inspected()?;
    Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"
        .to_vec())
}
