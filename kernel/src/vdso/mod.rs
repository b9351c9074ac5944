//! The vDSO: a shared object the kernel maps into every program, through which the C library reads the clocks without
//! a system call, if the platform's clock can be read in user mode.
//!
//! Pages, from the lowest address up: the platform's clock data (if there is any), the kernel's data, the image. The
//! code in the image finds the others by their distance.

mod code;
mod elf;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use platform::{Nanoseconds, PAGE_SIZE, PhysFrame, Protection};

use crate::errno::{Errno, KResult};
use crate::hook::clock;
use crate::mm::{AddressSpace, UserAddr, direct, frames};
use crate::sync::Once;
use crate::time;

/// What the kernel tells the code in the image; alone on its page. The code knows the offsets.
#[repr(C)]
struct Data {
    /// Whether the platform's clock may be read; otherwise the code makes system calls.
    reads_clock: AtomicU32,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC in nanoseconds. One aligned word, so it is never seen half written.
    realtime_offset: AtomicU64,
}

const _: () = {
    assert!(core::mem::offset_of!(Data, reads_clock) == code::DATA_READS_CLOCK);
    assert!(core::mem::offset_of!(Data, realtime_offset) == code::DATA_REALTIME_OFFSET);
};

struct Vdso {
    clock: Option<PhysFrame>,
    data: PhysFrame,
    image: PhysFrame,
}

static VDSO: Once<Vdso> = Once::new();
static DATA: AtomicPtr<Data> = AtomicPtr::new(core::ptr::null_mut());

/// Makes the pages. Once, after discovery and when frames can be allocated. Without memory for them, programs run
/// without them.
pub fn init() {
    if let Err(error) = make() {
        log::warn!("there is no vDSO: {error}");
    }
}

fn make() -> KResult<()> {
    let user_clock = clock::user_clock().filter(|user_clock| {
        let fits = user_clock.code.len() <= code::CLOCK_ROOM;
        if !fits {
            log::warn!("the platform's code to read the clock is too long for the vDSO");
        }
        fits
    });
    let mut page = Box::new([0; PAGE_SIZE as usize]);
    elf::build(&mut page, user_clock.as_ref().map_or(&[], |user_clock| user_clock.code));
    let data = frames::allocate().ok_or(Errno::ENOMEM)?;
    let Some(image) = frames::allocate() else {
        frames::put(data);
        return Err(Errno::ENOMEM);
    };
    frames::clear(data);
    // SAFETY: the frame has just been allocated, and is RAM in the direct map.
    unsafe { direct(image.start()).as_mut_ptr::<[u8; PAGE_SIZE as usize]>().write(*page) };
    let at = direct(data.start()).as_mut_ptr::<Data>();
    // SAFETY: the frame belongs to this module for ever, is zero, which is a valid `Data`, and is changed only through
    // its atomics.
    let shared = unsafe { &*at };
    shared.reads_clock.store(user_clock.is_some().into(), Ordering::Relaxed);
    DATA.store(at, Ordering::Release);
    set_realtime_offset(time::realtime_offset());
    VDSO.call_once(|| Vdso { clock: user_clock.map(|user_clock| user_clock.data), data, image });
    Ok(())
}

/// The wall clock has been set, or found. Before [`init`] this does nothing.
pub fn set_realtime_offset(offset: Nanoseconds) {
    // SAFETY: null, or the page of `init`, which stays.
    if let Some(data) = unsafe { DATA.load(Ordering::Acquire).as_ref() } {
        data.realtime_offset.store(offset.0, Ordering::Relaxed);
    }
}

/// Maps the vDSO into a new program's memory. Returns where its ELF header is, for AT_SYSINFO_EHDR.
///
/// # Errors
/// ENOENT if there is none, or why it could not be mapped. A program runs without it too.
pub fn map(space: &AddressSpace) -> KResult<UserAddr> {
    let vdso = VDSO.get().ok_or(Errno::ENOENT)?;
    let data = (vdso.data, Protection::READ);
    let image = (vdso.image, Protection::READ | Protection::EXECUTE);
    match vdso.clock {
        Some(clock) => {
            let start = space.map_special(&[(clock, Protection::READ), data, image], "[vdso]")?;
            Ok(start.offset(2 * PAGE_SIZE))
        }
        None => Ok(space.map_special(&[data, image], "[vdso]")?.offset(PAGE_SIZE)),
    }
}
