//! `VMI_GetRelocationInfo`: where each call's code is, and which type of relocation leads there.

use core::arch::{global_asm, naked_asm};
use core::sync::atomic::Ordering::Relaxed;

use vmi_abi::{Call, RelocationType};

use super::here::here;
use super::machine::{SMAP, TSC_DEADLINE, X2APIC};
use super::{alarm, apic, control, instructions, page_table_calls, power, segments, startup, wall_clock};
use crate::manner::{self, Machine};

/// What is returned in RAX and RDX.
#[repr(C)]
struct Relocation {
    address: u64,
    kind: u64,
}

// SAFETY: the name is the ROM's own.
#[unsafe(no_mangle)]
extern "C" fn vmi_rom_get_reloc(number: u32) -> Relocation {
    let machine = Machine {
        smap: SMAP.load(Relaxed),
        // A write to the timer's entry would end its deadline mode.
        apic_needs_calls: X2APIC.load(Relaxed) || TSC_DEADLINE.load(Relaxed),
    };
    let kind = Call::from_number(number).map_or(RelocationType::None, |call| manner::answer(call, machine));
    let address = match kind {
        RelocationType::None | RelocationType::Nop => 0,
        RelocationType::CallRel | RelocationType::JumpRel => slot(number),
    };
    Relocation { address, kind: kind as u64 }
}

/// Where the code of a call is that has some.
fn slot(number: u32) -> u64 {
    let slots = here!("vmi_rom_slots");
    let place = (slots + 4 * u64::from(number)) as *const i32;
    // SAFETY: calls have numbers below the number of slots.
    let offset = unsafe { place.read() };
    slots.wrapping_add_signed(i64::from(offset))
}

/// Code that makes a System V call and, in the strict ROM, spoils what the call may change.
macro_rules! system_v {
    ($($name:ident = $module:ident :: $function:ident;)*) => {$(
        #[unsafe(naked)]
        extern "C" fn $name() {
            #[cfg(not(feature = "strict"))]
            naked_asm!("jmp {call}", call = sym $module::$function);
            #[cfg(feature = "strict")]
            naked_asm!(
                "call {call}",
                "mov rcx, 0x5a5a5a5a5a5a5a5a",
                "lea rdx, [rcx + 1]",
                "lea rsi, [rcx + 2]",
                "lea rdi, [rcx + 3]",
                "lea r8, [rcx + 4]",
                "lea r9, [rcx + 5]",
                "lea r10, [rcx + 6]",
                "lea r11, [rcx + 7]",
                "stc",
                "ret",
                call = sym $module::$function,
            );
        }
    )*};
}

/// The same for calls that keep R8 to R11.
macro_rules! page_table {
    ($($name:ident = $module:ident :: $function:ident;)*) => {$(
        #[unsafe(naked)]
        extern "C" fn $name() {
            #[cfg(not(feature = "strict"))]
            naked_asm!(
                "push r8",
                "push r9",
                "push r10",
                "push r11",
                "call {call}",
                "pop r11",
                "pop r10",
                "pop r9",
                "pop r8",
                "ret",
                call = sym $module::$function,
            );
            #[cfg(feature = "strict")]
            naked_asm!(
                "push r8",
                "push r9",
                "push r10",
                "push r11",
                "call {call}",
                "pop r11",
                "pop r10",
                "pop r9",
                "pop r8",
                "mov rax, 0x5a5a5a5a5a5a5a5a",
                "lea rcx, [rax + 1]",
                "lea rdx, [rax + 2]",
                "lea rsi, [rax + 3]",
                "lea rdi, [rax + 4]",
                "stc",
                "ret",
                call = sym $module::$function,
            );
        }
    )*};
}

system_v! {
    call_set_gdt = segments::set_gdt;
    call_set_ldt = segments::set_ldt;
    call_set_idt = segments::set_idt;
    call_set_tr = segments::set_tr;
    call_get_gdt = segments::get_gdt;
    call_get_ldt = segments::get_ldt;
    call_get_idt = segments::get_idt;
    call_get_tr = segments::get_tr;
    call_write_descriptor = segments::write_descriptor;
    call_write_gate = segments::write_gate;
    call_update_kernel_stack = segments::update_kernel_stack;
    call_set_cr0 = control::set_cr0;
    call_set_cr2 = control::set_cr2;
    call_set_cr3 = control::set_cr3;
    call_set_cr4 = control::set_cr4;
    call_get_cr0 = control::get_cr0;
    call_get_cr2 = control::get_cr2;
    call_get_cr3 = control::get_cr3;
    call_get_cr4 = control::get_cr4;
    call_wbinvd = control::wbinvd;
    call_set_dr = control::set_dr;
    call_get_dr = control::get_dr;
    call_clts = control::clts;
    call_halt = control::halt;
    call_reboot = power::reboot;
    call_shutdown = power::shutdown;
    call_same_frame = page_table_calls::same_frame;
    call_allocate_page = page_table_calls::allocate_page;
    call_release_page = page_table_calls::release_page;
    call_flush_tlb = page_table_calls::flush_tlb;
    call_set_linear_mapping = page_table_calls::set_linear_mapping;
    call_set_initial_ap_state = startup::set_initial_ap_state;
    call_apic_write = apic::apic_write;
    call_apic_read = apic::apic_read;
    call_io_delay = control::io_delay;
    call_get_cycle_frequency = alarm::get_cycle_frequency;
    call_get_cycle_counter = alarm::get_cycle_counter;
    call_set_alarm = alarm::set_alarm;
    call_cancel_alarm = alarm::cancel_alarm;
    call_get_wallclock_time = wall_clock::get_wallclock_time;
    call_wallclock_updated = wall_clock::wallclock_updated;
    call_set_lazy_mode = control::set_lazy_mode;
    call_set_segment_base = segments::set_segment_base;
    call_get_segment_base = segments::get_segment_base;
    call_load_gs_index = segments::load_gs_index;
    call_set_syscall_entry = segments::set_syscall_entry;
    call_set_xcr0 = control::set_xcr0;
    call_bind_cpu = apic::bind_cpu;
}

page_table! {
    call_set_pxe_long = page_table_calls::set_pxe_long;
    call_update_pxe_long = page_table_calls::update_pxe_long;
    call_inval_page = page_table_calls::inval_page;
}

// Distances from the table itself: the same wherever the ROM lies. Zero where a number has no code.
global_asm!(
    ".pushsection .rodata.slots, \"a\", @progbits",
    ".balign 4",
    "vmi_rom_slots:",
    ".long {cpuid} - vmi_rom_slots", // 0 CPUID
    ".long {wrmsr} - vmi_rom_slots", // 1 WRMSR
    ".long {rdmsr} - vmi_rom_slots", // 2 RDMSR
    ".long {call_set_gdt} - vmi_rom_slots", // 3 SetGDT
    ".long {call_set_ldt} - vmi_rom_slots", // 4 SetLDT
    ".long {call_set_idt} - vmi_rom_slots", // 5 SetIDT
    ".long {call_set_tr} - vmi_rom_slots", // 6 SetTR
    ".long {call_get_gdt} - vmi_rom_slots", // 7 GetGDT
    ".long {call_get_ldt} - vmi_rom_slots", // 8 GetLDT
    ".long {call_get_idt} - vmi_rom_slots", // 9 GetIDT
    ".long {call_get_tr} - vmi_rom_slots", // 10 GetTR
    ".long {call_write_descriptor} - vmi_rom_slots", // 11 WriteGDTEntry
    ".long {call_write_descriptor} - vmi_rom_slots", // 12 WriteLDTEntry
    ".long {call_write_gate} - vmi_rom_slots", // 13 WriteIDTEntry
    ".long {call_update_kernel_stack} - vmi_rom_slots", // 14 UpdateKernelStack
    ".long {call_set_cr0} - vmi_rom_slots", // 15 SetCR0
    ".long {call_set_cr2} - vmi_rom_slots", // 16 SetCR2
    ".long {call_set_cr3} - vmi_rom_slots", // 17 SetCR3
    ".long {call_set_cr4} - vmi_rom_slots", // 18 SetCR4
    ".long {call_get_cr0} - vmi_rom_slots", // 19 GetCR0
    ".long {call_get_cr2} - vmi_rom_slots", // 20 GetCR2
    ".long {call_get_cr3} - vmi_rom_slots", // 21 GetCR3
    ".long {call_get_cr4} - vmi_rom_slots", // 22 GetCR4
    ".long {call_wbinvd} - vmi_rom_slots", // 23 WBINVD
    ".long {call_set_dr} - vmi_rom_slots", // 24 SetDR
    ".long {call_get_dr} - vmi_rom_slots", // 25 GetDR
    ".long {rdpmc} - vmi_rom_slots", // 26 RDPMC
    ".long {rdtsc} - vmi_rom_slots", // 27 RDTSC
    ".long {call_clts} - vmi_rom_slots", // 28 CLTS
    ".long {enable_interrupts} - vmi_rom_slots", // 29 EnableInterrupts
    ".long {disable_interrupts} - vmi_rom_slots", // 30 DisableInterrupts
    ".long {get_interrupt_mask} - vmi_rom_slots", // 31 GetInterruptMask
    ".long {set_interrupt_mask} - vmi_rom_slots", // 32 SetInterruptMask
    ".long {iret} - vmi_rom_slots", // 33 IRET
    ".long 0", // 34
    ".long {call_halt} - vmi_rom_slots", // 35 Halt
    ".long {call_reboot} - vmi_rom_slots", // 36 Reboot
    ".long {call_shutdown} - vmi_rom_slots", // 37 Shutdown
    ".long 0", // 38
    ".long {call_set_pxe_long} - vmi_rom_slots", // 39 SetPxELong
    ".long 0", // 40
    ".long {call_update_pxe_long} - vmi_rom_slots", // 41 UpdatePxELong
    ".long {call_same_frame} - vmi_rom_slots", // 42 MachineToPhysical
    ".long {call_same_frame} - vmi_rom_slots", // 43 PhysicalToMachine
    ".long {call_allocate_page} - vmi_rom_slots", // 44 AllocatePage
    ".long {call_release_page} - vmi_rom_slots", // 45 ReleasePage
    ".long {call_inval_page} - vmi_rom_slots", // 46 InvalPage
    ".long {call_flush_tlb} - vmi_rom_slots", // 47 FlushTLB
    ".long {call_set_linear_mapping} - vmi_rom_slots", // 48 SetLinearMapping
    ".long {inl} - vmi_rom_slots", // 49 INL
    ".long {inb} - vmi_rom_slots", // 50 INB
    ".long {inw} - vmi_rom_slots", // 51 INW
    ".long {insl} - vmi_rom_slots", // 52 INSL
    ".long {insb} - vmi_rom_slots", // 53 INSB
    ".long {insw} - vmi_rom_slots", // 54 INSW
    ".long {outl} - vmi_rom_slots", // 55 OUTL
    ".long {outb} - vmi_rom_slots", // 56 OUTB
    ".long {outw} - vmi_rom_slots", // 57 OUTW
    ".long {outsl} - vmi_rom_slots", // 58 OUTSL
    ".long {outsb} - vmi_rom_slots", // 59 OUTSB
    ".long {outsw} - vmi_rom_slots", // 60 OUTSW
    ".long 0", // 61
    ".long {call_set_initial_ap_state} - vmi_rom_slots", // 62 SetInitialAPState
    ".long {call_apic_write} - vmi_rom_slots", // 63 APICWrite
    ".long {call_apic_read} - vmi_rom_slots", // 64 APICRead
    ".long {call_io_delay} - vmi_rom_slots", // 65 IODelay
    ".long {call_get_cycle_frequency} - vmi_rom_slots", // 66 GetCycleFrequency
    ".long {call_get_cycle_counter} - vmi_rom_slots", // 67 GetCycleCounter
    ".long {call_set_alarm} - vmi_rom_slots", // 68 SetAlarm
    ".long {call_cancel_alarm} - vmi_rom_slots", // 69 CancelAlarm
    ".long {call_get_wallclock_time} - vmi_rom_slots", // 70 GetWallclockTime
    ".long {call_wallclock_updated} - vmi_rom_slots", // 71 WallclockUpdated
    ".long 0", // 72
    ".long {call_set_lazy_mode} - vmi_rom_slots", // 73 SetLazyMode
    ".long {sysret} - vmi_rom_slots", // 74 SYSRET
    ".long {swap_gs} - vmi_rom_slots", // 75 SWAPGS
    ".long {call_set_segment_base} - vmi_rom_slots", // 76 SetSegmentBase
    ".long {call_get_segment_base} - vmi_rom_slots", // 77 GetSegmentBase
    ".long {call_load_gs_index} - vmi_rom_slots", // 78 LoadGSIndex
    ".long {call_set_syscall_entry} - vmi_rom_slots", // 79 SetSyscallEntry
    ".long {call_set_xcr0} - vmi_rom_slots", // 80 SetXCR0
    ".long {user_access_begin} - vmi_rom_slots", // 81 UserAccessBegin
    ".long {user_access_end} - vmi_rom_slots", // 82 UserAccessEnd
    ".long 0", // 83 SyscallSwapGS
    ".long {call_bind_cpu} - vmi_rom_slots", // 84 BindCPU
    ".popsection",
    cpuid = sym instructions::cpuid,
    wrmsr = sym instructions::wrmsr,
    rdmsr = sym instructions::rdmsr,
    call_set_gdt = sym call_set_gdt,
    call_set_ldt = sym call_set_ldt,
    call_set_idt = sym call_set_idt,
    call_set_tr = sym call_set_tr,
    call_get_gdt = sym call_get_gdt,
    call_get_ldt = sym call_get_ldt,
    call_get_idt = sym call_get_idt,
    call_get_tr = sym call_get_tr,
    call_write_descriptor = sym call_write_descriptor,
    call_write_gate = sym call_write_gate,
    call_update_kernel_stack = sym call_update_kernel_stack,
    call_set_cr0 = sym call_set_cr0,
    call_set_cr2 = sym call_set_cr2,
    call_set_cr3 = sym call_set_cr3,
    call_set_cr4 = sym call_set_cr4,
    call_get_cr0 = sym call_get_cr0,
    call_get_cr2 = sym call_get_cr2,
    call_get_cr3 = sym call_get_cr3,
    call_get_cr4 = sym call_get_cr4,
    call_wbinvd = sym call_wbinvd,
    call_set_dr = sym call_set_dr,
    call_get_dr = sym call_get_dr,
    rdpmc = sym instructions::rdpmc,
    rdtsc = sym instructions::rdtsc,
    call_clts = sym call_clts,
    enable_interrupts = sym instructions::enable_interrupts,
    disable_interrupts = sym instructions::disable_interrupts,
    get_interrupt_mask = sym instructions::get_interrupt_mask,
    set_interrupt_mask = sym instructions::set_interrupt_mask,
    iret = sym instructions::iret,
    call_halt = sym call_halt,
    call_reboot = sym call_reboot,
    call_shutdown = sym call_shutdown,
    call_set_pxe_long = sym call_set_pxe_long,
    call_update_pxe_long = sym call_update_pxe_long,
    call_same_frame = sym call_same_frame,
    call_allocate_page = sym call_allocate_page,
    call_release_page = sym call_release_page,
    call_inval_page = sym call_inval_page,
    call_flush_tlb = sym call_flush_tlb,
    call_set_linear_mapping = sym call_set_linear_mapping,
    inl = sym instructions::inl,
    inb = sym instructions::inb,
    inw = sym instructions::inw,
    insl = sym instructions::insl,
    insb = sym instructions::insb,
    insw = sym instructions::insw,
    outl = sym instructions::outl,
    outb = sym instructions::outb,
    outw = sym instructions::outw,
    outsl = sym instructions::outsl,
    outsb = sym instructions::outsb,
    outsw = sym instructions::outsw,
    call_set_initial_ap_state = sym call_set_initial_ap_state,
    call_apic_write = sym call_apic_write,
    call_apic_read = sym call_apic_read,
    call_io_delay = sym call_io_delay,
    call_get_cycle_frequency = sym call_get_cycle_frequency,
    call_get_cycle_counter = sym call_get_cycle_counter,
    call_set_alarm = sym call_set_alarm,
    call_cancel_alarm = sym call_cancel_alarm,
    call_get_wallclock_time = sym call_get_wallclock_time,
    call_wallclock_updated = sym call_wallclock_updated,
    call_set_lazy_mode = sym call_set_lazy_mode,
    sysret = sym instructions::sysret,
    swap_gs = sym instructions::swap_gs,
    call_set_segment_base = sym call_set_segment_base,
    call_get_segment_base = sym call_get_segment_base,
    call_load_gs_index = sym call_load_gs_index,
    call_set_syscall_entry = sym call_set_syscall_entry,
    call_set_xcr0 = sym call_set_xcr0,
    user_access_begin = sym instructions::user_access_begin,
    user_access_end = sym instructions::user_access_end,
    call_bind_cpu = sym call_bind_cpu,
);
