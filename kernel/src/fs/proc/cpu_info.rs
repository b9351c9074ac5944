//! `/proc/cpuinfo`, from what CPUID says. It is unprivileged, and where a hypervisor changes the answer, the changed
//! answer is what programs are to see.

use alloc::vec::Vec;
use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc};

use platform::Nanoseconds;

use super::text::{Text, put};
use crate::errno::KResult;
use crate::hook::clock;
use crate::percpu;
use crate::sync::Once;

/// Names of feature bits that programs look for: leaf, subleaf, register (0 is EAX), bit, name as Linux spells it.
const FEATURES: &[(u32, u32, usize, u32, &str)] = &[
    (1, 0, 3, 0, "fpu"),
    (1, 0, 3, 4, "tsc"),
    (1, 0, 3, 5, "msr"),
    (1, 0, 3, 6, "pae"),
    (1, 0, 3, 8, "cx8"),
    (1, 0, 3, 9, "apic"),
    (1, 0, 3, 11, "sep"),
    (1, 0, 3, 13, "pge"),
    (1, 0, 3, 15, "cmov"),
    (1, 0, 3, 16, "pat"),
    (1, 0, 3, 19, "clflush"),
    (1, 0, 3, 23, "mmx"),
    (1, 0, 3, 24, "fxsr"),
    (1, 0, 3, 25, "sse"),
    (1, 0, 3, 26, "sse2"),
    (0x8000_0001, 0, 3, 11, "syscall"),
    (0x8000_0001, 0, 3, 20, "nx"),
    (0x8000_0001, 0, 3, 26, "pdpe1gb"),
    (0x8000_0001, 0, 3, 27, "rdtscp"),
    (0x8000_0001, 0, 3, 29, "lm"),
    (1, 0, 2, 0, "pni"),
    (1, 0, 2, 1, "pclmulqdq"),
    (1, 0, 2, 9, "ssse3"),
    (1, 0, 2, 12, "fma"),
    (1, 0, 2, 13, "cx16"),
    (1, 0, 2, 17, "pcid"),
    (1, 0, 2, 19, "sse4_1"),
    (1, 0, 2, 20, "sse4_2"),
    (1, 0, 2, 21, "x2apic"),
    (1, 0, 2, 22, "movbe"),
    (1, 0, 2, 23, "popcnt"),
    (1, 0, 2, 24, "tsc_deadline_timer"),
    (1, 0, 2, 25, "aes"),
    (1, 0, 2, 26, "xsave"),
    (1, 0, 2, 28, "avx"),
    (1, 0, 2, 29, "f16c"),
    (1, 0, 2, 30, "rdrand"),
    (1, 0, 2, 31, "hypervisor"),
    (0x8000_0001, 0, 2, 0, "lahf_lm"),
    (0x8000_0001, 0, 2, 5, "abm"),
    (7, 0, 1, 0, "fsgsbase"),
    (7, 0, 1, 3, "bmi1"),
    (7, 0, 1, 5, "avx2"),
    (7, 0, 1, 7, "smep"),
    (7, 0, 1, 8, "bmi2"),
    (7, 0, 1, 9, "erms"),
    (7, 0, 1, 16, "avx512f"),
    (7, 0, 1, 18, "rdseed"),
    (7, 0, 1, 19, "adx"),
    (7, 0, 1, 20, "smap"),
    (7, 0, 1, 29, "sha_ni"),
];

fn leaf(number: u32, subleaf: u32) -> Option<[u32; 4]> {
    let highest = __cpuid(number & 0x8000_0000).eax;
    (number <= highest).then(|| {
        let found = __cpuid_count(number, subleaf);
        [found.eax, found.ebx, found.ecx, found.edx]
    })
}

fn string(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).take_while(|&byte| byte != 0).collect()
}

/// The time-stamp counter and the time when this was first asked for.
static START: Once<(u64, Nanoseconds)> = Once::new();

fn counter_and_time() -> (u64, Nanoseconds) {
    // SAFETY: unprivileged, and every x86-64 has it.
    (unsafe { _rdtsc() }, clock::now())
}

/// Notes a moment for the counter's rate to be measured from.
pub fn begin() {
    START.call_once(counter_and_time);
}

/// The processor's base frequency; where it does not tell, the rate of its time-stamp counter since [`begin`].
fn kilohertz() -> u64 {
    if let Some([base, ..]) = leaf(0x16, 0)
        && base != 0
    {
        return u64::from(base & 0xffff) * 1000;
    }
    let (first, since) = *START.call_once(counter_and_time);
    let (counter, now) = counter_and_time();
    let cycles = u128::from(counter.wrapping_sub(first)) * 1_000_000;
    cycles.checked_div(u128::from(now.0.saturating_sub(since.0))).unwrap_or(0) as u64
}

/// The whole file.
pub fn describe() -> KResult<Vec<u8>> {
    let [_, b, c, d] = leaf(0, 0).unwrap_or_default();
    let vendor = string(&[b, d, c]);
    let [signature, b1, ..] = leaf(1, 0).unwrap_or_default();
    let (base_family, base_model) = (signature >> 8 & 15, signature >> 4 & 15);
    let family = if base_family == 15 { base_family + (signature >> 20 & 255) } else { base_family };
    let model = if base_family == 6 || base_family == 15 {
        base_model + (signature >> 12 & 0xf0)
    } else {
        base_model
    };
    let brand: Vec<u32> =
        (0x8000_0002..=0x8000_0004).filter_map(|number| leaf(number, 0)).flatten().collect();
    let brand = string(&brand);
    let kilohertz = kilohertz();
    let [sizes, ..] = leaf(0x8000_0008, 0).unwrap_or([0x3024, 0, 0, 0]);
    let mut text = Text::new();
    let online = percpu::online();
    for cpu in online.iter() {
        put!(text, "processor\t: {}\n", cpu.0);
        put!(text, "vendor_id\t: {}\n", vendor.escape_ascii());
        put!(text, "cpu family\t: {family}\nmodel\t\t: {model}\n");
        put!(text, "model name\t: {}\n", brand.trim_ascii().escape_ascii());
        put!(text, "stepping\t: {}\n", signature & 15);
        put!(text, "cpu MHz\t\t: {}.{:03}\n", kilohertz / 1000, kilohertz % 1000);
        put!(
            text,
            "physical id\t: 0\nsiblings\t: {}\ncore id\t\t: {}\ncpu cores\t: {}\n",
            online.count(),
            cpu.0,
            online.count()
        );
        put!(
            text,
            "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\nflags\t\t:",
            __cpuid(0).eax
        );
        for &(number, subleaf, register, bit, name) in FEATURES {
            if leaf(number, subleaf).is_some_and(|registers| registers[register] >> bit & 1 != 0) {
                put!(text, " {name}");
            }
        }
        put!(text, "\nclflush size\t: {}\ncache_alignment\t: 64\n", (b1 >> 8 & 255) * 8);
        put!(text, "address sizes\t: {} bits physical, {} bits virtual\n\n", sizes & 255, sizes >> 8 & 255);
    }
    text.finish()
}
