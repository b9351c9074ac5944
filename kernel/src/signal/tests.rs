//! Tests of the parts that need no running task.

use platform::TrapFrame;

use super::altstack::{AltStack, UserStack};
use super::pending::{Added, Pending, UserCount};
use super::restart::Interruption;
use super::*;
use crate::errno::Errno;
use crate::process::Pid;
use crate::process::credentials::Uid;
use crate::syscall::numbers;
use crate::trap::Entry;

fn kernel(signal: Signal) -> SigInfo {
    SigInfo::kernel(signal)
}

fn numbered(signal: Signal, value: u64) -> SigInfo {
    SigInfo::timer(signal, value as i32, value)
}

fn realtime(number: i32) -> Signal {
    Signal::new(SIGRTMIN.number() + number).unwrap()
}

#[test]
fn ordinary_signals_are_kept_once_and_realtime_ones_in_order() {
    let mut pending = Pending::new();
    assert_eq!(pending.add(kernel(SIGUSR1), None), Added::Yes);
    assert_eq!(pending.add(kernel(SIGUSR1), None), Added::Already);
    for value in [3, 1, 2] {
        assert_eq!(pending.add(numbered(realtime(2), value), None), Added::Yes);
    }
    pending.add(kernel(SIGTERM), None);
    let order: Vec<_> = core::iter::from_fn(|| pending.take(SignalSet::ALL)).collect();
    let expected = [
        kernel(SIGUSR1),
        kernel(SIGTERM),
        numbered(realtime(2), 3),
        numbered(realtime(2), 1),
        numbered(realtime(2), 2),
    ];
    assert_eq!(order, expected);
    assert!(pending.set().is_empty());
}

#[test]
fn one_expiry_of_a_timer_is_queued_at_a_time() {
    let mut pending = Pending::new();
    assert_eq!(pending.add(numbered(realtime(0), 7), None), Added::Yes);
    assert_eq!(pending.add(numbered(realtime(0), 7), None), Added::Already);
    assert_eq!(pending.add(numbered(realtime(0), 8), None), Added::Yes);
}

#[test]
fn only_wanted_signals_are_taken() {
    let mut pending = Pending::new();
    pending.add(kernel(SIGINT), None);
    pending.add(kernel(SIGTERM), None);
    assert_eq!(pending.take(SIGHUP.set()), None);
    assert_eq!(pending.take(SIGTERM.set()), Some(kernel(SIGTERM)));
    assert_eq!(pending.set(), SIGINT.set());
}

#[test]
fn exceptions_come_before_what_was_sent() {
    let mut pending = Pending::new();
    pending.add(kernel(SIGINT), None);
    let fault = SigInfo::fault(SIGSEGV, code::SEGV_MAPERR, 0x1234);
    pending.add(fault.clone(), None);
    assert_eq!(pending.take_synchronous(SIGSEGV.set()), None);
    assert_eq!(pending.take_synchronous(SignalSet::EMPTY), Some(fault));
    // The same signal sent by a process is no exception.
    let mut bytes = [0; 128];
    bytes[8..12].copy_from_slice(&code::SI_QUEUE.to_le_bytes());
    pending.add(SigInfo::from_bytes(SIGSEGV, &bytes).unwrap(), None);
    assert_eq!(pending.take_synchronous(SignalSet::EMPTY), None);
}

#[test]
fn discarded_signals_are_gone_and_no_longer_counted() {
    let user = Uid(4711);
    let mut pending = Pending::new();
    let count = UserCount::take(user, 2);
    assert!(count.is_some());
    pending.add(numbered(realtime(1), 1), count);
    pending.add(numbered(realtime(1), 2), UserCount::take(user, 2));
    assert!(UserCount::take(user, 2).is_none(), "the limit is reached");
    pending.discard(realtime(1).set());
    assert!(pending.set().is_empty());
    assert_eq!(UserCount::of(user), 0);
}

#[test]
fn siginfo_has_the_layout_of_linux() {
    let sent = SigInfo::timer(SIGALRM, 5, 0x1122_3344_5566_7788).to_bytes();
    assert_eq!(sent[..4], 14_i32.to_le_bytes());
    assert_eq!(sent[8..12], (-2_i32).to_le_bytes());
    assert_eq!(sent[16..20], 5_i32.to_le_bytes());
    assert_eq!(sent[24..32], 0x1122_3344_5566_7788_u64.to_le_bytes());
    let fault = SigInfo::fault(SIGSEGV, code::SEGV_ACCERR, 0xdead_b000).to_bytes();
    assert_eq!(fault[16..24], 0xdead_b000_u64.to_le_bytes());
    let child = SigInfo::child(SIGCHLD, Pid(9), Uid(1000), 3 << 8).to_bytes();
    assert_eq!(child[8..12], code::CLD_EXITED.to_le_bytes());
    assert_eq!(child[16..20], 9_i32.to_le_bytes());
    assert_eq!(child[20..24], 1000_u32.to_le_bytes());
    assert_eq!(child[24..28], 3_i32.to_le_bytes());
}

#[test]
fn child_events_follow_the_wait_status() {
    let event = |status| match SigInfo::child(SIGCHLD, Pid(2), Uid(0), status) {
        SigInfo { code, fields: Fields::Child(event), .. } => (code, event.status),
        other => panic!("{other:?}"),
    };
    assert_eq!(event(0), (code::CLD_EXITED, 0));
    assert_eq!(event(255 << 8), (code::CLD_EXITED, 255));
    assert_eq!(event(9), (code::CLD_KILLED, 9));
    assert_eq!(event(11 | 0x80), (code::CLD_DUMPED, 11));
    assert_eq!(event(19 << 8 | 0x7f), (code::CLD_STOPPED, 19));
    assert_eq!(event(0xffff), (code::CLD_CONTINUED, 18));
}

#[test]
fn a_queued_siginfo_goes_through_unchanged_but_for_its_signal() {
    let mut bytes: [u8; 128] = core::array::from_fn(|index| index as u8);
    let info = SigInfo::from_bytes(SIGUSR2, &bytes).unwrap();
    bytes[..4].copy_from_slice(&SIGUSR2.number().to_le_bytes());
    bytes[12..16].fill(0);
    assert_eq!(info.to_bytes(), bytes);
}

#[test]
fn default_actions_are_those_of_signal_7() {
    let of = |wanted: DefaultAction| -> Vec<i32> {
        (1..=64).filter(|&number| Signal::new(number).unwrap().default_action() == wanted).collect()
    };
    assert_eq!(of(DefaultAction::Stop), [19, 20, 21, 22]);
    assert_eq!(of(DefaultAction::Ignore), [17, 23, 28]);
    assert_eq!(of(DefaultAction::Continue), [18]);
    assert_eq!(of(DefaultAction::Core), [3, 4, 5, 6, 7, 8, 11, 24, 25, 31]);
    assert!(Signal::new(0).is_none() && Signal::new(65).is_none() && Signal::new(-1).is_none());
}

#[test]
fn exec_keeps_what_is_ignored_and_nothing_else() {
    let actions = SignalActions::new();
    let handler = Action { handler: 0x40_0000, ..Action::DEFAULT };
    let ignore = Action { handler: 1, mask: SIGINT.set(), ..Action::DEFAULT };
    actions.set(SIGUSR1, handler);
    actions.set(SIGPIPE, ignore);
    let copy = actions.copy();
    let after = actions.for_exec();
    assert_eq!(after.get(SIGUSR1), Action::DEFAULT);
    assert_eq!(after.get(SIGPIPE), Action { handler: 1, ..Action::DEFAULT });
    assert_eq!(copy.get(SIGUSR1), handler);
    assert!(copy.get(SIGPIPE).ignores(SIGPIPE) && copy.get(SIGCHLD).ignores(SIGCHLD));
    assert!(!copy.get(SIGUSR1).ignores(SIGUSR1) && !copy.get(SIGTERM).ignores(SIGTERM));
}

#[test]
fn alternate_stacks_are_checked_as_in_linux() {
    let stack = AltStack::NONE.changed(&UserStack::new(0x1000, 8192, 0), 0x9_0000).unwrap();
    assert!(
        stack.contains(0x1001)
            && stack.contains(0x3000)
            && !stack.contains(0x1000)
            && !stack.contains(0x3001)
    );
    assert_eq!(stack.to_user(0x2000), UserStack::new(0x1000, 8192, 1));
    assert_eq!(stack.to_user(0x9_0000), UserStack::new(0x1000, 8192, 0));
    assert_eq!(AltStack::NONE.to_user(0x2000), UserStack::new(0, 0, 2));
    assert_eq!(stack.changed(&UserStack::new(0, 0, 2), 0x2000), Err(Errno::EPERM));
    assert_eq!(stack.changed(&UserStack::new(0, 0, 2), 0x9_0000).map(|stack| stack.exists()), Ok(false));
    assert_eq!(stack.changed(&UserStack::new(0x1000, 2047, 0), 0x9_0000), Err(Errno::ENOMEM));
    assert_eq!(stack.changed(&UserStack::new(0x1000, 8192, 4), 0x9_0000), Err(Errno::EINVAL));
    let disarming = stack.changed(&UserStack::new(0x1000, 8192, 1 << 31), 0x9_0000).unwrap();
    assert!(disarming.disarms_itself() && !disarming.in_use(0x2000));
}

fn interrupted(error: Errno) -> TrapFrame {
    TrapFrame {
        rax: error.to_rax(),
        orig_rax: numbers::READ as u64,
        ..TrapFrame::user(0x40_0002, 0x7fff_0000)
    }
}

fn settled(error: Errno, handler: Option<ActionFlags>) -> (u64, u64) {
    let mut frame = interrupted(error);
    Interruption::of(&frame, Entry::SystemCall).settle(&mut frame, handler);
    (frame.rax, frame.rip)
}

#[test]
fn system_calls_restart_as_signal_7_says() {
    const AGAIN: (u64, u64) = (numbers::READ as u64, 0x40_0000);
    const BLOCK: (u64, u64) = (numbers::RESTART_SYSCALL as u64, 0x40_0000);
    let eintr = (Errno::EINTR.to_rax(), 0x40_0002);
    let plain = Some(ActionFlags::RESTORER);
    let restarting = Some(ActionFlags::RESTORER | ActionFlags::RESTART);
    for (error, none, without, with) in [
        (Errno::ERESTARTSYS, AGAIN, eintr, AGAIN),
        (Errno::ERESTARTNOINTR, AGAIN, AGAIN, AGAIN),
        (Errno::ERESTARTNOHAND, AGAIN, eintr, eintr),
        (Errno::ERESTART_RESTARTBLOCK, BLOCK, eintr, eintr),
    ] {
        assert_eq!(settled(error, None), none, "{error:?}");
        assert_eq!(settled(error, plain), without, "{error:?}");
        assert_eq!(settled(error, restarting), with, "{error:?}");
    }
    let unaffected = (Errno::EAGAIN.to_rax(), 0x40_0002);
    assert_eq!(settled(Errno::EAGAIN, plain), unaffected);
}

#[test]
fn what_was_no_system_call_is_not_restarted() {
    let mut frame = interrupted(Errno::ERESTARTSYS);
    let before = frame;
    Interruption::of(&frame, Entry::Other).settle(&mut frame, None);
    assert_eq!(frame, before);
    frame.orig_rax = u64::MAX;
    assert_eq!(Interruption::of(&frame, Entry::SystemCall), Interruption::None);
}
