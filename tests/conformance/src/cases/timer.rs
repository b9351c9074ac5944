//! The one-shot event: never early, never twice, always.

use platform::Nanoseconds;

use super::{Case, case, two_cpus};
use crate::hook::{clock, cpu, timer};
use crate::report::{Outcome, ensure};
use crate::{cpus, wait};

pub const CASES: &[Case] = &[
    case("timer is never early", never_early),
    case("timer is never doubled", once),
    case("timer with a deadline in the past fires at once", in_the_past),
    case("timer takes a sooner deadline", sooner),
    case("timer takes a later deadline", later),
    case("timer forgets its deadline when disarmed", disarmed),
    case("timer reaches far", far),
    two_cpus("timer of each CPU is its own", each_its_own),
];

fn arm(deadline: Nanoseconds) {
    let state = cpu::irq_save();
    timer::arm(deadline);
    cpu::irq_restore(state);
}

fn disarm() {
    let state = cpu::irq_save();
    timer::disarm();
    cpu::irq_restore(state);
}

/// Arms and waits; says when the event came.
fn fire(deadline: Nanoseconds) -> Result<Nanoseconds, alloc::string::String> {
    let events = &cpus::this().events;
    let before = events.timers();
    arm(deadline);
    ensure!(wait::comes(|| events.timers() != before), "no event came for {deadline:?}");
    Ok(events.timer_at())
}

fn never_early() -> Outcome {
    for micros in [0, 1, 2, 5, 10, 50, 100, 500, 1000, 2000, 5000, 20_000, 50_000] {
        for _ in 0..5 {
            let deadline = clock::now() + Nanoseconds(micros * 1000);
            let came = fire(deadline)?;
            ensure!(came >= deadline, "{micros} µs: the event came {} ns early", (deadline - came).0);
        }
    }
    Ok(())
}

fn once() -> Outcome {
    let events = &cpus::this().events;
    for _ in 0..20 {
        let before = events.timers();
        fire(clock::now() + Nanoseconds(300_000))?;
        wait::pass(Nanoseconds::from_millis(3));
        let count = events.timers() - before;
        ensure!(count == 1, "one deadline made {count} events");
    }
    Ok(())
}

fn in_the_past() -> Outcome {
    for deadline in [Nanoseconds::ZERO, Nanoseconds(1), clock::now().saturating_sub(Nanoseconds::SECOND)] {
        fire(deadline)?;
    }
    Ok(())
}

fn sooner() -> Outcome {
    let events = &cpus::this().events;
    let before = events.timers();
    let start = clock::now();
    arm(start + Nanoseconds::from_seconds(20));
    let came = fire(start + Nanoseconds::from_millis(5))?;
    ensure!(came < start + Nanoseconds::from_seconds(20), "the event came at the deadline that was replaced");
    wait::pass(Nanoseconds::from_millis(20));
    ensure!(events.timers() - before == 1, "the deadline that was replaced made an event");
    Ok(())
}

fn later() -> Outcome {
    let events = &cpus::this().events;
    let before = events.timers();
    let start = clock::now();
    arm(start + Nanoseconds::from_seconds(1));
    let deadline = start + Nanoseconds::from_millis(1200);
    let came = fire(deadline)?;
    ensure!(came >= deadline, "the event came {} ns early", (deadline - came).0);
    ensure!(events.timers() - before == 1, "the deadline that was replaced made an event");
    Ok(())
}

fn disarmed() -> Outcome {
    let events = &cpus::this().events;
    let before = events.timers();
    let start = clock::now();
    arm(start + Nanoseconds::from_millis(400));
    disarm();
    // A host so busy that this took long says nothing.
    if clock::now().saturating_sub(start) < Nanoseconds::from_millis(400) {
        wait::pass(Nanoseconds::from_millis(600));
        ensure!(events.timers() == before, "an event came after it was disarmed");
    }
    fire(clock::now() + Nanoseconds::MILLISECOND)?;
    Ok(())
}

fn far() -> Outcome {
    let events = &cpus::this().events;
    let before = events.timers();
    for deadline in [Nanoseconds::from_seconds(86_400 * 365), Nanoseconds::MAX] {
        arm(deadline);
        wait::pass(Nanoseconds::from_millis(5));
        ensure!(events.timers() == before, "an event came for {deadline:?}");
    }
    disarm();
    Ok(())
}

fn each_its_own() -> Outcome {
    let wrong = spin::Mutex::new(None);
    cpus::everywhere(&|| {
        let events = &cpus::this().events;
        for round in 0..50 {
            let before = events.timers();
            let deadline = clock::now() + Nanoseconds(100_000 * u64::from(1 + cpus::id().0));
            let came = fire(deadline);
            let count = events.timers() - before;
            match came {
                Ok(came) if came >= deadline && count == 1 => {}
                Ok(came) => *wrong.lock() = Some((cpus::id(), round, Some(came), deadline, count)),
                Err(_) => *wrong.lock() = Some((cpus::id(), round, None, deadline, count)),
            }
        }
    });
    match wrong.into_inner() {
        None => Ok(()),
        Some((cpu, round, came, deadline, count)) => {
            Err(alloc::format!("CPU {}, round {round}: {count} events at {came:?} for {deadline:?}", cpu.0))
        }
    }
}
