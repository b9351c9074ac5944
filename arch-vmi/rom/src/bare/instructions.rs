//! Calls that are an instruction or two: those with that instruction's registers, those that change flags only, and
//! those that are jumped to.

use core::arch::naked_asm;

/// In the strict ROM a call changes the flags it may change.
#[cfg(feature = "strict")]
macro_rules! disturb_flags {
    () => {
        "cmp rsp, -1\nstc\n"
    };
}
#[cfg(not(feature = "strict"))]
macro_rules! disturb_flags {
    () => {
        ""
    };
}

macro_rules! instruction {
    ($($name:ident: $($line:literal),*;)*) => {$(
        #[unsafe(naked)]
        pub extern "C" fn $name() {
            naked_asm!($($line,)* disturb_flags!(), "ret")
        }
    )*};
}

instruction! {
    cpuid: "cpuid";
    wrmsr: "wrmsr";
    rdmsr: "rdmsr";
    rdpmc: "rdpmc";
    rdtsc: "rdtsc";
    inl: "in eax, dx";
    inb: "in al, dx";
    inw: "in ax, dx";
    insl: "rep insd";
    insb: "rep insb";
    insw: "rep insw";
    outl: "out dx, eax";
    outb: "out dx, al";
    outw: "out dx, ax";
    outsl: "rep outsd";
    outsb: "rep outsb";
    outsw: "rep outsw";
    enable_interrupts: "sti";
    disable_interrupts: "cli";
    get_interrupt_mask: "pushfq", "pop rax";
    set_interrupt_mask: "test edi, 0x200", "jz 2f", "sti", "jmp 3f", "2: cli", "3:";
    swap_gs: "swapgs";
    user_access_begin: "stac";
    user_access_end: "clac";
}

/// IRET.
#[cfg(not(feature = "strict"))]
#[unsafe(naked)]
pub extern "C" fn iret() {
    naked_asm!(".globl vmi_rom_iret_fault", "vmi_rom_iret_fault:", "iretq")
}

/// SYSRET.
#[cfg(not(feature = "strict"))]
#[unsafe(naked)]
pub extern "C" fn sysret() {
    naked_asm!("sysretq")
}

/// IRET: a frame of user mode enables interrupts.
#[cfg(feature = "strict")]
#[unsafe(naked)]
pub extern "C" fn iret() {
    naked_asm!(
        "test byte ptr [rsp + 8], 3",
        "jz 2f",
        "test dword ptr [rsp + 16], 0x200",
        "jz {broken}",
        "2:",
        ".globl vmi_rom_iret_fault",
        "vmi_rom_iret_fault:",
        "iretq",
        broken = sym super::rules::interrupts_off_in_user_mode,
    )
}

/// SYSRET: user mode has interrupts enabled, and RIP is canonical.
#[cfg(feature = "strict")]
#[unsafe(naked)]
pub extern "C" fn sysret() {
    naked_asm!(
        "test r11d, 0x200",
        "jz {broken}",
        "sysretq",
        broken = sym super::rules::interrupts_off_in_user_mode,
    )
}
