//! How fast the time stamp counter and the APIC timer run.
//!
//! What CPUID says is taken first. Otherwise both are counted against a clock of the machine: HPET, the power management timer
//! of a chipset that is known, the APIC timer itself under a hypervisor that counts it in nanoseconds, the 8254. None need be
//! there: each must show that it counts, and no loop lasts longer than a number of ticks.

use super::apic;
use super::machine::{X2APIC, tsc};
use super::power;
use super::processor::{cpuid, in_byte, in_long, out_byte, read_register, write_register};
use crate::apic_view::{CURRENT_COUNT, DIVIDE, INITIAL_COUNT, TIMER_ENTRY};
use crate::scale::Scale;
use core::sync::atomic::Ordering::Relaxed;

/// Rates, a second.
#[derive(Clone, Copy, Default)]
pub struct Rates {
    /// Time stamp counter.
    pub tsc: u64,
    /// Undivided APIC timer.
    pub apic_timer: u64,
}

/// A clock to count against.
#[derive(Clone, Copy)]
enum Reference {
    /// Address of the HPET's main counter, and its rate.
    Hpet(u64, u64),
    /// Port of a power management timer.
    PowerManagement(u16),
    /// The APIC timer, in nanoseconds.
    ApicTimer,
    /// Channel 2 of the 8254.
    Pit,
    /// The time stamp counter, at a rate that is known, for the APIC timer alone.
    Tsc(u64),
}

const POWER_MANAGEMENT_RATE: u64 = 3_579_545;
const PIT_RATE: u64 = 1_193_182;
const NANOSECONDS: u64 = 1_000_000_000;
/// Where a HPET is if there is one.
const HPET: u64 = 0xfed0_0000;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_1: u32 = 0b1011;

/// A reference that has not moved after so many ticks never will.
const TICKS_TO_MOVE: u64 = 3_000_000;
/// No window is longer.
const MOST_TICKS: u64 = 300_000_000;
/// Readings of which the least disturbed counts.
const READINGS: u32 = 8;
/// Measurements that may be disturbed before the reference is given up.
const ATTEMPTS: u32 = 50;
/// No time stamp counter is slower.
const LEAST_TICKS_A_SECOND: u64 = 500_000_000;
/// What runs slower than this is no counter of a CPU.
const LEAST_RATE: u64 = 1_000_000;

/// Physical memory and the APIC, while `VMI_Init` runs.
#[derive(Clone, Copy)]
pub struct Reach {
    /// Linear address of physical address 0.
    pub physical: u64,
    /// Linear address of the local APIC.
    pub apic: u64,
}

/// Finds the rates; that of the timer only if `timer_needed`.
pub fn run(reach: Reach, timer_needed: bool) -> Option<Rates> {
    let known = known();
    if known.tsc != 0 && (known.apic_timer != 0 || !timer_needed) {
        return Some(known);
    }
    let entry = apic::read(reach.apic, TIMER_ENTRY);
    apic::write(reach.apic, DIVIDE, DIVIDE_BY_1);
    apic::write(reach.apic, TIMER_ENTRY, MASKED);
    apic::write(reach.apic, INITIAL_COUNT, u32::MAX);
    let mut measured = None;
    if known.tsc != 0 {
        measured = measure(reach, Reference::Tsc(known.tsc));
    }
    if measured.is_none() {
        measured = hpet(reach).and_then(|reference| measure(reach, reference));
    }
    if measured.is_none() {
        measured =
            power::management_timer().and_then(|port| measure(reach, Reference::PowerManagement(port)));
    }
    if measured.is_none() && counts_nanoseconds() {
        measured = measure(reach, Reference::ApicTimer);
    }
    if measured.is_none() {
        measured = measure(reach, Reference::Pit);
    }
    apic::write(reach.apic, INITIAL_COUNT, 0);
    apic::write(reach.apic, TIMER_ENTRY, entry);
    let mut rates = measured?;
    if known.tsc != 0 {
        rates.tsc = known.tsc;
    }
    if known.apic_timer != 0 {
        rates.apic_timer = known.apic_timer;
    }
    Some(rates)
}

fn is_virtual() -> bool {
    cpuid(1).ecx & 1 << 31 != 0
}

/// What CPUID says; zero for what it does not.
fn known() -> Rates {
    let mut rates = Rates::default();
    if is_virtual() {
        let most = cpuid(0x4000_0000).eax;
        if (0x4000_0010..0x4001_0000).contains(&most) {
            let timing = cpuid(0x4000_0010);
            rates = Rates { tsc: u64::from(timing.eax) * 1000, apic_timer: u64::from(timing.ebx) * 1000 };
        }
    }
    if cpuid(0).eax >= 0x15 {
        let ratio = cpuid(0x15);
        if let Some(hertz) = (u64::from(ratio.ecx) * u64::from(ratio.ebx)).checked_div(u64::from(ratio.eax))
            && ratio.ebx != 0
            && ratio.ecx != 0
        {
            if rates.tsc == 0 {
                rates.tsc = hertz;
            }
            if rates.apic_timer == 0 && !is_virtual() {
                rates.apic_timer = u64::from(ratio.ecx);
            }
        }
    }
    rates
}

/// QEMU's emulation and KVM count the APIC timer in nanoseconds.
fn counts_nanoseconds() -> bool {
    if !is_virtual() {
        return false;
    }
    let name = cpuid(0x4000_0000);
    let tcg = name.ebx == 0x5447_4354 && name.ecx == 0x4354_4743 && name.edx == 0x4743_5447;
    let kvm = name.ebx == 0x4b4d_564b && name.ecx == 0x564b_4d56 && name.edx == 0x4d;
    tcg || kvm
}

fn hpet(reach: Reach) -> Option<Reference> {
    const FEMTOSECONDS: u64 = 1_000_000_000_000_000;
    let registers = reach.physical + HPET;
    let (identity, period) = (read_register(registers), u64::from(read_register(registers + 4)));
    // IA-PC HPET specification 1.0a, 2.3.4: a revision, a vendor, and at most 100 ns.
    if identity & 0xff == 0 || identity >> 16 == 0xffff || period == 0 || period > 100_000_000 {
        return None;
    }
    let configuration = registers + 0x10;
    write_register(configuration, read_register(configuration) | 1);
    Some(Reference::Hpet(registers + 0xf0, FEMTOSECONDS.checked_div(period)?))
}

impl Reference {
    fn start(self) {
        if let Self::Pit = self {
            out_byte(0x61, in_byte(0x61) & !2 | 1);
            // Channel 2, both bytes, count down once.
            out_byte(0x43, 0xb0);
            out_byte(0x42, 0xff);
            out_byte(0x42, 0xff);
        }
    }

    fn read(self, reach: Reach) -> u64 {
        match self {
            Self::Hpet(counter, _) => u64::from(read_register(counter)),
            Self::PowerManagement(port) => u64::from(in_long(port)),
            Self::ApicTimer => counted(reach),
            Self::Pit => {
                out_byte(0x43, 0x80);
                let low = u64::from(in_byte(0x42));
                0xffff - (u64::from(in_byte(0x42)) << 8 | low)
            }
            Self::Tsc(_) => tsc(),
        }
    }

    const fn rate(self) -> u64 {
        match self {
            Self::Hpet(_, rate) | Self::Tsc(rate) => rate,
            Self::PowerManagement(_) => POWER_MANAGEMENT_RATE,
            Self::ApicTimer => NANOSECONDS,
            Self::Pit => PIT_RATE,
        }
    }

    /// Its bits.
    const fn bits(self) -> u32 {
        match self {
            Self::Hpet(..) | Self::ApicTimer => 32,
            Self::PowerManagement(_) => 24,
            Self::Pit => 16,
            Self::Tsc(_) => 64,
        }
    }

    /// Counts from `start` to `end`, through at most one wrap.
    const fn between(self, start: u64, end: u64) -> u64 {
        end.wrapping_sub(start) & (u64::MAX >> (64 - self.bits()))
    }

    /// Whether it can come round while the CPU counts so many ticks.
    fn may_wrap_in(self, ticks: u64) -> bool {
        (u128::from(ticks) * u128::from(self.rate())) >> self.bits() >= u128::from(LEAST_TICKS_A_SECOND)
    }

    /// How long to count for: a coarse clock needs longer.
    const fn window(self) -> u64 {
        match self {
            Self::Pit => PIT_RATE * 4 / 1000,
            Self::PowerManagement(_) => POWER_MANAGEMENT_RATE * 2 / 1000,
            Self::Hpet(_, rate) | Self::Tsc(rate) => rate / 1000,
            Self::ApicTimer => NANOSECONDS / 1000,
        }
    }
}

fn counted(reach: Reach) -> u64 {
    u64::from(u32::MAX - apic::read(reach.apic, CURRENT_COUNT))
}

/// The least disturbed of a few readings, and the time stamp counter in the middle of it.
fn reading(read: impl Fn() -> u64) -> (u64, u64) {
    let mut least = u64::MAX;
    let mut best = (0, 0);
    for _ in 0..READINGS {
        let before = tsc();
        let value = read();
        let took = tsc().wrapping_sub(before);
        if took < least {
            least = took;
            best = (before.wrapping_add(took / 2), value);
        }
    }
    best
}

/// What became of a measurement.
enum Attempt {
    Measured(Rates),
    /// The CPU was away for so long that the reference may have wrapped.
    Disturbed,
    /// Something does not count.
    Still,
}

fn measure(reach: Reach, reference: Reference) -> Option<Rates> {
    reference.start();
    for _ in 0..ATTEMPTS {
        match attempt(reach, reference) {
            Attempt::Measured(rates) => return Some(rates),
            Attempt::Disturbed => {}
            Attempt::Still => return None,
        }
    }
    None
}

fn attempt(reach: Reach, reference: Reference) -> Attempt {
    let read = || reference.read(reach);
    let count = || counted(reach);
    // The reference is read before the ticks here, and after them in the loop: a CPU that is away between the two has not seen
    // a reference that stands still.
    let (first, begin) = (read(), tsc());
    loop {
        let waited = tsc().wrapping_sub(begin);
        if read() != first {
            break;
        }
        if waited > TICKS_TO_MOVE {
            return Attempt::Still;
        }
    }
    let (start, start_count) = (reading(read), reading(count));
    let (mut last, mut longest_gap) = (start.0, 0);
    loop {
        let now = tsc();
        let passed = reference.between(start.1, read());
        longest_gap = longest_gap.max(now.wrapping_sub(last));
        last = now;
        if passed >= reference.window() {
            break;
        }
        if now.wrapping_sub(start.0) > MOST_TICKS {
            return if reference.may_wrap_in(longest_gap) { Attempt::Disturbed } else { Attempt::Still };
        }
    }
    let (end, end_count) = (reading(read), reading(count));
    longest_gap = longest_gap.max(end.0.wrapping_sub(last));
    if reference.may_wrap_in(longest_gap) {
        return Attempt::Disturbed;
    }
    let passed = reference.between(start.1, end.1);
    let tsc_rate = Scale::between(passed, end.0.wrapping_sub(start.0)).apply(reference.rate());
    let counts = end_count.1.wrapping_sub(start_count.1);
    let timer = Scale::between(end_count.0.wrapping_sub(start_count.0), counts).apply(tsc_rate);
    if tsc_rate < LEAST_RATE || timer < LEAST_RATE {
        return Attempt::Still;
    }
    Attempt::Measured(Rates { tsc: tsc_rate, apic_timer: timer })
}

/// Whether the APIC is reached at all: an address that nothing answers reads as all ones.
pub fn has_apic(reach: Reach) -> bool {
    X2APIC.load(Relaxed) || apic::read(reach.apic, 0x30) != u32::MAX
}
