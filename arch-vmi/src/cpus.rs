//! What the hypervisor is told of each CPU: its memory, and what it starts with.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arch_native::cpu::local::current_cpu;
use arch_native::cpu::privilege_level;
use arch_native::machine::SecondaryState;
use platform::{CpuId, PAGE_SIZE, TrapFrame, Unusable};
use vmi_abi::{ApState, TablePointer};

use crate::call::{vmi, vmi_system_v};
use crate::{rom, tables};

/// A page for the hypervisor.
#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; PAGE_SIZE as usize]>);

// SAFETY: the kernel does not touch it.
unsafe impl Sync for Page {}

/// The boot CPU's.
static BOOT_CPU: Page = Page(UnsafeCell::new([0; PAGE_SIZE as usize]));
/// That of the CPU that is being started; 0 once it has taken it.
static NEXT: AtomicU64 = AtomicU64::new(0);

fn cpu_bytes() -> u32 {
    rom::placed().map_or(0, |placed| placed.found.header.cpu_bytes)
}

/// Gives the hypervisor what it keeps for this CPU, whose local APIC is mapped at `apic`.
pub fn bind(apic: u64) -> Result<(), Unusable> {
    let memory = match cpu_bytes() {
        0 => 0,
        _ if current_cpu() == CpuId(0) => BOOT_CPU.0.get() as u64,
        _ => NEXT.swap(0, Relaxed),
    };
    // What it stays where the ROM wants no such call.
    let mut result = 0i64;
    // SAFETY: zeroed memory of a page that nobody else uses; GS is this CPU's, and interrupts are disabled.
    unsafe {
        vmi!(
            BindCpu,
            in("rdi") memory,
            in("rsi") apic,
            inout("rax") result,
            clobber_abi("sysv64"),
        );
    }
    if result != 0 {
        return Err(Unusable("the VMI ROM refused a CPU"));
    }
    tables::set_bound();
    Ok(())
}

/// Says what the CPU whose APIC's identity is `apic` starts with; its start-up interrupt's vector.
///
/// # Safety
/// No other CPU is being started; `start` is such as the code there expects.
pub unsafe fn set_start(apic: u32, start: &SecondaryState) -> Option<u8> {
    if cpu_bytes() != 0 && NEXT.load(Relaxed) == 0 {
        let layout = Layout::from_size_align(PAGE_SIZE as usize, PAGE_SIZE as usize).ok()?;
        // SAFETY: the layout is not empty.
        let page = unsafe { alloc::alloc::alloc_zeroed(layout) };
        if page.is_null() {
            return None;
        }
        NEXT.store(page as u64, Relaxed);
    }
    let level = privilege_level() as u16;
    let gdt = start.gdt;
    let state = ApState {
        cr0: start.cr0,
        cr3: start.cr3,
        cr4: start.cr4,
        efer: start.efer,
        rip: start.entry.0,
        rflags: 2,
        // As if its first function had been called.
        rsp: start.stack.0 - 8,
        gs_base: start.local.0,
        cs: TrapFrame::KERNEL_CODE as u16 | level,
        ss: TrapFrame::KERNEL_DATA as u16 | level,
        gdtr: TablePointer { limit: gdt.limit, base: gdt.base.as_u64() },
        ..ApState::default()
    };
    let result: i64;
    // SAFETY: the state is complete and the call copies it.
    unsafe {
        vmi_system_v!(SetInitialApState, "rdi" = &raw const state, "rsi" = u64::from(apic); result);
    }
    u8::try_from(result).ok()
}
