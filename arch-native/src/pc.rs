//! A PC as a [`platform::Platform`].

use core::marker::PhantomData;

use platform::{DeviceBus, Kernel};

pub use crate::bare::Bare;
pub use crate::boot::PcBoot;
pub use crate::console::PcConsole;
pub use crate::cpu::PcCpu;
pub use crate::devices::PcDevices;
pub use crate::interrupts::PcInterrupts;
use crate::machine::Machine;
pub use crate::paging::PcPaging;
pub use crate::power::PcPower;
pub use crate::smp::PcSmp;
pub use crate::time::{PcClock, PcTimer};

/// A PC below the kernel `K`, whose sensitive operations are done as `M` does them.
#[derive(Debug)]
pub struct Pc<K, M>(PhantomData<(K, M)>);

/// A bare PC.
pub type Native<K> = Pc<K, Bare>;

impl<K: Kernel, M: Machine> platform::Platform for Pc<K, M> {
    const NAME: &'static str = M::NAME;
    const DEVICES: DeviceBus = DeviceBus::None;
    type Cpu = PcCpu<K, M>;
    type Paging = PcPaging<K, M>;
    type Interrupts = PcInterrupts<K, M>;
    type Clock = PcClock<K, M>;
    type Timer = PcTimer<K, M>;
    type Smp = PcSmp<K, M>;
    type Devices = PcDevices<K, M>;
    type Console = PcConsole<K, M>;
    type Power = PcPower<K, M>;
    type Boot = PcBoot<K, M>;
}
