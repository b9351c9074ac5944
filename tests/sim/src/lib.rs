//! A simulated platform with virtual time, for tests of the kernel on the build machine (Linux, x86-64).
//!
//! [`Sim`] implements [`platform::Platform`]; [`Machine`] describes a machine and runs a kernel on it:
//!
//! ```text
//! #[test]
//! fn sleeps() {
//!     sim::in_fresh_process("sleeps", || {
//!         let outcome = sim::Machine::new().cpus(2).memory_mib(16).run::<MyKernel>();
//!         outcome.expect(platform::End::PowerOff);
//!     });
//! }
//! ```
//!
//! - CPUs are threads of this process; a CPU's private data is found through the thread's GS base, as on hardware.
//! - Interrupts are delivered where the kernel enables them or waits, on the way to user mode and by what user mode
//!   does ([`user`]), never elsewhere.
//! - Time stands still while a CPU works. When all wait it jumps to the next deadline; when there is none, the run ends
//!   with [`FailureKind::Deadlock`].
//! - Memory is real and shared through the direct map; kernel mappings are real too. User translations are a model with
//!   a translation buffer for each CPU, so a forgotten flush shows.
//! - A hook called against its promises ends the run with [`FailureKind::Violation`].
//!
//! On a thread that is no CPU of a machine the interrupt flag is a variable of the thread and time stands at zero, so
//! that code which merely takes a lock can be tested without a machine.
#![warn(missing_docs)]

mod boot;
mod clock;
mod console;
mod control;
mod cpu;
mod crash;
pub mod devices;
pub mod disk;
mod fresh_process;
mod image;
mod interrupts;
mod lines;
mod machine;
mod memory;
mod outcome;
mod paging;
mod pending;
mod power;
mod smp;
mod space;
mod stack;
mod state;
mod timer;
mod translate;
pub mod user;
mod virtqueue;
mod wait;

use core::marker::PhantomData;

pub use boot::SimBoot;
pub use clock::SimClock;
pub use console::{INPUT_LINE, SimConsole};
pub use control::{advance, at, input, now, raise, run_for, write_message};
pub use cpu::SimCpu;
pub use devices::SimDevices;
pub use fresh_process::{in_fresh_process, in_fresh_process_within};
pub use image::program_image;
pub use interrupts::SimInterrupts;
pub use machine::Machine;
pub use outcome::{Failure, FailureKind, Outcome};
pub use paging::SimPaging;
pub use power::SimPower;
pub use smp::SimSmp;
pub use space::Stale;
pub use timer::SimTimer;
pub use translate::{AccessError, access, kernel_access, may_still_reach};
pub use user::{system_call, touch};

/// The simulated platform for kernel `K`.
#[derive(Debug)]
pub struct Sim<K>(PhantomData<fn() -> K>);

impl<K: platform::Kernel> platform::Platform for Sim<K> {
    const NAME: &'static str = "sim";
    const DEVICES: platform::DeviceBus = platform::DeviceBus::Virtio;
    type Cpu = SimCpu<K>;
    type Paging = SimPaging<K>;
    type Interrupts = SimInterrupts<K>;
    type Clock = SimClock<K>;
    type Timer = SimTimer<K>;
    type Smp = SimSmp<K>;
    type Devices = SimDevices<K>;
    type Console = SimConsole<K>;
    type Power = SimPower<K>;
    type Boot = SimBoot<K>;
}
