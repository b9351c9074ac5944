//! The interrupt descriptor table, one for all CPUs, and where system calls arrive.

use core::cell::UnsafeCell;

use platform::{Kernel, TrapFrame};
use x86_64::PrivilegeLevel;
use x86_64::VirtAddr;
use x86_64::registers::rflags::RFlags;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::idt::{Entry, EntryOptions, InterruptDescriptorTable};

use super::entry;
use crate::cpu::segments::ExceptionStackIndex;
use crate::machine::Machine;

const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_CSTAR: u32 = 0xc000_0083;

struct Table(UnsafeCell<Option<InterruptDescriptorTable>>);

// SAFETY: written once, by the boot CPU before any other runs; read-only afterwards.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new(None));

/// Fills the table.
///
/// # Safety
/// Once, on the boot CPU, before any other CPU runs.
pub unsafe fn build<K: Kernel, M: Machine>() {
    // SAFETY: nothing else uses the table yet.
    let table: &mut InterruptDescriptorTable =
        unsafe { (*TABLE.0.get()).insert(InterruptDescriptorTable::new()) };

    macro_rules! gate {
        ($field:expr, $stub:expr) => {{
            let address = $stub as *const () as u64;
            // SAFETY: the stub is made for this vector.
            unsafe { set(&mut $field, address) }
        }};
    }
    gate!(table.divide_error, entry::exception_stub::<K, M, 0>);
    gate!(table.debug, entry::exception_stub::<K, M, 1>);
    // User mode may use these two by instruction.
    gate!(table.breakpoint, entry::exception_stub::<K, M, 3>).set_privilege_level(PrivilegeLevel::Ring3);
    gate!(table.overflow, entry::exception_stub::<K, M, 4>).set_privilege_level(PrivilegeLevel::Ring3);
    gate!(table.bound_range_exceeded, entry::exception_stub::<K, M, 5>);
    gate!(table.invalid_opcode, entry::exception_stub::<K, M, 6>);
    gate!(table.device_not_available, entry::exception_stub::<K, M, 7>);
    gate!(table.invalid_tss, entry::exception_with_code_stub::<K, M, 10>);
    gate!(table.segment_not_present, entry::exception_with_code_stub::<K, M, 11>);
    gate!(table.stack_segment_fault, entry::exception_with_code_stub::<K, M, 12>);
    gate!(table.general_protection_fault, entry::exception_with_code_stub::<K, M, 13>);
    gate!(table.page_fault, entry::page_fault_entry::<K, M>);
    gate!(table.x87_floating_point, entry::exception_stub::<K, M, 16>);
    gate!(table.alignment_check, entry::exception_with_code_stub::<K, M, 17>);
    gate!(table.simd_floating_point, entry::exception_stub::<K, M, 19>);
    gate!(table.virtualization, entry::exception_stub::<K, M, 20>);
    gate!(table.cp_protection_exception, entry::exception_with_code_stub::<K, M, 21>);
    gate!(table.hv_injection_exception, entry::exception_stub::<K, M, 28>);
    gate!(table.vmm_communication_exception, entry::exception_with_code_stub::<K, M, 29>);
    gate!(table.security_exception, entry::exception_with_code_stub::<K, M, 30>);

    for (address, index) in [
        (
            entry::stacked_exception_with_code_stub::<K, M, 8> as *const () as u64,
            ExceptionStackIndex::DoubleFault,
        ),
        (entry::stacked_exception_stub::<K, M, 2> as *const () as u64, ExceptionStackIndex::NonMaskable),
        (entry::stacked_exception_stub::<K, M, 18> as *const () as u64, ExceptionStackIndex::MachineCheck),
    ] {
        let address = VirtAddr::new(address);
        // SAFETY: the stubs are made for these vectors, and every CPU has the stacks.
        unsafe {
            match index {
                ExceptionStackIndex::DoubleFault => table.double_fault.set_handler_addr(address),
                ExceptionStackIndex::NonMaskable => table.non_maskable_interrupt.set_handler_addr(address),
                ExceptionStackIndex::MachineCheck => table.machine_check.set_handler_addr(address),
            }
            .set_stack_index(index as u16);
        }
    }

    let stubs = (entry::interrupt_stubs::<K, M> as *const () as u64).next_multiple_of(entry::STUB_BYTES);
    for (n, gate) in table.slice_mut(entry::FIRST_INTERRUPT as u8..).iter_mut().enumerate() {
        // SAFETY: the stub is made for this vector.
        unsafe { set(gate, stubs + n as u64 * entry::STUB_BYTES) };
    }
}

/// Points a gate at a stub, with interrupts disabled on entry.
///
/// # Safety
/// The stub at `address` is made for the gate's vector.
unsafe fn set<F>(gate: &mut Entry<F>, address: u64) -> &mut EntryOptions {
    // SAFETY: as the caller promised.
    unsafe { gate.set_handler_addr(VirtAddr::new(address)) }
}

/// Makes this CPU take traps and system calls.
///
/// # Safety
/// [`build`] has run, and this CPU's segments are loaded.
pub unsafe fn load<K: Kernel, M: Machine>() {
    let table = TABLE.0.get();
    let pointer = DescriptorTablePointer {
        limit: (size_of::<InterruptDescriptorTable>() - 1) as u16,
        // SAFETY: built before, and never changed again.
        base: VirtAddr::new(unsafe { (*table).as_ref() }.map_or(0, |table| &raw const *table as u64)),
    };
    let system_call = entry::system_call_entry::<K, M> as *const () as u64;
    let masked = RFlags::INTERRUPT_FLAG
        | RFlags::TRAP_FLAG
        | RFlags::DIRECTION_FLAG
        | RFlags::ALIGNMENT_CHECK
        | RFlags::NESTED_TASK
        | RFlags::IOPL_LOW
        | RFlags::IOPL_HIGH
        | RFlags::RESUME_FLAG;
    // `syscall` loads the kernel's selectors, `sysretq` user mode's: 16 and 8 above the first word.
    let selectors = TrapFrame::USER_CODE_32 << 48 | TrapFrame::KERNEL_CODE << 32;
    // SAFETY: the gates and the entry take what the processor delivers. Nobody uses `sysenter`: a null code selector
    // makes it fault.
    unsafe {
        M::load_idt(&pointer);
        M::set_system_call(platform::VirtAddr(system_call), selectors, masked.bits());
        M::write_msr(IA32_SYSENTER_CS, 0);
        // Compatibility mode cannot be entered; an address of ours is still better than none.
        M::write_msr(IA32_CSTAR, system_call);
    }
}
