//! A guest without a processor: what hypercalls, events and returns do to its registers, its page and its memory.

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{
    BOOT_IMAGE_BASE, Event, EventFrame, FREE, Hypercall, IRQ_ENABLED, KERNEL_HALF, LguestData, NOTIFY_QUEUE,
    NOTIFY_STATUS, PENDING, VIRQ_CONSOLE, VIRQ_FIRST_DEVICE, VIRQ_TIMER, WaitMode,
};
use platform::{CONTRACT_VERSION, PhysAddr, VirtAddr};
use proptest::prelude::*;

use super::{Guest, Outcome, State};
use crate::archive::{Description, MOST_DISKS, Network, Share};
use crate::context::{Context, Mode, Registers};
use crate::devices::block::Backing;
use crate::devices::testing::Fake;
use crate::devices::{Fittings, PAGE_AT};
use crate::image::LOWEST;
use crate::image::testing::image;
use crate::memory::testing::{memory, words};
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::{Broken, Rule};
use crate::tables::TablePool;
use crate::tables::shadow::{HostEntry, LEAST_TABLES};

const PAGES: u64 = 600;
const DATA: GuestPhys = GuestPhys(0x1_0000);
const STACK: u64 = BOOT_IMAGE_BASE + 0x2_0000;
const ENTRY: u64 = BOOT_IMAGE_BASE + LOWEST;

/// A guest with the machine that it thinks it has.
struct Bench {
    guest: Guest,
    context: Context,
    host: Fake,
    memory: GuestMemory,
}

impl Bench {
    fn new() -> Self {
        let file = image("lguest", CONTRACT_VERSION, LOWEST, &[0x90; 16]).leak();
        let description = Description {
            image: file,
            initramfs: Some(b"initramfs"),
            command_line: b"console=ttyS0",
            memory_bytes: PAGES * 4096,
            share: Share(100),
            disks: [None; MOST_DISKS],
            network: Network::Guests,
        };
        let memory = memory(PAGES as usize, 0x4000_0000);
        let tables = words(2 * LEAST_TABLES).as_chunks().0;
        let pool = TablePool::new(tables, PhysAddr(0x8000_0000));
        let host = HostEntry { index: 448, value: 1 };
        let disk = Backing::Memory(vec![0x5a; 64 * 512].leak());
        let fittings = Fittings { disks: [Some(disk), None, None, None], network: true };
        let mut guest = Guest::new(0, description, memory, pool, host, fittings).unwrap();
        let context = guest.start(500).unwrap();
        Self { guest, context, host: Fake { counter: 500, ..Fake::default() }, memory }
    }

    /// A guest that has called LGUEST_INIT.
    fn ready() -> Self {
        let mut bench = Self::new();
        let data = bench.memory.shared_page(DATA).unwrap();
        data.blocked_interrupts.store(u32::MAX, Relaxed);
        data.kernel_address.store(KERNEL_HALF, Relaxed);
        for (word, value) in [
            (&data.event_from_user, ENTRY + 0x100),
            (&data.event_from_kernel, ENTRY + 0x200),
            (&data.system_call, ENTRY + 0x300),
            (&data.noirq_start, ENTRY + 0x400),
            (&data.noirq_end, ENTRY + 0x410),
            (&data.kernel_stack, STACK),
        ] {
            word.store(value, Relaxed);
        }
        data.hcall_status.iter().for_each(|status| status.store(FREE, Relaxed));
        bench.call(Hypercall::LguestInit as u64, [DATA.0, 0, 0]).unwrap();
        bench
    }

    fn data(&self) -> &'static LguestData {
        self.memory.shared_page(DATA).unwrap()
    }

    fn call(&mut self, number: u64, arguments: [u64; 3]) -> Result<u64, Broken> {
        let registers = &mut self.context.registers;
        registers.rax = number;
        [registers.rdi, registers.rsi, registers.rdx] = arguments;
        self.guest.hypercall(&mut self.context, &mut self.host)?;
        Ok(self.context.registers.rax)
    }

    fn rule(&mut self, what: Hypercall, arguments: [u64; 3]) -> Rule {
        self.call(what as u64, arguments).unwrap_err().rule
    }

    fn prepare(&mut self) {
        self.guest.prepare(&mut self.context, &mut self.host).unwrap();
    }

    /// The frame at RSP.
    fn frame(&self) -> EventFrame {
        let at = self.context.registers.rsp - BOOT_IMAGE_BASE;
        let word = |n: u64| self.memory.read(GuestPhys(at + 8 * n)).unwrap();
        EventFrame { event: word(0), rip: word(1), cs: word(2), rflags: word(3), rsp: word(4), ss: word(5) }
    }

    fn push_return(&mut self, words: [u64; 5]) {
        self.context.registers.rsp = STACK - 40;
        for (n, word) in words.into_iter().enumerate() {
            self.memory.write(GuestPhys(STACK - 40 - BOOT_IMAGE_BASE + 8 * n as u64), word).unwrap();
        }
    }
}

#[test]
fn a_guest_starts_with_its_facts() {
    let bench = Bench::new();
    let registers = bench.context.registers;
    assert_eq!((registers.rip, registers.rsp, registers.rflags), (ENTRY, 0, 0x202));
    let fact = |n: u64| bench.memory.read(GuestPhys(registers.rsi + 8 * n)).unwrap();
    assert_eq!(fact(0).to_le_bytes(), *b"lguest64");
    assert_eq!(fact(2), PAGES * 4096);
    let mut line = [0; 13];
    bench.memory.copy_out(GuestPhys(fact(3)), &mut line).unwrap();
    assert_eq!((&line, fact(4)), (b"console=ttyS0", 13));
    let mut initramfs = [0; 9];
    bench.memory.copy_out(GuestPhys(fact(5)), &mut initramfs).unwrap();
    assert_eq!((&initramfs, fact(6), fact(5) % 4096), (b"initramfs", 9, 0));
}

#[test]
fn init_comes_first_and_once_and_is_checked() {
    let mut bench = Bench::new();
    assert_eq!(bench.rule(Hypercall::GetTime, [0; 3]), Rule::InitFirst);
    assert_eq!(bench.call(77, [0; 3]).unwrap_err(), Rule::UnknownHypercall.broken_by(77));
    assert_eq!(bench.rule(Hypercall::LguestInit, [DATA.0 + 8, 0, 0]), Rule::UnalignedAddress);
    assert_eq!(bench.rule(Hypercall::LguestInit, [PAGES * 4096, 0, 0]), Rule::AddressOutsideMemory);
    assert_eq!(bench.rule(Hypercall::LguestInit, [DATA.0, 0, 0]), Rule::BadEntryPoint);
    let fault = bench.guest.exception(&mut bench.context, 6, 0, &mut bench.host);
    assert_eq!(fault.unwrap_err().rule, Rule::EarlyFault);

    let mut bench = Bench::ready();
    assert_eq!(bench.rule(Hypercall::LguestInit, [DATA.0, 0, 0]), Rule::InitOnce);
    let data = bench.data();
    assert_eq!(data.reserve_start.load(Relaxed), 0xffff_e000_0000_0000);
    assert_eq!(data.tsc_base.load(Relaxed), 500);
    for (word, value) in [
        (&data.event_from_kernel, 0x1000),
        (&data.system_call, 0x7fff_ffff_ffff),
        (&data.event_from_user, 0xffff_e000_0000_0000),
    ] {
        bench.guest.vcpu.data = None;
        let before = word.swap(value, Relaxed);
        let rule = bench.rule(Hypercall::LguestInit, [DATA.0, 0, 0]);
        assert!(matches!(rule, Rule::BadEntryPoint | Rule::HostRange), "{rule:?}");
        word.store(before, Relaxed);
    }
}

#[test]
fn events_and_returns_go_both_ways() {
    let mut bench = Bench::ready();
    let data = bench.data();
    // From kernel mode, on its stack, aligned as hardware does it.
    bench.context.registers.rsp = STACK - 0x104;
    bench.context.registers.rip = ENTRY + 5;
    data.irq_enabled.store(IRQ_ENABLED, Relaxed);
    bench.guest.exception(&mut bench.context, 13, 0x28, &mut bench.host).unwrap();
    let frame = bench.frame();
    assert_eq!(Event::from_word(frame.event), Event { vector: 13, error_code: 0x28 });
    assert_eq!((frame.rip, frame.cs, frame.ss), (ENTRY + 5, 0x10, 0x18));
    assert_eq!((frame.rflags & 0x200, frame.rsp), (0x200, STACK - 0x104));
    assert_eq!(bench.context.registers.rsp, STACK - 0x110 - 48);
    assert_eq!(bench.context.registers.rip, ENTRY + 0x200);
    assert_eq!(data.irq_enabled.load(Relaxed), 0);

    // To user mode by IRET: flags are filtered, and GS base changes.
    data.user_rax.store(1, Relaxed);
    data.user_rcx.store(2, Relaxed);
    data.user_r11.store(3, Relaxed);
    data.user_gsbase.store(0x1234_8000_0000_5678, Relaxed);
    data.kernel_gsbase.store(KERNEL_HALF, Relaxed);
    bench.push_return([0x40_0000, 0x33, u64::MAX, 0x7fff_0000, 0x2b]);
    bench.call(Hypercall::Iret as u64, [0; 3]).unwrap();
    let registers = bench.context.registers;
    assert_eq!((registers.rax, registers.rcx, registers.r11), (1, 2, 3));
    assert_eq!((registers.rip, registers.rsp, registers.rflags), (0x40_0000, 0x7fff_0000, 0x25_0fd7));
    assert_eq!((bench.context.mode, bench.context.gs_base), (Mode::User, 0xffff_8000_0000_5678));
    assert_eq!(data.irq_enabled.load(Relaxed), IRQ_ENABLED);

    // And back by a page fault, whose error code is as hardware's.
    let write_to_absent = 0b111;
    let address = VirtAddr(0x7000_0000_0000);
    bench.guest.page_fault(&mut bench.context, address, write_to_absent, &mut bench.host).unwrap();
    let frame = bench.frame();
    assert_eq!(Event::from_word(frame.event), Event { vector: 14, error_code: 0b110 });
    assert_eq!((frame.cs, frame.ss, frame.rsp), (0x33, 0x2b, 0x7fff_0000));
    assert_eq!((bench.context.registers.rsp, data.cr2.load(Relaxed)), (STACK - 48, address.0));
    assert_eq!((bench.context.mode, bench.context.gs_base), (Mode::Kernel, KERNEL_HALF));
    assert_eq!(bench.context.registers.rip, ENTRY + 0x100);

    // A bad RIP is user mode's fault, or the kernel's death.
    data.user_rip.store(1 << 47, Relaxed);
    bench.call(Hypercall::Sysret as u64, [0; 3]).unwrap();
    assert_eq!((Event::from_word(bench.frame().event).vector, bench.frame().rip), (13, 1 << 47));
    bench.push_return([1 << 47, 0x10, 0, STACK, 0]);
    assert_eq!(bench.rule(Hypercall::Iret, [0; 3]), Rule::BadReturn);
    bench.context.registers.rsp = 0xffff_e000_0000_1000;
    assert_eq!(bench.rule(Hypercall::Iret, [0; 3]), Rule::HostRange);
    bench.context.registers.rsp = 0x1234_0000_0000_0000;
    assert_eq!(bench.rule(Hypercall::Iret, [0; 3]), Rule::StackUnmapped);
}

#[test]
fn interrupts_wait_for_the_flag_and_the_window() {
    let mut bench = Bench::ready();
    let data = bench.data();
    bench.context.registers.rsp = STACK;
    bench.call(Hypercall::SetClockevent as u64, [100, 0, 0]).unwrap();
    bench.host.counter = 599;
    bench.guest.expire(599);
    assert_eq!(bench.guest.pending().bits(), 0, "never early");
    bench.guest.expire(bench.guest.deadline().unwrap());
    assert_eq!(bench.guest.pending().bits(), 1 << VIRQ_TIMER);
    // Blocked, then disabled, then at once.
    bench.prepare();
    assert_eq!(data.irq_pending.load(Relaxed), 0);
    data.blocked_interrupts.store(0, Relaxed);
    bench.prepare();
    assert_eq!((data.irq_pending.load(Relaxed), data.irq_enabled.load(Relaxed)), (IRQ_ENABLED, 0));
    data.irq_enabled.store(IRQ_ENABLED, Relaxed);
    bench.prepare();
    assert_eq!(Event::from_word(bench.frame().event).vector, 32 + VIRQ_TIMER);
    assert_eq!((data.irq_pending.load(Relaxed), data.irq_enabled.load(Relaxed)), (0, 0));
    assert_eq!(data.time.seconds.load(Relaxed), 1000);

    // Within the window the return is completed first.
    bench.push_return([ENTRY + 7, 0x33, 0x202, STACK - 0x80, 0x2b]);
    bench.context.registers.rip = ENTRY + 0x404;
    bench.guest.input(b'x');
    bench.prepare();
    let frame = bench.frame();
    assert_eq!(Event::from_word(frame.event).vector, 32 + VIRQ_CONSOLE);
    assert_eq!((frame.rip, frame.rsp, frame.rflags & 0x200), (ENTRY + 7, STACK - 0x80, 0x200));
    assert_eq!(bench.call(Hypercall::ConsoleRead as u64, [0x3_0000, 10, 0]), Ok(1));
    assert_eq!(bench.memory.read(GuestPhys(0x3_0000)), Ok(u64::from(b'x')));

    // HALT waits for what is not blocked.
    bench.call(Hypercall::Halt as u64, [WaitMode::ForInterrupt as u64, 0, 0]).unwrap();
    assert_eq!((bench.guest.state, bench.guest.wants_processor()), (State::Waiting, false));
    bench.guest.input(b'y');
    assert!(bench.guest.wants_processor());
    bench.prepare();
    assert_eq!(bench.guest.state, State::Running);
    bench.call(Hypercall::Halt as u64, [WaitMode::ForEver as u64, 0, 0]).unwrap();
    bench.guest.input(b'z');
    assert_eq!((bench.guest.state, bench.guest.wants_processor()), (State::Stopped, false));
}

#[test]
fn the_words_of_a_return_are_safe_while_interrupts_are_disabled() {
    let mut bench = Bench::ready();
    let data = bench.data();
    data.blocked_interrupts.store(0, Relaxed);
    // Where the guest has stored the words, and is about to call.
    data.irq_enabled.store(0, Relaxed);
    for (word, value) in [(&data.user_rax, 1), (&data.user_rcx, 2), (&data.user_r11, 3)] {
        word.store(value, Relaxed);
    }
    bench.push_return([ENTRY + 7, 0x10, 0x202, STACK - 0x80, 0x18]);
    bench.guest.input(b'x');
    let before = bench.context;
    bench.prepare();
    assert_eq!(
        (bench.context, data.irq_pending.load(Relaxed)),
        (before, IRQ_ENABLED),
        "no event comes between"
    );
    bench.call(Hypercall::Iret as u64, [0; 3]).unwrap();
    let registers = bench.context.registers;
    assert_eq!((registers.rax, registers.rcx, registers.r11, registers.rip), (1, 2, 3, ENTRY + 7));
    // The interrupt comes after the return, on the stack it returned to.
    bench.prepare();
    let frame = bench.frame();
    assert_eq!((Event::from_word(frame.event).vector, frame.rip), (32 + VIRQ_CONSOLE, ENTRY + 7));
    assert_eq!((frame.rsp, bench.context.registers.rsp), (STACK - 0x80, STACK - 0x80 - 48));
}

#[test]
fn a_frame_may_lie_in_two_frames_of_memory() {
    let mut bench = Bench::ready();
    let set = |at: u64, entry: u64| bench.memory.write(GuestPhys(at), entry).unwrap();
    // One table at each level, whose entries 0 and 1 lead to pages that are not neighbours.
    let tables = [0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000];
    set(tables[0] + 8 * 256, tables[1] | 3);
    set(tables[1], tables[2] | 3);
    set(tables[2], tables[3] | 3);
    let pages = [0x12_5000, 0x12_2000];
    for (n, page) in (0..).zip(pages) {
        set(tables[3] + 8 * n, page | 3);
    }
    bench.call(Hypercall::NewPgtable as u64, [tables[0], 0, 0]).unwrap();
    let data = bench.data();
    data.blocked_interrupts.store(0, Relaxed);
    data.irq_enabled.store(IRQ_ENABLED, Relaxed);
    bench.context.registers.rsp = KERNEL_HALF + 0x1010;
    bench.context.registers.rip = ENTRY + 9;
    bench.guest.input(b'x');
    bench.prepare();
    assert_eq!(bench.context.registers.rsp, KERNEL_HALF + 0xfe0);
    let word = |at: u64| bench.memory.read(GuestPhys(at)).unwrap();
    let expected = [ENTRY + 9, 0x10, 0x202, KERNEL_HALF + 0x1010, 0x18];
    let written = [pages[0] + 0xfe8, pages[0] + 0xff0, pages[0] + 0xff8, pages[1], pages[1] + 8].map(word);
    assert_eq!(written, expected);
    assert_eq!([0, 8].map(|offset| word(tables[3] + offset) & 0x60), [0x60; 2], "accessed and dirty");
    // It is read back from there.
    bench.context.registers.rsp = KERNEL_HALF + 0xfe8;
    bench.call(Hypercall::Iret as u64, [0; 3]).unwrap();
    let registers = bench.context.registers;
    assert_eq!((registers.rip, registers.rsp), (ENTRY + 9, KERNEL_HALF + 0x1010));
}

#[test]
fn the_ring_runs_before_anything_else() {
    let mut bench = Bench::ready();
    let data = bench.data();
    let mut next = 0;
    let mut push = |what: u64, arguments: [u64; 2]| {
        let entry = &data.hcalls[next % 64];
        entry.rax.store(what, Relaxed);
        entry.rdi.store(arguments[0], Relaxed);
        entry.rsi.store(arguments[1], Relaxed);
        data.hcall_status[next % 64].store(PENDING, Relaxed);
        data.hcall_pending.store(1, Relaxed);
        next += 1;
    };
    bench.memory.copy_in(GuestPhys(0x3_0000), b"abcdef").unwrap();
    for n in 0..6 {
        push(Hypercall::Notify as u64, [0x3_0000 + n, 1]);
    }
    bench.call(Hypercall::FlushAsync as u64, [0; 3]).unwrap();
    assert_eq!(bench.host.printed, b"abcdef");
    assert!(data.hcall_status.iter().all(|status| status.load(Relaxed) == FREE));
    for _ in 0..64 {
        push(Hypercall::FlushAsync as u64, [0; 2]);
    }
    bench.guest.exception(&mut bench.context, 3, 0, &mut bench.host).unwrap_err();
    assert!(data.hcall_status.iter().all(|status| status.load(Relaxed) == FREE), "before the event");
    push(Hypercall::GetTime as u64, [0; 2]);
    assert_eq!(bench.rule(Hypercall::GetTime, [0; 3]), Rule::NotInRing);
}

#[test]
fn arguments_are_checked() {
    let end = PAGES * 4096;
    for (what, arguments, rule) in [
        (Hypercall::FlushTlb, [2, 0, 0], Rule::BadArgument),
        (Hypercall::Halt, [2, 0, 0], Rule::BadArgument),
        (Hypercall::Notify, [end - 4, 5, 0], Rule::AddressOutsideMemory),
        (Hypercall::Notify, [u64::MAX, 2, 0], Rule::AddressOutsideMemory),
        (Hypercall::Notify, [0, 4097, 0], Rule::BadArgument),
        (Hypercall::Report, [0, 4097, 0], Rule::BadArgument),
        (Hypercall::ConsoleRead, [end, 1, 0], Rule::AddressOutsideMemory),
        (Hypercall::Cpuid, [1 << 32, 0, 0], Rule::BadArgument),
        (Hypercall::Shutdown, [0, 0, 0], Rule::BadArgument),
        (Hypercall::Shutdown, [0, 3, 256], Rule::BadArgument),
        (Hypercall::Shutdown, [end, 1, 0], Rule::AddressOutsideMemory),
        (Hypercall::SetRange, [0x1000, 0x1001, 0x2000], Rule::UnalignedAddress),
        (Hypercall::SetRange, [0x1000, 0x2000, 0x1000], Rule::UnalignedAddress),
        (Hypercall::SetRange, [0x1000, 0x1000, KERNEL_HALF + 0x1000], Rule::UnalignedAddress),
        (Hypercall::SetRange, [0x1000, 0x1000, 0x8000_0000_1000], Rule::UnalignedAddress),
        (Hypercall::SetRange, [0, 0x1000, 0x2000], Rule::BadArgument),
        (Hypercall::SetRange, [0x1000, KERNEL_HALF, 0], Rule::BadArgument),
        (Hypercall::SetPgd, [0x1000, u64::MAX, 0], Rule::BadArgument),
        (Hypercall::NewPgtable, [end, 0, 0], Rule::AddressOutsideMemory),
        (Hypercall::Iret, [0; 3], Rule::StackUnmapped),
    ] {
        let mut bench = Bench::ready();
        bench.context.registers.rsp = 1;
        assert_eq!(bench.rule(what, arguments), rule, "{} {arguments:#x?}", what.name());
    }
    let mut bench = Bench::ready();
    bench.memory.copy_in(GuestPhys(0x3_0000), b"over\0").unwrap();
    bench.call(Hypercall::Shutdown as u64, [0x3_0000, 3, 7]).unwrap();
    assert_eq!(bench.host.printed, b"over\r\n");
    assert!(matches!(bench.guest.state, State::Over(Outcome::ShutDown { status: 7, .. })));
    assert_eq!(bench.call(Hypercall::GetTime as u64, [0; 3]), Ok(0));
    bench.call(Hypercall::Cpuid as u64, [7, 1, 0]).unwrap();
    assert_eq!(bench.data().cpuid[1].load(Relaxed), 1);
}

/// Device 0 with its queues of two entries at 0x4_0000 and 0x4_1000, driven by calls.
fn drive_console(bench: &mut Bench) {
    let console = &bench.memory.device_page(PAGE_AT).unwrap().devices[0];
    console.accepted.store(1 << 32, Relaxed);
    for (queue, at) in console.queues.iter().zip([0x4_0000, 0x4_1000]) {
        queue.size.store(2, Relaxed);
        queue.desc.store(at, Relaxed);
        queue.driver.store(at + 0x100, Relaxed);
        queue.device.store(at + 0x200, Relaxed);
    }
    for status in [3, 11, 15] {
        console.status.store(status, Relaxed);
        bench.call(Hypercall::Notify as u64, [PAGE_AT.0, NOTIFY_STATUS, 0]).unwrap();
    }
}

#[test]
fn devices_are_notified_and_wake_a_guest() {
    let mut bench = Bench::ready();
    let data = bench.data();
    data.blocked_interrupts.store(0, Relaxed);
    bench.context.registers.rsp = STACK;
    assert_eq!(bench.rule(Hypercall::Notify, [PAGE_AT.0 + 4, 1, 0]), Rule::BadDevice);
    drive_console(&mut bench);
    // A kick is worked on before the guest goes on.
    let put = |at: u64, value: u64| bench.memory.write(GuestPhys(at), value).unwrap();
    bench.memory.copy_in(GuestPhys(0x3_0000), b"by queue").unwrap();
    put(0x4_1000, 0x3_0000);
    put(0x4_1008, 8);
    put(0x4_1100, 1 << 16);
    bench.call(Hypercall::Notify as u64, [PAGE_AT.0, NOTIFY_QUEUE + 1, 0]).unwrap();
    assert!(!bench.guest.is_ready() && bench.host.printed.is_empty());
    data.irq_enabled.store(IRQ_ENABLED, Relaxed);
    bench.prepare();
    assert_eq!((&bench.host.printed[..], bench.guest.is_ready()), (&b"by queue"[..], true));
    assert_eq!(Event::from_word(bench.frame().event).vector, 32 + VIRQ_FIRST_DEVICE);
    // Input goes to the device alone, and wakes.
    let put = |at: u64, value: u64| bench.memory.write(GuestPhys(at), value).unwrap();
    put(0x4_0000, 0x3_0100);
    put(0x4_0008, 8 | 2 << 32);
    put(0x4_0100, 1 << 16);
    bench.call(Hypercall::Halt as u64, [WaitMode::ForInterrupt as u64, 0, 0]).unwrap();
    assert!(!bench.guest.wants_processor());
    bench.guest.input(b'k');
    assert!(bench.guest.wants_processor());
    bench.prepare();
    assert_eq!((bench.guest.state, bench.guest.is_ready()), (State::Running, true));
    assert_eq!(bench.memory.read(GuestPhys(0x3_0100)), Ok(u64::from(b'k')));
    // Without a buffer it waits, for the device and not for the hypercall, until the device is reset.
    bench.call(Hypercall::Halt as u64, [WaitMode::ForInterrupt as u64, 0, 0]).unwrap();
    bench.guest.input(b'l');
    bench.prepare();
    assert_eq!((bench.guest.state, bench.guest.wants_processor()), (State::Waiting, false));
    assert_eq!(bench.call(Hypercall::ConsoleRead as u64, [0x3_0000, 10, 0]), Ok(0));
    bench.memory.device_page(PAGE_AT).unwrap().devices[0].status.store(0, Relaxed);
    bench.call(Hypercall::Notify as u64, [PAGE_AT.0, NOTIFY_STATUS, 0]).unwrap();
    assert_eq!(bench.guest.pending().bits(), 1 << VIRQ_CONSOLE);
    assert_eq!(bench.call(Hypercall::ConsoleRead as u64, [0x3_0000, 10, 0]), Ok(1));
}

/// A device's buffer may lie over the ring: whatever it writes there, the host runs the calls that it has read, or names the rule.
#[test]
fn a_device_may_write_over_the_ring() {
    let offset = |bench: &Bench, of: *const u8| of as u64 - (&raw const *bench.data()) as u64;
    for over_status in [false, true] {
        for (byte, rule) in [(9, None), (77, Some(Rule::UnknownHypercall)), (10, Some(Rule::NotInRing))] {
            let mut bench = Bench::ready();
            let data = bench.data();
            drive_console(&mut bench);
            // Into the status of the second call, or its number.
            let place = match over_status {
                true => (&raw const data.hcall_status[1]).cast(),
                false => (&raw const data.hcalls[1].rax).cast(),
            };
            let put = |at: u64, value: u64| bench.memory.write(GuestPhys(at), value).unwrap();
            put(0x4_0000, DATA.0 + offset(&bench, place));
            put(0x4_0008, 1 | 2 << 32);
            put(0x4_0100, 1 << 16);
            bench.guest.input(byte);
            // The calls: the queue's kick, and one that sets the timer.
            for (at, arguments) in [(0, [PAGE_AT.0, NOTIFY_QUEUE]), (1, [1_000_000, 0])] {
                let entry = &data.hcalls[at];
                entry.rax.store([Hypercall::Notify, Hypercall::SetClockevent][at] as u64, Relaxed);
                entry.rdi.store(arguments[0], Relaxed);
                entry.rsi.store(arguments[1], Relaxed);
                data.hcall_status[at].store(PENDING, Relaxed);
            }
            data.hcall_pending.store(1, Relaxed);
            bench.call(Hypercall::FlushAsync as u64, [0; 3]).unwrap();
            assert!(bench.guest.deadline().is_some(), "the call that was read is the one that runs");
            bench.prepare();
            // The place comes round again: as the device has left it.
            bench.guest.vcpu.ring_next = 1;
            bench.guest.vcpu.deadline = None;
            if !over_status {
                data.hcall_status[1].store(PENDING, Relaxed);
            }
            data.hcall_pending.store(1, Relaxed);
            let answer = bench.call(Hypercall::FlushAsync as u64, [0; 3]);
            let expected = if over_status { Some(Rule::BadArgument) } else { rule };
            assert_eq!(answer.err().map(|broken| broken.rule), expected, "{byte} {over_status}");
            assert_eq!(bench.guest.deadline().is_some(), expected.is_none());
        }
    }
}

proptest! {
    #[test]
    fn any_call_is_answered_or_named(
        calls in prop::collection::vec((0u64..80, any::<[u64; 3]>(), any::<[bool; 3]>()), 1..40),
        scribbles in prop::collection::vec((0u64..512, any::<u64>()), 0..20),
    ) {
        let mut bench = Bench::ready();
        drive_console(&mut bench);
        for (at, value) in scribbles {
            bench.memory.write(GuestPhys(DATA.0 + at * 8), value).unwrap();
        }
        let living = bench.context;
        for (number, arguments, small) in calls {
            let arguments = core::array::from_fn(|n| if small[n] { arguments[n] % (2 * PAGES * 4096) } else { arguments[n] });
            let answer = bench
                .call(number, arguments)
                .and_then(|_| bench.guest.prepare(&mut bench.context, &mut bench.host));
            if answer.is_err() {
                // It is killed and never runs again; the calls that are left come from one in the same state that lives.
                bench.context = living;
                continue;
            }
            // What the processor is given is never what it would refuse.
            let registers = bench.context.registers;
            let upper = registers.rip as i64 >> 47;
            prop_assert!(upper == 0 || upper == -1, "{:#x}", registers.rip);
            prop_assert_eq!(registers.rflags & !0x25_0dd5, Registers::FLAGS);
            let base = bench.context.gs_base as i64 >> 47;
            prop_assert!(base == 0 || base == -1);
        }
    }
}
