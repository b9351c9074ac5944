//! Translations: what is mapped, and what is said of it.

use core::sync::atomic::Ordering;

use platform::{
    CacheMode, ForkMode, FrameBatch, Mapping, OutOfFrames, PAGE_SIZE, PageRange, PhysFrame, Protection,
    VirtAddr,
};

use super::{Case, case};
use crate::hook::paging;
use crate::report::{Outcome, ensure};
use crate::space::{self, DATA, READ_WRITE, Space};
use crate::user::{self, Left};
use crate::{cpus, memory, probe, programs};

pub const CASES: &[Case] = &[
    case("mapping says which pages it mapped and leaves the others", map),
    case("mapping crosses tables", crosses_tables),
    case("rights never gain writing by protect", protect),
    case("replacing needs something to replace", replace),
    case("unmapping stops where the batch is full", unmap),
    case("fork gives the child what the parent has", fork),
    case("copy-on-write takes the right to write from both", copy_on_write),
    case("spaces do not see one another's pages", apart),
    case("shortage of table frames is told and nothing is lost", shortage),
    case("kernel pages are seen in every space", kernel_pages),
];

fn page(index: u64) -> VirtAddr {
    VirtAddr(DATA.0 + index * PAGE_SIZE)
}

fn pages(first: u64, count: u64) -> PageRange {
    PageRange::new(page(first), page(first + count))
}

const USER_READ_WRITE: Protection = READ_WRITE.union(Protection::USER);
const USER_READ: Protection = Protection::READ.union(Protection::USER);

fn map() -> Outcome {
    let mut space = Space::empty();
    let old = space.frame();
    let frames: [PhysFrame; 3] = core::array::from_fn(|_| space.frame());
    ensure!(paging::query(space.root, page(1)).is_none(), "an empty space has a page");
    ensure!(paging::map(space.root, page(1), &[old], Protection::READ) == Ok(1), "one page was not mapped");
    let answer = paging::map(space.root, page(0), &frames, READ_WRITE);
    ensure!(answer == Ok(0b101), "three pages around a mapped one: {answer:?}");
    let expected = [
        Mapping { frame: frames[0], protection: USER_READ_WRITE },
        Mapping { frame: old, protection: USER_READ },
        Mapping { frame: frames[2], protection: USER_READ_WRITE },
    ];
    for (index, expected) in (0..).zip(expected) {
        let found = paging::query(space.root, page(index));
        ensure!(found == Some(expected), "page {index} is {found:?}");
    }
    ensure!(paging::query(space.root, page(3)).is_none(), "the page beyond is mapped");
    Ok(())
}

fn crosses_tables() -> Outcome {
    let mut space = Space::empty();
    for border in [1 << 21, 1 << 30, 1 << 39] {
        let start = VirtAddr(border - 2 * PAGE_SIZE);
        let frames: [PhysFrame; 4] = core::array::from_fn(|_| space.frame());
        let answer = paging::map(space.root, start, &frames, READ_WRITE);
        ensure!(answer == Ok(0b1111), "across {border:#x}: {answer:?}");
        for (index, frame) in (0..).zip(frames) {
            let found = paging::query(space.root, VirtAddr(start.0 + index * PAGE_SIZE));
            ensure!(found.is_some_and(|found| found.frame == frame), "across {border:#x}: {found:?}");
        }
    }
    let top = VirtAddr(memory::user_top().0 - PAGE_SIZE);
    let frame = space.frame();
    ensure!(paging::map(space.root, top, &[frame], READ_WRITE) == Ok(1), "the last user page was not mapped");
    Ok(())
}

fn protect() -> Outcome {
    let mut space = Space::empty();
    space.map(page(0), READ_WRITE);
    space.map(page(2), Protection::READ);
    let set = |protection| {
        paging::protect(space.root, pages(0, 4), protection);
        paging::flush(space.root, pages(0, 4), cpus::online());
        [0, 2].map(|index| paging::query(space.root, page(index)).map(|found| found.protection))
    };
    let found = set(READ_WRITE);
    ensure!(found == [Some(USER_READ_WRITE), Some(USER_READ)], "writing allowed: {found:?}");
    let found = set(Protection::READ);
    ensure!(found == [Some(USER_READ); 2], "reading allowed: {found:?}");
    let found = set(READ_WRITE);
    ensure!(found == [Some(USER_READ); 2], "writing allowed after reading: {found:?}");
    let found = set(Protection::empty());
    ensure!(
        found.iter().flatten().all(|found| !found.contains(Protection::READ)),
        "nothing allowed: {found:?}"
    );
    ensure!(found.iter().flatten().count() == 2, "nothing allowed is not nothing mapped: {found:?}");
    Ok(())
}

fn replace() -> Outcome {
    let mut space = Space::empty();
    let old = space.map(page(0), Protection::READ);
    let new = space.frame();
    ensure!(!paging::replace(space.root, page(1), new, READ_WRITE), "an unmapped page was replaced");
    ensure!(paging::query(space.root, page(1)).is_none(), "an unmapped page was mapped");
    ensure!(paging::replace(space.root, page(0), new, READ_WRITE), "a mapped page was not replaced");
    paging::flush(space.root, pages(0, 1), cpus::online());
    let found = paging::query(space.root, page(0));
    ensure!(
        found == Some(Mapping { frame: new, protection: USER_READ_WRITE }),
        "{found:?} instead of {new:?}, once {old:?}"
    );
    Ok(())
}

fn unmap() -> Outcome {
    let mut space = Space::empty();
    let count = platform::FRAME_BATCH as u64 + 10;
    // Every second page is a hole.
    let mapped: alloc::vec::Vec<_> = (0..count).map(|index| space.map(page(2 * index), READ_WRITE)).collect();
    let whole = pages(0, 2 * count);
    let mut taken = FrameBatch::new();
    let reached = paging::unmap(space.root, whole, &mut taken);
    ensure!(taken.is_full(), "only {} frames were taken", taken.frames().len());
    ensure!(taken.frames() == &mapped[..platform::FRAME_BATCH], "other frames were taken");
    let last = page(2 * (platform::FRAME_BATCH as u64 - 1));
    ensure!(reached > last && reached <= page(2 * platform::FRAME_BATCH as u64), "stopped at {reached:x?}");
    ensure!(
        paging::unmap(space.root, PageRange::new(reached, whole.end), &mut taken) == reached,
        "a full batch grew"
    );
    taken.clear();
    let end = paging::unmap(space.root, PageRange::new(reached, whole.end), &mut taken);
    paging::flush(space.root, whole, cpus::online());
    ensure!(end == whole.end, "stopped at {end:x?}");
    ensure!(taken.frames() == &mapped[platform::FRAME_BATCH..], "other frames were taken at the end");
    let left = (0..2 * count).filter(|&index| paging::query(space.root, page(index)).is_some()).count();
    ensure!(left == 0, "{left} pages are still mapped");
    Ok(())
}

fn fork() -> Outcome {
    let mut parent = Space::empty();
    let child = Space::empty();
    let count = platform::FRAME_BATCH as u64 + 3;
    for index in 0..count {
        let protection = if index % 2 == 0 { READ_WRITE } else { Protection::READ };
        parent.map(page(3 * index), protection);
    }
    let whole = pages(0, 3 * count);
    let mut at = whole.start;
    let mut all = alloc::vec::Vec::new();
    while at < whole.end {
        let mut shared = FrameBatch::new();
        let rest = PageRange::new(at, whole.end);
        let reached = paging::fork(parent.root, child.root, rest, ForkMode::Share, &mut shared);
        let Ok(reached) = reached else { return Err("memory has run out".into()) };
        ensure!(reached > at, "fork stands at {at:x?}");
        all.extend_from_slice(shared.frames());
        at = reached;
    }
    ensure!(all.len() as u64 == count, "{} frames were shared of {count}", all.len());
    for index in 0..3 * count {
        let [theirs, ours] = [parent.root, child.root].map(|root| paging::query(root, page(index)));
        ensure!(theirs == ours, "page {index}: the parent has {theirs:?}, the child {ours:?}");
        ensure!(theirs.is_some() == (index % 3 == 0), "page {index} of the parent is {theirs:?}");
    }
    Ok(())
}

fn copy_on_write() -> Outcome {
    let mut parent = Space::with_program(programs::write());
    let child = Space::empty();
    let data = parent.map(DATA, READ_WRITE);
    let write = |space: &Space| {
        space.activate();
        let mut frame = space.start();
        frame.rdi = DATA.0;
        frame.rsi = 5;
        let (left, _) = user::run(&frame);
        space::leave();
        left
    };
    // So that the CPU knows the translation.
    ensure!(write(&parent) == Left::SystemCall, "the parent could not write");
    memory::word(data, 0).store(1, Ordering::Release);
    let mut shared = FrameBatch::new();
    let all = PageRange::new(VirtAddr(PAGE_SIZE), memory::user_top());
    let reached = paging::fork(parent.root, child.root, all, ForkMode::CopyOnWrite, &mut shared);
    ensure!(reached == Ok(all.end), "fork reached {reached:?}");
    paging::flush(parent.root, all, cpus::online());
    for space in [&parent, &child] {
        let found = paging::query(space.root, DATA);
        ensure!(found == Some(Mapping { frame: data, protection: USER_READ }), "after fork: {found:?}");
        let left = write(space);
        ensure!(
            matches!(left, Left::Exception(platform::Exception::PageFault { .. })),
            "writing after fork: {left:?}"
        );
    }
    ensure!(memory::word(data, 0).load(Ordering::Acquire) == 1, "the shared page was written");
    ensure!(paging::replace(parent.root, DATA, data, READ_WRITE), "the page could not be replaced");
    // More rights for the same frame need no flush: at most one more fault comes.
    let left = match write(&parent) {
        Left::SystemCall => Left::SystemCall,
        _ => write(&parent),
    };
    ensure!(left == Left::SystemCall, "writing after the right came back: {left:?}");
    Ok(())
}

fn apart() -> Outcome {
    let spaces: [Space; 2] = core::array::from_fn(|_| {
        let mut space = Space::with_program(programs::read());
        space.map(DATA, READ_WRITE);
        space
    });
    for (value, space) in (100..).zip(&spaces) {
        let Some(found) = paging::query(space.root, DATA) else { return Err("the page is gone".into()) };
        memory::word(found.frame, 0).store(value, Ordering::Release);
    }
    for _ in 0..50 {
        for (value, space) in (100..).zip(&spaces) {
            space.activate();
            let mut frame = space.start();
            frame.rdi = DATA.0;
            let (left, end) = user::run(&frame);
            ensure!(
                left == Left::SystemCall && end.rax == value,
                "{left:?} with {} instead of {value}",
                end.rax
            );
        }
    }
    space::leave();
    // Nothing of either is left in the kernel's own space.
    crate::hook::cpu::user_access_begin();
    let read = probe::read(DATA);
    crate::hook::cpu::user_access_end();
    ensure!(read.is_err(), "the kernel's own space has the page: {read:?}");
    Ok(())
}

fn shortage() -> Outcome {
    let tables = memory::tables();
    memory::limit_tables(Some(0));
    let none = Space::try_empty().map(|_| ());
    memory::limit_tables(None);
    ensure!(none == Err(OutOfFrames), "a space was made of nothing");
    ensure!(memory::tables() == tables, "a space that was not made keeps frames");
    let mut space = Space::empty();
    let child = Space::empty();
    let frame = space.frame();
    for left in 0..3 {
        memory::limit_tables(Some(left));
        let answer = paging::map(space.root, DATA, &[frame], READ_WRITE);
        memory::limit_tables(None);
        if answer == Ok(1) {
            break;
        }
        ensure!(answer == Err(OutOfFrames), "with {left} frames: {answer:?}");
        ensure!(paging::query(space.root, DATA).is_none(), "a page was mapped without tables");
    }
    let again = paging::map(space.root, DATA, &[frame], READ_WRITE);
    ensure!(matches!(again, Ok(0 | 1)), "after the shortage: {again:?}");
    memory::limit_tables(Some(0));
    let mut shared = FrameBatch::new();
    let answer = paging::fork(space.root, child.root, pages(0, 1), ForkMode::Share, &mut shared);
    memory::limit_tables(None);
    ensure!(answer == Err(OutOfFrames) || answer == Ok(page(1)), "fork in a shortage: {answer:?}");
    if answer.is_err() {
        ensure!(shared.is_empty(), "fork failed and shared {} frames", shared.frames().len());
        let found = paging::query(space.root, DATA).map(|found| found.protection);
        ensure!(found == Some(USER_READ_WRITE), "fork failed and changed the parent to {found:?}");
    }
    Ok(())
}

fn kernel_pages() -> Outcome {
    let start = memory::kernel_pages(3);
    let range = PageRange::new(start, VirtAddr(start.0 + 3 * PAGE_SIZE));
    let frames: [PhysFrame; 3] = core::array::from_fn(|_| memory::frame());
    // A space made before the pages must see them too.
    let space = Space::empty();
    let answer = paging::map_kernel(start, &frames, READ_WRITE, CacheMode::WriteBack);
    ensure!(answer.is_ok(), "memory has run out");
    let outcome = see_kernel_pages(&space, start, &frames);
    let mut taken = FrameBatch::new();
    let reached = paging::unmap_kernel(range, &mut taken);
    paging::flush_kernel(range, cpus::online());
    let left = (0..3).filter(|index| probe::read(VirtAddr(start.0 + index * PAGE_SIZE)).is_ok()).count();
    frames.into_iter().for_each(memory::put);
    outcome?;
    ensure!(reached == range.end && taken.frames() == frames, "unmapped {:?}", taken.frames());
    ensure!(left == 0, "{left} kernel pages can be read after they were unmapped");
    Ok(())
}

fn see_kernel_pages(space: &Space, start: VirtAddr, frames: &[PhysFrame]) -> Outcome {
    for active in [false, true] {
        if active {
            space.activate();
        }
        for (index, &frame) in (0..).zip(frames) {
            let address = VirtAddr(start.0 + index * PAGE_SIZE + 8 * index);
            let value = 900 + index + u64::from(active);
            let wrote = probe::write(address, value);
            ensure!(wrote == Ok(()), "page {index}: {wrote:x?}");
            let found = memory::word(frame, index as usize).load(Ordering::Acquire);
            ensure!(found == value, "page {index} leads elsewhere");
        }
    }
    space::leave();
    Ok(())
}
