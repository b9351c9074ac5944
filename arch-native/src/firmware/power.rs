//! Switching off and resetting by ACPI.

use acpi::AcpiTables;
use acpi::address::AccessSize;
use acpi::fadt::Fadt;
use platform::{CacheMode, Kernel, PhysAddr};

use super::s5::{self, SleepType};
use super::{Mapper, Register};
use crate::irq::IrqLock;
use crate::machine::Machine;
use crate::paging::window::PhysicalWindow;

/// Registers as the FADT names them.
#[derive(Clone, Copy)]
struct Known {
    sleep_type: Option<SleepType>,
    /// PM1 control registers.
    control: [Option<Register>; 2],
    /// Sleep control register of hardware-reduced machines.
    sleep_control: Option<Register>,
    reset: Option<(Register, u8)>,
}

static KNOWN: IrqLock<Known> =
    IrqLock::new(Known { sleep_type: None, control: [None; 2], sleep_control: None, reset: None });

/// SLP_EN in a PM1 control register, and where its SLP_TYP begins.
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_TYPE_MASK: u16 = 7 << SLEEP_TYPE_SHIFT;
/// The same in a sleep control register.
const REDUCED_SLEEP_ENABLE: u16 = 1 << 5;
const REDUCED_SLEEP_TYPE_SHIFT: u32 = 2;

/// Reads what will be needed at the end, when tables can no longer be mapped.
pub(super) fn remember<K: Kernel, M: Machine>(tables: &AcpiTables<Mapper<K, M>>, fadt: &Fadt) {
    let scan = |address: usize, length: u32| {
        let at =
            PhysicalWindow::<K, M>::map(PhysAddr(address as u64), u64::from(length), CacheMode::WriteBack)
                .ok()?;
        // SAFETY: mapped for ever, and nothing writes to the tables.
        s5::find(unsafe { core::slice::from_raw_parts(at.as_ptr(), length as usize) })
    };
    let dsdt = tables.dsdt().ok().and_then(|table| scan(table.address, table.length));
    let sleep_type = dsdt.or_else(|| tables.ssdts().find_map(|table| scan(table.address, table.length)));

    let reduced = { fadt.flags }.system_is_hw_reduced_acpi();
    let mut known = Known { sleep_type, control: [None; 2], sleep_control: None, reset: None };
    if reduced {
        known.sleep_control =
            fadt.sleep_control_register().ok().flatten().and_then(|at| Register::new::<K, M>(&at));
    } else {
        known.control[0] = fadt.pm1a_control_block().ok().and_then(|at| Register::new::<K, M>(&at));
        known.control[1] = fadt.pm1b_control_block().ok().flatten().and_then(|at| Register::new::<K, M>(&at));
    }
    if { fadt.flags }.supports_system_reset_via_fadt()
        && let Ok(mut at) = fadt.reset_register()
    {
        // Always a byte (ACPI 6.4, 4.8.3.6), whatever the table says.
        at.bit_width = 8;
        at.access_size = AccessSize::ByteAccess;
        known.reset = Register::new::<K, M>(&at).map(|register| (register, fadt.reset_value));
    }
    KNOWN.with::<M, _>(|slot| *slot = known);
}

/// Switches the machine off; returns if that has not happened at once, or cannot be done.
pub fn enter_s5<M: Machine>() {
    let known = KNOWN.with::<M, _>(|known| *known);
    let Some(sleep_type) = known.sleep_type else { return };
    if let Some(register) = known.sleep_control {
        register.write::<M>(REDUCED_SLEEP_ENABLE | u16::from(sleep_type.a) << REDUCED_SLEEP_TYPE_SHIFT);
    }
    for (register, value) in known.control.into_iter().zip([sleep_type.a, sleep_type.b]) {
        if let Some(register) = register {
            let kept = register.read::<M>() & !(SLEEP_TYPE_MASK | SLEEP_ENABLE);
            let value = kept | u16::from(value) << SLEEP_TYPE_SHIFT & SLEEP_TYPE_MASK;
            register.write::<M>(value);
            register.write::<M>(value | SLEEP_ENABLE);
        }
    }
}

/// Resets the machine; returns if that has not happened at once, or cannot be done.
pub fn reset<M: Machine>() {
    if let Some((register, value)) = KNOWN.with::<M, _>(|known| known.reset) {
        register.write::<M>(u16::from(value));
    }
}
