//! Address spaces and translations. The backend owns the table format, batching and any frame translation: the kernel
//! never sees a table entry.

use crate::{CacheMode, CpuSet, FrameBatch, PageRange, PhysFrame, Protection, VirtAddr};

/// One user address space below the cut: whatever the platform keeps for it (one table or two), named by a token of
/// the backend's choice. The kernel's own translations are part of every space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root(pub u64);

/// No frame was left for a translation table. What was done before stays done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfFrames;

/// A present translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Where it leads.
    pub frame: PhysFrame,
    /// What is allowed.
    pub protection: Protection,
}

/// How [`Paging::fork`] hands pages on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForkMode {
    /// Both sides lose the right to write.
    CopyOnWrite,
    /// Both sides keep their rights.
    Share,
}

/// Translations.
///
/// User ranges lie below [`crate::BootInfo::user_top`]. The kernel serializes the hooks that change one root; different
/// roots may be changed at the same time. Taking a right or a page away leaves stale translations in the CPUs until
/// [`Paging::flush`]; the kernel reuses a frame only after that.
#[crate::part(paging)]
pub trait Paging {
    /// A new space with nothing in the user half. Variation of: allocating a top-level table and copying the kernel's
    /// entries.
    fn new_root() -> Result<Root, OutOfFrames>;

    /// Drops a space whose user half is empty of pages: frees its tables. Variation of: freeing the page-table pages
    /// at exit.
    ///
    /// # Safety
    /// No CPU has it active and the token is not used again.
    unsafe fn drop_root(root: Root);

    /// Makes `root` this CPU's space. Nothing of the former space can be reached through a stale translation
    /// afterwards. Variation of: loading CR3. Context: interrupts disabled.
    fn activate(root: Root);

    /// Makes the kernel's own space, with an empty user half, this CPU's. Variation of: loading CR3. Context:
    /// interrupts disabled.
    fn activate_kernel();

    /// Maps the pages from `page` on to `frames` (at most 64), in order. A page that is mapped already is left as it is.
    /// Returns which were mapped by this call: bit n is set for `frames[n]`. Nothing need be flushed. Variation of:
    /// writing absent entries.
    fn map(
        root: Root,
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
    ) -> Result<u64, OutOfFrames>;

    /// Points the mapped page `page` at `frame` with new rights: the end of a copy-on-write. Must be flushed unless it
    /// leads to the same frame with more rights (a CPU may fault once more over those). Returns false, and does
    /// nothing, if the page is not mapped. Variation of: writing a present entry.
    fn replace(root: Root, page: VirtAddr, frame: PhysFrame, protection: Protection) -> bool;

    /// Sets the rights of all mapped pages of `pages`, but never adds the right to write: a page that may be written by
    /// these rights gains it by a fault and [`Paging::replace`]. Must be flushed. Variation of: changing entries over a
    /// range.
    fn protect(root: Root, pages: PageRange, protection: Protection);

    /// Unmaps from `pages.start` upward until the end or until `taken` is full; `taken` gains the frames that were
    /// mapped. Returns where it stopped: everything below is unmapped. Must be flushed before the frames are reused.
    /// Variation of: clearing entries over a range.
    fn unmap(root: Root, pages: PageRange, taken: &mut FrameBatch) -> VirtAddr;

    /// The translation of `page`, if present. Variation of: a table walk.
    fn query(root: Root, page: VirtAddr) -> Option<Mapping>;

    /// Gives `child`, which has nothing mapped there, the pages that `parent` has in `pages`, from the start upward
    /// until the end or until `shared` is full; `shared` gains their frames, once each. Returns where it stopped. With
    /// [`ForkMode::CopyOnWrite`] the parent must be flushed. Variation of: copying page tables at fork.
    fn fork(
        parent: Root,
        child: Root,
        pages: PageRange,
        mode: ForkMode,
        shared: &mut FrameBatch,
    ) -> Result<VirtAddr, OutOfFrames>;

    /// When it returns, none of `cpus` holds a stale translation of `pages` in `root`. The calling CPU may be among
    /// them. Variation of: `invlpg` and an interprocessor interrupt. Context: if `cpus` has others than the caller,
    /// interrupts enabled and no lock held that is taken with interrupts disabled.
    fn flush(root: Root, pages: PageRange, cpus: CpuSet);

    /// Maps kernel pages from `page` on, in the window of [`crate::BootInfo::kernel_window`], to `frames`. They are not
    /// mapped before. Every space sees them. Variation of: writing entries of the shared kernel tables. The kernel
    /// serializes this and [`Paging::unmap_kernel`].
    fn map_kernel(
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
        cache: CacheMode,
    ) -> Result<(), OutOfFrames>;

    /// Unmaps kernel pages as [`Paging::unmap`] does user pages. Must be flushed with [`Paging::flush_kernel`], which gives
    /// tables that lead to nothing any more back to the kernel.
    fn unmap_kernel(pages: PageRange, taken: &mut FrameBatch) -> VirtAddr;

    /// As [`Paging::flush`], for kernel pages; `cpus` are all that are online.
    fn flush_kernel(pages: PageRange, cpus: CpuSet);
}
