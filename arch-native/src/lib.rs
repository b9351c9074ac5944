//! The platform of an x86-64 PC, generic over how its sensitive operations are done: [`Pc`]; of a bare one: [`Native`].
//!
//! [`machine::Machine`] lists those operations. Everything else here, from the entry points to ACPI, is the same where a
//! hypervisor shows its guests a PC and wants to be called for them.
//!
//! The kernel's executable names its upcalls once, with [`boot_entry`]; the loader enters here by PVH, and
//! [`platform::Kernel::boot`] follows in 64-bit mode with everything [`platform::BootInfo`] promises.
#![no_std]
#![warn(missing_docs)]
// On the build machine the boot code, which uses much of this, is left out.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod bare;
pub mod boot;
mod console;
pub mod cpu;
mod firmware;
pub mod interrupts;
pub mod irq;
pub mod layout;
pub mod machine;
pub mod paging;
pub mod power;
pub mod sensitive;
mod smp;
pub mod time;
mod trap;

use core::marker::PhantomData;

use machine::Machine;
use platform::Kernel;

pub use bare::Bare;
pub use boot::PcBoot;
pub use console::PcConsole;
pub use cpu::PcCpu;
pub use interrupts::PcInterrupts;
pub use paging::PcPaging;
pub use power::PcPower;
pub use smp::PcSmp;
pub use time::{PcClock, PcTimer};

/// A PC below the kernel `K`, whose sensitive operations are done as `M` does them.
#[derive(Debug)]
pub struct Pc<K, M>(PhantomData<(K, M)>);

/// A bare PC.
pub type Native<K> = Pc<K, Bare>;

impl<K: Kernel, M: Machine> platform::Platform for Pc<K, M> {
    const NAME: &'static str = M::NAME;
    type Cpu = PcCpu<K, M>;
    type Paging = PcPaging<K, M>;
    type Interrupts = PcInterrupts<K, M>;
    type Clock = PcClock<K, M>;
    type Timer = PcTimer<K, M>;
    type Smp = PcSmp<K, M>;
    type Console = PcConsole<K, M>;
    type Power = PcPower<K, M>;
    type Boot = PcBoot<K, M>;
}

/// Makes the boot code enter the kernel `$kernel` (a [`platform::Kernel`]); once, in the executable.
#[macro_export]
macro_rules! boot_entry {
    ($kernel:ty) => {
        #[cfg(target_os = "none")]
        const _: () = {
            /// Called by the first 64-bit instructions.
            // SAFETY: the name is this backend's own.
            #[unsafe(no_mangle)]
            extern "C" fn native_boot_entry(start_info: u64, first_tick: u64) -> ! {
                // SAFETY: the boot code calls once, with what the loader and the processor gave it.
                unsafe { $crate::boot::start::<$kernel, $crate::Bare>(start_info, first_tick) }
            }
        };
    };
}
