//! x87, SSE, AVX and what else XSAVE knows.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use platform::ExtendedState;
use x86_64::registers::xcontrol::XCr0Flags;

use super::features::{Features, cpuid, has};
use crate::machine::Machine;

/// XCR0: what is saved and restored; zero without XSAVE.
static COMPONENTS: AtomicU64 = AtomicU64::new(0);
/// Size of the area.
static BYTES: AtomicU32 = AtomicU32::new(512);

/// Offsets in the legacy area (Intel SDM vol. 1, table 10-2) and its values after `fninit`.
const CONTROL_WORD: (usize, u16) = (0, 0x37f);
const MXCSR: (usize, u32) = (24, 0x1f80);

/// Chooses components and enables them on this CPU.
pub fn enable<M: Machine>() {
    if !has(Features::XSAVE) {
        return;
    }
    let leaf = M::cpuid(0xd, 0);
    let supported = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    let wanted = choose(supported);
    // SAFETY: XSAVE is there and enabled in CR4; the combination is one the CPU supports.
    unsafe { M::set_xcr0(wanted) };
    COMPONENTS.store(wanted, Relaxed);
    // What the CPU says of the size follows XCR0.
    if let Some(state) = cpuid::<M>().get_extended_state_info() {
        BYTES.store(state.xsave_area_size_enabled_features(), Relaxed);
    }
}

/// x87 and SSE, then AVX and AVX-512 as far as they are complete.
fn choose(supported: u64) -> u64 {
    let base = (XCr0Flags::X87 | XCr0Flags::SSE).bits();
    let avx = XCr0Flags::AVX.bits();
    let avx512 = (XCr0Flags::OPMASK | XCr0Flags::ZMM_HI256 | XCr0Flags::HI16_ZMM).bits();
    let mut chosen = base;
    if supported & avx != 0 {
        chosen |= avx;
        if supported & avx512 == avx512 {
            chosen |= avx512;
        }
    }
    chosen
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
        if has(Features::XSAVEOPT) {
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
#[cfg(target_os = "none")]
#[inline]
pub unsafe fn restore(area: ExtendedState) -> bool {
    use expected_faults::{native_restore_fxsave, native_restore_xsave};

    let mask = COMPONENTS.load(Relaxed);
    // SAFETY: the caller promised an aligned area of `bytes()` bytes; a refusal by the CPU comes back as false.
    let restored = unsafe {
        if mask != 0 { native_restore_xsave(area.0.0, mask) } else { native_restore_fxsave(area.0.0) }
    };
    if !restored {
        reset();
    }
    restored
}

/// # Safety
/// See [`platform::Cpu::restore_extended`].
#[cfg(not(target_os = "none"))]
pub unsafe fn restore(_: ExtendedState) -> bool {
    unreachable!("runs on the bare machine only")
}

#[cfg(target_os = "none")]
mod expected_faults {
    //! Instructions that refuse what a program may have written.

    unsafe extern "C" {
        pub fn native_restore_xsave(area: u64, mask: u64) -> bool;
        pub fn native_restore_fxsave(area: u64) -> bool;
        static native_xrstor: u8;
        static native_xrstor_failed: u8;
        static native_fxrstor: u8;
    }

    core::arch::global_asm!(
        ".pushsection .text.native_restore, \"ax\", @progbits",
        ".globl native_restore_xsave, native_restore_fxsave, native_xrstor, native_fxrstor, native_xrstor_failed",
        ".balign 16",
        "native_restore_xsave:",
        "mov eax, esi",
        "mov rdx, rsi",
        "shr rdx, 32",
        "native_xrstor:",
        "xrstor64 [rdi]",
        "mov eax, 1",
        "ret",
        ".balign 16",
        "native_restore_fxsave:",
        "native_fxrstor:",
        "fxrstor64 [rdi]",
        "mov eax, 1",
        "ret",
        "native_xrstor_failed:",
        "xor eax, eax",
        "ret",
        ".popsection",
    );

    /// Where code goes on whose fault at `rip` is expected.
    #[inline]
    pub fn continuation(rip: u64) -> Option<u64> {
        let expected = rip == &raw const native_xrstor as u64 || rip == &raw const native_fxrstor as u64;
        expected.then_some(&raw const native_xrstor_failed as u64)
    }
}

#[cfg(not(target_os = "none"))]
mod expected_faults {
    //! On the build machine nothing of this runs.

    pub fn continuation(_: u64) -> Option<u64> {
        None
    }
}

pub(crate) use expected_faults::continuation;

/// Loads the state a new program starts with.
#[cfg(target_os = "none")]
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
    let mask = COMPONENTS.load(Relaxed);
    // SAFETY: the area is aligned, and its header says that nothing beyond it is to be read.
    unsafe {
        if mask != 0 {
            asm!("xrstor64 [{}]", in(reg) &INITIAL, in("eax") mask as u32, in("edx") (mask >> 32) as u32,
                 options(nostack, preserves_flags));
        } else {
            asm!("fxrstor64 [{}]", in(reg) &INITIAL, options(nostack, preserves_flags));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn components_come_in_complete_groups() {
        assert_eq!(choose(0b11), 0b11);
        assert_eq!(choose(0b111), 0b111);
        assert_eq!(choose(0b0110_0111), 0b111, "AVX-512 without its masks");
        assert_eq!(choose(0b1110_0111), 0b1110_0111);
        assert_eq!(choose(0b1110_0011), 0b11, "AVX-512 without AVX");
        assert_eq!(choose(u64::MAX), 0b1110_0111);
    }
}
