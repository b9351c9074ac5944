//! The guest that breaks one rule a life, in an order: the host ends each with a line that names the rule.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lguest_abi::{BootInfo, FREE, Hypercall, KERNEL_HALF, PENDING, ShutdownReason};

use crate::attack::{fill_page, initialize};
use crate::call::{DATA, call, failed, physical, print, raw, shut_down};
use crate::devices::Bus;
use crate::entry::PIECE_BYTES;
use crate::space::{self, MEMORY_AT, ROOTS, SCRATCH, USER_CODE, table};

/// What has been done before a rule is broken.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Nothing.
    Start,
    /// LGUEST_INIT.
    Initialized,
    /// The first NEW_PGTABLE too.
    OnTables,
}

use Stage::{Initialized, OnTables, Start};

/// How a rule is broken, and after what.
type Breach = (Stage, fn(&BootInfo));

/// The host's own top-level entry, and its first address.
const HOST_ENTRY: u64 = 448;
const HOST: u64 = 0xffff_e000_0000_0000;
/// An address in the kernel half where nothing is mapped.
const NOWHERE: u64 = 0xffff_9000_0000_0000;
/// A top-level entry that nothing depends on, and the first address below it.
const FREE_ENTRY: u64 = 9;
const FREE_AT: u64 = FREE_ENTRY << 39;
const LARGE: u64 = 1 << 7;

const BREACHES: &[Breach] = &[
    // init-first, init-once
    (Start, |_| _ = call(Hypercall::GetTime, [0; 3])),
    (Initialized, |_| _ = call(Hypercall::LguestInit, [physical(&raw const DATA), 0, 0])),
    // unknown-hypercall: 3 was lguest's LOAD_GDT
    (Initialized, |_| _ = raw(3, [0; 3])),
    (Initialized, |_| _ = raw(u64::MAX, [0; 3])),
    // address-outside-memory
    (Start, |facts| _ = call(Hypercall::LguestInit, [facts.memory_bytes, 0, 0])),
    (Initialized, |facts| _ = call(Hypercall::Notify, [facts.memory_bytes - 1, 2, 0])),
    (Initialized, |_| _ = call(Hypercall::ConsoleRead, [u64::MAX, 4096, 0])),
    (Initialized, |facts| _ = call(Hypercall::NewPgtable, [facts.memory_bytes, 0, 0])),
    (Initialized, |facts| {
        _ = call(Hypercall::Shutdown, [facts.memory_bytes, ShutdownReason::PowerOff as u64, 0])
    }),
    // unaligned-address
    (Start, |_| _ = call(Hypercall::LguestInit, [physical(&raw const DATA) + 8, 0, 0])),
    (Initialized, |_| _ = call(Hypercall::NewPgtable, [table(0) + 8, 0, 0])),
    (OnTables, |_| _ = call(Hypercall::SetRange, [table(0), 1, 4096])),
    (OnTables, |_| _ = call(Hypercall::SetRange, [table(0), 8192, 4096])),
    (OnTables, |_| _ = call(Hypercall::SetRange, [table(0), 4096, KERNEL_HALF + 4096])),
    // bad-argument
    (Initialized, |_| _ = call(Hypercall::FlushTlb, [2, 0, 0])),
    (Initialized, |_| _ = call(Hypercall::Shutdown, [0, 99, 0])),
    (Initialized, |_| _ = call(Hypercall::Shutdown, [0, ShutdownReason::Exit as u64, 256])),
    (Initialized, |_| _ = call(Hypercall::Halt, [2, 0, 0])),
    (Initialized, |_| _ = call(Hypercall::Notify, [0x1000, 4097, 0])),
    (Initialized, |_| _ = call(Hypercall::Cpuid, [1 << 32, 0, 0])),
    (OnTables, |_| _ = call(Hypercall::SetPgd, [table(0), 256, 0])),
    (OnTables, |_| _ = call(Hypercall::SetPte, [table(0), KERNEL_HALF, 0])),
    (Initialized, |_| ring(0, Hypercall::FlushAsync as u64)),
    // not-in-ring
    (Initialized, |_| ring(PENDING, Hypercall::Halt as u64)),
    (Initialized, |_| ring(PENDING, Hypercall::Iret as u64)),
    // reserved-bits: a page of 1 GiB, one of 2 MiB in the user half, bit 7 in a leaf table
    (OnTables, |_| touch([LARGE, 0, 0])),
    (OnTables, |_| touch([table(ROOTS + 1), LARGE, 0])),
    (OnTables, |_| touch([table(ROOTS + 1), table(ROOTS + 2), SCRATCH | LARGE])),
    // frame-outside-memory
    (OnTables, |facts| touch([facts.memory_bytes, 0, 0])),
    (OnTables, |facts| touch([table(ROOTS + 1), table(ROOTS + 2), facts.memory_bytes])),
    (OnTables, |_| touch([table(ROOTS + 1), table(ROOTS + 2), 1 << 51])),
    // host-range
    (OnTables, |_| {
        space::write(table(1), HOST_ENTRY, SCRATCH | 7, MEMORY_AT);
        call(Hypercall::NewPgtable, [table(1), 0, 0]);
    }),
    (Start, |_| register(|| DATA.system_call.store(HOST, Relaxed))),
    (OnTables, |_| event_at(HOST + 4096)),
    // bad-entry-point
    (Start, |_| register(|| DATA.event_from_user.store(0x1000, Relaxed))),
    (Start, |_| register(|| DATA.noirq_end.store(1 << 47, Relaxed))),
    (Start, |_| register(|| DATA.kernel_address.store(KERNEL_HALF + 4096, Relaxed))),
    // bad-return
    (OnTables, |_| iret(&[1 << 63, 0x10, 0x202, 0, 0x18])),
    // stack-unmapped
    (OnTables, |_| iret_from(NOWHERE)),
    (OnTables, |_| iret_from(SCRATCH + 4)),
    (OnTables, |_| event_at(NOWHERE)),
    // early-fault
    // SAFETY: an exception that the host answers with the end.
    (Start, |_| unsafe { asm!("ud2") }),
    // released-root
    (OnTables, |_| _ = call(Hypercall::ReleasePgd, [table(0), 0, 0])),
    // bad-device, bad-queue
    (Initialized, |facts| _ = call(Hypercall::Notify, [facts.devices + 8, 0, 0])),
    (OnTables, |facts| Bus::new(facts.devices, facts.memory_bytes).break_queue()),
];

static BREAKING: AtomicBool = AtomicBool::new(false);

/// Whether this guest breaks rules one by one.
pub fn is_breaking() -> bool {
    BREAKING.load(Relaxed)
}

/// Breaks the rule of this life; once all have been broken, ends by itself.
pub fn break_rules(facts: &BootInfo) -> ! {
    BREAKING.store(true, Relaxed);
    space::build();
    let Some((stage, act)) = BREACHES.get(facts.earlier_starts as usize) else {
        initialize();
        print(b"breach: all rules have been broken\r\n");
        shut_down(ShutdownReason::Exit, 0);
    };
    if *stage != Start {
        initialize();
    }
    if *stage == OnTables {
        call(Hypercall::NewPgtable, [table(0), 0, 0]);
    }
    act(facts);
    failed(b"breach: THE HOST LET IT PASS\r\n\0")
}

/// Tells whoever started the host that all is well, and then breaks a rule.
pub fn report_and_break() -> ! {
    initialize();
    let line = b"exit 0";
    call(Hypercall::Report, [physical(line), line.len() as u64, 0]);
    raw(u64::MAX, [0; 3]);
    failed(b"breach: THE HOST LET IT PASS\r\n\0")
}

/// LGUEST_INIT with a page that `spoil` has changed.
fn register(spoil: impl Fn()) {
    fill_page();
    spoil();
    call(Hypercall::LguestInit, [physical(&raw const DATA), 0, 0]);
}

/// The ring's first entry has this number; its status is good for PENDING only.
fn ring(status: u8, number: u64) {
    let status = if number == Hypercall::FlushAsync as u64 { FREE - 1 } else { status };
    DATA.hcalls[0].rax.store(number, Relaxed);
    DATA.hcall_status[0].store(status, Relaxed);
    DATA.hcall_pending.store(1, Relaxed);
    call(Hypercall::FlushAsync, [0; 3]);
}

/// Reads an address whose entries at levels 3, 2 and 1 are these; the tables on the way are those for bad entries.
fn touch(entries: [u64; 3]) {
    let flags = 0x67;
    space::write(table(0), FREE_ENTRY, table(ROOTS) | flags, MEMORY_AT);
    for (n, entry) in (0..).zip(entries) {
        space::write(table(ROOTS + n), 0, entry | flags, MEMORY_AT);
    }
    // SAFETY: the host ends this guest.
    unsafe { (FREE_AT as *const u64).read_volatile() };
}

/// IRET with this frame.
fn iret(frame: &[u64; 5]) -> ! {
    iret_from(frame.as_ptr() as u64)
}

/// IRET with a frame at that address.
fn iret_from(rsp: u64) -> ! {
    // SAFETY: the host ends this guest, or an event or system call does.
    unsafe {
        asm!("mov rsp, {}", "syscall", in(reg) rsp, in("rax") Hypercall::Iret as u64, options(noreturn))
    }
}

/// An event in user mode, with that stack for it.
fn event_at(stack: u64) {
    DATA.kernel_stack.store(stack, Relaxed);
    let breakpoint = USER_CODE + PIECE_BYTES;
    iret(&[breakpoint, 0x33, 0x202, 0, 0x2b]);
}
