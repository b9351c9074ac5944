//! The platform of a VMI hypervisor: a PC whose sensitive operations are the ROM's ([`Vmi`]).
//!
//! What the interface is, and what it means, is in `arch-vmi/ABI.md`. Each operation is a place in the kernel's text that
//! faults until it is patched ([`call`], [`arch_native::sensitive`]). Before anything else the ROM is found and checked
//! ([`probe`]), mapped and initialized ([`rom`]), and asked once for each call; then all places become what it answered
//! ([`patch`]): a direct call or jump, nothing, or the native instruction ([`native`]). After that there is no trace of
//! a table.
#![no_std]
#![warn(missing_docs)]
// On the build machine only the parts with no machine in them are built, for their tests.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

#[cfg(target_os = "none")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod native;
mod probe;

#[cfg(target_os = "none")]
mod call;
#[cfg(target_os = "none")]
mod cpus;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod patch;
#[cfg(target_os = "none")]
mod refuse;
#[cfg(target_os = "none")]
mod rom;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
mod time;

#[cfg(target_os = "none")]
pub use image::*;

#[cfg(target_os = "none")]
mod image {
    pub use arch_native::boot;

    pub use crate::machine::VmiMachine;

    /// The platform of a VMI hypervisor below the kernel `K`.
    pub type Vmi<K> = arch_native::Pc<K, VmiMachine>;
}

/// Makes the boot code enter the kernel `$kernel` (a [`platform::Kernel`]); once, in the executable.
#[macro_export]
macro_rules! boot_entry {
    ($kernel:ty) => {
        #[cfg(target_os = "none")]
        const _: () = {
            /// Called by the first 64-bit instructions.
            // SAFETY: the name is the boot code's own.
            #[unsafe(no_mangle)]
            extern "C" fn native_boot_entry(start_info: u64, first_tick: u64) -> ! {
                // SAFETY: the boot code calls once, with what the loader and the processor gave it.
                unsafe { $crate::boot::start::<$kernel, $crate::VmiMachine>(start_info, first_tick) }
            }
        };
    };
}
