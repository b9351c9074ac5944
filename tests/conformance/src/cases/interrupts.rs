//! The interrupt flag and the wait.

use platform::{CpuSet, IrqLine, Message, Nanoseconds};

use super::{Case, case, two_cpus};
use crate::hook::{clock, cpu, interrupts, smp, timer};
use crate::report::{Outcome, ensure};
use crate::{cpus, wait};

pub const CASES: &[Case] = &[
    case("interrupts stay away while disabled and come when enabled", held_back),
    case("interrupt flag is saved and restored in nests", nests),
    case("wait returns with interrupts enabled", wait_enables),
    case("wait takes what is pending", wait_takes_pending),
    case("wake-up by the timer is never lost", no_lost_timer),
    case("interrupt line that does not exist is refused", no_such_line),
    two_cpus("wake-up by another CPU is never lost", no_lost_message),
];

/// Makes an event pending with interrupts disabled: the deadline has passed, and the machine has had time to notice.
fn make_pending() {
    timer::arm(clock::now());
    wait::pass(Nanoseconds::from_millis(2));
}

fn held_back() -> Outcome {
    let events = &cpus::this().events;
    for _ in 0..20 {
        cpu::irq_disable();
        let before = events.all();
        make_pending();
        let during = events.all() - before;
        cpu::irq_enable();
        ensure!(during == 0, "{during} interrupts were delivered while they were disabled");
        ensure!(wait::comes(|| events.all() != before), "the pending interrupt was lost");
        ensure!(events.all() - before == 1, "one event made {} interrupts", events.all() - before);
    }
    Ok(())
}

/// Whether an interrupt is delivered now, without anybody enabling them.
fn delivers() -> bool {
    let events = &cpus::this().events;
    let before = events.timers();
    let state = cpu::irq_save();
    timer::arm(clock::now());
    cpu::irq_restore(state);
    let start = clock::now();
    while events.timers() == before && clock::now().saturating_sub(start) < Nanoseconds::from_millis(200) {
        core::hint::spin_loop();
    }
    events.timers() != before
}

fn nests() -> Outcome {
    ensure!(delivers(), "the case did not start with interrupts enabled");
    let outer = cpu::irq_save();
    let disabled = !delivers();
    let inner = cpu::irq_save();
    let still_disabled = !delivers();
    cpu::irq_restore(inner);
    let after_inner = !delivers();
    cpu::irq_restore(outer);
    ensure!(disabled, "saving did not disable");
    ensure!(still_disabled, "saving twice did not disable");
    ensure!(after_inner, "restoring the inner state enabled interrupts");
    ensure!(delivers(), "restoring the outer state did not enable interrupts");
    let outer = cpu::irq_save();
    cpu::irq_enable();
    let inner_enabled = delivers();
    let again = cpu::irq_save();
    cpu::irq_restore(again);
    let restored = delivers();
    cpu::irq_restore(outer);
    ensure!(inner_enabled, "enabling did not enable");
    ensure!(restored, "restoring an enabled state did not enable");
    cpu::irq_disable();
    cpu::irq_disable();
    cpu::irq_enable();
    ensure!(delivers(), "disabling counts: it must not");
    Ok(())
}

fn wait_enables() -> Outcome {
    cpu::irq_disable();
    timer::arm(clock::now() + Nanoseconds::MILLISECOND);
    cpu::wait_for_interrupt();
    ensure!(delivers(), "interrupts are disabled after the wait");
    Ok(())
}

fn wait_takes_pending() -> Outcome {
    let events = &cpus::this().events;
    for _ in 0..50 {
        cpu::irq_disable();
        let before = events.timers();
        make_pending();
        cpu::wait_for_interrupt();
        // What the machine has only now noticed may end the wait late, but not before it is delivered.
        ensure!(events.timers() == before + 1, "the wait ended with {} events", events.timers() - before);
    }
    Ok(())
}

/// Each deadline falls near the moment of the wait. A lost wake-up waits for ever: the guest's limit ends that.
fn no_lost_timer() -> Outcome {
    let events = &cpus::this().events;
    for round in 0..3000u64 {
        cpu::irq_disable();
        let before = events.timers();
        timer::arm(clock::now() + Nanoseconds(round % 100 * 500));
        cpu::wait_for_interrupt();
        while events.timers() == before {
            cpu::irq_disable();
            if events.timers() == before {
                cpu::wait_for_interrupt();
            } else {
                cpu::irq_enable();
            }
        }
    }
    Ok(())
}

fn no_such_line() -> Outcome {
    for line in [u32::MAX, 1 << 20] {
        let answer = interrupts::route(IrqLine(line), cpus::id());
        ensure!(answer.is_err(), "line {line} was routed");
    }
    Ok(())
}

/// Two CPUs wake each other in turn; each checks, disabled, whether it has been woken before it waits.
fn no_lost_message() -> Outcome {
    const ROUNDS: u64 = 3000;
    let me = cpus::id();
    let Some(other) = cpus::others().iter().next() else { return Err("there is no other CPU".into()) };
    let take_turns = |peer| {
        let events = &cpus::this().events;
        move |round: u64, base: u64| {
            loop {
                cpu::irq_disable();
                if events.calls() - base >= round {
                    cpu::irq_enable();
                    break;
                }
                cpu::wait_for_interrupt();
            }
            smp::send(CpuSet::one(peer), Message::Call);
        }
    };
    let base_of_other = cpus::of(other).events.calls();
    let base = cpus::this().events.calls();
    cpus::with_others(
        CpuSet::one(other),
        &|| {
            let turn = take_turns(me);
            (1..=ROUNDS).for_each(|round| turn(round, base_of_other));
        },
        || {
            smp::send(CpuSet::one(other), Message::Call);
            let turn = take_turns(other);
            // The last answer is not answered.
            (1..ROUNDS).for_each(|round| turn(round, base));
            wait::until("the last answer", || cpus::this().events.calls() - base >= ROUNDS);
        },
    );
    Ok(())
}
