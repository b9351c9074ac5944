//! How fast the time stamp counter and the APIC timer run.
//!
//! What CPUID says is taken first. Otherwise both are counted for a millisecond or so against the best clock there is:
//! HPET, the ACPI power management timer, the APIC timer itself where a hypervisor fixes its rate, the 8254. None need be
//! there: each must show that it counts before it is used, and no loop lasts longer than a set number of ticks.

use core::ptr::NonNull;

use arch_x86::pit;
use platform::{Unusable, VirtAddr};
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;

use super::{Sources, apic_timer, tsc};
use crate::bare::Bare;
use crate::cpu::features::{Features, cpuid, has};
use crate::machine::Machine;

/// Rates, a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// Time stamp counter.
    pub tsc: u64,
    /// Undivided APIC timer.
    pub apic_timer: u64,
}

/// A clock to count against.
#[derive(Clone, Copy, Debug)]
enum Reference {
    /// Main counter of the HPET, and its rate.
    Hpet(VirtAddr, u64),
    /// Port of the power management timer, and the bits it counts.
    PmTimer(u16, u32),
    /// The APIC timer, at a rate its hypervisor fixes.
    ApicTimer(u64),
    /// Channel 2 of the 8254.
    Pit,
    /// The time stamp counter, at a known rate, for the APIC timer alone.
    Tsc(u64),
}

const PM_TIMER_RATE: u64 = 3_579_545;
/// The APIC timer's rate under hypervisors that count it in nanoseconds.
const NANOSECOND_RATE: u64 = 1_000_000_000;

/// A reference that has not moved after so many ticks never will: about a millisecond.
const TICKS_TO_MOVE: u64 = 3_000_000;
/// No window is longer, however slow its reference: about a tenth of a second.
const MOST_TICKS: u64 = 300_000_000;
/// Readings of which the least disturbed one counts.
const READINGS: u32 = 8;

/// Finds the rates and sets the clock and the timer to them. Context: interrupts disabled, the APIC timer free.
pub fn run(sources: Sources) -> Result<(), Unusable> {
    let rates = rates(sources)?;
    tsc::set_rate(rates.tsc);
    if apic_timer::has_tsc_deadline() {
        apic_timer::use_tsc_deadline();
    } else {
        apic_timer::set_rate(rates.apic_timer);
    }
    Ok(())
}

fn rates(sources: Sources) -> Result<Rates, Unusable> {
    let known = known();
    if known.tsc != 0 && (known.apic_timer != 0 || apic_timer::has_tsc_deadline()) {
        return Ok(known);
    }
    apic_timer::start_counting();
    let measured = if known.tsc != 0 {
        measure(Reference::Tsc(known.tsc))
    } else {
        references(sources).into_iter().flatten().find_map(measure)
    };
    apic_timer::stop_counting();
    let mut rates = measured.ok_or(Unusable("the machine has no clock to measure the CPU's counter with"))?;
    if known.tsc != 0 {
        rates.tsc = known.tsc;
    }
    if known.apic_timer != 0 {
        rates.apic_timer = known.apic_timer;
    }
    Ok(rates)
}

/// What CPUID says; zero for what it does not.
fn known() -> Rates {
    let mut rates = Rates::default();
    let id = cpuid::<Bare>();
    if has(Features::HYPERVISOR) {
        // The generic timing leaf: both rates in kHz.
        let leaf = Bare::cpuid(0x4000_0000, 0);
        if leaf.eax >= 0x4000_0010 && leaf.eax < 0x4001_0000 {
            let timing = Bare::cpuid(0x4000_0010, 0);
            rates.tsc = u64::from(timing.eax) * 1000;
            rates.apic_timer = u64::from(timing.ebx) * 1000;
        }
    }
    if let Some(tsc) = id.get_tsc_info()
        && tsc.numerator() != 0
        && tsc.denominator() != 0
    {
        let crystal = match tsc.nominal_frequency() {
            // Skylake does not say, but its nominal frequency follows from the crystal's.
            0 => id.get_processor_frequency_info().map_or(0, |frequency| {
                u64::from(frequency.processor_base_frequency()) * 1_000_000 * u64::from(tsc.denominator())
                    / u64::from(tsc.numerator())
            }),
            hertz => u64::from(hertz),
        };
        if rates.tsc == 0 {
            rates.tsc = crystal * u64::from(tsc.numerator()) / u64::from(tsc.denominator());
        }
        if rates.apic_timer == 0 && !has(Features::HYPERVISOR) {
            rates.apic_timer = crystal;
        }
    }
    rates
}

fn references(sources: Sources) -> [Option<Reference>; 4] {
    [
        sources.hpet.and_then(start_hpet),
        sources.pm_timer.map(|(port, wide)| Reference::PmTimer(port, if wide { 32 } else { 24 })),
        counts_nanoseconds().then_some(Reference::ApicTimer(NANOSECOND_RATE)),
        Some(Reference::Pit),
    ]
}

/// Whether the hypervisor is one that runs the APIC timer at 1 GHz: QEMU's emulation and KVM do.
fn counts_nanoseconds() -> bool {
    if !has(Features::HYPERVISOR) {
        return false;
    }
    let leaf = Bare::cpuid(0x4000_0000, 0);
    let name = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    matches!(name.as_flattened(), b"TCGTCGTCGTCG" | b"KVMKVMKVM\0\0\0")
}

/// Makes the HPET count, if it is one.
fn start_hpet(memory: VirtAddr) -> Option<Reference> {
    const FEMTOSECONDS: u64 = 1_000_000_000_000_000;
    let register = |offset: u64| {
        let at: *mut u32 = (memory + offset).as_mut_ptr();
        // SAFETY: the caller mapped the registers; the address is not null.
        unsafe { VolatilePtr::new(NonNull::new_unchecked(at)) }
    };
    let period = u64::from(register(4).read());
    // IA-PC HPET specification 1.0a, 2.3.4: at most 100 ns.
    if period == 0 || period > 100_000_000 {
        return None;
    }
    let configuration = register(0x10);
    configuration.write(configuration.read() | 1);
    Some(Reference::Hpet(memory + 0xf0, FEMTOSECONDS / period))
}

impl Reference {
    fn start(self) {
        if let Self::Pit = self {
            pit::start();
        }
    }

    fn read(self) -> u64 {
        match self {
            Self::Hpet(at, _) => {
                // SAFETY: the counter's low half, mapped; the address is not null.
                let counter = unsafe { VolatilePtr::new(NonNull::new_unchecked(at.as_mut_ptr::<u32>())) };
                counter.read().into()
            }
            // SAFETY: firmware says that the timer is there.
            Self::PmTimer(port, _) => unsafe { Port::<u32>::new(port).read() }.into(),
            Self::ApicTimer(_) => apic_timer::counted().into(),
            Self::Pit => pit::counted(),
            Self::Tsc(_) => tsc::ticks(),
        }
    }

    const fn rate(self) -> u64 {
        match self {
            Self::Hpet(_, rate) | Self::ApicTimer(rate) | Self::Tsc(rate) => rate,
            Self::PmTimer(..) => PM_TIMER_RATE,
            Self::Pit => pit::RATE,
        }
    }

    /// Counts from `start` to `end`, through at most one wrap.
    const fn between(self, start: u64, end: u64) -> u64 {
        let bits = match self {
            Self::Hpet(..) | Self::ApicTimer(_) => 32,
            Self::PmTimer(_, bits) => bits,
            Self::Pit => 16,
            Self::Tsc(_) => 64,
        };
        end.wrapping_sub(start) & (u64::MAX >> (64 - bits))
    }

    /// How long to count for: a coarse clock needs longer.
    const fn window(self) -> u64 {
        match self {
            Self::Pit => self.rate() * 4 / 1000,
            Self::PmTimer(..) => self.rate() * 2 / 1000,
            _ => self.rate() / 1000,
        }
    }
}

/// A counter's value, and the time stamp counter in the middle of reading it.
#[derive(Clone, Copy)]
struct Reading {
    tsc: u64,
    value: u64,
}

/// Of a few readings the one that took least time: the others were interrupted below, or the code was new.
fn reading(read: impl Fn() -> u64) -> Reading {
    let mut least = u64::MAX;
    let mut best = Reading { tsc: 0, value: 0 };
    for _ in 0..READINGS {
        let before = tsc::ticks();
        let value = read();
        let took = tsc::ticks().wrapping_sub(before);
        if took < least {
            least = took;
            best = Reading { tsc: before.wrapping_add(took / 2), value };
        }
    }
    best
}

/// `count * rate / passed`.
fn scaled(count: u64, rate: u64, passed: u64) -> Option<u64> {
    let passed = u128::from(passed);
    u64::try_from((u128::from(count) * u128::from(rate)).checked_div(passed)?).ok()
}

fn measure(reference: Reference) -> Option<Rates> {
    reference.start();
    let begin = tsc::ticks();
    let first = reference.read();
    while reference.read() == first {
        if tsc::ticks().wrapping_sub(begin) > TICKS_TO_MOVE {
            return None;
        }
    }
    let read = || reference.read();
    let count = || apic_timer::counted().into();
    let (start, start_count) = (reading(read), reading(count));
    while reference.between(start.value, reference.read()) < reference.window() {
        if tsc::ticks().wrapping_sub(start.tsc) > MOST_TICKS {
            return None;
        }
    }
    let (end, end_count) = (reading(read), reading(count));
    let passed = reference.between(start.value, end.value);
    let tsc = scaled(end.tsc.wrapping_sub(start.tsc), reference.rate(), passed)?;
    let counted = end_count.value.wrapping_sub(start_count.value);
    let apic_timer = scaled(counted, tsc, end_count.tsc.wrapping_sub(start_count.tsc))?;
    let rates = Rates { tsc, apic_timer };
    // Slower than a megahertz is no counter of a CPU this code can run on.
    (rates.tsc >= 1_000_000 && rates.apic_timer >= 1_000_000).then_some(rates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_few_bits_wrap() {
        assert_eq!(Reference::PmTimer(0, 24).between(0xff_fff0, 0x10), 0x20);
        assert_eq!(Reference::Pit.between(0xfff0, 0x10), 0x20);
        assert_eq!(Reference::Hpet(VirtAddr(0), 1).between(0xffff_fff0, 0x10), 0x20);
        assert_eq!(Reference::Tsc(1).between(u64::MAX - 0xf, 0x10), 0x20);
    }
}
