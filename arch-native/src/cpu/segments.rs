//! Descriptor tables and the stacks of exceptions that may come at any moment.

use core::sync::atomic::{AtomicPtr, Ordering};

use platform::{CpuId, CpuLocal, MAX_CPUS, TrapFrame};
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{Descriptor, DescriptorFlags, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use crate::machine::Machine;

/// Bytes of an exception's own stack.
const STACK_BYTES: usize = 8192;

/// An exception's own stack. The last two words stay above the frame: the first of them is where the entry code finds
/// this CPU's private data, for such an exception may interrupt code that runs with user mode's GS base.
#[repr(C, align(16))]
pub struct ExceptionStack {
    bytes: [u8; STACK_BYTES - 16],
    local: u64,
    reserved: u64,
}

/// Which stack an exception runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum ExceptionStackIndex {
    /// #DF
    DoubleFault = 0,
    /// NMI
    NonMaskable = 1,
    /// #MC
    MachineCheck = 2,
}

/// What a CPU needs to take traps.
#[repr(C, align(64))]
pub struct CpuTables {
    tss: TaskStateSegment,
    gdt: GlobalDescriptorTable<10>,
    stacks: [ExceptionStack; 3],
}

/// Index of the task state segment's descriptor: behind those of [`TrapFrame`]'s selectors, which are Linux's.
const TSS_INDEX: u16 = 8;

impl CpuTables {
    /// Initializes zeroed memory in place: it is too large for a stack.
    ///
    /// # Safety
    /// `this` is zeroed memory for the tables that nobody else uses.
    pub unsafe fn init(this: *mut Self) {
        let gdt = GlobalDescriptorTable::from_raw_entries(&[
            0,
            0,
            DescriptorFlags::KERNEL_CODE64.bits(),
            DescriptorFlags::KERNEL_DATA.bits(),
            // No 32-bit user code: nothing can enter compatibility mode.
            0,
            DescriptorFlags::USER_DATA.bits(),
            DescriptorFlags::USER_CODE64.bits(),
        ]);
        // SAFETY: as the caller promised.
        unsafe {
            (&raw mut (*this).tss).write(TaskStateSegment::new());
            (&raw mut (*this).gdt).write(gdt);
        }
    }

    /// Loads the tables into this CPU; its segment registers hold null or the selectors of [`TrapFrame`] afterwards.
    ///
    /// # Safety
    /// The tables are initialized and this CPU's alone, stay for ever, and are loaded once.
    pub unsafe fn load<M: Machine>(this: *mut Self) {
        // SAFETY: ours alone, as the caller promised.
        let tables = unsafe { &mut *this };
        for (index, stack) in tables.stacks.iter().enumerate() {
            tables.tss.interrupt_stack_table[index] = VirtAddr::new(&raw const stack.local as u64);
        }
        // SAFETY: the segment stays for ever.
        let descriptor = unsafe { Descriptor::tss_segment_unchecked(&raw const tables.tss) };
        while tables.gdt.entries().len() < usize::from(TSS_INDEX) {
            tables.gdt.append(Descriptor::UserSegment(0));
        }
        tables.gdt.append(descriptor);
        let pointer = Self::gdt(tables);
        // The kernel stays at the privilege level it has been given.
        let level = super::privilege_level();
        let selector = |given: u64| SegmentSelector::new((given >> 3) as u16, level);
        // SAFETY: the table stays for ever and has the descriptors these selectors name.
        unsafe {
            M::load_gdt(&pointer);
            CS::set_reg(selector(TrapFrame::KERNEL_CODE));
            SS::set_reg(selector(TrapFrame::KERNEL_DATA));
            for set in [DS::set_reg, ES::set_reg, FS::set_reg, GS::set_reg] {
                set(SegmentSelector::NULL);
            }
            M::load_task_register(TSS_INDEX << 3);
        }
    }

    /// What `lgdt` takes.
    #[inline]
    pub fn gdt(this: *const Self) -> DescriptorTablePointer {
        // SAFETY: the tables are initialized.
        let gdt = unsafe { &(*this).gdt };
        DescriptorTablePointer { limit: gdt.limit(), base: VirtAddr::from_ptr(gdt.entries().as_ptr()) }
    }

    /// Address of the task state segment.
    pub fn tss(this: *const Self) -> u64 {
        // SAFETY: only the address of the field is taken.
        unsafe { &raw const (*this).tss as u64 }
    }

    /// Lets exceptions with their own stacks find the CPU's private data.
    ///
    /// # Safety
    /// `this` is loaded on the current CPU, with interrupts disabled.
    pub unsafe fn set_local(this: *mut Self, local: *const CpuLocal) {
        for index in 0..3 {
            // SAFETY: in bounds; only the entry code of this CPU reads the word, and it is written at once.
            unsafe { (&raw mut (*this).stacks[index].local).write_volatile(local as u64) };
        }
    }
}

static TABLES: [AtomicPtr<CpuTables>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];

/// Remembers the tables of `cpu`.
pub fn register(cpu: CpuId, tables: *mut CpuTables) {
    TABLES[cpu.index()].store(tables, Ordering::Relaxed);
}

/// The tables of `cpu`, null before it started.
pub fn tables(cpu: CpuId) -> *mut CpuTables {
    TABLES[cpu.index()].load(Ordering::Relaxed)
}
