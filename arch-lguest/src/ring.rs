//! Calls that wait until the host has an occasion to run them: lguest's lazy mode, made the rule.

use core::cell::Cell;
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use core::sync::atomic::compiler_fence;

use lguest_abi::{FREE, Hypercall, PENDING, RING_ENTRIES};
use platform::{PageRange, PhysFrame, VirtAddr};

use crate::data::DATA;
use crate::host;
use crate::irq::IrqGuard;

/// The root that stands for the kernel half.
pub const KERNEL_HALF: PhysFrame = PhysFrame(0);

struct Next(Cell<usize>);

// SAFETY: there is one CPU, and it uses the cell with interrupts disabled.
unsafe impl Sync for Next {}

/// The entry to fill next.
static NEXT: Next = Next(Cell::new(0));

/// Makes every call at once from now on: the ring is full of nothing, and the host is never told to look at it. For
/// measuring what waiting saves. At boot, while nothing waits.
pub fn switch_off() {
    for status in &DATA.hcall_status {
        status.store(PENDING, Relaxed);
    }
}

/// Puts a call into the ring; makes it at once where the ring is full, for the host runs what waits first.
#[inline]
fn push(call: Hypercall, first: u64, second: u64, third: u64) {
    let guard = IrqGuard::new();
    let at = NEXT.0.get();
    if DATA.hcall_status[at].load(Relaxed) != FREE {
        host::call_at_once(call, first, second, third);
        return;
    }
    let entry = &DATA.hcalls[at];
    entry.rax.store(call as u64, Relaxed);
    entry.rdi.store(first, Relaxed);
    entry.rsi.store(second, Relaxed);
    entry.rdx.store(third, Relaxed);
    DATA.hcall_status[at].store(PENDING, Release);
    DATA.hcall_pending.store(1, Release);
    NEXT.0.set((at + 1) % RING_ENTRIES);
    drop(guard);
}

/// Translations of `pages` under `root` have changed. Joined to the call before, if that waits for the same root and
/// ends where this begins: a range that the kernel takes away piece by piece is one call.
pub fn range_changed(root: PhysFrame, pages: PageRange) {
    let (start, end) = (pages.start.0, pages.end.0);
    {
        let _guard = IrqGuard::new();
        let last = (NEXT.0.get() + RING_ENTRIES - 1) % RING_ENTRIES;
        let entry = &DATA.hcalls[last];
        if DATA.hcall_status[last].load(Relaxed) == PENDING
            && entry.rax.load(Relaxed) == Hypercall::SetRange as u64
            && entry.rdi.load(Relaxed) == root.start().0
            && entry.rdx.load(Relaxed) == start
        {
            entry.rdx.store(end, Relaxed);
            compiler_fence(SeqCst);
            // The host may have run the entry before it became longer, had an access to the page left this guest.
            if DATA.hcall_status[last].load(Relaxed) == PENDING {
                return;
            }
        }
    }
    push(Hypercall::SetRange, root.start().0, start, end);
}

/// The leaf entry of `page` under `root` is now `entry`.
#[inline]
pub fn page_changed(root: PhysFrame, page: VirtAddr, entry: u64) {
    push(Hypercall::SetPte, root.start().0, page.0, entry);
}

/// `root` becomes the address space.
#[inline]
pub fn load_root(root: PhysFrame) {
    push(Hypercall::NewPgtable, root.start().0, 0, 0);
}

/// `root`, which is not loaded, is about to be freed. The host has forgotten it when this returns.
pub fn release_root(root: PhysFrame) {
    host::call_at_once(Hypercall::ReleasePgd, root.start().0, 0, 0);
}

/// Whether something waits.
#[inline(always)]
pub fn is_waiting() -> bool {
    DATA.hcall_pending.load(Relaxed) != 0
}

/// Has everything that waits run.
#[cold]
pub fn run() {
    if is_waiting() {
        host::run_ring();
    }
}
