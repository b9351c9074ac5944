//! The selfish guest: it never gives the processor up, and takes no interrupt.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{BootInfo, ShutdownReason};

use crate::attack::initialize;
use crate::call::{DATA, print, shut_down};
use crate::words::parameter;

/// The guest's clock in nanoseconds, read without a call.
pub fn clock() -> u64 {
    let (base, scale) = (DATA.tsc_base.load(Relaxed), DATA.tsc_scale.load(Relaxed));
    // SAFETY: the host says in the shared page that the counter may be read.
    let counts = unsafe { _rdtsc() } - base;
    ((u128::from(counts) * u128::from(scale)) >> 32) as u64
}

/// Spins with interrupts disabled and blocked until the guest's clock has so many milliseconds (`until=`).
pub fn spin(facts: &BootInfo) -> ! {
    initialize();
    DATA.blocked_interrupts.store(u32::MAX, Relaxed);
    DATA.irq_enabled.store(0, Relaxed);
    let until = parameter(facts, b"until").unwrap_or(1000) * 1_000_000;
    while clock() < until {}
    print(b"spinner: the end\r\n");
    shut_down(ShutdownReason::Exit, 0);
}
