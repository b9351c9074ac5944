//! After a flush no CPU gets through by a stale translation.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::{
    CacheMode, CpuSet, Exception, FrameBatch, Nanoseconds, PAGE_SIZE, PageRange, PhysFrame, Protection,
    VirtAddr,
};

use super::{Case, case, two_cpus};
use crate::hook::paging;
use crate::report::{Outcome, ensure};
use crate::space::{self, DATA, READ_WRITE, Space};
use crate::user::{self, Left};
use crate::{cpus, memory, probe, programs, wait};

pub const CASES: &[Case] = &[
    case("stale translation of this CPU is gone after a flush", on_this_cpu),
    two_cpus("stale translation of other CPUs is gone after protect", || on_others(Change::Protect)),
    two_cpus("stale translation of other CPUs is gone after unmap", || on_others(Change::Unmap)),
    two_cpus("stale translation of other CPUs is gone after replace", || on_others(Change::Replace)),
    two_cpus("kernel's stale translation of other CPUs is gone after unmap", of_kernel),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    Protect,
    Unmap,
    Replace,
}

fn page() -> PageRange {
    PageRange::page(DATA)
}

/// Takes something away from the page at [`DATA`]; returns when no CPU can have it any more.
fn apply(change: Change, space: &Space, new: PhysFrame) {
    match change {
        Change::Protect => paging::protect(space.root, page(), Protection::READ),
        Change::Unmap => {
            let mut taken = FrameBatch::new();
            paging::unmap(space.root, page(), &mut taken);
        }
        Change::Replace => {
            paging::replace(space.root, DATA, new, Protection::READ);
        }
    }
    paging::flush(space.root, page(), cpus::online());
}

fn on_this_cpu() -> Outcome {
    for change in [Change::Protect, Change::Unmap, Change::Replace] {
        let mut space = Space::with_program(programs::write());
        let old = space.map(DATA, READ_WRITE);
        let new = space.frame();
        space.activate();
        let mut frame = space.start();
        frame.rdi = DATA.0;
        frame.rsi = 1;
        let (before, _) = user::run(&frame);
        apply(change, &space, new);
        frame.rsi = 2;
        let (after, _) = user::run(&frame);
        space::leave();
        ensure!(before == Left::SystemCall, "{change:?}: the first write: {before:?}");
        ensure!(
            matches!(after, Left::Exception(Exception::PageFault { .. })),
            "{change:?}: the second write: {after:?}"
        );
        let found = [old, new].map(|frame| memory::word(frame, 0).load(Ordering::Acquire));
        ensure!(found == [1, 0], "{change:?}: the frames hold {found:?}");
    }
    Ok(())
}

/// Every other CPU counts in a word of the page, each in its own; once the flush has returned no word changes.
fn on_others(change: Change) -> Outcome {
    for round in 0..10 {
        let mut space = Space::with_program(programs::count());
        let old = space.map(DATA, READ_WRITE);
        let new = space.frame();
        let others = cpus::others();
        let wrong = spin::Mutex::new(None);
        let outcome = cpus::with_others(
            others,
            &|| {
                space.activate();
                let mut frame = space.start();
                let address = DATA.0 + 8 * u64::from(cpus::id().0);
                frame.rdi = address;
                let (left, _) = user::run(&frame);
                space::leave();
                match left {
                    Left::Exception(Exception::PageFault { address: told, .. }) if told.0 == address => {}
                    other => *wrong.lock() = Some(other),
                }
            },
            || {
                let word = |cpu: platform::CpuId| memory::word(old, cpu.index()).load(Ordering::Acquire);
                wait::until("the other CPUs to count", || others.iter().all(|cpu| word(cpu) > 100));
                apply(change, &space, new);
                let after: [u64; 64] = core::array::from_fn(|index| word(platform::CpuId(index as u32)));
                wait::pass(Nanoseconds::from_millis(3));
                let later: [u64; 64] = core::array::from_fn(|index| word(platform::CpuId(index as u32)));
                ensure!(after == later, "round {round}: a CPU still wrote to the page after the flush");
                Ok(())
            },
        );
        outcome?;
        if let Some(left) = wrong.into_inner() {
            return Err(alloc::format!("round {round}: a CPU left user mode by {left:x?}"));
        }
        let strayed = (0..64).any(|index| memory::word(new, index).load(Ordering::Acquire) != 0);
        ensure!(!strayed, "round {round}: a CPU wrote to the new page, which it may only read");
    }
    Ok(())
}

fn of_kernel() -> Outcome {
    for round in 0..10 {
        let start = memory::kernel_pages(1);
        let range = PageRange::new(start, VirtAddr(start.0 + PAGE_SIZE));
        let frame = memory::frame();
        let answer = paging::map_kernel(start, &[frame], READ_WRITE, CacheMode::WriteBack);
        ensure!(answer.is_ok(), "memory has run out");
        let others = cpus::others();
        let faulted = AtomicU64::new(0);
        let outcome: Outcome = cpus::with_others(
            others,
            &|| {
                let address = VirtAddr(start.0 + 8 * u64::from(cpus::id().0));
                let mut count = 0;
                while probe::write(address, count).is_ok() {
                    count += 1;
                }
                faulted.fetch_or(CpuSet::one(cpus::id()).bits(), Ordering::AcqRel);
            },
            || {
                let word = |index: usize| memory::word(frame, index).load(Ordering::Acquire);
                wait::until("the other CPUs to count", || others.iter().all(|cpu| word(cpu.index()) > 100));
                let mut taken = FrameBatch::new();
                paging::unmap_kernel(range, &mut taken);
                paging::flush_kernel(range, cpus::online());
                let after: [u64; 64] = core::array::from_fn(word);
                wait::pass(Nanoseconds::from_millis(3));
                let later: [u64; 64] = core::array::from_fn(word);
                ensure!(after == later, "round {round}: a CPU still wrote to the page after the flush");
                Ok(())
            },
        );
        memory::put(frame);
        outcome?;
        let faulted = CpuSet::from_bits(faulted.into_inner());
        ensure!(faulted == others, "round {round}: only {faulted:?} of {others:?} faulted");
    }
    Ok(())
}
