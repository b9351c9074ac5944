//! Address spaces and translations: four levels, user pages of 4 KiB.

pub mod entry;
#[cfg(feature = "pc")]
pub(crate) mod flush;
#[cfg(feature = "pc")]
mod hooks;
#[cfg(feature = "pc")]
pub(crate) mod space;
#[cfg(feature = "pc")]
mod unlinked;
pub mod walker;
#[cfg(feature = "pc")]
pub(crate) mod window;

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use platform::{CacheMode, Kernel, OutOfFrames, PhysAddr, PhysFrame, Root, VirtAddr};

use crate::layout::{DIRECT_MAP, IMAGE_BASE, KERNEL_WINDOW, PLATFORM_WINDOW, direct};
use entry::LeafKind;
use walker::{Table, TableMemory, Walker};

#[cfg(feature = "pc")]
pub use hooks::PcPaging;
#[cfg(feature = "pc")]
pub(crate) use hooks::pc_kernel;

/// The kernel's own space.
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);
/// One past the last top-level entry of the direct map.
static DIRECT_MAP_ENTRIES_END: AtomicUsize = AtomicUsize::new(0);

/// Entries of a top-level table that belong to the user half.
pub const USER_ENTRIES: usize = 256;

const fn top_level_index(address: VirtAddr) -> usize {
    (address.0 >> 39) as usize & 511
}

/// Remembers the kernel's own space and how far its direct map reaches.
pub fn set_kernel_root(root: PhysFrame, memory_end: PhysAddr) {
    KERNEL_ROOT.store(root.0, Ordering::Relaxed);
    let last = top_level_index(direct(PhysAddr(memory_end.0.saturating_sub(1))));
    DIRECT_MAP_ENTRIES_END.store(last + 1, Ordering::Relaxed);
}

/// The kernel's own space.
#[inline(always)]
pub fn kernel_root() -> PhysFrame {
    PhysFrame(KERNEL_ROOT.load(Ordering::Relaxed))
}

/// A table where the direct map shows it.
///
/// # Safety
/// `frame` holds a table that is not freed while the reference is used.
#[inline(always)]
pub unsafe fn direct_table<'a>(frame: PhysFrame) -> &'a Table {
    // SAFETY: all RAM is in the direct map; the caller vouches for the rest.
    unsafe { &*direct(frame.start()).as_ptr() }
}

/// Tables in frames the kernel hands out.
#[derive(Debug)]
pub struct KernelFrames<K>(PhantomData<K>);

impl<K> KernelFrames<K> {
    /// There is nothing to tell one from another.
    pub const NEW: Self = Self(PhantomData);
}

impl<K: Kernel> TableMemory for KernelFrames<K> {
    #[inline(always)]
    unsafe fn table(&self, frame: PhysFrame) -> &Table {
        // SAFETY: as the caller promised.
        unsafe { direct_table(frame) }
    }

    #[inline(always)]
    fn allocate(&self) -> Option<PhysFrame> {
        K::allocate_table_frame()
    }

    #[inline(always)]
    fn free(&self, frame: PhysFrame) {
        K::free_table_frame(frame);
    }
}

/// The top-level table a root token stands for.
#[inline(always)]
pub fn frame_of(root: Root) -> PhysFrame {
    PhysFrame(root.0)
}

/// The user half of a space.
#[inline(always)]
pub fn user<K: Kernel>(root: Root) -> Walker<'static, KernelFrames<K>> {
    // SAFETY: a root token leads to a top-level table of ours, and the kernel serializes what changes one space.
    unsafe { Walker::user(&KernelFrames::NEW, frame_of(root)) }
}

/// The windows of the kernel half.
#[inline(always)]
pub fn kernel<K: Kernel>(cache: CacheMode) -> Walker<'static, KernelFrames<K>> {
    // SAFETY: the kernel's own top-level table stays for ever, and the windows have no large pages.
    unsafe { Walker::kernel(&KernelFrames::NEW, kernel_root(), LeafKind::kernel(cache)) }
}

/// A new top-level table: the kernel's entries, and an empty user half.
pub fn new_top_level<K: Kernel>() -> Result<PhysFrame, OutOfFrames> {
    let frame = K::allocate_table_frame().ok_or(OutOfFrames)?;
    // SAFETY: the new frame is ours; the kernel's stays for ever.
    let (table, kernel) = unsafe { (direct_table(frame), direct_table(kernel_root())) };
    walker::clear(table);
    let direct_map = top_level_index(DIRECT_MAP)..DIRECT_MAP_ENTRIES_END.load(Ordering::Relaxed);
    let others = [KERNEL_WINDOW.0, PLATFORM_WINDOW.0, IMAGE_BASE].map(top_level_index);
    for index in direct_map.chain(others) {
        table[index].store(kernel[index].load(Ordering::Relaxed), Ordering::Relaxed);
    }
    Ok(frame)
}
