//! Time, interrupts and the end of a run.

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use common::{
    COUNT, Clock, Console, Cpu, Interrupts, LOG, SCRIPT, Script, Timer, here, idle, run, say, start,
};
use platform::{CpuId, CpuSet, End, Interrupt, InterruptError, IrqLine, Message, Nanoseconds, StartError};
use sim::{FailureKind, Machine, in_fresh_process, in_fresh_process_within};

fn log() -> Vec<(u64, u32, Interrupt)> {
    LOG.lock().unwrap().clone()
}

#[test]
fn time_jumps_to_the_deadline() {
    in_fresh_process("time_jumps_to_the_deadline", || {
        let start = Instant::now();
        let outcome = run(
            Machine::new(),
            Script {
                boot: || {
                    assert_eq!(Clock::now(), Nanoseconds::ZERO);
                    Timer::arm(Nanoseconds::from_seconds(3600));
                    Cpu::wait_for_interrupt();
                    assert_eq!(Clock::now(), Nanoseconds::from_seconds(3600));
                },
                ..SCRIPT
            },
        );
        outcome.expect(End::PowerOff);
        assert_eq!(outcome.time, Nanoseconds::from_seconds(3600));
        assert_eq!(log(), [(3_600_000_000_000, 0, Interrupt::Timer)]);
        assert!(start.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_timer_goes_off_once_and_not_when_disarmed() {
    in_fresh_process("a_timer_goes_off_once_and_not_when_disarmed", || {
        run(
            Machine::new(),
            Script {
                boot: || {
                    Timer::arm(Nanoseconds(5));
                    sim::advance(Nanoseconds(10));
                    Timer::disarm();
                    Cpu::irq_enable();
                    assert_eq!(log(), []);
                    Cpu::irq_disable();
                    Timer::arm(Nanoseconds(7));
                    Cpu::irq_enable();
                    sim::advance(Nanoseconds(10));
                    let state = Cpu::irq_save();
                    Cpu::irq_restore(state);
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
        assert_eq!(log(), [(10, 0, Interrupt::Timer)]);
    });
}

#[test]
fn interrupts_wait_while_disabled() {
    in_fresh_process("interrupts_wait_while_disabled", || {
        run(
            Machine::new(),
            Script {
                boot: || {
                    Timer::arm(Nanoseconds(5));
                    sim::advance(Nanoseconds(6));
                    let outer = Cpu::irq_save();
                    let inner = Cpu::irq_save();
                    Cpu::irq_restore(inner);
                    assert_eq!(log(), []);
                    Cpu::irq_restore(outer);
                    assert_eq!(log(), []);
                    Cpu::irq_enable();
                    assert_eq!(log(), [(6, 0, Interrupt::Timer)]);
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
    });
}

#[test]
fn a_machine_that_nothing_can_wake_is_a_deadlock() {
    in_fresh_process("a_machine_that_nothing_can_wake_is_a_deadlock", || {
        let outcome = run(
            Machine::new().cpus(2),
            Script {
                boot: || {
                    start(1).unwrap();
                    idle();
                },
                ..SCRIPT
            },
        );
        let message = outcome.expect_failure(FailureKind::Deadlock);
        assert!(message.contains("CPU 0 waits") && message.contains("CPU 1 waits"), "{message}");
    });
}

#[test]
fn waiting_with_a_pending_interrupt_returns_at_once() {
    in_fresh_process("waiting_with_a_pending_interrupt_returns_at_once", || {
        run(
            Machine::new(),
            Script {
                boot: || {
                    Timer::arm(Nanoseconds::ZERO);
                    Cpu::wait_for_interrupt();
                    assert!(Cpu::irq_save().0 == 1, "interrupts are enabled afterwards");
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
        assert_eq!(log(), [(0, 0, Interrupt::Timer)]);
    });
}

#[test]
fn cpus_wake_in_the_order_of_their_deadlines() {
    in_fresh_process("cpus_wake_in_the_order_of_their_deadlines", || {
        run(
            Machine::new().cpus(3),
            Script {
                boot: || {
                    for cpu in machine_cpus() {
                        start(cpu).unwrap();
                    }
                    Timer::arm(Nanoseconds(500));
                    Cpu::wait_for_interrupt();
                },
                secondary: |cpu| {
                    Timer::arm(Nanoseconds(100 * u64::from(3 - cpu.0)));
                    idle();
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
        let timer = Interrupt::Timer;
        assert_eq!(log(), [(100, 2, timer), (200, 1, timer), (500, 0, timer)]);
    });
}

fn machine_cpus() -> impl Iterator<Item = u32> {
    common::machine().cpus.iter().map(|cpu| cpu.0).filter(|cpu| *cpu != here())
}

#[test]
fn messages_reach_the_cpus_they_are_sent_to() {
    in_fresh_process("messages_reach_the_cpus_they_are_sent_to", || {
        run(
            Machine::new().cpus(3).silent_cpu(CpuId(2)),
            Script {
                boot: || {
                    start(1).unwrap();
                    assert_eq!(start(2), Err(StartError::NoAnswer));
                    assert_eq!(start(3), Err(StartError::NoSuchCpu));
                    // Lost on CPU 2, which did not start.
                    common::Smp::send(CpuSet::one(CpuId(1)).with(CpuId(2)), Message::Call);
                    Cpu::wait_for_interrupt();
                },
                secondary: |_| {
                    Cpu::wait_for_interrupt();
                    common::Smp::send(CpuSet::one(CpuId(0)), Message::Reschedule);
                    idle();
                },
                ..SCRIPT
            },
        )
        .expect(End::PowerOff);
        let message = Interrupt::Message;
        assert_eq!(log(), [(0, 1, message(Message::Call)), (0, 0, message(Message::Reschedule))]);
    });
}

#[test]
fn a_step_of_the_clock_ends_a_loop_that_waits() {
    in_fresh_process("a_step_of_the_clock_ends_a_loop_that_waits", || {
        let outcome = run(
            Machine::new().now_step(Nanoseconds(50)).wall_clock(Nanoseconds::from_seconds(7)).at(
                Nanoseconds(300),
                || {
                    COUNT.fetch_add(1, SeqCst);
                },
            ),
            Script {
                boot: || {
                    assert_eq!(Clock::wall_clock_at_boot(), Nanoseconds::from_seconds(7));
                    while Clock::now() < Nanoseconds::MICROSECOND {}
                },
                ..SCRIPT
            },
        );
        outcome.expect(End::PowerOff);
        assert_eq!(outcome.time, Nanoseconds(1000));
        assert_eq!(COUNT.load(SeqCst), 1, "the event was due on the way");
    });
}

#[test]
fn an_endless_loop_meets_the_wall_clock_limit() {
    in_fresh_process("an_endless_loop_meets_the_wall_clock_limit", || {
        let outcome = run(
            Machine::new().wall_limit(Duration::from_millis(200)),
            Script { boot: || while Clock::now() == Nanoseconds::ZERO {}, ..SCRIPT },
        );
        assert!(outcome.expect_failure(FailureKind::Timeout).contains("CPU 0 runs"));
    });
}

#[test]
fn a_panic_ends_the_run_with_its_message() {
    in_fresh_process("a_panic_ends_the_run_with_its_message", || {
        let outcome = run(Machine::new(), Script { boot: || panic!("out of cheese"), ..SCRIPT });
        assert!(outcome.expect_failure(FailureKind::Panic).contains("out of cheese"));
    });
}

#[test]
fn an_unusable_machine_says_why() {
    in_fresh_process("an_unusable_machine_says_why", || {
        let outcome = run(Machine::new().unusable("no clock"), SCRIPT);
        outcome.expect(End::Unusable);
        assert_eq!(outcome.reports, ["no clock"]);
    });
}

#[test]
fn hooks_refuse_the_wrong_context() {
    in_fresh_process("hooks_refuse_the_wrong_context", || {
        let outcome = run(
            Machine::new(),
            Script {
                boot: || {
                    Cpu::irq_enable();
                    Timer::arm(Nanoseconds(1));
                },
                ..SCRIPT
            },
        );
        let message = outcome.expect_failure(FailureKind::Violation);
        assert!(message.contains("Timer::arm was called with interrupts enabled"), "{message}");
    });
}

#[test]
fn console_input_is_a_level() {
    in_fresh_process("console_input_is_a_level", || {
        let outcome = run(
            Machine::new().input_at(Nanoseconds(70), *b"abc"),
            Script {
                boot: || {
                    let line = Console::input_line().unwrap();
                    Interrupts::route(line, CpuId(0)).unwrap();
                    Interrupts::unmask(line);
                    Cpu::wait_for_interrupt();
                    // The handler takes a byte at a time, so it is called again each time it ends the line.
                    Cpu::irq_disable();
                    assert_eq!(COUNT.load(SeqCst), 3);
                },
                interrupt: |interrupt| {
                    assert_eq!(interrupt, Interrupt::Line(sim::INPUT_LINE));
                    COUNT.fetch_add(1, SeqCst);
                    let mut byte = [0];
                    assert_eq!(Console::read(&mut byte), 1);
                    Console::write(&byte);
                    Interrupts::end(sim::INPUT_LINE);
                },
                ..SCRIPT
            },
        );
        outcome.expect(End::PowerOff);
        assert_eq!((outcome.console.as_str(), outcome.time), ("abc", Nanoseconds(70)));
    });
}

#[test]
fn lines_obey_mask_route_and_end() {
    in_fresh_process("lines_obey_mask_route_and_end", || {
        let outcome = run(
            Machine::new().message_lines(1),
            Script {
                boot: || {
                    let wired = IrqLine(9);
                    assert_eq!(Interrupts::route(IrqLine(64), CpuId(0)), Err(InterruptError::NoSuchLine));
                    Interrupts::route(wired, CpuId(0)).unwrap();
                    Cpu::irq_enable();
                    let look = || {
                        let state = Cpu::irq_save();
                        Cpu::irq_restore(state);
                        LOG.lock().unwrap().len()
                    };
                    sim::raise(wired);
                    assert_eq!(look(), 0, "masked");
                    Interrupts::unmask(wired);
                    assert_eq!(look(), 1, "kept and delivered");
                    sim::raise(wired);
                    assert_eq!(look(), 1, "not before the first has ended");
                    Cpu::irq_disable();
                    Interrupts::end(wired);
                    Cpu::irq_enable();
                    assert_eq!(look(), 2);

                    let (line, message) = Interrupts::allocate_message(CpuId(0)).unwrap();
                    assert_eq!(Interrupts::allocate_message(CpuId(0)), Err(InterruptError::Exhausted));
                    Interrupts::unmask(line);
                    sim::write_message(message);
                    assert_eq!(look(), 3);
                    assert_eq!(LOG.lock().unwrap()[2].2, Interrupt::Line(line));
                    Interrupts::free_message(line);
                    Interrupts::free_message(line);
                },
                ..SCRIPT
            },
        );
        let message = outcome.expect_failure(FailureKind::Violation);
        assert!(message.contains("is no allocated message"), "{message}");
    });
}

#[test]
fn somebody_outside_may_wake_the_machine() {
    in_fresh_process("somebody_outside_may_wake_the_machine", || {
        let (sender, waiting) = std::sync::mpsc::channel();
        let machine =
            Machine::new().at(Nanoseconds(1000), move || sender.send(()).unwrap()).outside(move || {
                // Nothing in the machine will happen after the event, and yet it is no deadlock.
                waiting.recv().unwrap();
                sim::input(b"!");
            });
        let outcome = run(
            machine,
            Script {
                boot: || {
                    Interrupts::route(sim::INPUT_LINE, CpuId(0)).unwrap();
                    Interrupts::unmask(sim::INPUT_LINE);
                    Cpu::wait_for_interrupt();
                    say("awake");
                },
                ..SCRIPT
            },
        );
        outcome.expect(End::PowerOff);
        assert_eq!((outcome.reports, outcome.time), (vec!["awake".to_owned()], Nanoseconds(1000)));
    });
}

#[test]
fn a_wrong_test_name_is_noticed() {
    let result = std::panic::catch_unwind(|| in_fresh_process("no_such_test", || ()));
    let message = *result.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("did not run"), "{message}");
}

#[test]
fn a_process_that_hangs_is_killed() {
    let name = "a_process_that_hangs_is_killed";
    let result = std::panic::catch_unwind(|| {
        in_fresh_process_within(Duration::from_millis(300), name, || {
            loop {
                std::thread::park();
            }
        });
    });
    let message = *result.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("was killed"), "{message}");
}
