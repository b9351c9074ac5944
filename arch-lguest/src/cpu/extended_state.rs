//! What of the extended state the host has enabled: it has chosen the components.

use core::arch::asm;

use crate::host;

/// CPUID leaf 1, ECX.
const OSXSAVE: u32 = 1 << 27;
const STATE_LEAF: u32 = 0xd;

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
    let [subleaf_1, ..] = host::cpuid(STATE_LEAF, 1);
    arch_x86::extended_state::set(u64::from(high) << 32 | u64::from(low), bytes, subleaf_1);
}
