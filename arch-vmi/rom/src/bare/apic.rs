//! The local APIC's registers as xAPIC has them, in either mode.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use super::machine::{TSC_DEADLINE, X2APIC, bind, with_cpu};
use super::processor::{is_canonical, read_msr, read_register, write_msr, write_register};
use crate::apic_view::{self, Access, DIVIDE, TIMER_ENTRY};

/// Timer entry: deadlines of the time stamp counter.
pub const DEADLINE_MODE: u32 = 2 << 17;
/// Timer entry: counts again and again.
pub const PERIODIC_MODE: u32 = 1 << 17;

/// The register at `offset`; `memory` is where the registers are in xAPIC mode.
pub fn read(memory: u64, offset: u32) -> u32 {
    if !X2APIC.load(Relaxed) {
        return read_register(memory + u64::from(offset));
    }
    match apic_view::read(offset) {
        Access::Nothing | Access::CommandDestination => 0,
        Access::Register(number) => read_msr(number) as u32,
        Access::Identity => (read_msr(apic_view::FIRST + 2) as u32) << 24,
        Access::Command => read_msr(apic_view::FIRST + 0x30) as u32,
    }
}

/// Writes the register at `offset`, but for a command in x2APIC mode.
pub fn write(memory: u64, offset: u32, value: u32) {
    if !X2APIC.load(Relaxed) {
        write_register(memory + u64::from(offset), value);
    } else if let Access::Register(number) = apic_view::write(offset) {
        write_msr(number, u64::from(value));
    }
}

pub extern "C" fn apic_read(register: u64) -> u64 {
    let offset = register as u32 & 0xfff;
    if X2APIC.load(Relaxed) && apic_view::read(offset) == Access::CommandDestination {
        return with_cpu(|cpu| u64::from(cpu.command_destination)).unwrap_or(0);
    }
    u64::from(read(register & !0xfff, offset))
}

pub extern "C" fn apic_write(register: u64, value: u64) {
    let (memory, offset, mut value) = (register & !0xfff, register as u32 & 0xfff, value as u32);
    #[cfg(feature = "strict")]
    super::rules::apic_write(offset);
    if offset == TIMER_ENTRY && TSC_DEADLINE.load(Relaxed) {
        value |= DEADLINE_MODE;
    }
    let access = if X2APIC.load(Relaxed) { apic_view::write(offset) } else { Access::Nothing };
    match access {
        Access::Command => {
            let destination = with_cpu(|cpu| cpu.command_destination).unwrap_or(0);
            // SAFETY: orders what was written before, which the command does not do by itself in this mode.
            unsafe { asm!("mfence", "lfence", options(nostack)) };
            write_msr(apic_view::FIRST + 0x30, apic_view::command(destination, value));
        }
        Access::CommandDestination => {
            with_cpu(|cpu| cpu.command_destination = value);
        }
        _ => write(memory, offset, value),
    }
}

pub extern "C" fn bind_cpu(memory: u64, apic: u64) -> i64 {
    let bad = |address: u64| address == 0 || address & 0xfff != 0 || !is_canonical(address);
    if bad(memory) || bad(apic) || !bind(memory, apic) {
        return -1;
    }
    write(apic, DIVIDE, super::alarm::divisor_code());
    0
}
