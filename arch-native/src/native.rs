//! The bare PC as a [`platform::Platform`].

use core::marker::PhantomData;

use platform::Kernel;

pub use crate::boot::NativeBoot;
pub use crate::console::NativeConsole;
pub use crate::cpu::NativeCpu;
pub use crate::interrupts::NativeInterrupts;
pub use crate::paging::NativePaging;
pub use crate::power::NativePower;
pub use crate::smp::NativeSmp;
pub use crate::time::{NativeClock, NativeTimer};

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
