//! Calls by their relocation. Where a ROM answers NONE, the native instruction is executed here.

use core::arch::asm;

use vmi_abi::{Call, Convention, RelocationType};

use super::memory::Rom;

/// The local APIC, at the address every PC has it.
pub const APIC: u64 = 0xfee0_0000;

impl Rom {
    /// Makes a call of the System V convention.
    pub fn call(&self, call: Call, arguments: &[u64]) -> u64 {
        assert!(matches!(call.convention(), Convention::SystemV | Convention::PageTable));
        let (address, kind) = self.relocation(call.number());
        let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
        match RelocationType::from_number(kind) {
            Some(RelocationType::CallRel) => {
                // SAFETY: the ROM's code, in the convention of ABI.md.
                let code: extern "C" fn(u64, u64, u64, u64, u64) -> u64 =
                    unsafe { core::mem::transmute(address) };
                code(argument(0), argument(1), argument(2), argument(3), argument(4))
            }
            Some(RelocationType::None) => native(call, argument(0), argument(1)),
            _ => 0,
        }
    }
}

/// What NONE means, for the calls this guest makes.
fn native(call: Call, first: u64, second: u64) -> u64 {
    let result: u64;
    // SAFETY: each is what the tests ask for, on this guest's own tables and devices.
    unsafe {
        match call {
            Call::ApicWrite => (first as *mut u32).write_volatile(second as u32),
            Call::ApicRead => return u64::from((first as *const u32).read_volatile()),
            Call::SetPxELong => (second as *mut u64).write_volatile(first),
            Call::SetCr3 => asm!("mov cr3, {}", in(reg) first),
            Call::GetCr3 => {
                asm!("mov {}, cr3", out(reg) result);
                return result;
            }
            Call::InvalPage => asm!("invlpg [{}]", in(reg) first),
            Call::FlushTlb => asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _),
            Call::Halt => asm!("sti", "hlt"),
            Call::MachineToPhysical | Call::PhysicalToMachine => return first,
            Call::WallclockUpdated => {}
            _ => panic!("no native instruction for {}", call.name()),
        }
    }
    0
}

/// Waits for an interrupt, with them disabled before and after.
pub fn halt(rom: &Rom) {
    rom.call(Call::Halt, &[]);
    // SAFETY: the interrupt has its handler.
    unsafe { asm!("cli", options(nostack)) };
}
