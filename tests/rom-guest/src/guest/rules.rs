//! Guests that break a rule, each in one way. The strict ROM ends them; the plain one has nothing to say.

use vmi_abi::{Alarm, Call};

use super::calls::APIC;
use super::checks;
use super::console::{end, say};
use super::memory::{Pages, Rom, first_tables, root, spare_entry};

static TABLE: Pages<2> = Pages::new();

/// Breaks the rule of this name.
pub fn run(rom: &Rom, rule: &str) {
    checks::begin(rom);
    let (entry, address) = spare_entry();
    let (table, frame) = (TABLE.frame(0) * 4096, TABLE.frame(0));
    match rule {
        "set-cr3-without-tables" => {
            rom.call(Call::SetCr3, &[root()]);
        }
        "set-cr3-before-all-tables" => {
            let (frame, level) = first_tables()[0];
            rom.call(Call::AllocatePage, &[frame, level]);
            rom.call(Call::SetCr3, &[root()]);
        }
        "apic-before-bind" => {
            rom.call(Call::ApicWrite, &[APIC + 0xf0, 0x1ff]);
        }
        _ => {
            checks::tables(rom);
            break_later(rom, rule, (entry, address), (table, frame));
        }
    }
}

fn break_later(rom: &Rom, rule: &str, (entry, address): (u64, u64), (table, frame): (u64, u64)) {
    let announce = || rom.call(Call::AllocatePage, &[frame, 1 | 0x40]);
    let link = || rom.call(Call::SetPxELong, &[table | 3, entry, 2 | 0x10, address]);
    match rule {
        "link-without-announcing" => {
            link();
        }
        "announce-twice" => {
            announce();
            announce();
        }
        "not-zero" => {
            // SAFETY: this program's page.
            unsafe { (TABLE.at(0) as *mut u64).write_volatile(1) };
            announce();
        }
        "release-while-linked" => {
            announce();
            link();
            rom.call(Call::ReleasePage, &[frame, 1]);
        }
        "write-behind-its-back" => {
            announce();
            // SAFETY: this program's page.
            unsafe { (TABLE.at(0) as *mut u64).write_volatile(root() | 3) };
            rom.call(Call::ReleasePage, &[frame, 1]);
        }
        "wrong-level" => {
            announce();
            rom.call(Call::SetPxELong, &[root() | 3, table, 4]);
        }
        "wrong-address" => {
            announce();
            rom.call(Call::SetPxELong, &[root() | 3, table + 8, 1 | 0x10, address]);
        }
        "interrupt-with-waiting-updates" => {
            announce();
            rom.call(Call::SetPxELong, &[root() | 3, table, 1 | 0x10 | 0x20, address]);
            rom.call(Call::ApicWrite, &[APIC + 0x300, 0x4040]);
        }
        "timer-register" => {
            rom.call(Call::ApicWrite, &[APIC + 0x380, 1000]);
        }
        "alarm-without-vector" => {
            rom.call(Call::ApicWrite, &[APIC + 0x320, 0x10000]);
            rom.call(Call::SetAlarm, &[Alarm::WIRED_LVTT.bits(), u64::MAX / 2]);
        }
        "nested-batches" => {
            rom.call(Call::SetLazyMode, &[1]);
            rom.call(Call::SetLazyMode, &[2]);
        }
        "wait-in-a-batch" => {
            rom.call(Call::SetLazyMode, &[1]);
            rom.call(Call::Halt, &[]);
        }
        "user-mode-without-interrupts" => {
            let (iret, kind) = rom.relocation(Call::Iret.number());
            assert_eq!(kind, 2);
            // SAFETY: the ROM does not return.
            unsafe {
                core::arch::asm!("push 0x2b", "push 0", "push 2", "push 0x33", "push 0", "jmp {}", in(reg) iret,
                                 options(noreturn));
            }
        }
        _ => {
            say!("rom-guest: no rule {rule}");
            end(1);
        }
    }
}
