//! Address spaces and translations: a PC's tables, with frames as the guest counts them, and word of every change that
//! takes something away.

use core::marker::PhantomData;

use arch_native::paging::entry::{Entry, LeafKind};
use arch_native::paging::{USER_ENTRIES, frame_of, kernel, kernel_root, new_top_level, user};
use platform::{
    CacheMode, CpuSet, ForkMode, FrameBatch, Kernel, Mapping, OutOfFrames, PageRange, PhysFrame, Protection,
    Root, VirtAddr,
};

use crate::ring;

/// [`platform::Paging`] of an lguest guest.
#[derive(Debug)]
pub struct LguestPaging<K>(PhantomData<K>);

/// What is taken away is announced by the hook that does it and not by [`platform::Paging::flush`], which the kernel
/// leaves out for a space that is nowhere active: the host may remember that all the same.
#[platform::backend]
impl<K: Kernel> platform::Paging for LguestPaging<K> {
    fn new_root() -> Result<Root, OutOfFrames> {
        new_top_level::<K>().map(|frame| Root(frame.0))
    }

    unsafe fn drop_root(root: Root) {
        let frame = frame_of(root);
        // Before the frame becomes something else: the host must not look for a table there.
        ring::release_root(frame);
        user::<K>(root).free_tables(USER_ENTRIES);
        K::free_table_frame(frame);
    }

    #[inline(always)]
    fn activate(root: Root) {
        ring::load_root(frame_of(root));
    }

    #[inline(always)]
    fn activate_kernel() {
        ring::load_root(kernel_root());
    }

    /// Nothing is taken away, so nothing is announced; the host looks at the page that faulted when the fault returns.
    fn map(
        root: Root,
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
    ) -> Result<u64, OutOfFrames> {
        user::<K>(root).map(page, frames, protection)
    }

    fn replace(root: Root, page: VirtAddr, frame: PhysFrame, protection: Protection) -> bool {
        let replaced = user::<K>(root).replace(page, frame, protection);
        if replaced {
            ring::page_changed(frame_of(root), page, Entry::leaf(frame, protection, LeafKind::USER).0);
        }
        replaced
    }

    fn protect(root: Root, pages: PageRange, protection: Protection) {
        user::<K>(root).protect(pages, protection);
        if !pages.is_empty() {
            ring::range_changed(frame_of(root), pages);
        }
    }

    fn unmap(root: Root, pages: PageRange, taken: &mut FrameBatch) -> VirtAddr {
        let before = taken.frames().len();
        let reached = user::<K>(root).unmap(pages, taken);
        if taken.frames().len() != before {
            ring::range_changed(frame_of(root), PageRange { start: pages.start, end: reached });
        }
        reached
    }

    fn query(root: Root, page: VirtAddr) -> Option<Mapping> {
        user::<K>(root).query(page)
    }

    fn fork(
        parent: Root,
        child: Root,
        pages: PageRange,
        mode: ForkMode,
        shared: &mut FrameBatch,
    ) -> Result<VirtAddr, OutOfFrames> {
        let before = shared.frames().len();
        let reached = user::<K>(parent).fork(&user::<K>(child), pages, mode, shared);
        if mode == ForkMode::CopyOnWrite && shared.frames().len() != before {
            let end = reached.unwrap_or(pages.end);
            ring::range_changed(frame_of(parent), PageRange { start: pages.start, end });
        }
        reached
    }

    /// Announced already, and nothing uses what is stale before the ring is run.
    #[inline(always)]
    fn flush(_: Root, _: PageRange, _: CpuSet) {}

    fn map_kernel(
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
        cache: CacheMode,
    ) -> Result<(), OutOfFrames> {
        kernel::<K>(cache).map(page, frames, protection).map(|_| ())
    }

    fn unmap_kernel(pages: PageRange, taken: &mut FrameBatch) -> VirtAddr {
        let reached = kernel::<K>(CacheMode::WriteBack).unmap(pages, taken);
        ring::range_changed(ring::KERNEL_HALF, PageRange { start: pages.start, end: reached });
        reached
    }

    /// The kernel's own memory has no hook before its use: the ring is run now.
    fn flush_kernel(_: PageRange, _: CpuSet) {
        ring::run();
    }
}
