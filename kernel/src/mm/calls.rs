//! System calls about memory.

use alloc::sync::Arc;

use platform::{PAGE_SIZE, Protection, VirtAddr};

use super::space::{AddressSpace, Backing, MapPlace, MapRequest, Moving, checked_range};
use super::vma::{UserRange, VmaFlags};
use super::{UserAddr, frames};
use crate::errno::{Errno, KResult};
use crate::fs::regular::MAX_FILE_SIZE;
use crate::process::{Resource, current};
use crate::syscall::{Call, Handler, SysResult, numbers as nr};

/// This subsystem's system calls.
pub const SYSTEM_CALLS: &[(usize, Handler)] = &[
    (nr::MMAP, mmap),
    (nr::MUNMAP, munmap),
    (nr::MPROTECT, mprotect),
    (nr::MREMAP, mremap),
    (nr::BRK, brk),
    (nr::MADVISE, madvise),
    (nr::MSYNC, msync),
    (nr::MINCORE, mincore),
    (nr::MLOCK, mlock),
    (nr::MLOCK2, mlock),
    (nr::MUNLOCK, munlock),
    (nr::MLOCKALL, nothing),
    (nr::MUNLOCKALL, nothing),
];

const MAP_SHARED: u32 = 0x01;
const MAP_PRIVATE: u32 = 0x02;
const MAP_SHARED_VALIDATE: u32 = 0x03;
const MAP_TYPE: u32 = 0x0f;
const MAP_FIXED: u32 = 0x10;
const MAP_ANONYMOUS: u32 = 0x20;
const MAP_NORESERVE: u32 = 0x4000;
const MAP_POPULATE: u32 = 0x8000;
const MAP_FIXED_NOREPLACE: u32 = 0x10_0000;

/// The running task's address space.
fn space() -> KResult<Arc<AddressSpace>> {
    current().space().cloned().ok_or(Errno::ESRCH)
}

fn protection(bits: u32) -> KResult<Protection> {
    const PROT_GROWS: u32 = 0x0100_0000 | 0x0200_0000;
    const PROT_SEM: u32 = 8;
    let bits = bits & !(PROT_GROWS | PROT_SEM);
    match u8::try_from(bits).ok().and_then(Protection::from_bits) {
        Some(protection) if !protection.contains(Protection::USER) => Ok(protection),
        _ => Err(Errno::EINVAL),
    }
}

fn mmap(call: &mut Call<'_>) -> SysResult {
    let (address, length) = (call.user(0), call.raw(1));
    let protection = protection(call.uint(2))?;
    let (flags, offset) = (call.uint(3), call.raw(5));
    if length == 0 || !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let shared = match flags & MAP_TYPE {
        MAP_SHARED | MAP_SHARED_VALIDATE => true,
        MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    let mut properties = if shared { VmaFlags::SHARED } else { VmaFlags::empty() };
    let backing = if flags & MAP_ANONYMOUS != 0 {
        if !shared {
            Backing::Anonymous
        } else {
            Backing::File { file: crate::fs::shared_memory(length)?, offset: 0 }
        }
    } else {
        let mapping = crate::fs::map_file(call.int(4), shared, protection)?;
        if offset.checked_add(length).is_none_or(|end| end > MAX_FILE_SIZE) {
            return Err(Errno::EOVERFLOW);
        }
        if shared && !mapping.may_write {
            properties |= VmaFlags::NEVER_WRITABLE;
        }
        Backing::File { file: mapping.file, offset }
    };
    let private_writable = !shared && protection.contains(Protection::WRITE);
    if private_writable && flags & MAP_NORESERVE == 0 && frames::can_never_hold(length) {
        return Err(Errno::ENOMEM);
    }
    let place = if flags & MAP_FIXED_NOREPLACE != 0 {
        MapPlace::IfFree(VirtAddr(address.0))
    } else if flags & MAP_FIXED != 0 {
        MapPlace::Replace(VirtAddr(address.0))
    } else {
        MapPlace::Anywhere(VirtAddr(address.0))
    };
    let space = space()?;
    check_limit(&space, length)?;
    let at = space.map(MapRequest { place, length, protection, flags: properties, backing })?;
    if flags & MAP_POPULATE != 0 {
        populate(&space, at, length, protection);
    }
    Ok(at.0)
}

/// RLIMIT_AS.
fn check_limit(space: &AddressSpace, more: u64) -> KResult<()> {
    let limit = current().process.limits.lock().get(Resource::AddressSpace).soft;
    if limit != u64::MAX && space.layout().vmas.mapped_bytes().saturating_add(more) > limit {
        return Err(Errno::ENOMEM);
    }
    Ok(())
}

/// Touches pages ahead, as far as that goes.
fn populate(space: &AddressSpace, start: UserAddr, length: u64, protection: Protection) {
    let access = if protection.contains(Protection::WRITE) {
        platform::Access::WRITE
    } else {
        platform::Access::empty()
    };
    let mut offset = 0;
    while offset < length && space.fault(VirtAddr(start.0 + offset), access | platform::Access::USER).is_ok()
    {
        offset += PAGE_SIZE;
    }
}

fn munmap(call: &mut Call<'_>) -> SysResult {
    let range = checked_range(call.user(0), call.raw(1)).map_err(|_| Errno::EINVAL)?.ok_or(Errno::EINVAL)?;
    space()?.unmap(range)?;
    Ok(0)
}

fn mprotect(call: &mut Call<'_>) -> SysResult {
    let protection = protection(call.uint(2))?;
    let Some(range) = checked_range(call.user(0), call.raw(1))? else { return Ok(0) };
    space()?.protect(range, protection)?;
    Ok(0)
}

fn mremap(call: &mut Call<'_>) -> SysResult {
    const MREMAP_MAYMOVE: u32 = 1;
    const MREMAP_FIXED: u32 = 2;
    let (old_length, new_length, flags) = (call.raw(1), call.raw(2), call.uint(3));
    let known = flags & !(MREMAP_MAYMOVE | MREMAP_FIXED) == 0;
    if !known || new_length == 0 || (flags & MREMAP_FIXED != 0 && flags & MREMAP_MAYMOVE == 0) {
        return Err(Errno::EINVAL);
    }
    let old = checked_range(call.user(0), old_length).map_err(|_| Errno::EINVAL)?.ok_or(Errno::EINVAL)?;
    let moving = if flags & MREMAP_FIXED != 0 {
        let target =
            checked_range(call.user(4), new_length).map_err(|_| Errno::EINVAL)?.ok_or(Errno::EINVAL)?;
        if target.start() < old.end() && old.start() < target.end() {
            return Err(Errno::EINVAL);
        }
        Moving::To(VirtAddr(target.start()))
    } else if flags & MREMAP_MAYMOVE != 0 {
        Moving::Anywhere
    } else {
        Moving::Stay
    };
    let space = space()?;
    check_limit(&space, new_length.saturating_sub(old.size()))?;
    Ok(space.remap(old, new_length, moving)?.0)
}

fn brk(call: &mut Call<'_>) -> SysResult {
    let limit = current().process.limits.lock().get(Resource::Data).soft;
    Ok(space()?.set_brk(VirtAddr(call.raw(0)), limit).0)
}

fn madvise(call: &mut Call<'_>) -> SysResult {
    const DONTNEED: i32 = 4;
    const FREE: i32 = 8;
    const DONTFORK: i32 = 10;
    const DOFORK: i32 = 11;
    const WIPEONFORK: i32 = 18;
    const KEEPONFORK: i32 = 19;
    const POPULATE_READ: i32 = 22;
    const POPULATE_WRITE: i32 = 23;
    // Advice without effect here: normal, random, sequential, willneed, (un)mergeable, (no)hugepage, (do/dont)dump, cold, pageout.
    const IGNORED: [i32; 12] = [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 20, 21];
    let advice = call.int(2);
    let Some(range) = checked_range(call.user(0), call.raw(1))? else { return Ok(0) };
    let space = space()?;
    let flags = |set, clear| space.layout().vmas.set_flags(range, set, clear).map_err(Errno::from);
    match advice {
        DONTNEED | FREE => space.discard(range)?,
        DONTFORK => flags(VmaFlags::NOT_INHERITED, VmaFlags::empty())?,
        DOFORK => flags(VmaFlags::empty(), VmaFlags::NOT_INHERITED)?,
        WIPEONFORK => flags(VmaFlags::WIPED_ON_FORK, VmaFlags::empty())?,
        KEEPONFORK => flags(VmaFlags::empty(), VmaFlags::WIPED_ON_FORK)?,
        POPULATE_READ | POPULATE_WRITE => {
            let rights = if advice == POPULATE_WRITE { Protection::WRITE } else { Protection::READ };
            covered(&space, range)?;
            populate(&space, UserAddr(range.start()), range.size(), rights);
        }
        other if IGNORED.contains(&other) => covered(&space, range)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn covered(space: &AddressSpace, range: UserRange) -> KResult<()> {
    if space.layout().vmas.covers(range) { Ok(()) } else { Err(Errno::ENOMEM) }
}

fn msync(call: &mut Call<'_>) -> SysResult {
    const MS_ASYNC: u32 = 1;
    const MS_INVALIDATE: u32 = 2;
    const MS_SYNC: u32 = 4;
    let flags = call.uint(2);
    let both = MS_ASYNC | MS_SYNC;
    if flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let Some(range) = checked_range(call.user(0), call.raw(1))? else { return Ok(0) };
    // Files live in memory: a shared mapping is the file.
    covered(&*space()?, range)?;
    Ok(0)
}

fn mincore(call: &mut Call<'_>) -> SysResult {
    let Some(range) = checked_range(call.user(0), call.raw(1))? else { return Ok(0) };
    let to = call.user(2);
    let pages = range.size() / PAGE_SIZE;
    to.check(pages as usize)?;
    let space = space()?;
    covered(&space, range)?;
    for index in 0..pages {
        let present = space.is_resident(VirtAddr(range.start() + index * PAGE_SIZE));
        to.offset(index).write(&u8::from(present))?;
    }
    Ok(0)
}

fn mlock(call: &mut Call<'_>) -> SysResult {
    lock_range(call, VmaFlags::LOCKED, VmaFlags::empty())
}

fn munlock(call: &mut Call<'_>) -> SysResult {
    lock_range(call, VmaFlags::empty(), VmaFlags::LOCKED)
}

fn lock_range(call: &Call<'_>, set: VmaFlags, clear: VmaFlags) -> SysResult {
    let start = UserAddr(call.raw(0) & !(PAGE_SIZE - 1));
    let length = call.raw(1).checked_add(call.raw(0) - start.0).ok_or(Errno::EINVAL)?;
    let Some(range) = checked_range(start, length)? else { return Ok(0) };
    let space = space()?;
    space.layout().vmas.set_flags(range, set, clear)?;
    if !set.is_empty() {
        populate(&space, UserAddr(range.start()), range.size(), Protection::READ);
    }
    Ok(0)
}

/// Nothing is ever swapped out.
fn nothing(_: &mut Call<'_>) -> SysResult {
    Ok(0)
}
