//! The contract between the kernel and what runs below it.
//!
//! Two traits meet at the cut. [`Platform`] is what the kernel asks of the machine or hypervisor: a bundle of part
//! traits, so that a backend replaces only what differs. [`Kernel`] is what the platform calls upward. Both are bound
//! at compile time: there is one backend in an image, and every hook is inlined or is a direct call.
//!
//! # Rules
//!
//! 1. Mechanism at compile time, facts at run time: whatever differs between two machines of one platform is found at
//!    boot ([`BootInfo`], [`Machine`]), never a constant.
//! 2. Each hook says which hardware operation or framework call it is a trivial variation of, in which context it may
//!    be called, what holds before and after, its units and errors.
//! 3. Time is [`Nanoseconds`]. Nothing that counts at the speed of some machine crosses the cut.
//! 4. No policy below the cut: a backend keeps no idea of its own of scheduling, idleness or memory use.
//! 5. A hook exists only if two backends implement it differently.
//! 6. A hook is written once, here. What the dispatch controls need is derived from the trait by [`part`].
//!
//! # Contexts
//!
//! *Interrupts* means the interrupt flag as the kernel knows it, in hardware or virtual. Unless a hook says otherwise it
//! may be called with interrupts enabled or disabled, from any CPU, after [`Kernel::boot`] was entered, and neither
//! sleeps nor changes the interrupt flag. *After discovery* means once [`Boot::discover`] has returned.
//!
//! The kernel may run at any privilege level. Nothing above the cut executes a privileged instruction, and nothing
//! above the cut reads its own privilege level.
//!
//! # Writing a backend
//!
//! A backend is a crate `arch-NAME` that depends on this one, on `arch-native` where it shares something with a PC
//! (translation tables; with the feature `pc` all but the privileged instructions), on `arch-NAME/abi` for a hypervisor's
//! numbers, and on nothing above the cut. `arch-lguest` is the shortest example. It has:
//!
//! - a type generic over a [`Kernel`] that implements [`Platform`], and for each part a type whose implementation of that
//!   part's trait carries [`macro@backend`];
//! - the first instructions, at the symbol `image_entry` that `kernel/link.ld` makes the ELF entry, and what follows them up
//!   to [`Kernel::boot`];
//! - the entries from user mode and from interrupts, which make a [`TrapFrame`] and call the functions of [`Kernel`];
//! - a macro `boot_entry!(KERNEL)`, which the executable invokes once to bind these instructions to its kernel.
//!
//! It is made known by its feature in `kernel/` and `tests/conformance/` (`Cargo.toml`, `src/hook.rs`), by a variant of
//! `Backend` in `xtask/src/variant.rs`, and by its machines in `tests/suite/conformance.rs`. Then `cargo xtask test --features
//! NAME conformance/` says what it does not keep yet, `cargo xtask test --all --features NAME` runs the kernel's own suite on
//! it, and `audit` and `size-report` look into its images.
#![no_std]
#![deny(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod boot_info;
mod cpu_local;
mod cpu_set;
mod event;
mod frame_batch;
mod protection;
mod time;
mod trap_frame;

mod hooks;
mod kernel;
mod note;
pub mod patch;

pub use address::{PAGE_SIZE, PageRange, PhysAddr, PhysFrame, PhysRange, VirtAddr};
pub use boot_info::{BootInfo, Machine, MemoryKind, MemoryRegion, Unusable};
pub use cpu_local::{CpuLocal, PLATFORM_WORDS};
pub use cpu_set::{CpuId, CpuSet, MAX_CPUS};
pub use event::{Access, Exception, Interrupt, IrqLine, Message};
pub use frame_batch::{FRAME_BATCH, FrameBatch};
pub use hooks::boot::Boot;
pub use hooks::clock::{Clock, UserClock};
pub use hooks::console::Console;
pub use hooks::cpu::{Cpu, ExtendedState, IrqState, UserBases};
pub use hooks::devices::{Device, DeviceBus, DeviceEvents, DeviceId, Devices, QueueLayout};
pub use hooks::interrupts::{InterruptError, Interrupts, MessageAddress};
pub use hooks::paging::{ForkMode, Mapping, OutOfFrames, Paging, Root};
pub use hooks::power::{End, Power};
pub use hooks::smp::{SecondaryStart, Smp, StartError};
pub use hooks::timer::Timer;
pub use kernel::Kernel;
pub use note::{ImageNote, NOTE_NAME, NOTE_TYPE};
pub use platform_macros::{backend, part};
pub use protection::{CacheMode, Protection};
pub use time::Nanoseconds;
pub use trap_frame::TrapFrame;

/// Version of this contract. It changes whenever a hook, a shared type or a promise does; an image carries it in its
/// [`ImageNote`].
pub const CONTRACT_VERSION: u32 = 3;

/// Everything the kernel asks of what is below it, one associated type a part.
pub trait Platform {
    /// Short name, as `--features` spells it (`native`, `vmi`, …).
    const NAME: &'static str;
    /// Whether there can be devices below. An image for a platform that has none has no driver either.
    const DEVICES: DeviceBus;
    /// Interrupt flag, waiting, kernel stack, user register state.
    type Cpu: Cpu;
    /// Address spaces and translations.
    type Paging: Paging;
    /// Interrupt lines and messages.
    type Interrupts: Interrupts;
    /// Monotonic and wall-clock time.
    type Clock: Clock;
    /// One-shot event.
    type Timer: Timer;
    /// Other CPUs.
    type Smp: Smp;
    /// Virtio devices.
    type Devices: Devices;
    /// Early output and input.
    type Console: Console;
    /// The end of the machine, and what it tells whoever started it.
    type Power: Power;
    /// Discovery of the machine's facts.
    type Boot: Boot;
}

/// One hook of the contract, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The part it belongs to (`Cpu`, `Paging`, …).
    pub part: &'static str,
    /// The function's name.
    pub name: &'static str,
}

/// Every hook, by part, in the order of the contract.
pub const HOOKS: &[&[Hook]] = &[
    hooks::cpu::HOOKS,
    hooks::paging::HOOKS,
    hooks::interrupts::HOOKS,
    hooks::clock::HOOKS,
    hooks::timer::HOOKS,
    hooks::smp::HOOKS,
    hooks::devices::HOOKS,
    hooks::console::HOOKS,
    hooks::power::HOOKS,
    hooks::boot::HOOKS,
];

/// The tables of the `table` dispatch control; filled from one backend.
pub mod table {
    pub use crate::hooks::boot::Table as Boot;
    pub use crate::hooks::clock::Table as Clock;
    pub use crate::hooks::console::Table as Console;
    pub use crate::hooks::cpu::Table as Cpu;
    pub use crate::hooks::devices::Table as Devices;
    pub use crate::hooks::interrupts::Table as Interrupts;
    pub use crate::hooks::paging::Table as Paging;
    pub use crate::hooks::power::Table as Power;
    pub use crate::hooks::smp::Table as Smp;
    pub use crate::hooks::timer::Table as Timer;
}

/// The objects of the `dyn` dispatch control; made of one backend.
pub mod object {
    pub use crate::hooks::boot::Object as Boot;
    pub use crate::hooks::clock::Object as Clock;
    pub use crate::hooks::console::Object as Console;
    pub use crate::hooks::cpu::Object as Cpu;
    pub use crate::hooks::devices::Object as Devices;
    pub use crate::hooks::interrupts::Object as Interrupts;
    pub use crate::hooks::paging::Object as Paging;
    pub use crate::hooks::power::Object as Power;
    pub use crate::hooks::smp::Object as Smp;
    pub use crate::hooks::timer::Object as Timer;

    /// Backends as objects.
    pub mod through {
        pub use crate::hooks::boot::Through as Boot;
        pub use crate::hooks::clock::Through as Clock;
        pub use crate::hooks::console::Through as Console;
        pub use crate::hooks::cpu::Through as Cpu;
        pub use crate::hooks::devices::Through as Devices;
        pub use crate::hooks::interrupts::Through as Interrupts;
        pub use crate::hooks::paging::Through as Paging;
        pub use crate::hooks::power::Through as Power;
        pub use crate::hooks::smp::Through as Smp;
        pub use crate::hooks::timer::Through as Timer;
    }
}

/// Expands to one module of hook functions a part (`cpu`, `paging`, …), reached in the given way.
///
/// `hooks!(static Backend)` goes through the traits, `hooks!(direct Backend)` calls the backend's own functions with no
/// trait in the path, `hooks!(table Backend)` goes through tables of function pointers that [`install`] must fill
/// before the first hook is called, `hooks!(dyn Backend)` calls methods of `&'static dyn` objects, and `hooks!(patched
/// Backend)` is a table whose call sites the build records and `patch` rewrites ([`mod@patch`]). `install()` and
/// `patch()` exist in every mode.
///
/// [`install`]: #table
#[macro_export]
macro_rules! hooks {
    (patched $backend:ty) => {
        $crate::hooks!(@parts patched $backend);

        // Room for sites that the compiler makes several of where it has compiled one.
        core::arch::global_asm!(
            ".pushsection .hook_sites, \"a\", @progbits",
            ".zero 256",
            ".popsection"
        );

        /// Rewrites the recorded call sites, at once after [`install`]; says what became of them.
        #[inline(never)]
        pub fn patch(info: &$crate::BootInfo) -> Option<$crate::patch::Patched> {
            let tables = [
                cpu::slots(),
                paging::slots(),
                interrupts::slots(),
                clock::slots(),
                timer::slots(),
                smp::slots(),
                console::slots(),
                power::slots(),
                devices::slots(),
                boot::slots(),
            ];
            // SAFETY: `install` has filled the slots, no hook has been called, and no other CPU runs.
            Some(unsafe { $crate::patch::apply(info, &tables) })
        }
    };
    ($mode:ident $backend:ty) => {
        $crate::hooks!(@parts $mode $backend);

        /// Nothing to do: only the `patched` control rewrites call sites.
        #[inline(always)]
        pub fn patch(_: &$crate::BootInfo) -> Option<$crate::patch::Patched> {
            None
        }
    };
    (@parts $mode:ident $backend:ty) => {
        $crate::cpu_hooks!($mode $backend);
        $crate::paging_hooks!($mode $backend);
        $crate::interrupts_hooks!($mode $backend);
        $crate::clock_hooks!($mode $backend);
        $crate::timer_hooks!($mode $backend);
        $crate::smp_hooks!($mode $backend);
        $crate::devices_hooks!($mode $backend);
        $crate::console_hooks!($mode $backend);
        $crate::power_hooks!($mode $backend);
        $crate::boot_hooks!($mode $backend);

        /// Makes every hook reachable; the first thing the kernel does on the boot CPU.
        pub fn install() {
            cpu::install();
            paging::install();
            interrupts::install();
            clock::install();
            timer::install();
            smp::install();
            if matches!(<$backend as $crate::Platform>::DEVICES, $crate::DeviceBus::Virtio) {
                devices::install();
            }
            console::install();
            power::install();
            boot::install();
        }
    };
}
