//! The platform of an lguest guest: [`Lguest`].
//!
//! The kernel and its programs both run at CPL 3, under the hypervisor in `host/`; `ABI.md` describes what passes between
//! them. What a PC does with privileged instructions is here a store to the page shared with the host ([`data`]), a call
//! to it ([`host`]), or an entry of a queue of calls that it works off at the next occasion ([`ring`]).
//!
//! A guest has one virtual CPU, as lguest's always had. So the shared page and the few words beside it are statics.
//!
//! # Translations
//! The guest writes its tables as a PC does; the host's shadow of them is a translation buffer of any size. Whatever takes
//! something away is announced through the ring, and nothing waits for that: the ring is run before anything could use
//! what is stale. That is a return to user mode, where the host runs it by itself; and an access of the kernel's own to
//! user memory ([`platform::Cpu::user_access_begin`], and returns from faults in the midst of one). For the same reason
//! a change of address space is one entry of the ring.
#![no_std]
#![warn(missing_docs)]
// On the build machine the boot code, which uses much of this, is left out.
#![cfg_attr(not(target_os = "none"), allow(dead_code))]

pub mod boot;
mod console;
mod cpu;
mod data;
mod devices;
mod host;
mod interrupts;
mod irq;
mod paging;
mod power;
mod ring;
mod smp;
mod time;
mod trap;

use core::marker::PhantomData;

use platform::{DeviceBus, Kernel};

pub use boot::LguestBoot;
pub use console::LguestConsole;
pub use cpu::LguestCpu;
pub use devices::LguestDevices;
pub use interrupts::LguestInterrupts;
pub use paging::LguestPaging;
pub use power::LguestPower;
pub use smp::LguestSmp;
pub use time::{LguestClock, LguestTimer};

/// The lguest hypervisor below the kernel `K`.
#[derive(Debug)]
pub struct Lguest<K>(PhantomData<K>);

impl<K: Kernel> platform::Platform for Lguest<K> {
    const NAME: &'static str = "lguest";
    const DEVICES: DeviceBus = DeviceBus::Virtio;
    type Cpu = LguestCpu<K>;
    type Paging = LguestPaging<K>;
    type Interrupts = LguestInterrupts<K>;
    type Clock = LguestClock<K>;
    type Timer = LguestTimer<K>;
    type Smp = LguestSmp<K>;
    type Devices = LguestDevices<K>;
    type Console = LguestConsole<K>;
    type Power = LguestPower<K>;
    type Boot = LguestBoot<K>;
}

/// Makes the boot code enter the kernel `$kernel` (a [`platform::Kernel`]); once, in the executable.
#[macro_export]
macro_rules! boot_entry {
    ($kernel:ty) => {
        #[cfg(target_os = "none")]
        const _: () = {
            /// Called by the first instructions.
            // SAFETY: the name is this backend's own.
            #[unsafe(no_mangle)]
            extern "C" fn lguest_boot_entry(boot_info: u64) -> ! {
                // SAFETY: the boot code calls once, with what the host gave it.
                unsafe { $crate::boot::start::<$kernel>(boot_info) }
            }
        };
    };
}
