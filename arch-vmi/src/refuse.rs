//! Saying why the boot cannot go on before any call can be made: the one piece of code with bare port instructions. It
//! runs before `VMI_Init`, at the level the loader left, or after it has failed.

use core::arch::naked_asm;

use platform::Unusable;

const COM1: u16 = 0x3f8;
/// QEMU's `isa-debugcon`.
const DEBUG_CONSOLE: u16 = 0xe9;
/// The kernel's exit value for a boot that could not go on.
const UNUSABLE: u32 = 102;

/// Writes the reason to the console and to the channel, and ends the machine.
pub fn refuse(reason: Unusable) -> ! {
    let line = |port: u16, before: &str, end: &str| {
        for text in [before, reason.0, end] {
            // SAFETY: the text lies where the pointer says; the ports are the console's, or nothing answers there.
            unsafe { write(port, text.as_ptr(), text.len()) };
        }
    };
    line(COM1, "monoguest: cannot run on this machine: ", "\r\n");
    line(DEBUG_CONSOLE, "unusable ", "\n");
    // SAFETY: nothing else is to run.
    unsafe { end(UNUSABLE) }
}

#[unsafe(naked)]
#[unsafe(link_section = ".text.vmi_refuse")]
unsafe extern "C" fn write(port: u16, text: *const u8, bytes: usize) {
    naked_asm!("mov rcx, rdx", "mov edx, edi", "rep outsb", "ret")
}

/// QEMU's `isa-debug-exit` is at 0xf4.
#[unsafe(naked)]
#[unsafe(link_section = ".text.vmi_refuse")]
unsafe extern "C" fn end(value: u32) -> ! {
    naked_asm!("mov eax, edi", "out 0xf4, eax", "2:", "cli", "hlt", "jmp 2b")
}
