//! The hostile guest: one step after another, each from the seed, until the host kills it or its life is over.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{
    BootInfo, Event, FREE, Hypercall, IRQ_ENABLED, KERNEL_HALF, PENDING, ShutdownReason, WaitMode,
};

use crate::call::{DATA, call, failed, physical, print_line, raw, shut_down};
use crate::devices::Bus;
use crate::entry::{self, PIECE_BYTES};
use crate::random::Random;
use crate::space::{self, BAD_TABLES, MEMORY_AT, ROOTS, SCRATCH, USER_CODE, table};
use crate::words::parameter;
use crate::{breach, watch};

/// Steps of a life.
const STEPS: u64 = 4000;
/// The host's addresses.
const HOST: [u64; 2] = [0xffff_e000_0000_0000, 0xffff_e080_0000_0000];

struct Life {
    random: Random,
    steps: u64,
    memory: u64,
    root: u64,
    ring_next: usize,
    /// An access that must not succeed is under way.
    forbidden: bool,
    bus: Bus,
}

struct LifeCell(UnsafeCell<Life>);

// SAFETY: one virtual CPU, and an event gives up what it interrupts.
unsafe impl Sync for LifeCell {}

static LIFE: LifeCell = LifeCell(UnsafeCell::new(Life {
    random: Random::new(0),
    steps: 0,
    memory: 0,
    root: 0,
    ring_next: 0,
    forbidden: false,
    bus: Bus::new(0, 0),
}));

fn life() -> &'static mut Life {
    // SAFETY: as above: nobody else has a reference that is still used.
    unsafe { &mut *LIFE.0.get() }
}

/// Registers the shared page as the interface wants it.
pub fn initialize() {
    fill_page();
    call(Hypercall::LguestInit, [physical(&raw const DATA), 0, 0]);
}

/// Fills the shared page as the interface wants it.
pub fn fill_page() {
    let (event, system_call) = entry::entry_points();
    DATA.kernel_address.store(KERNEL_HALF, Relaxed);
    DATA.event_from_user.store(event, Relaxed);
    DATA.event_from_kernel.store(event, Relaxed);
    DATA.system_call.store(system_call, Relaxed);
    DATA.noirq_start.store(event, Relaxed);
    DATA.noirq_end.store(event, Relaxed);
    DATA.blocked_interrupts.store(0, Relaxed);
    DATA.kernel_stack.store(stack(), Relaxed);
}

/// A good stack for events from user mode.
fn stack() -> u64 {
    MEMORY_AT + SCRATCH + 0x8000
}

/// One life.
pub fn live(facts: &BootInfo) -> ! {
    let seed = parameter(facts, b"seed").unwrap_or(1);
    let lives = parameter(facts, b"lives").unwrap_or(100);
    let life = life();
    life.random = Random::new(seed.wrapping_add(facts.earlier_starts));
    life.memory = facts.memory_bytes;
    life.bus = Bus::new(facts.devices, facts.memory_bytes);
    if facts.earlier_starts >= lives {
        initialize();
        print_line(b"hostile: lives survived by the host: ", lives);
        shut_down(ShutdownReason::Exit, 0);
    }
    space::build();
    match life.random.below(64) {
        0 => {
            let number = life.random.below(80);
            let arguments = [life.border(), life.border(), life.border()];
            raw(number, arguments);
        }
        1 => {
            let at = life.border();
            raw(Hypercall::LguestInit as u64, [at, 0, 0]);
        }
        2 => {
            // SAFETY: an exception with no entry point; the host ends this life.
            unsafe { asm!("ud2") };
        }
        _ => {}
    }
    initialize();
    call(Hypercall::NewPgtable, [table(0), 0, 0]);
    go_on()
}

/// An event came: what it interrupted is given up.
pub extern "C" fn event(word: u64) -> ! {
    if watch::is_watching() {
        watch::look();
    }
    if breach::is_breaking() {
        failed(b"breach: AN EVENT CAME INSTEAD OF THE END\r\n\0");
    }
    let event = Event::from_word(word);
    if event.vector > 63 {
        failed(b"hostile: AN EVENT THAT DOES NOT EXIST\r\n\0");
    }
    go_on()
}

/// User mode made a system call with this RDI.
pub extern "C" fn system_call(rdi: u64) -> ! {
    if breach::is_breaking() {
        failed(b"breach: USER MODE WENT ON\r\n\0");
    }
    if rdi == entry::REACHED {
        failed(b"hostile: USER MODE REACHED WHAT IS NOT ITS OWN\r\n\0");
    }
    go_on()
}

fn go_on() -> ! {
    let life = life();
    life.forbidden = false;
    loop {
        life.steps += 1;
        if life.steps > STEPS {
            shut_down(ShutdownReason::Restart, 0);
        }
        life.step();
    }
}

impl Life {
    /// A number at some border.
    fn border(&mut self) -> u64 {
        let memory = self.memory;
        let base = self.random.one_of(&[
            0,
            4096,
            memory,
            memory - 4096,
            SCRATCH,
            1 << 32,
            1 << 47,
            1 << 52,
            1 << 63,
            KERNEL_HALF,
            HOST[0],
            HOST[1],
            0xffff_ffff_8000_0000,
            u64::MAX,
        ]);
        match self.random.below(6) {
            0 => self.random.next(),
            1 => base.wrapping_sub(1),
            2 => base.wrapping_add(1),
            3 => base.wrapping_sub(8),
            _ => base,
        }
    }

    fn index(&mut self) -> u64 {
        let any = self.random.below(512);
        self.random.one_of(&[0, 1, 2, 255, 257, 447, 448, 449, 510, any, any, any])
    }

    fn address(&mut self) -> u64 {
        if self.random.once_in(8) {
            return self.border();
        }
        let low = (0..4).fold(0, |address, _| address << 9 | self.index()) << 12;
        // Mostly canonical.
        let address = if self.random.once_in(32) { low } else { ((low << 16) as i64 >> 16) as u64 };
        address | self.random.one_of(&[0, 0, 8, 4088])
    }

    fn table(&mut self) -> u64 {
        table(self.random.below(ROOTS + BAD_TABLES))
    }

    fn entry(&mut self) -> u64 {
        let memory = self.memory;
        let frame = match self.random.below(512) {
            0 => self.random.next() & 0x000f_ffff_ffff_f000,
            1 => memory,
            2..128 => SCRATCH + self.random.below(16) * 4096,
            128..192 => self.random.below(memory / 4096) * 4096,
            _ => self.table(),
        };
        let flags = match self.random.below(400) {
            0 => self.random.next() & !0x000f_ffff_ffff_f000,
            1 => 0x87,
            2..100 => 0,
            100..132 => 1 << 63 | 7,
            132..164 => 5,
            164..180 => 3,
            _ => 0x67,
        };
        frame | flags
    }

    /// Looks at an address; what is there does not change.
    fn touch(&mut self, address: u64) {
        let host = (HOST[0]..HOST[1]).contains(&address);
        self.forbidden = host;
        let how = self.random.below(3);
        // SAFETY: reads, or adds nothing; a fault gives this step up. Or goes there: what is executed is data, and another
        // event, if only the timer's, comes back.
        unsafe {
            match how {
                0 => asm!("mov {0}, [{0}]", inout(reg) address => _),
                1 => asm!("lock add qword ptr [{0}], 0", in(reg) address),
                _ => asm!("prefetcht0 [{0}]", "mov {0:l}, [{0}]", inout(reg) address => _),
            }
        }
        if host {
            failed(b"hostile: THE HOST'S MEMORY CAN BE REACHED\r\n\0");
        }
    }

    /// Maps a page of scratch memory through tables that only bad entries lead to, tells the host, and writes: what is
    /// written must be in that page. A table may stand twice on the way, so the last entry written may change another; who
    /// does not come to the page that way leaves it.
    fn write_through(&mut self) {
        let steps = [0, 1, 2, 3].map(|_| self.index());
        let page = SCRATCH + (9 + self.random.below(6)) * 4096;
        if [8, 256, 448, 511].contains(&steps[0]) {
            return;
        }
        let way = [table(self.root), self.table(), self.table(), self.table()];
        if way[1..].iter().any(|&at| at < table(ROOTS)) {
            return;
        }
        for n in 0..4 {
            let below = if n < 3 { way[n + 1] } else { page };
            space::write(way[n], steps[n], below | 0x67, MEMORY_AT);
        }
        let there = (0..4).all(|n| {
            let below = if n < 3 { way[n + 1] } else { page };
            space::read(way[n], steps[n], MEMORY_AT) == below | 0x67
        });
        if !there {
            return;
        }
        let low = steps.iter().fold(0, |address, step| address << 9 | step) << 12;
        let address = ((low << 16) as i64 >> 16) as u64 | (self.random.below(512) * 8);
        let whole = self.random.once_in(2);
        if whole {
            call(Hypercall::FlushTlb, [1, 0, 0]);
        } else {
            let (root, at) = if address < KERNEL_HALF { (table(self.root), address) } else { (0, address) };
            let page = at & !4095;
            call(Hypercall::SetRange, [root, page, page.wrapping_add(4096)]);
        }
        let value = self.random.next();
        let there = MEMORY_AT + page + address % 4096;
        // SAFETY: the page is scratch memory, and both addresses lead to it, or the host is wrong.
        let seen = unsafe {
            (address as *mut u64).write_volatile(value);
            (there as *const u64).read_volatile()
        };
        if seen != value {
            failed(b"hostile: A WRITE WENT ASTRAY\r\n\0");
        }
    }

    fn valid_call(&mut self) -> (Hypercall, [u64; 3]) {
        let page = self.random.below(1 << 35) << 12;
        let root = table(self.random.below(ROOTS));
        match self.random.below(12) {
            0 => (Hypercall::FlushAsync, [0; 3]),
            1 => (Hypercall::FlushTlb, [self.random.below(2), 0, 0]),
            2 => (Hypercall::SetPte, [root, page, self.random.next()]),
            3 => (Hypercall::SetPte, [0, page | KERNEL_HALF, 0]),
            4 => (Hypercall::SetPgd, [root, self.random.below(256), 0]),
            5 => (Hypercall::SetRange, [root, 0, 1 << 47]),
            6 => (Hypercall::SetRange, [0, KERNEL_HALF, 0]),
            7 => (Hypercall::SetRange, [root, page, page]),
            8 => (Hypercall::Notify, [self.random.below(self.memory), 0, 0]),
            9 => {
                let other = (self.root + 1 + self.random.below(ROOTS - 1)) % ROOTS;
                (Hypercall::ReleasePgd, [table(other), 0, 0])
            }
            10 => (Hypercall::SetClockevent, [self.random.next() >> self.random.below(64), 0, 0]),
            _ => {
                (Hypercall::SetRange, [root, page, (1 << 47).min(page + (self.random.below(1 << 20) << 12))])
            }
        }
    }

    fn push(&mut self, number: u64, arguments: [u64; 3]) {
        let at = self.ring_next;
        if DATA.hcall_status[at].load(Relaxed) != FREE {
            return;
        }
        let entry = &DATA.hcalls[at];
        entry.rax.store(number, Relaxed);
        entry.rdi.store(arguments[0], Relaxed);
        entry.rsi.store(arguments[1], Relaxed);
        entry.rdx.store(arguments[2], Relaxed);
        DATA.hcall_status[at].store(PENDING, Relaxed);
        DATA.hcall_pending.store(1, Relaxed);
        self.ring_next = (at + 1) % DATA.hcalls.len();
    }

    /// The timer goes off soon: nothing runs for ever.
    fn soon(&mut self) {
        let now = call(Hypercall::GetTime, [0; 3]);
        call(Hypercall::SetClockevent, [now + 20_000 + self.random.below(50_000), 0, 0]);
        DATA.blocked_interrupts.store(0, Relaxed);
    }

    fn load(&mut self, root: u64) {
        self.root = root;
        call(Hypercall::NewPgtable, [table(root), 0, 0]);
    }

    fn step(&mut self) {
        match self.random.below(64) {
            0..16 => {
                let (table, index, entry) = (self.table(), self.index(), self.entry());
                space::write(table, index, entry, MEMORY_AT);
                if self.random.once_in(2) {
                    let (what, arguments) = self.valid_call();
                    call(what, arguments);
                }
            }
            16..24 => {
                for _ in 0..4 {
                    self.bus.step(&mut self.random);
                }
            }
            24..31 => {
                let address = self.address();
                self.touch(address);
            }
            31..34 => self.write_through(),
            34..37 => {
                // A root that the host takes, or will not.
                let root = self.random.below(ROOTS);
                if !self.random.once_in(256) {
                    space::write(table(root), 448, 0, MEMORY_AT);
                }
                self.load(root);
            }
            37..42 => {
                for _ in 0..self.random.below(24) {
                    let (what, arguments) = self.valid_call();
                    self.push(what as u64, arguments);
                }
            }
            42..46 => {
                for _ in 0..16 {
                    let (what, arguments) = self.valid_call();
                    call(what, arguments);
                }
                let leaf = self.random.next();
                call(Hypercall::Cpuid, [leaf & 0x8000_00ff, leaf >> 60, 0]);
                call(Hypercall::ConsoleRead, [SCRATCH, self.random.below(4096), 0]);
                call(Hypercall::SendInterrupts, [0; 3]);
            }
            46..54 => self.enter_user(),
            54 if self.random.once_in(16) => self.scribble(),
            55 => {
                self.soon();
                call(Hypercall::Halt, [WaitMode::ForInterrupt as u64, 0, 0]);
            }
            56 => self.return_to_kernel(),
            57..60 => self.privileged(),
            60 => {
                let selector = self.random.next() as u32;
                // SAFETY: a bad selector faults, and the step is given up; a good one changes nothing here.
                unsafe { asm!("mov ds, {0:e}", "mov es, {0:e}", in(reg) selector) };
            }
            61 => {
                let host = HOST[0] + self.random.below(HOST[1] - HOST[0]);
                self.touch(host & !7);
            }
            62 => {
                let (number, arguments) =
                    (self.random.below(80), [self.border(), self.border(), self.border()]);
                // Not one that waits for ever or ends the test.
                if number != Hypercall::Halt as u64
                    && number != Hypercall::Shutdown as u64
                    && self.random.once_in(24)
                {
                    if self.random.once_in(4) {
                        self.push(number, arguments);
                    } else {
                        raw(number, arguments);
                    }
                }
            }
            _ => {
                let enabled = self.random.one_of(&[0, IRQ_ENABLED, 1, u32::MAX]);
                DATA.irq_enabled.store(enabled, Relaxed);
            }
        }
    }

    /// Goes to user mode, to good or bad places, by IRET or SYSRET.
    fn enter_user(&mut self) {
        self.soon();
        let pieces = entry::user_code().len() as u64 / PIECE_BYTES;
        let piece = USER_CODE + self.random.below(pieces) * PIECE_BYTES;
        let rip = if self.random.once_in(4) { self.border() } else { piece };
        let rflags = if self.random.once_in(2) { self.random.next() } else { 2 };
        let rsp = self.border();
        DATA.user_gsbase.store(self.border(), Relaxed);
        DATA.kernel_gsbase.store(self.border(), Relaxed);
        DATA.user_rax.store(self.random.next(), Relaxed);
        if !self.random.once_in(64) {
            DATA.kernel_stack.store(stack(), Relaxed);
        }
        let value = self.border();
        if self.random.once_in(2) {
            DATA.user_rip.store(rip, Relaxed);
            DATA.user_rflags.store(rflags, Relaxed);
            // SAFETY: an event or system call of user mode comes back to [`go_on`].
            unsafe {
                asm!("mov rsp, {}", "syscall", in(reg) rsp, in("rax") Hypercall::Sysret as u64, in("rdi") 0,
                     in("rsi") value, options(noreturn));
            }
        }
        let frame = [rip, self.random.next() | 3, rflags, rsp, self.random.next()];
        // SAFETY: as above.
        unsafe {
            asm!("mov rbx, {}", "mov rsp, {}", "syscall", in(reg) value, in(reg) &raw const frame,
                 in("rax") Hypercall::Iret as u64, in("rdi") 0, options(noreturn));
        }
    }

    /// IRET to kernel mode: to where this function goes on, with any flags, or to a bad place.
    fn return_to_kernel(&mut self) {
        self.soon();
        let rflags = self.random.next() & !0x400;
        let bad = if self.random.once_in(64) { self.border() } else { 0 };
        let offset: u64 = if self.random.once_in(128) { 4 } else { 0 };
        // SAFETY: the frame is on the stack that it returns to; the registers that are lost are named.
        unsafe {
            asm!("mov {1}, rsp", "push 0x18", "push {1}", "push {0}", "push 0x10", "lea {1}, [rip + 2f]", "test {2}, {2}",
                 "cmovnz {1}, {2}", "push {1}", "add rsp, {3}", "syscall", "2:", in(reg) rflags, out(reg) _, in(reg) bad,
                 in(reg) offset, inlateout("rax") Hypercall::Iret as u64 => _, lateout("rcx") _, lateout("r11") _);
        }
    }

    /// Writes anything to the shared page.
    fn scribble(&mut self) {
        let value = self.random.next();
        match self.random.below(8) {
            0 => DATA.kernel_stack.store(self.border(), Relaxed),
            1 => DATA.hcall_status[self.random.below(64) as usize].store(value as u8, Relaxed),
            2 => DATA.hcall_pending.store(value as u32, Relaxed),
            3 => DATA.irq_pending.store(value as u32, Relaxed),
            4 => DATA.system_call.store(self.border(), Relaxed),
            5 => DATA.tsc_base.store(value, Relaxed),
            6 => DATA.noirq_start.store(value, Relaxed),
            _ => DATA.cr2.store(value, Relaxed),
        }
    }

    /// Instructions that only the host may use: each raises an exception, or tells nothing.
    fn privileged(&mut self) {
        let value = self.border();
        // SAFETY: each faults, and the step is given up, or changes nothing that is used here.
        unsafe {
            match self.random.below(22) {
                0 => asm!("cli"),
                1 => asm!("sti"),
                2 => asm!("hlt"),
                3 => asm!("mov cr3, {}", in(reg) value),
                4 => asm!("mov cr4, {}", in(reg) value),
                5 => asm!("mov {}, cr0", out(reg) _),
                6 => asm!("wrmsr", in("ecx") 0xc000_0082u32, in("eax") 0, in("edx") 0),
                7 => asm!("rdmsr", in("ecx") 0xc000_0080u32, out("eax") _, out("edx") _),
                8 => asm!("lgdt [{}]", in(reg) MEMORY_AT),
                9 => asm!("lidt [{}]", in(reg) MEMORY_AT),
                10 => asm!("ltr {0:x}", in(reg) 0x38),
                11 => asm!("out 0xf4, eax", in("eax") 0),
                12 => asm!("in al, 0x60", out("al") _),
                13 => asm!("invlpg [{}]", in(reg) value),
                14 => asm!("xsetbv", in("ecx") 0, in("eax") 1, in("edx") 0),
                15 => asm!("swapgs"),
                16 => asm!("int 0x80"),
                17 => asm!("int3"),
                18 => asm!("wrgsbase {}", in(reg) value),
                19 => asm!("mov dr7, {}", in(reg) value),
                20 => asm!("wbinvd"),
                _ => asm!("mov {0:e}, 0x08", "mov ds, {0:e}", out(reg) _),
            }
        }
    }
}
