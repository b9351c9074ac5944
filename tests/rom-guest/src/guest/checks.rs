//! What the calls must do.

use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use vmi_abi::{
    Alarm, ApState, CALLS, Call, Counter, InitParameters, InitStatus, RelocationType, TablePointer,
};

use super::calls::{APIC, halt};
use super::console::say;
use super::memory::{Pages, Rom, first_tables, root, spare_entry};
use super::traps::{self, INTERRUPTS, VECTOR};

const SPURIOUS: u64 = APIC + 0xf0;
const TIMER_ENTRY: u64 = APIC + 0x320;
const COMMAND: u64 = APIC + 0x300;
const COMMAND_DESTINATION: u64 = APIC + 0x310;
const IDENTITY: u64 = APIC + 0x20;
const WIRED: u64 = Alarm::WIRED_LVTT.bits();
/// All of the first 4 GiB are shown at their own address.
const LINEAR_PAGES: u64 = 1 << 20;

static CPU_MEMORY: Pages<2> = Pages::new();
static TABLE: Pages<1> = Pages::new();
static STACK: Pages<4> = Pages::new();
/// What GS leads to on each CPU.
static LOCAL: [[AtomicU64; 8]; 2] = [const { [const { AtomicU64::new(0) }; 8] }; 2];
/// What the other CPU found.
static OTHER: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    static boot_gdt_pointer: TablePointer;
}

/// All checks.
pub fn run(rom: &Rom) {
    begin(rom);
    relocations(rom);
    tables(rom);
    updates(rom);
    counters(rom);
    alarms(rom);
    other_cpu(rom);
}

/// What every run begins with: `VMI_Init`, page tables, this CPU.
pub fn begin(rom: &Rom) {
    traps::load();
    let good = rom.parameters();
    let bad = InitParameters { data: good.data ^ 4096, ..good };
    assert_eq!(rom.init(&bad), InitStatus::BadParameters);
    assert_eq!(rom.init(&good), InitStatus::Ready);
    rom.call(Call::SetLinearMapping, &[0, 0, LINEAR_PAGES, 0]);
}

fn relocations(rom: &Rom) {
    for &call in CALLS {
        let (address, kind) = rom.relocation(call.number());
        let kind = RelocationType::from_number(kind).expect("a type");
        assert!(call.allowed().contains(kind.flag()), "{}", call.name());
        assert!(address == 0 || rom.contains(address), "{}", call.name());
    }
    assert_eq!(rom.relocation(34), (0, 0));
    say!("rom-guest: relocations");
}

/// Announces the tables, takes them, and binds this CPU.
pub fn tables(rom: &Rom) {
    for (frame, level) in first_tables() {
        rom.call(Call::AllocatePage, &[frame, level]);
    }
    rom.call(Call::SetCr3, &[root()]);
    assert_eq!(rom.call(Call::GetCr3, &[]), root());
    set_gs(&raw const LOCAL[0] as u64);
    let bind = || rom.call(Call::BindCpu, &[CPU_MEMORY.at(0), APIC]);
    let answers = rom.relocation(Call::BindCpu.number()).1 == RelocationType::CallRel as u64;
    assert_eq!(bind(), 0);
    assert!(!answers || bind() as i64 == -1, "a CPU is bound once");
    rom.call(Call::ApicWrite, &[SPURIOUS, 0x1ff]);
    rom.call(Call::ApicWrite, &[TIMER_ENTRY, u64::from(VECTOR)]);
    assert_eq!(rom.call(Call::ApicRead, &[TIMER_ENTRY]) & 0xff, u64::from(VECTOR));
    say!("rom-guest: tables");
}

fn set_gs(base: u64) {
    // SAFETY: IA32_GS_BASE; nothing here uses GS but the ROM.
    unsafe {
        asm!("wrmsr", in("ecx") 0xc000_0101u32, in("eax") base as u32, in("edx") (base >> 32) as u32);
    }
}

/// A page appears, changes and goes, at once and put off.
fn updates(rom: &Rom) {
    let (entry, address) = spare_entry();
    let (table, frame) = (TABLE.frame(0) * 4096, TABLE.frame(0));
    rom.call(Call::AllocatePage, &[frame, 1 | 0x40]);
    rom.call(Call::SetPxELong, &[table | 3, entry, 2 | 0x10, address]);
    let shows = |physical: u64| {
        // SAFETY: the page is mapped, and the first tables show both pages at their own addresses.
        let (here, there) =
            unsafe { ((address as *const u64).read_volatile(), (physical as *const u64).read_volatile()) };
        here == there
    };
    // SAFETY: the table's first entry.
    let held = || unsafe { (table as *const u64).read_volatile() };
    let (first, second) = (root(), first_tables()[1].0 * 4096);
    rom.call(Call::SetPxELong, &[first | 3, table, 1 | 0x10, address]);
    assert!(shows(first));
    rom.call(Call::SetPxELong, &[second | 3, table, 1 | 0x10 | 0x20, address]);
    rom.call(Call::InvalPage, &[address]);
    assert!(held() & !0x60 == second | 3 && shows(second));
    // Put off without an end of its own: each of these ends it.
    for flush in [Call::FlushTlb, Call::SetCr3, Call::SetLazyMode] {
        let was = held();
        let value = (if was & !0xfff == second { first } else { second }) | 3;
        rom.call(Call::SetPxELong, &[value, table, 1 | 0x10 | 0x20, address]);
        let argument = if flush == Call::SetCr3 { root() } else { 0 };
        rom.call(flush, &[argument]);
        assert_eq!(held() & !0x60, value, "{}", flush.name());
    }
    rom.call(Call::SetLazyMode, &[1]);
    rom.call(Call::SetPxELong, &[0, table, 1 | 0x10, address]);
    rom.call(Call::SetLazyMode, &[0]);
    assert_eq!(held(), 0);
    rom.call(Call::InvalPage, &[address]);
    rom.call(Call::SetPxELong, &[0, entry, 2 | 0x10, address]);
    rom.call(Call::ReleasePage, &[frame, 1]);
    say!("rom-guest: updates");
}

fn counters(rom: &Rom) {
    let frequency = rom.call(Call::GetCycleFrequency, &[]);
    assert!(frequency >= 1_000_000);
    let read = |counter: Counter| rom.call(Call::GetCycleCounter, &[counter as u64]);
    // SAFETY: reads a counter.
    let tsc = || unsafe { core::arch::x86_64::_rdtsc() };
    // The difference between REAL and the time stamp counter is constant, to what reading them takes.
    let difference = || {
        (0..1000).fold((0, u64::MAX), |best, _| {
            let (before, real, after) = (tsc(), read(Counter::Real), tsc());
            if after - before < best.1 { (real.wrapping_sub(before), after - before) } else { best }
        })
    };
    let (first, error) = difference();
    let (mut last, start) = ([0; 3], read(Counter::Real));
    while read(Counter::Real) - start < frequency / 100 {
        let now = [Counter::Available, Counter::Stolen, Counter::Real].map(read);
        assert!(now.iter().zip(last).all(|(now, last)| *now >= last), "a counter went back");
        assert!(now[0] + now[1] <= now[2]);
        last = now;
    }
    let (second, other) = difference();
    assert!(first.abs_diff(second) <= error + other);
    let wall = rom.call(Call::GetWallclockTime, &[]);
    assert!(wall == 0 || wall > 1_600_000_000 * 1_000_000_000);
    assert_eq!(rom.call(Call::WallclockUpdated, &[]), 0);
    say!("rom-guest: counters at {frequency} Hz, {} s since 1970", wall / 1_000_000_000);
}

fn wait(rom: &Rom, count: u64) {
    while INTERRUPTS.load(SeqCst) < count {
        halt(rom);
    }
}

fn alarms(rom: &Rom) {
    let frequency = rom.call(Call::GetCycleFrequency, &[]);
    for counter in [Counter::Real, Counter::Available] {
        let flags = WIRED | counter as u64;
        let now = || rom.call(Call::GetCycleCounter, &[counter as u64]);
        for part in [u64::MAX, 20_000, 1_000, 50] {
            INTERRUPTS.store(0, SeqCst);
            let expiry = now() + frequency / part;
            assert_eq!(rom.call(Call::SetAlarm, &[flags, expiry]), 0);
            wait(rom, 1);
            assert!(now() >= expiry, "an alarm is early");
        }
        // Both may be set; the earlier comes first, and cancelling says what was there.
        assert_eq!(rom.call(Call::SetAlarm, &[flags, now() + frequency]), 0);
        assert_eq!(rom.call(Call::CancelAlarm, &[flags]), 1);
        assert_eq!(rom.call(Call::CancelAlarm, &[flags]), 0);
        INTERRUPTS.store(0, SeqCst);
        let start = now();
        assert_eq!(rom.call(Call::SetAlarm, &[flags | Alarm::PERIODIC.bits(), start, frequency / 500]), 0);
        wait(rom, 5);
        assert!(now() - start >= 4 * (frequency / 500), "periods are too short");
        assert_eq!(rom.call(Call::CancelAlarm, &[flags]), 1);
    }
    let far = rom.call(Call::GetCycleCounter, &[0]) + 3600 * frequency;
    let bad: [[u64; 3]; 4] = [
        [WIRED | Counter::Stolen as u64, far, 0],
        [0, far, 0],
        [WIRED | Alarm::PERIODIC.bits(), 0, 3],
        [WIRED | Alarm::PERIODIC.bits(), far, frequency / 500],
    ];
    for arguments in bad {
        assert_eq!(rom.call(Call::SetAlarm, &arguments) as i64, -1, "{arguments:x?}");
    }
    say!("rom-guest: alarms");
}

#[unsafe(naked)]
extern "C" fn other_entry() {
    naked_asm!(
        "mov rdi, r15",
        "mov rsi, rax",
        "mov rdx, gs:[0]",
        "call {}",
        "ud2",
        sym other_main
    )
}

extern "C" fn other_main(r15: u64, rax: u64, local: u64) -> ! {
    OTHER.store(if (r15, rax, local) == (15, 1, 0x6c6f_6361) { 1 } else { 2 }, SeqCst);
    loop {
        // SAFETY: nothing more is to be done.
        unsafe { asm!("cli", "hlt", options(nostack, nomem)) };
    }
}

/// A state for the other CPU: this CPU's, but for what the checks look at.
pub fn state() -> ApState {
    let (cr0, cr3, cr4): (u64, u64, u64);
    // SAFETY: reads registers.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4", out(reg) cr0, out(reg) cr3, out(reg) cr4);
    }
    ApState {
        cr0,
        cr3,
        cr4,
        efer: 0xd00,
        rip: other_entry as *const () as u64,
        rflags: 2,
        rax: 1,
        r15: 15,
        rsp: STACK.at(3) + 4096,
        gs_base: &raw const LOCAL[1] as u64,
        cs: 0x10,
        ss: 0x18,
        ds: 0x18,
        es: 0x18,
        // SAFETY: the first instructions' table; its pointer lies at its physical address.
        gdtr: unsafe { (&raw const boot_gdt_pointer).read_unaligned() },
        idtr: traps::pointer(),
        ..ApState::default()
    }
}

fn other_cpu(rom: &Rom) {
    LOCAL[1][0].store(0x6c6f_6361, SeqCst);
    let own = rom.call(Call::ApicRead, &[IDENTITY]) >> 24;
    let set = |state: &ApState, identity: u64| {
        rom.call(Call::SetInitialApState, &[&raw const *state as u64, identity]) as i64
    };
    let good = state();
    for bad in [
        ApState::default(),
        ApState { cr3: good.cr3 + (1 << 32), ..good },
        ApState { rip: 1 << 62, ..good },
        ApState { cs: 0, ..good },
    ] {
        assert_eq!(set(&bad, own + 1), -1);
    }
    assert_eq!(set(&good, 300), -2);
    let vector = set(&good, own + 1);
    assert!((1..0xa0).contains(&vector));
    for command in [0x4500, 0x4600 | vector as u64] {
        rom.call(Call::ApicWrite, &[COMMAND_DESTINATION, (own + 1) << 24]);
        rom.call(Call::ApicWrite, &[COMMAND, command]);
    }
    let frequency = rom.call(Call::GetCycleFrequency, &[]);
    let start = rom.call(Call::GetCycleCounter, &[0]);
    while OTHER.load(SeqCst) == 0 {
        let passed = rom.call(Call::GetCycleCounter, &[0]) - start;
        assert!(passed < 10 * frequency, "the other CPU does not start");
    }
    assert_eq!(OTHER.load(SeqCst), 1, "the other CPU has other registers");
    say!("rom-guest: the other CPU");
}
