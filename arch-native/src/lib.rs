//! The platform of a bare x86-64 PC: [`Native`].
//!
//! The kernel's executable names its upcalls once, with [`boot_entry`]; the loader enters here by PVH, and
//! [`platform::Kernel::boot`] follows in 64-bit mode with everything [`platform::BootInfo`] promises.
#![no_std]
#![warn(missing_docs)]
// On the build machine the boot code, which uses much of this, is left out.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

#[cfg(target_os = "none")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod boot;
mod console;
mod cpu;
mod firmware;
mod interrupts;
mod irq;
mod layout;
mod paging;
mod power;
mod smp;
mod time;
mod trap;

use core::marker::PhantomData;

use platform::Kernel;

pub use boot::NativeBoot;
pub use console::NativeConsole;
pub use cpu::NativeCpu;
pub use interrupts::NativeInterrupts;
pub use paging::NativePaging;
pub use power::NativePower;
pub use smp::NativeSmp;
pub use time::{NativeClock, NativeTimer};

/// A bare PC below the kernel `K`.
#[derive(Debug)]
pub struct Native<K>(PhantomData<K>);

impl<K: Kernel> platform::Platform for Native<K> {
    const NAME: &'static str = "native";
    type Cpu = NativeCpu<K>;
    type Paging = NativePaging<K>;
    type Interrupts = NativeInterrupts<K>;
    type Clock = NativeClock<K>;
    type Timer = NativeTimer<K>;
    type Smp = NativeSmp<K>;
    type Console = NativeConsole<K>;
    type Power = NativePower<K>;
    type Boot = NativeBoot<K>;
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
                unsafe { $crate::boot::start::<$kernel>(start_info, first_tick) }
            }
        };
    };
}
