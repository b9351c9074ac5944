//! Page tables, announced and written through the ROM.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use arch_native::irq::IrqGuard;
use arch_native::layout::DIRECT_MAP;
use arch_native::paging::direct_table;
use arch_native::paging::entry::{Entry, Level};
use platform::{PAGE_SIZE, PhysAddr, PhysFrame};
use vmi_abi::{LazyMode, PageLevel, PageUse};

use crate::call::{vmi, vmi_system_v};
use crate::machine::VmiMachine;

/// The hypervisor has what it keeps for the boot CPU, and no other runs the kernel without.
static BOUND: AtomicBool = AtomicBool::new(false);

/// From now on updates may be put off.
pub fn set_bound() {
    BOUND.store(true, Relaxed);
}

/// Whether updates may be put off, and the local APIC be used.
pub fn is_bound() -> bool {
    BOUND.load(Relaxed)
}

const fn flag(level: Level) -> PageLevel {
    match level.0 {
        1 => PageLevel::PT,
        2 => PageLevel::PD,
        3 => PageLevel::PDP,
        _ => PageLevel::PML4,
    }
}

/// Announces a table with what it holds.
#[inline]
fn announce_as(frame: PhysFrame, flags: u64) {
    // SAFETY: the frame is a table from now on; nothing leads to it yet.
    unsafe {
        vmi_system_v!(AllocatePage, "rdi" = frame.0, "rsi" = flags, "rdx" = 0u64, "rcx" = 0u64, "r8" = 0u64);
    }
}

/// Announces a table that is about to be linked. All but a root are empty.
#[inline]
pub fn announce(frame: PhysFrame, level: Level) {
    let content = if level == Level::ROOT { 0 } else { PageUse::ZEROED.bits() };
    announce_as(frame, flag(level).bits() | content);
}

/// Says that a frame is no table any more.
#[inline]
pub fn release(frame: PhysFrame, level: Level) {
    // SAFETY: nothing leads to the table.
    unsafe { vmi_system_v!(ReleasePage, "rdi" = frame.0, "rsi" = flag(level).bits()) };
}

/// Announces the first tables of the kernel's own, from the pages up, with what they hold.
pub fn adopt(root: PhysFrame, memory_end: PhysAddr) {
    let pages = memory_end.0.div_ceil(PAGE_SIZE);
    // SAFETY: the direct map shows all memory from its start on; the first page tables have its first 4 GiB there too.
    unsafe {
        vmi_system_v!(SetLinearMapping, "rdi" = 0u64, "rsi" = DIRECT_MAP.0, "rdx" = pages, "rcx" = 0u64);
    }
    adopt_below(root, Level::ROOT);
}

fn adopt_below(frame: PhysFrame, level: Level) {
    if level > Level::LEAF {
        // SAFETY: a table below 4 GiB, complete and not changed meanwhile.
        for slot in unsafe { direct_table(frame) } {
            let entry = Entry(slot.load(Relaxed));
            if entry.is_present() && entry.0 & Entry::LARGE == 0 {
                adopt_below(entry.frame(), Level(level.0 - 1));
            }
        }
    }
    announce_as(frame, flag(level).bits());
}

/// Writes an entry, at once unless a batch is under way.
#[inline(always)]
pub fn set(slot: &AtomicU64, entry: Entry, level: Level) {
    // SAFETY: an entry of an announced table, reached through the direct map.
    unsafe {
        vmi!(
            SetPxELong,
            inout("rdi") entry.0 => _,
            inout("rsi") slot.as_ptr() => _,
            inout("rdx") flag(level).bits() => _,
            inout("rcx") 0u64 => _,
            out("rax") _,
        );
    }
}

fn set_lazy_mode(mode: LazyMode) {
    // SAFETY: batches do not nest, and begin and end with interrupts disabled.
    unsafe { vmi_system_v!(SetLazyMode, "rdi" = mode as u64) };
}

/// Does `work`, whose updates may be put off until its end.
#[inline(always)]
pub fn batch<R>(work: impl FnOnce() -> R) -> R {
    // What is put off is this CPU's: the task must not go on elsewhere meanwhile.
    let guard = IrqGuard::<VmiMachine>::disable();
    let deferring = is_bound();
    if deferring {
        set_lazy_mode(LazyMode::Mmu);
    }
    let result = work();
    if deferring {
        set_lazy_mode(LazyMode::Off);
    }
    drop(guard);
    result
}

/// Until [`end_switch`] changes of the CPU's state may be put off.
#[inline(always)]
pub fn begin_switch() {
    set_lazy_mode(LazyMode::Cpu);
}

/// Ends it.
#[inline(always)]
pub fn end_switch() {
    set_lazy_mode(LazyMode::Off);
}
