//! How fast the time stamp counter and the APIC timer run.
//!
//! What CPUID says is taken first. Otherwise both are counted for a millisecond or so against the best clock there is:
//! HPET, the ACPI power management timer, the APIC timer itself where a hypervisor fixes its rate, the 8254.

use core::ptr::NonNull;

use arch_x86::calibrate::{self, Rates, rate_under};
use arch_x86::pit;
use platform::{Unusable, VirtAddr};
use volatile::VolatilePtr;
use x86_64::instructions::port::Port;

use super::{Sources, apic_timer, tsc};
use crate::bare::Bare;
use crate::cpu::features::{Features, cpuid, has};
use crate::machine::Machine;

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
        known_rate().map(Reference::ApicTimer),
        Some(Reference::Pit),
    ]
}

/// The APIC timer's rate, if its hypervisor fixes it.
fn known_rate() -> Option<u64> {
    has(Features::HYPERVISOR).then(|| rate_under(Bare::cpuid(0x4000_0000, 0)))?
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

    const fn bits(self) -> u32 {
        match self {
            Self::Hpet(..) | Self::ApicTimer(_) => 32,
            Self::PmTimer(_, bits) => bits,
            Self::Pit => 16,
            Self::Tsc(_) => 64,
        }
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

fn measure(reference: Reference) -> Option<Rates> {
    reference.start();
    let (rate, bits, window) = (reference.rate(), reference.bits(), reference.window());
    calibrate::Reference { read: || reference.read(), rate, bits, window }.measure(apic_timer::counted)
}
