//! What the auxiliary vector says about the machine.

use core::arch::x86_64::__cpuid;

use crate::mm::extended;
use crate::sync::Once;

/// What a signal's frame takes beside the extended registers: return address, `ucontext_t` and `siginfo_t`.
const SIGNAL_FRAME: u64 = 8 + 304 + 128;
/// Extended registers in a frame lie at a multiple of this.
const EXTENDED_ALIGNMENT: u64 = 64;
/// They end with a magic number.
const EXTENDED_END: u64 = 4;
/// What the frame itself is a multiple of.
const FRAME_ALIGNMENT: u64 = 16;

/// Facts that are the same for every program.
#[derive(Clone, Copy, Debug)]
pub struct MachineFacts {
    /// `AT_HWCAP`: EDX of CPUID leaf 1.
    pub hardware: u64,
    /// `AT_MINSIGSTKSZ`: the least bytes a stack for signals needs.
    pub signal_stack: u64,
}

/// The facts about this machine. CPUID may be slow (a hypervisor answers it), so it is asked once.
pub fn machine_facts() -> MachineFacts {
    static FACTS: Once<MachineFacts> = Once::new();
    *FACTS.call_once(|| {
        let extended = extended::bytes() as u64 + EXTENDED_END + EXTENDED_ALIGNMENT;
        MachineFacts {
            hardware: u64::from(__cpuid(1).edx),
            signal_stack: (SIGNAL_FRAME + extended).next_multiple_of(FRAME_ALIGNMENT),
        }
    })
}
