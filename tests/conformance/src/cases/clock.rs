//! Time goes on, everywhere alike, and never back.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::{Nanoseconds, PAGE_SIZE, Protection, VirtAddr};

use super::{Case, case, two_cpus};
use crate::hook::{clock, cpu, timer};
use crate::report::{Outcome, ensure};
use crate::space::{self, DATA, Space};
use crate::user::{self, Left};
use crate::{cpus, memory, programs, wait};

pub const CASES: &[Case] = &[
    case("clock never goes back", never_back),
    case("clock goes on without a sleep", goes_on),
    case("clock goes on while the CPU waits", goes_on_in_wait),
    case("clock knows the date or says it does not", date),
    case("clock is read in user mode as in the kernel", user_clock),
    two_cpus("clock never goes back from one CPU to another", one_for_all),
];

fn never_back() -> Outcome {
    let mut last = clock::now();
    for _ in 0..100_000 {
        let now = clock::now();
        ensure!(now >= last, "{now:?} came after {last:?}");
        last = now;
    }
    Ok(())
}

fn goes_on() -> Outcome {
    let mut last = clock::now();
    for step in 0..100 {
        let mut reads = 0u64;
        while clock::now() == last {
            reads += 1;
            ensure!(reads < 100_000_000, "it stands at {last:?} after {step} steps");
        }
        last = clock::now();
    }
    Ok(())
}

fn goes_on_in_wait() -> Outcome {
    const TIME: Nanoseconds = Nanoseconds::from_millis(20);
    let before = cpus::this().events.timers();
    cpu::irq_disable();
    let start = clock::now();
    timer::arm(start + TIME);
    cpu::wait_for_interrupt();
    while cpus::this().events.timers() == before {
        cpu::irq_disable();
        if cpus::this().events.timers() == before {
            cpu::wait_for_interrupt();
        } else {
            cpu::irq_enable();
        }
    }
    let took = clock::now().saturating_sub(start);
    ensure!(took >= TIME, "a wait of {TIME:?} took {took:?}");
    Ok(())
}

fn date() -> Outcome {
    const YEAR_2020: Nanoseconds = Nanoseconds::from_seconds(1_577_836_800);
    const YEAR_2200: Nanoseconds = Nanoseconds::from_seconds(7_258_118_400);
    let date = clock::wall_clock_at_boot();
    ensure!(
        date == Nanoseconds::ZERO || (YEAR_2020..YEAR_2200).contains(&date),
        "the machine is said to have started {} s after 1970",
        date.seconds()
    );
    ensure!(clock::wall_clock_at_boot() == date, "the moment of the boot has changed");
    Ok(())
}

fn user_clock() -> Outcome {
    let Some(way) = clock::user_clock() else { return Ok(()) };
    ensure!(way.code.len() <= PAGE_SIZE as usize, "its code takes {} bytes", way.code.len());
    let mut space = Space::with_program(programs::call_function());
    let function = VirtAddr(DATA.0 + PAGE_SIZE);
    let page = space.map(function, Protection::READ | Protection::EXECUTE);
    memory::fill(page, way.code);
    let mapped = crate::hook::paging::map(space.root, DATA, &[way.data], Protection::READ);
    ensure!(mapped == Ok(1), "its data could not be mapped: {mapped:?}");
    space.activate();
    for round in 0..1000 {
        let mut frame = space.start();
        frame.rdi = DATA.0;
        frame.rbx = function.0;
        let before = clock::now();
        let (left, frame) = user::run(&frame);
        let after = clock::now();
        ensure!(left == Left::SystemCall, "user mode was left by {left:?} at {:#x}", frame.rip);
        let there = Nanoseconds(frame.rax);
        ensure!(
            before <= there && there <= after,
            "round {round}: {there:?} between {before:?} and {after:?}"
        );
    }
    space::leave();
    Ok(())
}

fn one_for_all() -> Outcome {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    static BACK: AtomicU64 = AtomicU64::new(0);
    cpus::everywhere(&|| {
        for _ in 0..20_000 {
            let seen = LATEST.load(Ordering::Acquire);
            let now = clock::now().0;
            if now < seen {
                BACK.fetch_max(seen - now, Ordering::Relaxed);
            }
            LATEST.fetch_max(now, Ordering::AcqRel);
        }
    });
    let back = BACK.load(Ordering::Relaxed);
    ensure!(back == 0, "one CPU's clock was {back} ns behind another's");
    // And through waits, in which the clock may be kept by other means.
    for _ in 0..20 {
        cpus::everywhere(&|| {
            let seen = LATEST.load(Ordering::Acquire);
            let now = clock::now().0;
            if now < seen {
                BACK.fetch_max(seen - now, Ordering::Relaxed);
            }
            LATEST.fetch_max(now, Ordering::AcqRel);
        });
        wait::pass(Nanoseconds(200_000));
    }
    let back = BACK.load(Ordering::Relaxed);
    ensure!(back == 0, "one CPU's clock was {back} ns behind another's after a wait");
    Ok(())
}
