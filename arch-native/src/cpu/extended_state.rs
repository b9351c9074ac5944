//! Which of the components that XSAVE knows are used.

use x86_64::registers::xcontrol::XCr0Flags;

use super::features::{Features, has};
use crate::machine::Machine;

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
    // What the CPU says of the size follows XCR0.
    arch_x86::extended_state::set(wanted, M::cpuid(0xd, 0).ebx, M::cpuid(0xd, 1).eax);
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
