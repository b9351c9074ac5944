//! The general registers on a stack, as `platform::TrapFrame` has them: R15 at the lowest address, RDI at the highest.

/// Assembly that pushes what follows RDI in a frame.
#[macro_export]
macro_rules! push_after_rdi {
    () => {
        "push rsi
         push rdx
         push rcx
         push rax
         push r8
         push r9
         push r10
         push r11
         push rbx
         push rbp
         push r12
         push r13
         push r14
         push r15
        "
    };
}

/// Assembly that takes all general registers of a frame; RSP is at `orig_rax` then.
#[macro_export]
macro_rules! pop_registers {
    () => {
        "pop r15
         pop r14
         pop r13
         pop r12
         pop rbp
         pop rbx
         pop r11
         pop r10
         pop r9
         pop r8
         pop rax
         pop rcx
         pop rdx
         pop rsi
         pop rdi
        "
    };
}
