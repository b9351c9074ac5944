//! This backend's words of [`platform::CpuLocal`], and how code reaches them: by GS.

use core::arch::asm;
use core::mem::offset_of;

use platform::{CpuId, CpuLocal, VirtAddr};

use crate::machine::Machine;

/// A word of [`CpuLocal::platform`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Word {
    /// User mode's RSP, for the first instructions of a system call.
    UserStack = 0,
    /// Where a system call starts to push: eight below [`CpuLocal::kernel_stack`], so that the stack is aligned once the
    /// registers are on it.
    SystemCallStack = 1,
    /// Address of this CPU's task state segment.
    TaskState = 2,
    /// The deadline the kernel set, in nanoseconds; `u64::MAX` for none.
    Deadline = 3,
    /// When the timer's hardware will interrupt next, in nanoseconds; `u64::MAX` for never.
    Programmed = 4,
    /// What the APIC's destination register holds (xAPIC only).
    Destination = 5,
}

/// Words of [`CpuLocal::platform`] that are used; the others are for machines that need some.
pub const PLATFORM_WORDS_USED: usize = Word::Destination as usize + 1;

/// Offset of a word from GS:0.
pub const fn offset(word: Word) -> usize {
    offset_of!(CpuLocal, platform) + 8 * word as usize
}

macro_rules! word_access {
    ($($word:ident),*) => {
        /// Reads a word of the current CPU.
        #[inline(always)]
        pub fn read(word: Word) -> u64 {
            let value;
            match word {
                $(Word::$word => {
                    // SAFETY: GS:0 is this CPU's `CpuLocal`.
                    unsafe {
                        asm!("mov {}, gs:[{}]", out(reg) value, const offset(Word::$word),
                             options(nostack, preserves_flags, readonly));
                    }
                })*
            }
            value
        }

        /// Writes a word of the current CPU.
        #[inline(always)]
        pub fn write(word: Word, value: u64) {
            match word {
                $(Word::$word => {
                    // SAFETY: GS:0 is this CPU's `CpuLocal`, and the word is this backend's.
                    unsafe {
                        asm!("mov gs:[{}], {}", const offset(Word::$word), in(reg) value,
                             options(nostack, preserves_flags));
                    }
                })*
            }
        }
    };
}
word_access!(UserStack, SystemCallStack, TaskState, Deadline, Programmed, Destination);

/// Which CPU this is.
#[inline(always)]
pub fn current_cpu() -> CpuId {
    let cpu: u32;
    // SAFETY: GS:0 is this CPU's `CpuLocal`.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) cpu, const offset_of!(CpuLocal, cpu),
             options(nostack, preserves_flags, readonly));
    }
    CpuId(cpu)
}

/// Sets the stack of the next entry from user mode.
#[inline(always)]
pub fn set_kernel_stack<M: Machine>(top: VirtAddr) {
    // SAFETY: GS:0 is this CPU's `CpuLocal`.
    unsafe {
        asm!("mov gs:[{}], {}", const offset_of!(CpuLocal, kernel_stack), in(reg) top.0,
             options(nostack, preserves_flags));
    }
    write(Word::SystemCallStack, top.0 - 8);
    // SAFETY: the word was set to this CPU's task state segment when GS was.
    unsafe { M::set_kernel_stack(read(Word::TaskState), top) };
}
