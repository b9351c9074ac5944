//! The end of the machine, and the chipsets whose power management is known.

use core::arch::asm;

use vmi_abi::{RebootKind, TablePointer};

use super::machine::{IrqGuard, tsc};
use super::processor::{in_long, out_byte, out_long, out_word};

const CONFIGURATION_ADDRESS: u16 = 0xcf8;
const CONFIGURATION_DATA: u16 = 0xcfc;
/// Vendor and device: PIIX4's power management function, and the LPC bridge of ICH9.
const PIIX4: u32 = 0x7113_8086;
const ICH9: u32 = 0x2918_8086;
/// Both have the base of their power management ports here.
const PORTS_BASE: u32 = 0x40;
const CONTROL: u16 = 4;
const TIMER: u16 = 8;
const SLEEP: u16 = 1 << 13;
/// Ticks to wait for the effect of a write.
const TICKS_FOR_EFFECT: u64 = 300_000_000;

fn configuration(function: u32, register: u32) -> u32 {
    out_long(CONFIGURATION_ADDRESS, 1 << 31 | function << 8 | register);
    in_long(CONFIGURATION_DATA)
}

/// First port of the power management of a chipset that is known.
fn ports() -> Option<u16> {
    for function in 0..256 {
        if let PIIX4 | ICH9 = configuration(function, 0) {
            let base = (configuration(function, PORTS_BASE) & 0xff80) as u16;
            return (base != 0).then_some(base);
        }
    }
    None
}

/// Port of the power management timer.
pub fn management_timer() -> Option<u16> {
    ports().map(|base| base + TIMER)
}

fn wait() {
    let start = tsc();
    while tsc().wrapping_sub(start) < TICKS_FOR_EFFECT {
        core::hint::spin_loop();
    }
}

pub extern "C" fn reboot(kind: u64) {
    if kind != RebootKind::Soft as u64 {
        out_byte(0xcf9, 0x02);
        out_byte(0xcf9, 0x06);
        wait();
    }
    // The keyboard controller's line to the processor.
    out_byte(0x64, 0xfe);
    wait();
    if kind == RebootKind::Soft as u64 {
        out_byte(0xcf9, 0x02);
        out_byte(0xcf9, 0x06);
        wait();
    }
    let nothing = TablePointer::default();
    // SAFETY: without an interrupt table the breakpoint resets the processor, which is what is asked for.
    unsafe { asm!("lidt [{}]", "int3", in(reg) &raw const nothing, options(nostack)) };
}

pub extern "C" fn shutdown() {
    let _guard = IrqGuard::new();
    if let Some(base) = ports() {
        // The type of "soft off": 0 in PIIX4 and in QEMU's ICH9, 7 in a real one, for which 0 is "on".
        for kind in [0, 7] {
            out_word(base + CONTROL, SLEEP | kind << 10);
            wait();
        }
    }
}
