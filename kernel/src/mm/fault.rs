//! Page faults of user programs: making translations as they are needed.

use core::sync::atomic::Ordering;

use platform::{Access, PAGE_SIZE, PhysFrame, Protection, VirtAddr};

use super::space::{Backing, MapIntent, MappedFile, page_of, put_mapped};
use super::user::user_top;
use super::vma::{Vma, VmaFlags};
use super::{AddressSpace, frames, shortage};
use crate::errno::Errno;
use crate::hook::paging;
use crate::process::{Resource, current};

/// Why an access cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// Nothing is mapped there.
    NotMapped,
    /// What is mapped does not allow the access.
    Protection,
    /// The file behind it ends before that.
    BusError,
    /// Memory has run out, and the program is being killed.
    OutOfMemory,
}

/// Pages of a file mapped around one that is read, if they are in memory: what is near is soon read.
const AROUND: u64 = 16;

/// Makes the access possible that the running task tried, or says why not. Context: interrupts enabled.
pub fn user(address: VirtAddr, access: Access) -> Result<(), FaultError> {
    let task = current();
    let Some(space) = task.space() else { return Err(FaultError::NotMapped) };
    if address >= user_top() {
        return Err(FaultError::NotMapped);
    }
    task.minor_faults.fetch_add(1, Ordering::Relaxed);
    loop {
        match space.fault(address, access) {
            Err(FaultError::OutOfMemory) if shortage::relieve() => {}
            result => return result,
        }
    }
}

impl AddressSpace {
    /// Makes one access possible.
    pub fn fault(&self, address: VirtAddr, access: Access) -> Result<(), FaultError> {
        let layout = self.layout();
        let vma = layout.find(address).ok_or(FaultError::NotMapped)?;
        let wanted = if access.contains(Access::WRITE) {
            Protection::WRITE
        } else if access.contains(Access::EXECUTE) {
            Protection::EXECUTE
        } else {
            Protection::READ | Protection::WRITE | Protection::EXECUTE
        };
        if !vma.protection.intersects(wanted) {
            return Err(FaultError::Protection);
        }
        let page = address.page();
        let write = access.contains(Access::WRITE);
        if access.contains(Access::PRESENT) {
            return self.present_fault(vma, page, write);
        }
        if vma.flags.contains(VmaFlags::GROWS_DOWN) && is_over_stack_limit(vma, page) {
            return Err(FaultError::NotMapped);
        }
        match &vma.backing {
            Backing::Anonymous => self.anonymous_fault(vma, page, write),
            Backing::File { file, offset } => {
                let index = (offset + (page.0 - vma.range.start())) / PAGE_SIZE;
                if vma.flags.contains(VmaFlags::SHARED) {
                    self.shared_fault(vma, page, &**file, index, write)
                } else if write {
                    self.copy_fault(vma, page, &**file, index)
                } else {
                    self.read_fault(vma, page, &**file, index)
                }
            }
            Backing::Special { first, .. } => {
                let frame = *first + (page.0 - vma.range.start()) / PAGE_SIZE;
                // The kernel holds it for ever; nobody counts.
                let mapped = paging::map(self.root(), page, &[frame], vma.protection);
                self.count_mapped(mapped.map_err(|_| FaultError::OutOfMemory)?);
                Ok(())
            }
        }
    }

    /// Nothing is mapped there yet, and nothing but zeros is behind it.
    fn anonymous_fault(&self, vma: &Vma<Backing>, page: VirtAddr, write: bool) -> Result<(), FaultError> {
        if write {
            self.map_one(page, zeroed()?, vma.protection)
        } else {
            self.map_one(page, frames::zero_frame(), vma.protection - Protection::WRITE)
        }
    }

    /// A private mapping of a file is written: it gets a copy.
    fn copy_fault(
        &self,
        vma: &Vma<Backing>,
        page: VirtAddr,
        file: &dyn MappedFile,
        index: u64,
    ) -> Result<(), FaultError> {
        let original = file.map_page(index, MapIntent::Read).map_err(from_file)?;
        let frame = frames::allocate_user().ok_or(FaultError::OutOfMemory)?;
        frames::copy(original.frame(), frame);
        self.map_one(page, frame, vma.protection)
    }

    /// A shared mapping of a file is touched.
    fn shared_fault(
        &self,
        vma: &Vma<Backing>,
        page: VirtAddr,
        file: &dyn MappedFile,
        index: u64,
        write: bool,
    ) -> Result<(), FaultError> {
        let intent = if write { MapIntent::Write } else { MapIntent::Read };
        let original = file.map_page(index, intent).map_err(from_file)?;
        let rights = if write { vma.protection } else { vma.protection - Protection::WRITE };
        self.map_one(page, original.into_held(), rights)
    }

    /// A private mapping of a file is read: maps the page, and those around it that are in memory.
    fn read_fault(
        &self,
        vma: &Vma<Backing>,
        page: VirtAddr,
        file: &dyn MappedFile,
        index: u64,
    ) -> Result<(), FaultError> {
        let rights = vma.protection - Protection::WRITE;
        let wanted = file.map_page(index, MapIntent::Read).map_err(from_file)?;
        let position = (page.0 / PAGE_SIZE) % AROUND;
        let before = position.min((page.0 - vma.range.start()) / PAGE_SIZE).min(index);
        let after = (AROUND - 1 - position).min((vma.range.end() - page.0) / PAGE_SIZE - 1);
        let mut run = Run::new(self, rights);
        for distance in (1..=before).rev() {
            match file.map_page(index - distance, MapIntent::ReadIfPresent) {
                Ok(near) => run.add(page - distance * PAGE_SIZE, near.into_held())?,
                Err(_) => run.finish()?,
            }
        }
        run.add(page, wanted.into_held())?;
        for distance in 1..=after {
            match file.map_page(index + distance, MapIntent::ReadIfPresent) {
                Ok(near) => run.add(page + distance * PAGE_SIZE, near.into_held())?,
                Err(_) => break,
            }
        }
        run.finish()
    }

    /// A page is mapped, but not for this access: a write to a page that was shared, or a right that was added since.
    fn present_fault(&self, vma: &Vma<Backing>, page: VirtAddr, write: bool) -> Result<(), FaultError> {
        let Some(mapping) = paging::query(self.root(), page) else {
            // It was taken away meanwhile: the access will fault again.
            return Ok(());
        };
        if !write {
            let rights = (vma.protection - Protection::WRITE)
                | (mapping.protection & Protection::WRITE & vma.protection);
            paging::replace(self.root(), page, mapping.frame, rights);
            return Ok(());
        }
        if mapping.protection.contains(Protection::WRITE) {
            // Another thread was faster.
            return Ok(());
        }
        if vma.flags.contains(VmaFlags::SHARED) {
            paging::replace(self.root(), page, mapping.frame, vma.protection);
            return Ok(());
        }
        let old = mapping.frame;
        if old == frames::zero_frame() {
            let frame = zeroed()?;
            paging::replace(self.root(), page, frame, vma.protection);
            self.flush(page_of(page));
        } else if frames::holders(old) == 1 {
            paging::replace(self.root(), page, old, vma.protection);
        } else {
            let frame = frames::allocate_user().ok_or(FaultError::OutOfMemory)?;
            frames::copy(old, frame);
            paging::replace(self.root(), page, frame, vma.protection);
            self.flush(page_of(page));
            put_mapped(old);
        }
        Ok(())
    }

    /// Maps one page to a frame of which the caller has a holder, which the mapping takes over.
    fn map_one(&self, page: VirtAddr, frame: PhysFrame, rights: Protection) -> Result<(), FaultError> {
        match paging::map(self.root(), page, &[frame], rights) {
            Ok(1) => {
                self.count_mapped(1);
                Ok(())
            }
            // Another thread was faster.
            Ok(_) => {
                put_mapped(frame);
                Ok(())
            }
            Err(_) => {
                put_mapped(frame);
                Err(FaultError::OutOfMemory)
            }
        }
    }
}

/// Whether a stack that reaches down to `page` is larger than the running process's limit, which may have become lower
/// since room was kept for the stack.
fn is_over_stack_limit(stack: &Vma<Backing>, page: VirtAddr) -> bool {
    let limit = current().process.limits.lock().get(Resource::Stack).soft;
    stack.range.end() - page.0 > limit
}

fn zeroed() -> Result<PhysFrame, FaultError> {
    let frame = frames::allocate_user().ok_or(FaultError::OutOfMemory)?;
    frames::clear(frame);
    Ok(frame)
}

fn from_file(error: Errno) -> FaultError {
    match error {
        Errno::ENOMEM => FaultError::OutOfMemory,
        _ => FaultError::BusError,
    }
}

/// Neighbouring pages to be mapped by one call.
struct Run<'a> {
    space: &'a AddressSpace,
    rights: Protection,
    start: VirtAddr,
    frames: [PhysFrame; AROUND as usize],
    length: usize,
}

impl<'a> Run<'a> {
    fn new(space: &'a AddressSpace, rights: Protection) -> Self {
        Self { space, rights, start: VirtAddr(0), frames: [PhysFrame(0); AROUND as usize], length: 0 }
    }

    /// Takes over one holder of `frame`. `page` follows the page added last, or is the first.
    fn add(&mut self, page: VirtAddr, frame: PhysFrame) -> Result<(), FaultError> {
        if self.length == 0 {
            self.start = page;
        }
        self.frames[self.length] = frame;
        self.length += 1;
        if self.length == self.frames.len() { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), FaultError> {
        let frames = &self.frames[..self.length];
        let result = if frames.is_empty() {
            Ok(0)
        } else {
            paging::map(self.space.root(), self.start, frames, self.rights)
        };
        let mapped = result.unwrap_or(0);
        self.space.count_mapped(u64::from(mapped.count_ones()));
        for (index, &frame) in frames.iter().enumerate() {
            if mapped & 1 << index == 0 {
                put_mapped(frame);
            }
        }
        self.length = 0;
        result.map(drop).map_err(|_| FaultError::OutOfMemory)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        for &frame in &self.frames[..self.length] {
            put_mapped(frame);
        }
    }
}
