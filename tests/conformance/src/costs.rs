//! What each hook costs, from this side of the cut: `cargo xtask bench hooks`.
//!
//! Lines `PART::HOOK nanoseconds` go to the console, and `costs: done` at the end. Under a clock that counts instructions
//! these are instructions, and the same in each run; what it takes to repeat is subtracted.

use alloc::alloc::{Layout, alloc_zeroed};
use core::hint::black_box;

use platform::{
    CacheMode, CpuId, CpuSet, ExtendedState, ForkMode, FrameBatch, Message, Nanoseconds, PAGE_SIZE,
    PageRange, PhysFrame, Protection, TrapFrame, UserBases, VirtAddr,
};

use crate::hook::{clock, console, cpu, interrupts, paging, smp, timer};
use crate::report::say;
use crate::space::{self, DATA, READ_WRITE, Space};
use crate::{cpus, memory, programs, user, wait};

/// How often each hook is called.
const TIMES: u64 = 500;
/// Pages that hooks over ranges are given.
const PAGES: u64 = 64;

/// Time `work` takes, done many times, in thousandths of a nanosecond each.
fn thousandths(work: &mut dyn FnMut()) -> u64 {
    // Once before, so that whatever is only made at the first time is there.
    work();
    let start = clock::now();
    for _ in 0..TIMES {
        work();
    }
    (clock::now() - start).0 * 1000 / TIMES
}

/// Prints what `work` costs beyond the empty repetition.
fn cost(name: &str, mut work: impl FnMut()) {
    let empty = thousandths(&mut || {
        black_box(());
    });
    let cost = thousandths(&mut work).saturating_sub(empty);
    say!("{name} {}.{:03}", cost / 1000, cost % 1000);
}

/// Measures every hook that can be called over and over.
pub fn run() {
    of_cpu();
    of_extended_state();
    of_paging();
    of_time();
    of_others();
    say!("costs: done");
}

fn of_cpu() {
    cpu::irq_disable();
    cost("cpu::irq_disable", cpu::irq_disable);
    cost("cpu::irq_save+_restore,disabled", || cpu::irq_restore(cpu::irq_save()));
    let top = cpus::stack();
    cost("cpu::set_kernel_stack", || cpu::set_kernel_stack(black_box(top)));
    cost("cpu::user_bases", || _ = black_box(cpu::user_bases()));
    cost("cpu::set_user_bases", || cpu::set_user_bases(black_box(UserBases { fs: DATA, gs: DATA })));
    cpu::set_user_bases(UserBases::default());
    cpu::irq_enable();
    cost("cpu::irq_enable", cpu::irq_enable);
    cost("cpu::irq_save+_restore,enabled", || cpu::irq_restore(cpu::irq_save()));
    cost("cpu::user_access_begin+_end", || {
        cpu::user_access_begin();
        cpu::user_access_end();
    });

    let space = Space::with_program(programs::again());
    space.activate();
    let mut frame = space.start();
    cost("cpu::enter_user+system_call", || frame = user::run(&frame).1);
    space::leave();
    let space = Space::with_program(programs::read());
    space.activate();
    let frame = TrapFrame { rdi: DATA.0, ..space.start() };
    cost("cpu::enter_user+page_fault", || _ = user::run(&frame));
    space::leave();
}

fn of_extended_state() {
    let bytes = cpu::extended_state_bytes();
    let Ok(layout) = Layout::from_size_align(bytes, 64) else { panic!("extended state of {bytes} bytes") };
    // SAFETY: the layout has a size. The area stays for ever.
    let area = ExtendedState(VirtAddr(unsafe { alloc_zeroed(layout) } as u64));
    // SAFETY: as large and aligned as the hooks ask.
    unsafe {
        cost("cpu::init_extended", || cpu::init_extended(area));
        cost("cpu::save_extended", || cpu::save_extended(area));
        cost("cpu::restore_extended", || _ = black_box(cpu::restore_extended(area)));
    }
}

fn of_paging() {
    cost("paging::new_root+drop_root", || drop(Space::empty()));
    let mut parent = Space::empty();
    let child = Space::empty();
    let me = CpuSet::one(cpus::id());
    let frames: [PhysFrame; PAGES as usize] = core::array::from_fn(|_| parent.frame());
    let one = PageRange::page(DATA);
    let many = PageRange::new(DATA, VirtAddr(DATA.0 + PAGES * PAGE_SIZE));
    let unmap = |root, pages: PageRange| {
        let mut taken = FrameBatch::new();
        paging::unmap(root, pages, &mut taken);
        paging::flush(root, pages, me);
    };
    parent.activate();
    cost("paging::activate", || parent.activate());
    cost("paging::map+unmap+flush,1", || {
        black_box(paging::map(parent.root, DATA, &frames[..1], READ_WRITE)).ok();
        unmap(parent.root, one);
    });
    cost("paging::map+unmap+flush,64", || {
        black_box(paging::map(parent.root, DATA, &frames, READ_WRITE)).ok();
        unmap(parent.root, many);
    });
    black_box(paging::map(parent.root, DATA, &frames, READ_WRITE)).ok();
    cost("paging::query", || _ = black_box(paging::query(parent.root, DATA)));
    cost("paging::replace", || _ = black_box(paging::replace(parent.root, DATA, frames[0], READ_WRITE)));
    cost("paging::protect+flush,64", || {
        paging::protect(parent.root, many, Protection::READ);
        paging::flush(parent.root, many, me);
    });
    cost("paging::flush,1", || paging::flush(parent.root, one, me));
    cost("paging::fork+flush+unmap,64", || {
        let mut shared = FrameBatch::new();
        black_box(paging::fork(parent.root, child.root, many, ForkMode::CopyOnWrite, &mut shared)).ok();
        paging::flush(parent.root, many, me);
        unmap(child.root, many);
    });
    cost("paging::activate_kernel", space::leave);

    let start = memory::kernel_pages(1);
    let range = PageRange::page(start);
    cost("paging::{map,unmap,flush}_kernel", || {
        black_box(paging::map_kernel(start, &frames[..1], READ_WRITE, CacheMode::WriteBack)).ok();
        let mut taken = FrameBatch::new();
        paging::unmap_kernel(range, &mut taken);
        paging::flush_kernel(range, me);
    });
}

fn of_time() {
    cost("clock::now", || _ = black_box(clock::now()));
    cpu::irq_disable();
    let far = Nanoseconds::from_seconds(3600);
    // Two deadlines in turn, for one that stands already may cost nothing.
    let mut turn = 0;
    cost("timer::arm", || {
        turn ^= 1;
        timer::arm(Nanoseconds(far.0 + turn));
    });
    cost("timer::arm+disarm", || {
        timer::arm(far);
        timer::disarm();
    });
    cpu::irq_enable();
    let events = &cpus::this().events;
    cost("timer::arm+interrupt", || {
        let before = events.timers();
        cpu::irq_disable();
        timer::arm(Nanoseconds::ZERO);
        while events.timers() == before {
            cpu::wait_for_interrupt();
            cpu::irq_disable();
        }
        cpu::irq_enable();
    });
}

fn of_others() {
    let mut byte = [0];
    cost("console::read", || _ = black_box(console::read(&mut byte)));
    if let Some(line) = console::input_line() {
        cost("interrupts::mask", || interrupts::mask(line));
        if interrupts::route(line, CpuId(0)).is_ok() {
            cost("interrupts::unmask+mask", || {
                interrupts::unmask(line);
                interrupts::mask(line);
            });
        }
    }
    if let Some(other) = cpus::others().iter().next() {
        cost("smp::send+answer", || {
            let before = cpus::of(other).events.reschedules();
            smp::send(CpuSet::one(other), Message::Reschedule);
            wait::until("a message", || cpus::of(other).events.reschedules() != before);
        });
    }
}
