//! Programs for user mode: position-independent, without a stack of their own needs, ended by a system call.

/// Defines a function that returns a program's bytes.
macro_rules! program {
    ($(#[$documentation:meta])* $name:ident: $($line:literal)*) => {
        core::arch::global_asm!(
            ".pushsection .rodata.programs, \"a\", @progbits",
            concat!(".globl conformance_program_", stringify!($name)),
            concat!(".globl conformance_program_", stringify!($name), "_end"),
            concat!("conformance_program_", stringify!($name), ":"),
            $($line,)*
            concat!("conformance_program_", stringify!($name), "_end:"),
            ".popsection",
        );

        $(#[$documentation])*
        pub fn $name() -> &'static [u8] {
            unsafe extern "C" {
                #[link_name = concat!("conformance_program_", stringify!($name))]
                static START: u8;
                #[link_name = concat!("conformance_program_", stringify!($name), "_end")]
                static END: u8;
            }
            // SAFETY: both labels lie in one section, the second behind the first.
            unsafe {
                let start = &raw const START;
                core::slice::from_raw_parts(start, (&raw const END).offset_from_unsigned(start))
            }
        }
    };
}

program! {
    /// Reads the word at RDI to RAX.
    read: "mov rax, [rdi]" "syscall" "ud2"
}

program! {
    /// Writes RSI to the word at RDI.
    write: "mov [rdi], rsi" "syscall" "ud2"
}

program! {
    /// Jumps to RDI.
    jump: "jmp rdi"
}

program! {
    /// A system call and then an undefined instruction: shows the registers as they came, then as they went back.
    call: "syscall" "ud2"
}

program! {
    /// One system call after another.
    again: "2:" "syscall" "jmp 2b"
}

program! {
    /// Sets the direction flag before a system call.
    backwards: "std" "syscall" "ud2"
}

program! {
    /// Counts in the word at RDI for ever.
    count: "2:" "add qword ptr [rdi], 1" "pause" "jmp 2b"
}

program! {
    /// Counts in RBX until the word at RDI is not zero.
    spin: "2:" "add rbx, 1" "pause" "cmp qword ptr [rdi], 0" "je 2b" "syscall" "ud2"
}

program! {
    /// Divides by zero.
    divide: "xor edx, edx" "xor ecx, ecx" "div ecx" "ud2"
}

program! {
    /// An undefined instruction at the very start.
    undefined: "ud2"
}

program! {
    /// A breakpoint.
    breakpoint: "int3" "ud2"
}

program! {
    /// An instruction that user mode may not execute.
    privileged: "hlt" "ud2"
}

program! {
    /// Loads XMM0 to XMM15 from RDI; after a system call, stores them at RDX.
    vectors:
        "movups xmm0, [rdi]" "movups xmm1, [rdi+16]" "movups xmm2, [rdi+32]" "movups xmm3, [rdi+48]"
        "movups xmm4, [rdi+64]" "movups xmm5, [rdi+80]" "movups xmm6, [rdi+96]" "movups xmm7, [rdi+112]"
        "movups xmm8, [rdi+128]" "movups xmm9, [rdi+144]" "movups xmm10, [rdi+160]" "movups xmm11, [rdi+176]"
        "movups xmm12, [rdi+192]" "movups xmm13, [rdi+208]" "movups xmm14, [rdi+224]" "movups xmm15, [rdi+240]"
        "syscall"
        "movups [rdx], xmm0" "movups [rdx+16], xmm1" "movups [rdx+32], xmm2" "movups [rdx+48], xmm3"
        "movups [rdx+64], xmm4" "movups [rdx+80], xmm5" "movups [rdx+96], xmm6" "movups [rdx+112], xmm7"
        "movups [rdx+128], xmm8" "movups [rdx+144], xmm9" "movups [rdx+160], xmm10" "movups [rdx+176], xmm11"
        "movups [rdx+192], xmm12" "movups [rdx+208], xmm13" "movups [rdx+224], xmm14" "movups [rdx+240], xmm15"
        "syscall" "ud2"
}

program! {
    /// Stores MXCSR and the x87 control word at RDI and RDI+8.
    controls: "stmxcsr [rdi]" "fnstcw [rdi+8]" "syscall" "ud2"
}

program! {
    /// Reads FS:0 to R8 and GS:0 to R9.
    bases: "mov r8, fs:[0]" "mov r9, gs:[0]" "syscall" "ud2"
}

program! {
    /// Calls the function at RBX with RDI, its return address on the stack.
    call_function: "call rbx" "syscall" "ud2"
}
