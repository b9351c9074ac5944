//! Kernel stacks, each below a page that is never mapped.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use platform::{CacheMode, FrameBatch, PAGE_SIZE, PageRange, PhysFrame, Protection, VirtAddr};

use super::frames;
use crate::hook::paging;
use crate::percpu;
use crate::sync::{IrqLock, Mutex};

const STACK_PAGES: usize = 4;
/// Address space for one stack: the stack itself, and as much unmapped below it.
const SLOT_BYTES: u64 = 2 * STACK_PAGES as u64 * PAGE_SIZE;
/// Unused stacks that [`trim_stacks`] leaves mapped.
const KEPT: usize = 16;

static WINDOW: AtomicU64 = AtomicU64::new(0);
static WINDOW_END: AtomicU64 = AtomicU64::new(0);
/// Stacks that are mapped and not used.
static UNUSED: IrqLock<Vec<VirtAddr>> = IrqLock::new(Vec::new());
static SLOTS: IrqLock<Slots> = IrqLock::new(Slots { next: 0, free: Vec::new() });
/// Serializes changes of the kernel's translations.
static MAPPING: Mutex<()> = Mutex::new(());

struct Slots {
    next: u64,
    free: Vec<u64>,
}

/// Sets the addresses that stacks are mapped at. Once, at boot.
pub fn set_kernel_window(start: VirtAddr, end: VirtAddr) {
    WINDOW.store(start.0, Ordering::Relaxed);
    WINDOW_END.store(end.0, Ordering::Relaxed);
}

/// A task's kernel stack.
pub struct KernelStack {
    top: VirtAddr,
    owned: bool,
}

impl KernelStack {
    /// A stack; none if memory has run out.
    pub fn allocate() -> Option<Self> {
        if let Some(top) = UNUSED.lock().pop() {
            return Some(Self { top, owned: true });
        }
        map_new().map(|top| Self { top, owned: true })
    }

    /// The stack a CPU was started on, which is never given back.
    pub fn borrowed(top: VirtAddr) -> Self {
        Self { top, owned: false }
    }

    /// One past its highest byte; 16-byte aligned.
    #[inline]
    pub fn top(&self) -> VirtAddr {
        self.top
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        if self.owned {
            // Not unmapped here: a task may be dropped where other CPUs cannot be asked to forget translations.
            UNUSED.lock().push(self.top);
        }
    }
}

fn take_slot() -> Option<u64> {
    let mut slots = SLOTS.lock();
    if let Some(slot) = slots.free.pop() {
        return Some(slot);
    }
    let slot = WINDOW.load(Ordering::Relaxed) + slots.next * SLOT_BYTES;
    if slot + SLOT_BYTES > WINDOW_END.load(Ordering::Relaxed) {
        return None;
    }
    slots.next += 1;
    Some(slot)
}

fn map_new() -> Option<VirtAddr> {
    let mut held = [PhysFrame(0); STACK_PAGES];
    for index in 0..STACK_PAGES {
        match frames::allocate_user() {
            Some(frame) => held[index] = frame,
            None => {
                held[..index].iter().copied().for_each(frames::put);
                return None;
            }
        }
    }
    let slot = take_slot();
    let mapped = slot.and_then(|slot| {
        let bottom = VirtAddr(slot + SLOT_BYTES - STACK_PAGES as u64 * PAGE_SIZE);
        let _serialized = MAPPING.lock();
        let rights = Protection::READ | Protection::WRITE;
        match paging::map_kernel(bottom, &held, rights, CacheMode::WriteBack) {
            Ok(()) => Some(VirtAddr(slot + SLOT_BYTES)),
            Err(_) => {
                unmap(bottom);
                SLOTS.lock().free.push(slot);
                None
            }
        }
    });
    if mapped.is_none() {
        held.into_iter().for_each(frames::put);
    }
    mapped
}

fn unmap(bottom: VirtAddr) -> FrameBatch {
    let pages = PageRange::new(bottom, bottom + STACK_PAGES as u64 * PAGE_SIZE);
    let mut taken = FrameBatch::new();
    paging::unmap_kernel(pages, &mut taken);
    paging::flush_kernel(pages, percpu::online());
    taken
}

/// Gives back the memory of stacks that are not used, but for a few. Context: a task, interrupts enabled, no lock held.
pub fn trim_stacks() {
    trim_stacks_to(KEPT);
}

/// As [`trim_stacks`], but for `kept`.
pub fn trim_stacks_to(kept: usize) {
    loop {
        let top = {
            let mut unused = UNUSED.lock();
            if unused.len() <= kept {
                return;
            }
            match unused.pop() {
                Some(top) => top,
                None => return,
            }
        };
        let _serialized = MAPPING.lock();
        let taken = unmap(top - STACK_PAGES as u64 * PAGE_SIZE);
        taken.frames().iter().copied().for_each(frames::put);
        SLOTS.lock().free.push((top - SLOT_BYTES).0);
    }
}
