//! x87, SSE, AVX and what else XSAVE knows. Who owns XCR0 chooses the components ([`set`]); the instructions work in any
//! mode.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use platform::ExtendedState;

/// XCR0: what is saved and restored; zero without XSAVE.
static COMPONENTS: AtomicU64 = AtomicU64::new(0);
/// Size of the area.
static BYTES: AtomicU32 = AtomicU32::new(LEGACY_BYTES);
/// Whether there is XSAVEOPT.
static OPTIMIZED: AtomicBool = AtomicBool::new(false);

const LEGACY_BYTES: u32 = 512;
/// CPUID leaf 0xD, subleaf 1, EAX.
const XSAVEOPT: u32 = 1 << 0;

/// Offsets in the legacy area (Intel SDM vol. 1, table 10-2) and its values after `fninit`.
const CONTROL_WORD: (usize, u16) = (0, 0x37f);
const MXCSR: (usize, u32) = (24, 0x1f80);

/// Remembers XCR0, the size that CPUID's leaf 0xD gives for it (EBX), and what its subleaf 1 says (EAX). Without that there
/// is no XSAVE.
pub fn set(components: u64, bytes: u32, subleaf_1: u32) {
    COMPONENTS.store(components, Relaxed);
    BYTES.store(bytes, Relaxed);
    OPTIMIZED.store(subleaf_1 & XSAVEOPT != 0, Relaxed);
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
    // SAFETY: the caller promised an aligned area of `bytes()` bytes; a refusal by the CPU comes back as false.
    let restored = unsafe { expected_faults::load(area.0.0, COMPONENTS.load(Relaxed)) };
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
    unsafe { expected_faults::load(&raw const INITIAL as u64, COMPONENTS.load(Relaxed)) };
}

#[cfg(target_os = "none")]
mod expected_faults {
    //! Instructions that refuse what a program may have written.

    unsafe extern "C" {
        fn x86_restore_xsave(area: u64, mask: u64) -> bool;
        fn x86_restore_fxsave(area: u64) -> bool;
        static x86_xrstor: u8;
        static x86_xrstor_failed: u8;
        static x86_fxrstor: u8;
    }

    core::arch::global_asm!(
        ".pushsection .text.x86_restore, \"ax\", @progbits",
        ".globl x86_restore_xsave, x86_restore_fxsave, x86_xrstor, x86_fxrstor, x86_xrstor_failed",
        ".balign 16",
        "x86_restore_xsave:",
        "mov eax, esi",
        "mov rdx, rsi",
        "shr rdx, 32",
        "x86_xrstor:",
        "xrstor64 [rdi]",
        "mov eax, 1",
        "ret",
        ".balign 16",
        "x86_restore_fxsave:",
        "x86_fxrstor:",
        "fxrstor64 [rdi]",
        "mov eax, 1",
        "ret",
        "x86_xrstor_failed:",
        "xor eax, eax",
        "ret",
        ".popsection",
    );

    /// Loads extended registers, the components of `mask` or without XSAVE all there are; false if the CPU refuses.
    ///
    /// # Safety
    /// `area` is the address of such a save area, aligned to 64.
    #[inline]
    pub unsafe fn load(area: u64, mask: u64) -> bool {
        // SAFETY: as the caller promised.
        unsafe { if mask != 0 { x86_restore_xsave(area, mask) } else { x86_restore_fxsave(area) } }
    }

    /// Where code goes on whose fault at `rip` is expected.
    #[inline]
    pub fn continuation(rip: u64) -> Option<u64> {
        let expected = rip == &raw const x86_xrstor as u64 || rip == &raw const x86_fxrstor as u64;
        expected.then_some(&raw const x86_xrstor_failed as u64)
    }
}

#[cfg(not(target_os = "none"))]
mod expected_faults {
    //! On the build machine nothing of this runs.

    /// # Safety
    /// Never called.
    pub unsafe fn load(_: u64, _: u64) -> bool {
        unreachable!("runs on the target only")
    }

    /// No code's fault is expected.
    pub fn continuation(_: u64) -> Option<u64> {
        None
    }
}

pub use expected_faults::continuation;
