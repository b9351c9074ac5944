//! The platform of an x86-64 PC, generic over how its sensitive operations are done: [`Pc`]; of a bare one: [`Native`].
//!
//! [`machine::Machine`] lists those operations, and [`Bare`] does them by the bare instructions. Everything else here, from
//! the entry points to ACPI, is the same where a hypervisor shows its guests a PC and wants to be called for them.
//!
//! The kernel's executable names its upcalls once, with [`boot_entry`]; the loader enters here by PVH, and
//! [`platform::Kernel::boot`] follows in 64-bit mode with everything [`platform::BootInfo`] promises.
//!
//! What has no PC in it (table entries and walks, the layout of the upper half, the memory map, the first tables, the
//! time stamp counter as a clock) is public, for backends that share it; without the feature `pc` there is nothing else.
#![no_std]
#![warn(missing_docs)]
// On the build machine the boot code, which uses much of this, is left out.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

#[cfg(feature = "pc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod boot;
pub mod layout;
pub mod paging;
pub mod time;

#[cfg(feature = "pc")]
mod bare;
#[cfg(feature = "pc")]
mod console;
#[cfg(feature = "pc")]
pub mod cpu;
#[cfg(feature = "pc")]
mod devices;
#[cfg(feature = "pc")]
mod firmware;
#[cfg(feature = "pc")]
pub mod interrupts;
#[cfg(feature = "pc")]
pub mod irq;
#[cfg(feature = "pc")]
pub mod machine;
#[cfg(feature = "pc")]
mod pc;
#[cfg(feature = "pc")]
pub mod power;
#[cfg(feature = "pc")]
pub mod sensitive;
#[cfg(feature = "pc")]
mod smp;
#[cfg(feature = "pc")]
mod trap;

#[cfg(feature = "pc")]
pub use pc::{
    Bare, Native, Pc, PcBoot, PcClock, PcConsole, PcCpu, PcDevices, PcInterrupts, PcPaging, PcPower, PcSmp,
    PcTimer,
};

#[cfg(feature = "pc")]
pub use trap::entry::is_user_return as is_recorded_user_return;

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
