//! Kernel stacks, each below a page that is never mapped.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::{CacheMode, FrameBatch, PAGE_SIZE, PageRange, PhysFrame, Protection, VirtAddr};

use super::frames;
use crate::hook::paging;
use crate::percpu;
use crate::process::ids::PID_MAX;
use crate::sync::{IrqLock, Mutex};
use crate::util::ids::IdAllocator;

/// Pages of a stack. Code that is not optimized needs more: it keeps every value that passes through it.
const STACK_PAGES: usize = if cfg!(debug_assertions) { 8 } else { 4 };
/// Address space for one stack: the stack itself, and as much unmapped below it.
const SLOT_BYTES: u64 = 2 * STACK_PAGES as u64 * PAGE_SIZE;
/// The most stacks there can be: as many as tasks.
const MOST: u32 = PID_MAX;
/// Unused stacks that [`trim_stacks`] leaves mapped.
const KEPT: usize = 16;

static WINDOW: AtomicU64 = AtomicU64::new(0);
static WINDOW_END: AtomicU64 = AtomicU64::new(0);
/// Stacks that are mapped and not used.
static UNUSED: IrqLock<Unused> = IrqLock::new(Unused { first: None, count: 0 });
/// Which slots of the window are taken. The lowest free one is the next, so that few tables lead to all stacks.
static SLOTS: IrqLock<IdAllocator> = IrqLock::new(IdAllocator::new());
/// Serializes changes of the kernel's translations.
static MAPPING: Mutex<()> = Mutex::new(());

/// A list of stacks by their tops. Each holds the next one's top in its highest word, so that giving one up needs no memory.
struct Unused {
    first: Option<VirtAddr>,
    count: usize,
}

impl Unused {
    fn next_of(top: VirtAddr) -> *mut Option<VirtAddr> {
        (top - size_of::<Option<VirtAddr>>() as u64).as_mut_ptr()
    }

    /// # Safety
    /// `top` is the top of a mapped stack of this module's that nobody uses any more and that is in no list.
    unsafe fn push(&mut self, top: VirtAddr) {
        // SAFETY: the stack's highest bytes are mapped, aligned, and from now on the list's.
        unsafe { Self::next_of(top).write(self.first) };
        self.first = Some(top);
        self.count += 1;
    }

    fn pop(&mut self) -> Option<VirtAddr> {
        let top = self.first?;
        // SAFETY: `push` wrote it, and the stack has been the list's since.
        self.first = unsafe { Self::next_of(top).read() };
        self.count -= 1;
        Some(top)
    }
}

/// Sets the addresses that stacks are mapped at. Once, at boot.
pub fn set_kernel_window(start: VirtAddr, end: VirtAddr) {
    WINDOW.store(start.0, Ordering::Relaxed);
    WINDOW_END.store(end.0, Ordering::Relaxed);
}

/// Takes the memory for noting all stacks there can be, so that it is not taken little by little. At boot.
pub fn init_stacks() {
    if SLOTS.lock().make_room(MOST).is_err() {
        log::warn!("there is no memory for noting all stacks");
    }
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
            // SAFETY: it came from `allocate`, and whoever had it is done with it.
            unsafe { UNUSED.lock().push(self.top) };
        }
    }
}

/// The bottom of a slot nobody has.
fn take_slot() -> Option<VirtAddr> {
    let start = WINDOW.load(Ordering::Relaxed);
    let room = (WINDOW_END.load(Ordering::Relaxed) - start) / SLOT_BYTES;
    let most = u32::try_from(room).unwrap_or(MOST).min(MOST);
    let slot = SLOTS.lock().alloc(0, most).ok()?;
    Some(VirtAddr(start + u64::from(slot) * SLOT_BYTES))
}

fn free_slot(bottom: VirtAddr) {
    let slot = (bottom - VirtAddr(WINDOW.load(Ordering::Relaxed))) / SLOT_BYTES;
    let known = SLOTS.lock().free(slot as u32);
    debug_assert!(known.is_ok(), "a stack's slot was freed twice");
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
        let top = slot + SLOT_BYTES;
        let bottom = top - STACK_PAGES as u64 * PAGE_SIZE;
        let _serialized = MAPPING.lock();
        let rights = Protection::READ | Protection::WRITE;
        match paging::map_kernel(bottom, &held, rights, CacheMode::WriteBack) {
            Ok(()) => Some(top),
            Err(_) => {
                unmap(bottom);
                free_slot(slot);
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
            if unused.count <= kept {
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
        free_slot(top - SLOT_BYTES);
    }
}
