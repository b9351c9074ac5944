//! The code in the image. It is position-independent, uses no stack but for return addresses and two saved registers,
//! and follows the System V ABI.

use core::arch::global_asm;

use platform::PAGE_SIZE;

/// Offset of [`super::Data::reads_clock`].
pub(super) const DATA_READS_CLOCK: usize = 0;
/// Offset of [`super::Data::realtime_offset`].
pub(super) const DATA_REALTIME_OFFSET: usize = 8;

/// Where in the image the code begins.
pub(super) const TEXT_OFFSET: usize = 0x800;
/// Where in the image the platform's function begins.
pub(super) const CLOCK_OFFSET: usize = 0xc00;
/// How long the platform's function may be.
pub(super) const CLOCK_ROOM: usize = PAGE_SIZE as usize - CLOCK_OFFSET;

// CLOCK_REALTIME 0, _COARSE 5, TAI 11; CLOCK_MONOTONIC 1, _RAW 4, _COARSE 6, BOOTTIME 7.
const REALTIME_CLOCKS: u32 = 1 << 0 | 1 << 5 | 1 << 11;
const MONOTONIC_CLOCKS: u32 = 1 << 1 | 1 << 4 | 1 << 6 | 1 << 7;

// Seconds in n nanoseconds are (n >> 9) * SECONDS_FACTOR >> 64 >> 11, for every n of 64 bits.
const SECONDS_FACTOR: u64 = 19_342_813_113_834_067;
// Microseconds in n < 2^30 nanoseconds are n * MICROSECONDS_FACTOR >> 38.
const MICROSECONDS_FACTOR: u32 = 274_877_907;

global_asm!(
    r#"
    .pushsection .rodata.vdso, "a", @progbits
    .balign 16
    .globl vdso_text_start, vdso_text_end
    .globl vdso_clock_gettime, vdso_gettimeofday, vdso_time, vdso_clock_getres, vdso_getcpu
vdso_text_start:
.Lvdso_text:

vdso_clock_gettime:
    cmp edi, 12
    jae 9f
    mov eax, {all_clocks}
    bt eax, edi
    jnc 9f
    cmp dword ptr [rip + .Lvdso_text - {data} + {reads_clock}], 0
    je 9f
    push rdi
    push rsi
    lea rdi, [rip + .Lvdso_text - {clock_data}]
    call .Lvdso_text + {clock_code}
    pop rsi
    pop rdi
    mov ecx, {realtime_clocks}
    bt ecx, edi
    jnc 2f
    add rax, qword ptr [rip + .Lvdso_text - {data} + {realtime_offset}]
2:  mov rcx, rax
    shr rax, 9
    movabs rdx, {seconds}
    mul rdx
    shr rdx, 11
    mov qword ptr [rsi], rdx
    imul rdx, rdx, 1000000000
    sub rcx, rdx
    mov qword ptr [rsi + 8], rcx
    xor eax, eax
    ret
9:  mov eax, 228
    syscall
    ret

    .balign 16
vdso_gettimeofday:
    cmp dword ptr [rip + .Lvdso_text - {data} + {reads_clock}], 0
    je 9f
    test rdi, rdi
    jz 3f
    push rdi
    push rsi
    lea rdi, [rip + .Lvdso_text - {clock_data}]
    call .Lvdso_text + {clock_code}
    pop rsi
    pop rdi
    add rax, qword ptr [rip + .Lvdso_text - {data} + {realtime_offset}]
    mov rcx, rax
    shr rax, 9
    movabs rdx, {seconds}
    mul rdx
    shr rdx, 11
    mov qword ptr [rdi], rdx
    imul rdx, rdx, 1000000000
    sub rcx, rdx
    imul rcx, rcx, {microseconds}
    shr rcx, 38
    mov qword ptr [rdi + 8], rcx
3:  test rsi, rsi
    jz 4f
    mov qword ptr [rsi], 0
4:  xor eax, eax
    ret
9:  mov eax, 96
    syscall
    ret

    .balign 16
vdso_time:
    cmp dword ptr [rip + .Lvdso_text - {data} + {reads_clock}], 0
    je 9f
    push rdi
    push rdi
    lea rdi, [rip + .Lvdso_text - {clock_data}]
    call .Lvdso_text + {clock_code}
    pop rdi
    pop rdi
    add rax, qword ptr [rip + .Lvdso_text - {data} + {realtime_offset}]
    shr rax, 9
    movabs rdx, {seconds}
    mul rdx
    shr rdx, 11
    mov rax, rdx
    test rdi, rdi
    jz 2f
    mov qword ptr [rdi], rax
2:  ret
9:  mov eax, 201
    syscall
    ret

    .balign 16
vdso_clock_getres:
    cmp edi, 12
    jae 9f
    mov eax, {all_clocks}
    bt eax, edi
    jnc 9f
    test rsi, rsi
    jz 2f
    mov qword ptr [rsi], 0
    mov qword ptr [rsi + 8], 1
2:  xor eax, eax
    ret
9:  mov eax, 229
    syscall
    ret

    .balign 16
vdso_getcpu:
    mov eax, 309
    syscall
    ret

vdso_text_end:
    .popsection
    "#,
    all_clocks = const REALTIME_CLOCKS | MONOTONIC_CLOCKS,
    realtime_clocks = const REALTIME_CLOCKS,
    data = const TEXT_OFFSET + PAGE_SIZE as usize,
    clock_data = const TEXT_OFFSET + 2 * PAGE_SIZE as usize,
    clock_code = const CLOCK_OFFSET - TEXT_OFFSET,
    reads_clock = const DATA_READS_CLOCK,
    realtime_offset = const DATA_REALTIME_OFFSET,
    seconds = const SECONDS_FACTOR,
    microseconds = const MICROSECONDS_FACTOR,
);

unsafe extern "C" {
    safe static vdso_text_start: u8;
    safe static vdso_text_end: u8;
    safe static vdso_clock_gettime: u8;
    safe static vdso_gettimeofday: u8;
    safe static vdso_time: u8;
    safe static vdso_clock_getres: u8;
    safe static vdso_getcpu: u8;
}

fn offset(symbol: &u8) -> usize {
    (&raw const *symbol).addr() - (&raw const vdso_text_start).addr()
}

/// The code.
pub(super) fn text() -> &'static [u8] {
    // SAFETY: both labels stand in the one section above, in this order, and what lies between them is read-only.
    unsafe { core::slice::from_raw_parts(&raw const vdso_text_start, offset(&vdso_text_end)) }
}

/// A function of the code.
pub(super) struct Function {
    /// The name the C library looks for.
    pub(super) name: &'static str,
    /// The weak name of the same.
    pub(super) alias: &'static str,
    /// Offset from the beginning of the code.
    pub(super) offset: usize,
}

/// Number of [`functions`].
pub(super) const FUNCTIONS: usize = 5;

/// All of them.
pub(super) fn functions() -> [Function; FUNCTIONS] {
    let function = |name, alias, symbol| Function { name, alias, offset: offset(symbol) };
    [
        function("__vdso_clock_gettime", "clock_gettime", &vdso_clock_gettime),
        function("__vdso_gettimeofday", "gettimeofday", &vdso_gettimeofday),
        function("__vdso_time", "time", &vdso_time),
        function("__vdso_clock_getres", "clock_getres", &vdso_clock_getres),
        function("__vdso_getcpu", "getcpu", &vdso_getcpu),
    ]
}
