//! A user program's address space.

mod backing;
mod change;
mod fork;
mod inspect;
mod layout;
mod provide;
mod remap;

pub use backing::{Backing, MapIntent, MappedFile};
pub use change::{MapPlace, MapRequest, checked_range};
pub use layout::{Layout, MIN_ADDRESS, ProgramRanges};
pub use remap::Moving;

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use platform::{CpuId, CpuSet, FrameBatch, Message, PageRange, PhysFrame, Root, VirtAddr};

use super::vma::UserRange;
use super::{frames, shortage};
use crate::errno::KResult;
use crate::hook::{paging, smp};
use crate::percpu::cpu_id;
use crate::sched::idle_cpus;
use crate::sync::{Mutex, MutexGuard};

/// An address space: what is mapped where, and the translations made so far.
pub struct AddressSpace {
    root: Root,
    layout: Mutex<Layout>,
    /// CPUs that have it active, as bits of a [`CpuSet`].
    cpus: AtomicU64,
    /// Tasks that run in it. When none is left, everything in it is let go.
    users: AtomicU32,
    resident: AtomicU64,
    peak_resident: AtomicU64,
}

impl AddressSpace {
    /// An empty space with one user.
    pub fn new() -> KResult<Arc<Self>> {
        Ok(Arc::new(Self {
            root: paging::new_root()?,
            layout: Mutex::new(Layout::new()),
            cpus: AtomicU64::new(0),
            users: AtomicU32::new(1),
            resident: AtomicU64::new(0),
            peak_resident: AtomicU64::new(0),
        }))
    }

    /// What is mapped where.
    pub fn layout(&self) -> MutexGuard<'_, Layout> {
        self.layout.lock()
    }

    /// Makes it the one of `me`, this CPU. What was active is still this CPU's too, until [`Self::deactivated`]. Context:
    /// interrupts disabled.
    #[inline(always)]
    pub fn activate(&self, me: CpuId) {
        self.cpus.fetch_or(CpuSet::one(me).bits(), Ordering::SeqCst);
        paging::activate(self.root);
    }

    /// It is no longer active on this CPU. Context: interrupts disabled.
    pub fn deactivated(&self) {
        self.cpus.fetch_and(!CpuSet::one(cpu_id()).bits(), Ordering::SeqCst);
    }

    /// One more task runs in it.
    pub fn add_user(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// One task less runs in it. The last one lets everything go. Context: a task, interrupts enabled; the caller does
    /// not return to user mode in it.
    pub fn remove_user(&self) {
        if self.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.clear();
        }
    }

    /// Tasks that run in it.
    pub fn users(&self) -> u32 {
        self.users.load(Ordering::Relaxed)
    }

    /// Whether `page` is translated.
    pub fn is_resident(&self, page: VirtAddr) -> bool {
        let _serialized = self.layout();
        paging::query(self.root, page).is_some()
    }

    /// The frame that `page` leads to, if it is translated.
    pub fn frame_at(&self, address: VirtAddr) -> Option<PhysFrame> {
        let _serialized = self.layout();
        paging::query(self.root, address.page()).map(|mapping| mapping.frame)
    }

    /// Pages mapped now.
    pub fn resident_pages(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Most pages mapped at once.
    pub fn peak_resident_pages(&self) -> u64 {
        self.peak_resident.load(Ordering::Relaxed).max(self.resident_pages())
    }

    pub(super) fn count_mapped(&self, pages: u64) {
        let now = self.resident.fetch_add(pages, Ordering::Relaxed) + pages;
        if now > self.peak_resident.load(Ordering::Relaxed) {
            self.peak_resident.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn root(&self) -> Root {
        self.root
    }

    /// Makes every CPU that has the space active forget what it knows of `pages`.
    pub(super) fn flush(&self, pages: PageRange) {
        let cpus = CpuSet::from_bits(self.cpus.load(Ordering::SeqCst));
        if !cpus.is_empty() {
            paging::flush(self.root, pages, cpus);
        }
    }

    /// Takes all translations of `part`, which lies in one range with this backing, away and lets their frames go.
    pub(super) fn unmap_pages(&self, part: UserRange, backing: &Backing) {
        let pages = PageRange::from(part);
        let mut start = pages.start;
        let mut taken = FrameBatch::new();
        while start < pages.end {
            let reached = paging::unmap(self.root, PageRange::new(start, pages.end), &mut taken);
            if !taken.is_empty() {
                self.flush(PageRange::new(start, reached));
                self.let_go(&mut taken, backing);
            }
            start = reached;
        }
    }

    fn let_go(&self, taken: &mut FrameBatch, backing: &Backing) {
        self.resident.fetch_sub(taken.frames().len() as u64, Ordering::Relaxed);
        if !matches!(backing, Backing::Special { .. }) {
            taken.frames().iter().copied().for_each(put_mapped);
        }
        taken.clear();
    }

    /// Lets everything go. No task uses the space any more; a CPU that still has it active touches no user memory, so
    /// nothing need be flushed.
    fn clear(&self) {
        let mut layout = self.layout.lock();
        let vmas = layout.take_all();
        let mut taken = FrameBatch::new();
        for vma in vmas.as_slice() {
            let pages = PageRange::from(vma.range);
            let mut start = pages.start;
            while start < pages.end {
                start = paging::unmap(self.root, PageRange::new(start, pages.end), &mut taken);
                self.let_go(&mut taken, &vma.backing);
            }
        }
        drop(layout);
        shortage::note_let_go();
        // CPUs at rest may still have it active, and keep its tables.
        let resting = CpuSet::from_bits(self.cpus.load(Ordering::SeqCst)).and(idle_cpus()).without(cpu_id());
        if !resting.is_empty() {
            smp::send(resting, Message::Reschedule);
        }
    }

    /// Makes the kernel's own space this CPU's instead of `previous`. Context: interrupts disabled.
    pub fn deactivate(previous: &Self) {
        paging::activate_kernel();
        previous.cpus.fetch_and(!CpuSet::one(cpu_id()).bits(), Ordering::SeqCst);
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        if self.users.load(Ordering::Relaxed) != 0 {
            self.clear();
        }
        // SAFETY: nobody refers to the space, so no CPU has it active: the scheduler keeps a reference to the one that
        // is. Its pages were taken away by `clear`.
        unsafe { paging::drop_root(self.root) };
    }
}

/// One more translation leads to `frame`.
#[inline]
pub(super) fn get_mapped(frame: PhysFrame) {
    // The zero frame is mapped so often that counting would cost more than the frame.
    if frame != frames::zero_frame() {
        frames::get(frame);
    }
}

/// One translation less leads to `frame`.
#[inline]
pub(super) fn put_mapped(frame: PhysFrame) {
    if frame != frames::zero_frame() {
        frames::put(frame);
    }
}

/// The page that holds `address`, as a range.
pub(super) fn page_of(address: VirtAddr) -> PageRange {
    PageRange::page(address)
}
