# Looks at the stack a program is started with, as the ABI promises it, before anything has touched it.
# Exit status 0 if all is well, otherwise the number of the first promise broken.
    .globl _start
    .text
_start:
    mov $1, %edi            # 1: the stack pointer is a multiple of 16
    test $15, %rsp
    jnz done
    inc %edi                # 2: at least one argument
    mov (%rsp), %rax
    test %rax, %rax
    jz done
    inc %edi                # 3: the arguments end with null
    cmpq $0, 8(%rsp,%rax,8)
    jne done
    inc %edi                # 4: the first argument is a string that is not empty
    mov 8(%rsp), %rsi
    cmpb $0, (%rsi)
    je done
    lea 16(%rsp,%rax,8), %rbx
environment:                # skip the environment
    add $8, %rbx
    cmpq $0, -8(%rbx)
    jne environment
    inc %edi                # 5: the auxiliary vector holds the page size
    xor %ecx, %ecx
auxiliary:
    mov (%rbx), %rax
    mov 8(%rbx), %rdx
    add $16, %rbx
    test %rax, %rax
    jz ended
    cmp $6, %rax
    jne auxiliary
    cmp $4096, %rdx
    jne done
    inc %ecx
    jmp auxiliary
ended:
    cmp $1, %ecx
    jne done
    inc %edi                # 6: the direction flag is clear
    pushfq
    pop %rax
    test $0x400, %eax
    jnz done
    inc %edi                # 7: MXCSR is at its default
    push %rax
    stmxcsr (%rsp)
    pop %rax
    cmp $0x1f80, %eax
    jne done
    inc %edi                # 8: so is the x87 control word
    push %rax
    fnstcw (%rsp)
    pop %rax
    cmp $0x37f, %ax
    jne done
    inc %edi                # 9: zero-initialized data is zero
    cmpq $0, zero(%rip)
    jne done
    xor %edi, %edi
done:
    mov $231, %eax
    syscall
    ud2

    .bss
zero:
    .skip 65536
