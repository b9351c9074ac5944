//! `VMI_Init`.

use core::sync::atomic::Ordering::Relaxed;

use vmi_abi::{InitParameters, InitStatus, SCAN_END, SCAN_START, SCAN_STEP};

use super::calibrate::{self, Reach};
use super::here::here;
use super::machine::{CPU_WORDS, SMAP, TSC_DEADLINE, X2APIC};
use super::processor::{APIC_BASE, cpuid, is_canonical, read_msr, write_msr};
use super::{alarm, startup, wall_clock};

const LOW_MEMORY: u64 = 0xa0000;
const FOUR_GIB: u64 = 1 << 32;
const APIC_ENABLED: u64 = 1 << 11;
const APIC_X2APIC: u64 = 1 << 10;

/// `VMI_Init`: see `ABI.md`, section 3.
// SAFETY: the name is the ROM's own.
#[unsafe(no_mangle)]
extern "C" fn vmi_rom_init(parameters: *const InitParameters) -> i64 {
    if !parameters.is_aligned() {
        return InitStatus::BadParameters as i64;
    }
    // SAFETY: the guest's pointer; a bad one faults. The guest waits, so nothing changes.
    match unsafe { parameters.as_ref() } {
        Some(parameters) => init(parameters) as i64,
        None => InitStatus::BadParameters as i64,
    }
}

fn init(parameters: &InitParameters) -> InitStatus {
    if !is_sound(parameters) {
        return InitStatus::BadParameters;
    }
    let basic = cpuid(1);
    let (tsc, msr, apic) = (1 << 4, 1 << 5, 1 << 9);
    if basic.edx & (tsc | msr) != tsc | msr {
        return InitStatus::UnsuitableCpu;
    }
    if basic.edx & apic == 0 {
        return InitStatus::NoLocalApic;
    }
    CPU_WORDS.store(parameters.cpu_words, Relaxed);
    SMAP.store(cpuid(0).eax >= 7 && cpuid(7).ebx & 1 << 20 != 0, Relaxed);
    TSC_DEADLINE.store(basic.ecx & 1 << 24 != 0, Relaxed);

    // The APIC stays in the mode firmware chose.
    let mut base = read_msr(APIC_BASE);
    if base & APIC_ENABLED == 0 {
        base |= APIC_ENABLED;
        write_msr(APIC_BASE, base);
    }
    X2APIC.store(base & APIC_X2APIC != 0, Relaxed);
    let physical = base & 0x000f_ffff_ffff_f000;
    if physical >= FOUR_GIB {
        return InitStatus::NoLocalApic;
    }
    let reach =
        Reach { physical: parameters.physical_map, apic: parameters.physical_map.wrapping_add(physical) };
    if !calibrate::has_apic(reach) {
        return InitStatus::NoLocalApic;
    }
    let Some(rates) = calibrate::run(reach, !TSC_DEADLINE.load(Relaxed)) else {
        return InitStatus::NoClock;
    };
    alarm::set_rates(rates.tsc, rates.apic_timer);
    wall_clock::read();
    if parameters.low_page != 0 {
        startup::prepare(parameters);
    }
    InitStatus::Ready
}

/// Whether the parameters can be true.
fn is_sound(parameters: &InitParameters) -> bool {
    let (rom, private) = (here!("rom_start"), here!("private_start"));
    let private_bytes = here!("private_end") - private;
    let map = parameters.physical_map;
    let numbers = parameters.size as usize == size_of::<InitParameters>()
        && parameters.flags == 0
        && parameters.reserved == 0
        && parameters.cpu_words.is_multiple_of(8)
        && (SCAN_START..SCAN_END).contains(&parameters.rom)
        && parameters.rom.is_multiple_of(SCAN_STEP)
        && (parameters.rom ^ rom).is_multiple_of(4096)
        && (parameters.data ^ private).is_multiple_of(4096)
        && parameters.data.checked_add(private_bytes).is_some_and(|end| end <= FOUR_GIB)
        && parameters.low_page.is_multiple_of(4096)
        && parameters.low_page < LOW_MEMORY
        && map.is_multiple_of(4096)
        && is_canonical(map)
        && is_canonical(map.wrapping_add(FOUR_GIB - 1));
    // Both ways to the private memory must lead to the same: a word that this ROM does not use otherwise.
    numbers && startup::is_private_memory_at(map.wrapping_add(parameters.data).wrapping_sub(private))
}
