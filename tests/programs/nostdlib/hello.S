# Says hello with two system calls and exits with the number of its arguments.
    .globl _start
    .text
_start:
    mov $1, %eax            # write(1, text, length)
    mov $1, %edi
    lea text(%rip), %rsi
    mov $length, %edx
    syscall
    mov (%rsp), %edi        # exit_group(argc)
    mov $231, %eax
    syscall
    ud2

    .section .rodata
text:
    .ascii "hello from assembly\n"
    .set length, . - text
