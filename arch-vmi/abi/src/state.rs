//! How a CPU is to start, and descriptor-table pointers.

use core::mem::{offset_of, size_of};

/// The operand of `lgdt` and `lidt` in 64-bit mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed)]
pub struct TablePointer {
    /// Offset of the table's last byte.
    pub limit: u16,
    /// Linear address of the table.
    pub base: u64,
}

/// The registers a CPU starts with, in the order of version 3, for `SetInitialAPState`.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct ApState {
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub rip: u64,
    pub rflags: u64,
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub cs: u16,
    pub ss: u16,
    pub ds: u16,
    pub es: u16,
    pub fs: u16,
    pub gs: u16,
    pub ldtr: u16,
    pub tr: u16,
    pub gdtr: TablePointer,
    pub idtr: TablePointer,
    /// Zero.
    pub reserved: u32,
}

/// Why `SetInitialAPState` refuses. A result that is not negative is the vector for the start-up interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub enum SetInitialApStateError {
    /// A register holds what a 64-bit CPU cannot start with.
    BadState = -1,
    /// There is no such CPU, or it cannot be started.
    BadCpu = -2,
    /// `VMI_Init` was given no page below 640 KiB, and CPUs cannot start without one.
    NoLowPage = -3,
}

const _: () = {
    assert!(size_of::<TablePointer>() == 10 && offset_of!(TablePointer, base) == 2);
    assert!(size_of::<ApState>() == 240);
    assert!(offset_of!(ApState, efer) == 32);
    assert!(offset_of!(ApState, rip) == 40);
    assert!(offset_of!(ApState, rsp) == 88);
    assert!(offset_of!(ApState, r15) == 176);
    assert!(offset_of!(ApState, fs_base) == 184);
    assert!(offset_of!(ApState, cs) == 200);
    assert!(offset_of!(ApState, gdtr) == 216);
    assert!(offset_of!(ApState, idtr) == 226);
};
