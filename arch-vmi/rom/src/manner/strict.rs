//! The ROM that tests its guests: it answers differently from the other wherever the profile allows, its counters
//! differ, and its alarms are as late as they may be.

use vmi_abi::{Allowed, Call, RelocationType};

use super::Machine;

/// By how much an alarm is put off, nanoseconds: a little less than the millisecond that is allowed.
pub const LATENESS: u64 = 900_000;

/// The REAL counter less the time stamp counter.
const OFFSET: u64 = 1 << 40;
/// One cycle of so many is stolen, as a power of two.
const STOLEN_SHIFT: u32 = 3;

/// The REAL counter: the time stamp counter and a constant.
pub const fn real(tsc: u64) -> u64 {
    tsc.wrapping_add(OFFSET)
}

/// The STOLEN counter: an eighth of REAL.
pub const fn stolen(real: u64) -> u64 {
    real >> STOLEN_SHIFT
}

/// The least REAL, or a little more, at which AVAILABLE has reached a value.
pub const fn real_when_available(available: u64) -> u64 {
    available.saturating_add(available.div_ceil((1 << STOLEN_SHIFT) - 1))
}

/// A call or jump wherever one is allowed, but for what the other ROM answers so.
pub const fn answer(call: Call, machine: Machine) -> RelocationType {
    match call {
        Call::Reboot | Call::Shutdown | Call::WallclockUpdated => RelocationType::None,
        Call::Wbinvd | Call::SyscallSwapGs => RelocationType::Nop,
        Call::UserAccessBegin | Call::UserAccessEnd if !machine.smap => RelocationType::Nop,
        _ if call.allowed().contains(Allowed::JUMP) => RelocationType::JumpRel,
        _ => RelocationType::CallRel,
    }
}
