//! Other CPUs.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use platform::{CpuId, CpuSet, Message, Nanoseconds, SecondaryStart, StartError};

use super::{Case, case, two_cpus};
use crate::hook::{clock, cpu, smp, timer};
use crate::report::{Outcome, ensure};
use crate::{cpus, wait};

pub const CASES: &[Case] = &[
    case("CPU that does not exist is refused", no_such_cpu),
    two_cpus("each CPU has private data of its own", private_data),
    two_cpus("message is delivered with what was written before it", carries),
    two_cpus("message wakes a CPU that waits", wakes),
    two_cpus("messages of each kind reach whom they are meant for", kinds),
    two_cpus("calls complete when every CPU calls every other under load", under_load),
];

fn no_such_cpu() -> Outcome {
    let cpu = CpuId(platform::MAX_CPUS as u32 - 1);
    if cpus::online().contains(cpu) {
        return Ok(());
    }
    let local = alloc::boxed::Box::leak(alloc::boxed::Box::new(platform::CpuLocal::new(cpu)));
    let answer = smp::start(cpu, SecondaryStart { local, stack: cpus::stack() });
    ensure!(answer == Err(StartError::NoSuchCpu), "starting CPU {}: {answer:?}", cpu.0);
    Ok(())
}

fn private_data() -> Outcome {
    let seen = AtomicU64::new(0);
    let twice = AtomicBool::new(false);
    cpus::everywhere(&|| {
        let me = CpuSet::one(cpus::id()).bits();
        if seen.fetch_or(me, Ordering::AcqRel) & me != 0 {
            twice.store(true, Ordering::Relaxed);
        }
    });
    ensure!(!twice.into_inner(), "two CPUs have one number");
    let seen = CpuSet::from_bits(seen.into_inner());
    ensure!(seen == cpus::online(), "{seen:?} of {:?} took part", cpus::online());
    Ok(())
}

fn carries() -> Outcome {
    let Some(other) = cpus::others().iter().next() else { return Err("there is no other CPU".into()) };
    let written = AtomicU64::new(0);
    let wrong = AtomicU64::new(0);
    let base = cpus::of(other).events.calls();
    cpus::with_others(
        CpuSet::one(other),
        &|| {
            for round in 1..=300 {
                wait::until("a message", || cpus::this().events.calls() >= base + round);
                if written.load(Ordering::Relaxed) != round {
                    wrong.fetch_add(1, Ordering::Relaxed);
                }
                written.store(0, Ordering::Release);
            }
        },
        || {
            for round in 1..=300 {
                written.store(round, Ordering::Relaxed);
                smp::send(CpuSet::one(other), Message::Call);
                wait::until("the answer", || written.load(Ordering::Acquire) == 0);
            }
        },
    );
    let wrong = wrong.into_inner();
    ensure!(wrong == 0, "{wrong} messages overtook what was written before them");
    Ok(())
}

fn wakes() -> Outcome {
    for _ in 0..200 {
        for other in cpus::others().iter() {
            let before = cpus::of(other).events.reschedules();
            smp::send(CpuSet::one(other), Message::Reschedule);
            wait::until("a waiting CPU to wake", || cpus::of(other).events.reschedules() > before);
        }
    }
    Ok(())
}

fn kinds() -> Outcome {
    let counts = || {
        let mut counts = alloc::vec::Vec::new();
        for cpu in cpus::online().iter() {
            let events = &cpus::of(cpu).events;
            counts.push((events.calls(), events.reschedules()));
        }
        counts
    };
    for target in cpus::others().iter() {
        for message in [Message::Call, Message::Reschedule] {
            let before = counts();
            smp::send(CpuSet::one(target), message);
            let of_target = |counts: &[(u64, u64)]| match message {
                Message::Call => counts[target.index()].0,
                _ => counts[target.index()].1,
            };
            wait::until("a message", || of_target(&counts()) > of_target(&before));
            wait::pass(Nanoseconds(500_000));
            let after = counts();
            let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            ensure!(changed == 1, "{message:?} to CPU {} reached {changed} CPUs", target.0);
            let total = |counts: &[(u64, u64)]| counts.iter().map(|count| count.0 + count.1).sum::<u64>();
            ensure!(
                total(&after) == total(&before) + 1,
                "{message:?} was delivered twice or as another kind"
            );
        }
    }
    Ok(())
}

/// Each CPU asks each other one to answer, over and over, while timers interrupt all of them.
fn under_load() -> Outcome {
    const ROUNDS: u64 = 200;
    const CPUS: usize = platform::MAX_CPUS;
    static ASKED: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
    static STOP: AtomicU64 = AtomicU64::new(0);
    let online = cpus::online();
    let late = AtomicU64::new(0);
    cpus::everywhere(&|| {
        let me = cpus::id();
        let others = online.without(me);
        let events = &cpus::this().events;
        for round in 0..ROUNDS {
            let state = cpu::irq_save();
            timer::arm(clock::now() + Nanoseconds(20_000 + round % 7 * 10_000));
            cpu::irq_restore(state);
            // A delivery after this count was read is an answer to this round's question or a later one.
            let before: [u64; CPUS] = core::array::from_fn(|index| {
                let cpu = CpuId(index as u32);
                if others.contains(cpu) { cpus::of(cpu).events.calls() } else { 0 }
            });
            ASKED[me.index()].fetch_add(1, Ordering::AcqRel);
            smp::send(others, Message::Call);
            let answered = |cpu: &CpuId| cpus::of(*cpu).events.calls() > before[cpu.index()];
            if !wait::comes(|| others.iter().all(|cpu| answered(&cpu))) {
                late.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        // Whoever is done still answers until all are.
        STOP.fetch_add(1, Ordering::AcqRel);
        wait::comes(|| STOP.load(Ordering::Acquire) == online.count() as u64);
        core::hint::black_box(events.timers());
    });
    let late = late.into_inner();
    ensure!(late == 0, "{late} CPUs waited for an answer in vain");
    ensure!(
        online.iter().all(|cpu| ASKED[cpu.index()].load(Ordering::Acquire) == ROUNDS),
        "not every CPU asked all it had to"
    );
    Ok(())
}
