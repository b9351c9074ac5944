//! Stale translations: on this CPU by `invlpg`, on others by an interrupt and a shared request.
//!
//! One request is under way at a time. Who makes it holds the lock with interrupts disabled only while it waits for
//! acknowledgements; who waits for the lock serves the request it waits for, so two CPUs that flush each other do not
//! wait for ever. CPUs on which the space is not active are left alone: they find out when they activate it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use platform::{CpuSet, PAGE_SIZE, PageRange, PhysFrame, VirtAddr};

use super::space;
use crate::cpu::local::current_cpu;
use crate::interrupts::local_apic;
use crate::interrupts::vectors::FLUSH;
use crate::irq::IrqGuard;
use crate::machine::{Machine, Scope};

/// Flushing more pages one by one costs more than losing all translations.
const MOST_SINGLE_PAGES: u64 = 32;
/// The root of a request for kernel pages.
const KERNEL: u64 = 0;

struct Request {
    busy: AtomicBool,
    root: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
    /// Who has not answered yet.
    waiting_for: AtomicU64,
}

static REQUEST: Request = Request {
    busy: AtomicBool::new(false),
    root: AtomicU64::new(0),
    start: AtomicU64::new(0),
    end: AtomicU64::new(0),
    waiting_for: AtomicU64::new(0),
};

/// Flushes user pages of `root` on this CPU, if the space is active here.
#[inline]
fn flush_user_here<M: Machine>(root: PhysFrame, pages: PageRange) {
    if !space::is_active(root) {
        return;
    }
    if pages.pages() <= MOST_SINGLE_PAGES {
        single::<M>(pages);
    } else {
        M::flush_translations(Scope::Space);
    }
}

/// Flushes kernel pages on this CPU.
fn flush_kernel_here<M: Machine>(pages: PageRange) {
    if pages.pages() <= MOST_SINGLE_PAGES {
        single::<M>(pages);
    } else {
        M::flush_translations(Scope::Everything);
    }
}

#[inline]
fn single<M: Machine>(pages: PageRange) {
    let mut page = pages.start;
    while page < pages.end {
        M::invalidate_page(page);
        page = page + PAGE_SIZE;
    }
}

/// [`platform::Paging::flush`].
#[inline]
pub fn user<M: Machine>(root: PhysFrame, pages: PageRange, cpus: CpuSet) {
    let guard = IrqGuard::<M>::disable();
    let here = current_cpu();
    if cpus.contains(here) {
        flush_user_here::<M>(root, pages);
    }
    let others = cpus.without(here);
    let needed = !others.is_empty() && !space::users(root, others).is_empty();
    drop(guard);
    if needed {
        on_others::<M>(root.0, pages, cpus);
    }
}

/// [`platform::Paging::flush_kernel`].
pub fn kernel<M: Machine>(pages: PageRange, cpus: CpuSet) {
    let guard = IrqGuard::<M>::disable();
    let here = current_cpu();
    if cpus.contains(here) {
        flush_kernel_here::<M>(pages);
    }
    let others = cpus.without(here);
    drop(guard);
    if !others.is_empty() {
        on_others::<M>(KERNEL, pages, cpus);
    }
}

/// Flushes on all of `cpus`. The caller may have moved to another of them since it flushed on its own; that CPU flushes
/// here, and the one it was on has done it.
#[cold]
fn on_others<M: Machine>(root: u64, pages: PageRange, cpus: CpuSet) {
    let guard = loop {
        let guard = IrqGuard::<M>::disable();
        if REQUEST.busy.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            break guard;
        }
        serve::<M>();
        drop(guard);
        core::hint::spin_loop();
    };
    let here = current_cpu();
    if cpus.contains(here) {
        flush_here::<M>(root, pages);
    }
    let mut others = cpus.without(here);
    if root != KERNEL {
        others = space::users(PhysFrame(root), others);
    }
    REQUEST.root.store(root, Ordering::Relaxed);
    REQUEST.start.store(pages.start.0, Ordering::Relaxed);
    REQUEST.end.store(pages.end.0, Ordering::Relaxed);
    REQUEST.waiting_for.store(others.bits(), Ordering::Release);
    local_apic::send::<M>(others, FLUSH);
    while REQUEST.waiting_for.load(Ordering::Acquire) != 0 {
        core::hint::spin_loop();
    }
    REQUEST.busy.store(false, Ordering::Release);
    drop(guard);
}

fn flush_here<M: Machine>(root: u64, pages: PageRange) {
    if root == KERNEL {
        flush_kernel_here::<M>(pages);
    } else {
        flush_user_here::<M>(PhysFrame(root), pages);
    }
}

/// Does what another CPU asks for, if it does. Context: interrupts disabled.
pub fn serve<M: Machine>() {
    let own = CpuSet::one(current_cpu()).bits();
    if REQUEST.waiting_for.load(Ordering::Acquire) & own == 0 {
        return;
    }
    let start = VirtAddr(REQUEST.start.load(Ordering::Relaxed));
    let end = VirtAddr(REQUEST.end.load(Ordering::Relaxed));
    flush_here::<M>(REQUEST.root.load(Ordering::Relaxed), PageRange { start, end });
    REQUEST.waiting_for.fetch_and(!own, Ordering::Release);
}
