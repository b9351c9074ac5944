//! Memory for extended registers.

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use platform::{ExtendedState, VirtAddr};
use spin::Once;

use crate::hook::cpu;

/// Room for one task's x87, SSE, AVX… registers.
pub struct ExtendedArea(NonNull<u8>);

// SAFETY: plain memory, owned.
unsafe impl Send for ExtendedArea {}
// SAFETY: reached only through `state`, by the task that owns it and the scheduler in turn.
unsafe impl Sync for ExtendedArea {}

/// Bytes of an area on this machine.
#[inline]
pub fn bytes() -> usize {
    cpu::extended_state_bytes()
}

/// Writes the state a new program starts with.
///
/// # Safety
/// `area` is writable for [`bytes`] bytes and 64-byte aligned.
#[inline]
pub unsafe fn reset(area: ExtendedState) {
    // SAFETY: the caller's promise.
    unsafe { cpu::init_extended(area) };
}

/// Saves this CPU's registers, which hold user state.
///
/// # Safety
/// As [`reset`].
#[inline(always)]
pub unsafe fn save(area: ExtendedState) {
    // SAFETY: the caller's promise.
    unsafe { cpu::save_extended(area) };
}

/// Loads this CPU's registers; false, and the registers as after [`reset`], if the CPU refuses the state.
///
/// # Safety
/// `area` is readable for [`bytes`] bytes and 64-byte aligned.
#[inline(always)]
pub unsafe fn load(area: ExtendedState) -> bool {
    // SAFETY: the caller's promise.
    unsafe { cpu::restore_extended(area) }
}

/// Gives this CPU's registers the state a new program starts with. `own` is the area of the task that runs.
///
/// # Safety
/// As [`reset`], for `own`. The registers are the running task's, and nothing saves them meanwhile.
pub unsafe fn load_fresh(own: ExtendedState) {
    /// The state itself: to load it is less work than to make it each time.
    static FRESH: Once<ExtendedArea> = Once::new();
    match FRESH.try_call_once(|| ExtendedArea::allocate().ok_or(())) {
        // SAFETY: the area was filled, and is never written again.
        Ok(fresh) => unsafe { load(fresh.state()) },
        // SAFETY: the caller's promise.
        Err(()) => unsafe {
            reset(own);
            load(own)
        },
    };
}

fn layout() -> Layout {
    match Layout::from_size_align(bytes(), 64) {
        Ok(layout) => layout,
        Err(_) => panic!("the platform asks for an impossible extended state"),
    }
}

impl ExtendedArea {
    /// An area that has yet to be filled; none if memory has run out.
    pub fn unfilled() -> Option<Self> {
        // SAFETY: the size is not zero on any platform.
        NonNull::new(unsafe { alloc(layout()) }).map(Self)
    }

    /// An area with the state a new program starts with; none if memory has run out.
    pub fn allocate() -> Option<Self> {
        let area = Self::unfilled()?;
        // SAFETY: the area has the size and alignment the platform asked for.
        unsafe { reset(area.state()) };
        Some(area)
    }

    /// For the platform.
    #[inline]
    pub fn state(&self) -> ExtendedState {
        ExtendedState(VirtAddr(self.0.as_ptr() as u64))
    }

    /// Its bytes. Not while a CPU saves to it.
    pub fn bytes_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the area has the platform's size, and is borrowed for as long as the slice lives.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_ptr().cast(), bytes()) }
    }

    /// Its bytes, for a copy. Not while a CPU saves to it.
    pub fn copy_from(&self, other: ExtendedState) {
        // SAFETY: both areas have the platform's size; the callers hold the tasks they belong to.
        unsafe {
            core::ptr::copy_nonoverlapping(other.0.as_ptr::<u8>(), self.0.as_ptr(), bytes());
        }
    }
}

impl Drop for ExtendedArea {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and no longer used.
        unsafe { dealloc(self.0.as_ptr(), layout()) };
    }
}
