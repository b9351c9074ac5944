//! x87, SSE, AVX and what else XSAVE knows. The host has chosen the components, and its instructions work in either mode.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use platform::ExtendedState;

use crate::host;

/// XCR0: what is saved and restored; zero without XSAVE.
static COMPONENTS: AtomicU64 = AtomicU64::new(0);
/// Size of the area.
static BYTES: AtomicU32 = AtomicU32::new(LEGACY_BYTES);
/// Whether there is XSAVEOPT.
static OPTIMIZED: AtomicBool = AtomicBool::new(false);

const LEGACY_BYTES: u32 = 512;
/// CPUID leaf 1, ECX.
const OSXSAVE: u32 = 1 << 27;
const STATE_LEAF: u32 = 0xd;
/// CPUID leaf 0xD, subleaf 1, EAX.
const XSAVEOPT: u32 = 1 << 0;

/// Offsets in the legacy area (Intel SDM vol. 1, table 10-2) and its values after `fninit`.
const CONTROL_WORD: (usize, u16) = (0, 0x37f);
const MXCSR: (usize, u32) = (24, 0x1f80);

/// Finds what the host has enabled.
pub fn discover() {
    let [_, _, basic, _] = host::cpuid(1, 0);
    if basic & OSXSAVE == 0 {
        return;
    }
    let (low, high): (u32, u32);
    // SAFETY: the host says that the instruction is enabled; it only reads.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    let [_, bytes, _, _] = host::cpuid(STATE_LEAF, 0);
    let [optimized, ..] = host::cpuid(STATE_LEAF, 1);
    COMPONENTS.store(u64::from(high) << 32 | u64::from(low), Relaxed);
    BYTES.store(bytes, Relaxed);
    OPTIMIZED.store(optimized & XSAVEOPT != 0, Relaxed);
}

/// Bytes of an area.
#[inline]
pub fn bytes() -> usize {
    BYTES.load(Relaxed) as usize
}

/// # Safety
/// See [`platform::Cpu::init_extended`].
#[inline]
pub unsafe fn init(area: ExtendedState) {
    let start = area.0.as_mut_ptr::<u8>();
    // SAFETY: the caller promised `bytes()` bytes.
    unsafe {
        start.write_bytes(0, bytes());
        start.add(CONTROL_WORD.0).cast::<u16>().write(CONTROL_WORD.1);
        start.add(MXCSR.0).cast::<u32>().write(MXCSR.1);
    }
}

/// # Safety
/// See [`platform::Cpu::save_extended`].
#[inline]
pub unsafe fn save(area: ExtendedState) {
    let start = area.0.0;
    let mask = COMPONENTS.load(Relaxed);
    let (low, high) = (mask as u32, (mask >> 32) as u32);
    // SAFETY: the caller promised an aligned area of `bytes()` bytes; the instructions exist.
    unsafe {
        if OPTIMIZED.load(Relaxed) {
            asm!("xsaveopt64 [{}]", in(reg) start, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        } else if mask != 0 {
            asm!("xsave64 [{}]", in(reg) start, in("eax") low, in("edx") high, options(nostack, preserves_flags));
        } else {
            asm!("fxsave64 [{}]", in(reg) start, options(nostack, preserves_flags));
        }
    }
}

/// # Safety
/// See [`platform::Cpu::restore_extended`].
#[inline]
pub unsafe fn restore(area: ExtendedState) -> bool {
    let mask = COMPONENTS.load(Relaxed);
    // SAFETY: the caller promised an aligned area of `bytes()` bytes; a refusal by the CPU comes back as false.
    let restored = unsafe { crate::trap::entry::restore_extended(area.0.0, mask) };
    if !restored {
        reset();
    }
    restored
}

/// Loads the state a new program starts with.
#[cold]
fn reset() {
    /// An initial state in which every component is at its reset value.
    #[repr(C, align(64))]
    struct Initial([u16; 288]);
    static INITIAL: Initial = {
        let mut words = [0; 288];
        words[CONTROL_WORD.0 / 2] = CONTROL_WORD.1;
        words[MXCSR.0 / 2] = MXCSR.1 as u16;
        Initial(words)
    };
    // SAFETY: the area is aligned, and its header says that nothing beyond it is to be read; it is not refused.
    unsafe { crate::trap::entry::restore_extended(&raw const INITIAL as u64, COMPONENTS.load(Relaxed)) };
}
