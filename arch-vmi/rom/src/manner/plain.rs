//! The ROM for use: as little as can be between a guest and the bare machine.

use vmi_abi::{Call, RelocationType};

use super::Machine;

/// By how much an alarm is put off, nanoseconds.
pub const LATENESS: u64 = 0;

/// The REAL counter: the time stamp counter.
pub const fn real(tsc: u64) -> u64 {
    tsc
}

/// The STOLEN counter: nobody takes anything.
pub const fn stolen(_real: u64) -> u64 {
    0
}

/// The least REAL at which AVAILABLE has reached a value.
pub const fn real_when_available(available: u64) -> u64 {
    available
}

/// The native instruction wherever it does the same; nothing where there is nothing to do.
pub const fn answer(call: Call, machine: Machine) -> RelocationType {
    use RelocationType::{CallRel, None, Nop};
    match call {
        Call::ApicWrite | Call::ApicRead => {
            if machine.apic_needs_calls {
                CallRel
            } else {
                None
            }
        }
        Call::UserAccessBegin | Call::UserAccessEnd => {
            if machine.smap {
                None
            } else {
                Nop
            }
        }
        // Nothing is kept of page tables, and nothing is put off.
        Call::UpdatePxELong | Call::AllocatePage | Call::ReleasePage | Call::SetLazyMode => Nop,
        // The bus of today's machines needs no delay.
        Call::IoDelay => Nop,
        // Other CPUs find the kernel's tables by it.
        Call::SetLinearMapping => CallRel,
        Call::SetInitialApState
        | Call::GetCycleFrequency
        | Call::GetCycleCounter
        | Call::SetAlarm
        | Call::CancelAlarm
        | Call::GetWallclockTime
        | Call::WallclockUpdated
        | Call::SetSyscallEntry
        | Call::BindCpu
        | Call::Reboot
        | Call::Shutdown => CallRel,
        _ => None,
    }
}
