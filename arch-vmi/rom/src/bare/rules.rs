//! The rules of the profile that a guest can break, and the end of a guest that does: one line on the console and on the
//! channel beside it, and the machine is over.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use vmi_abi::{LazyMode, PageLevel, PageUse, PteUpdate};

use super::machine::{BOUND, IrqGuard, PerCpu, X2APIC, linear, physical, with_cpu};
use super::processor::{in_byte, is_canonical, out_byte, out_long};
use super::{apic, control};
use crate::apic_view::{self, Access, TIMER_ENTRY};
use crate::page_tables::{Broken, Memory, PageTables};
use crate::update_queue::Update;

const SERIAL: u16 = 0x3f8;
const DEBUG_CONSOLE: u16 = 0xe9;
const DEBUG_EXIT: u16 = 0xf4;
/// The boot could not go on: what the tests take a broken rule for.
const UNUSABLE: u32 = 102;

static TABLES: spin::Mutex<PageTables> = spin::Mutex::new(PageTables::new());

/// Ends the guest.
#[cold]
pub fn broken(rule: &str) -> ! {
    // SAFETY: the guest is over.
    unsafe { asm!("cli", options(nostack)) };
    let serial = |byte: u8| {
        for _ in 0..100_000 {
            if in_byte(SERIAL + 5) & 1 << 5 != 0 {
                break;
            }
        }
        out_byte(SERIAL, byte);
    };
    "\r\nunusable VMI guest: ".bytes().chain(rule.bytes()).chain("\r\n".bytes()).for_each(serial);
    let beside = |byte: u8| out_byte(DEBUG_CONSOLE, byte);
    "unusable VMI guest: ".bytes().chain(rule.bytes()).chain("\n".bytes()).for_each(beside);
    out_long(DEBUG_EXIT, UNUSABLE);
    loop {
        // SAFETY: the guest is over.
        unsafe { asm!("cli", "hlt", options(nostack)) };
    }
}

fn check(result: Result<(), Broken>) {
    if let Err(Broken(rule)) = result {
        broken(rule);
    }
}

/// Physical memory through the guest's linear mappings.
struct Mapped;

impl Memory for Mapped {
    fn entry(&self, frame: u64, index: usize) -> Option<u64> {
        let address = linear((frame << 12) + 8 * index as u64)?;
        // SAFETY: the guest says that this shows memory, and tables are in memory.
        Some(unsafe { (address as *const u64).read_volatile() })
    }
}

fn with_tables(use_them: impl FnOnce(&mut PageTables) -> Result<(), Broken>) {
    let _guard = IrqGuard::new();
    check(use_them(&mut TABLES.lock()));
}

fn one_level(level: u64) -> bool {
    level.is_power_of_two() && level <= PageLevel::PML4.bits()
}

const LEVELS: u64 = 0xf;

/// The arguments of SetPxELong and UpdatePxELong.
pub fn check_flags(entry: u64, flags: u64, address: u64) {
    let known = LEVELS | PteUpdate::CURRENT_AS.bits() | PteUpdate::DEFER.bits();
    let level = flags & LEVELS;
    if flags & !known != 0 || !one_level(level) {
        broken("a page-table update has wrong flags");
    }
    if !entry.is_multiple_of(8) {
        broken("a page-table update is not at an entry");
    }
    if flags & PteUpdate::CURRENT_AS.bits() == 0 {
        if address != 0 {
            broken("a page-table update has an address without CURRENT_AS");
        }
    } else {
        let shift = 12 + 9 * level.trailing_zeros();
        if !is_canonical(address) || address >> shift & 511 != entry >> 3 & 511 {
            broken("a page-table update's address is not what the entry translates");
        }
    }
}

fn table(entry: u64) -> u64 {
    match physical(entry) {
        Some(physical) => physical >> 12,
        None => broken("a page-table update is outside of the linear mapping"),
    }
}

/// An update is about to be made.
pub fn update(update: Update) {
    let frame = table(update.entry);
    // SAFETY: an entry that the guest named; the linear mapping shows it.
    let old = unsafe { (update.entry as *const u64).read_volatile() };
    with_tables(|tables| tables.update(frame, update.flags & LEVELS, old, update.value));
}

/// The guest has made an update.
pub fn written(entry: u64, flags: u64) {
    let frame = table(entry);
    with_tables(|tables| tables.written(&Mapped, frame, (entry >> 3 & 511) as usize, flags & LEVELS));
}

/// AllocatePage.
pub fn allocate(frame: u64, flags: u64, cloned: u64, first: u64, count: u64) {
    let known = LEVELS | PageUse::CLONE.bits() | PageUse::ZEROED.bits();
    if flags & !known != 0 || !one_level(flags & LEVELS) {
        broken("AllocatePage has wrong flags");
    }
    let zeroed = flags & PageUse::ZEROED.bits() != 0;
    let clone = (flags & PageUse::CLONE.bits() != 0).then_some((cloned, first, count));
    with_tables(|tables| tables.announce(&Mapped, frame, flags & LEVELS, zeroed, clone));
}

/// ReleasePage.
pub fn release(frame: u64, level: u64) {
    if !one_level(level) {
        broken("ReleasePage has a wrong level");
    }
    if control::get_cr3() >> 12 & 0xff_ffff_ffff == frame {
        broken("ReleasePage: the page is this CPU's root");
    }
    with_tables(|tables| tables.release(&Mapped, frame, level));
}

/// CR3 is about to be loaded.
pub fn load(cr3: u64) {
    with_tables(|tables| tables.load(&Mapped, (cr3 & 0x000f_ffff_ffff_f000) >> 12));
}

/// SetLazyMode.
pub fn lazy_mode(mode: u64) {
    let open = with_cpu(|cpu| cpu.lazy);
    if open.is_none() {
        broken("SetLazyMode before BindCPU");
    }
    if mode != LazyMode::Off as u64 && open.is_some_and(|open| open != LazyMode::Off as u64) {
        broken("SetLazyMode: a batch is open");
    }
}

/// Halt.
pub fn halt() {
    if with_cpu(|cpu| cpu.lazy).is_some_and(|lazy| lazy != LazyMode::Off as u64) {
        broken("Halt: a batch is open");
    }
}

/// APICWrite.
pub fn apic_write(offset: u32) {
    if !BOUND.load(Relaxed) {
        broken("APICWrite before BindCPU");
    }
    if let 0x380 | 0x390 | 0x3e0 = offset {
        broken("APICWrite: the register is the hypervisor's");
    }
    if apic_view::write(offset) == Access::Command && with_cpu(|cpu| !cpu.queue.is_empty()).unwrap_or(false) {
        broken("an interrupt is sent while page-table updates wait");
    }
}

/// SetAlarm.
pub fn alarm(cpu: &PerCpu) {
    const MASKED: u32 = 1 << 16;
    let entry = if X2APIC.load(Relaxed) { 0xff } else { apic::read(cpu.apic, TIMER_ENTRY) };
    if entry & 0xff < 16 || entry & MASKED != 0 {
        broken("SetAlarm: the APIC's timer entry has no vector");
    }
}

/// IRET or SYSRET to user mode with interrupts disabled; on whatever stack that is.
#[unsafe(naked)]
pub extern "C" fn interrupts_off_in_user_mode() {
    extern "C" fn end() -> ! {
        broken("a return to user mode disables interrupts")
    }
    core::arch::naked_asm!(
        "cli",
        "lea rsp, [rip + {stack} + {bytes}]",
        "call {end}",
        stack = sym STACK,
        bytes = const STACK_BYTES,
        end = sym end,
    )
}

const STACK_BYTES: usize = 4096;
#[repr(C, align(16))]
struct Stack(core::cell::UnsafeCell<[u8; STACK_BYTES]>);
// SAFETY: used by a CPU that ends the machine. Two that do so at once may garble the line.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK_BYTES]));
