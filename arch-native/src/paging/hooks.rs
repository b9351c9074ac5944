//! [`platform::Paging`] of a PC.

use core::marker::PhantomData;
use core::sync::atomic::AtomicU64;

use platform::{
    CacheMode, CpuSet, ForkMode, FrameBatch, Kernel, Mapping, OutOfFrames, PageRange, PhysFrame, Protection,
    Root, VirtAddr,
};

use super::entry::{Entry, LeafKind, Level};
use super::walker::{Table, TableMemory, Walker};
use super::{
    KernelFrames, USER_ENTRIES, direct_table, flush, frame_of, kernel_root, new_top_level, space, unlinked,
};
use crate::layout::KERNEL_WINDOW;
use crate::machine::Machine;

/// [`platform::Paging`] of a PC.
#[derive(Debug)]
pub struct PcPaging<K, M>(PhantomData<(K, M)>);

/// Tables in frames the kernel hands out, written as the machine wants it.
#[derive(Debug)]
pub(crate) struct PcFrames<K, M>(PhantomData<(K, M)>);

impl<K, M> PcFrames<K, M> {
    const NEW: Self = Self(PhantomData);
}

impl<K: Kernel, M: Machine> TableMemory for PcFrames<K, M> {
    #[inline(always)]
    unsafe fn table(&self, frame: PhysFrame) -> &Table {
        // SAFETY: as the caller promised.
        unsafe { direct_table(frame) }
    }

    #[inline(always)]
    fn allocate(&self) -> Option<PhysFrame> {
        KernelFrames::<K>::NEW.allocate()
    }

    #[inline(always)]
    fn free(&self, frame: PhysFrame) {
        KernelFrames::<K>::NEW.free(frame);
    }

    #[inline(always)]
    fn announce(&self, frame: PhysFrame, level: Level) {
        M::announce_table(frame, level);
    }

    #[inline(always)]
    fn release(&self, frame: PhysFrame, level: Level) {
        M::release_table(frame, level);
    }

    #[inline(always)]
    fn set(&self, slot: &AtomicU64, entry: Entry, level: Level) {
        M::set_entry(slot, entry, level);
    }

    #[inline(always)]
    fn set_in_batch(&self, slot: &AtomicU64, entry: Entry) {
        M::set_entry_in_batch(slot, entry);
    }

    #[inline(always)]
    fn batch<R>(&self, work: impl FnOnce() -> R) -> R {
        M::batch(work)
    }
}

/// The user half of a space.
#[inline(always)]
fn pc_user<K: Kernel, M: Machine>(root: Root) -> Walker<'static, PcFrames<K, M>> {
    // SAFETY: a root token leads to a top-level table of ours, and the kernel serializes what changes one space.
    unsafe { Walker::user(&PcFrames::NEW, frame_of(root)) }
}

/// The windows of the kernel half.
#[inline(always)]
pub(crate) fn pc_kernel<K: Kernel, M: Machine>(cache: CacheMode) -> Walker<'static, PcFrames<K, M>> {
    // SAFETY: the kernel's own top-level table stays for ever, and the windows have no large pages.
    unsafe { Walker::kernel(&PcFrames::NEW, kernel_root(), LeafKind::kernel(cache)) }
}

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Paging for PcPaging<K, M> {
    fn new_root() -> Result<Root, OutOfFrames> {
        let frame = new_top_level::<K>()?;
        // SAFETY: the new table is ours.
        space::begin(unsafe { direct_table(frame) });
        M::announce_table(frame, Level::ROOT);
        Ok(Root(frame.0))
    }

    unsafe fn drop_root(root: Root) {
        pc_user::<K, M>(root).free_tables(USER_ENTRIES);
        M::release_table(frame_of(root), Level::ROOT);
        K::free_table_frame(frame_of(root));
    }

    #[inline(always)]
    fn activate(root: Root) {
        // SAFETY: a root token leads to a top-level table with the kernel's entries; the contract disables interrupts.
        unsafe { space::activate::<M>(frame_of(root)) };
    }

    #[inline(always)]
    fn activate_kernel() {
        // SAFETY: it is the kernel's own.
        unsafe { space::activate_kernel::<M>(kernel_root()) };
    }

    fn map(
        root: Root,
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
    ) -> Result<u64, OutOfFrames> {
        pc_user::<K, M>(root).map(page, frames, protection)
    }

    fn replace(root: Root, page: VirtAddr, frame: PhysFrame, protection: Protection) -> bool {
        let replaced = pc_user::<K, M>(root).replace(page, frame, protection);
        space::taken_away(frame_of(root));
        replaced
    }

    fn protect(root: Root, pages: PageRange, protection: Protection) {
        pc_user::<K, M>(root).protect(pages, protection);
        space::taken_away(frame_of(root));
    }

    fn unmap(root: Root, pages: PageRange, taken: &mut FrameBatch) -> VirtAddr {
        let reached = pc_user::<K, M>(root).unmap(pages, taken);
        space::taken_away(frame_of(root));
        reached
    }

    fn query(root: Root, page: VirtAddr) -> Option<Mapping> {
        pc_user::<K, M>(root).query(page)
    }

    fn fork(
        parent: Root,
        child: Root,
        pages: PageRange,
        mode: ForkMode,
        shared: &mut FrameBatch,
    ) -> Result<VirtAddr, OutOfFrames> {
        let reached = pc_user::<K, M>(parent).fork(&pc_user::<K, M>(child), pages, mode, shared);
        space::taken_away(frame_of(parent));
        reached
    }

    fn flush(root: Root, pages: PageRange, cpus: CpuSet) {
        flush::user::<M>(frame_of(root), pages, cpus);
    }

    fn map_kernel(
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
        cache: CacheMode,
    ) -> Result<(), OutOfFrames> {
        pc_kernel::<K, M>(cache).map(page, frames, protection).map(|_| ())
    }

    fn unmap_kernel(pages: PageRange, taken: &mut FrameBatch) -> VirtAddr {
        let walker = pc_kernel::<K, M>(CacheMode::WriteBack);
        let reached = walker.unmap(pages, taken);
        walker.unlink_empty(PageRange::new(pages.start, reached), unlinked::add);
        reached
    }

    fn flush_kernel(pages: PageRange, cpus: CpuSet) {
        let tables = unlinked::take();
        if tables.is_empty() {
            return flush::kernel::<M>(pages, cpus);
        }
        // So much that every processor drops all it knows, tables too, and not only of the space that is active there.
        flush::kernel::<M>(PageRange::new(KERNEL_WINDOW.0, KERNEL_WINDOW.1), cpus);
        tables.for_each(K::free_table_frame);
    }
}
