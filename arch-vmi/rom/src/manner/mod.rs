//! What a ROM may do this way or that: which types of relocation it answers, how its counters stand to each other, how
//! late its alarms are.

#[cfg(any(test, not(feature = "strict")))]
pub mod plain;
#[cfg(any(test, feature = "strict"))]
pub mod strict;

#[cfg(all(target_os = "none", not(feature = "strict")))]
pub use plain::{LATENESS, answer, real, real_when_available, stolen};
#[cfg(all(target_os = "none", feature = "strict"))]
pub use strict::{LATENESS, answer, real, real_when_available, stolen};

/// What answers depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// The CPU keeps the kernel from user pages.
    pub smap: bool,
    /// Writing to the local APIC's memory would not do.
    #[cfg_attr(feature = "strict", allow(dead_code))]
    pub apic_needs_calls: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmi_abi::{Allowed, CALLS, Call, RelocationType};

    const MACHINES: [Machine; 4] = [
        Machine { smap: false, apic_needs_calls: false },
        Machine { smap: false, apic_needs_calls: true },
        Machine { smap: true, apic_needs_calls: false },
        Machine { smap: true, apic_needs_calls: true },
    ];

    #[test]
    fn every_answer_is_allowed() {
        for machine in MACHINES {
            for &call in CALLS {
                for answer in [plain::answer(call, machine), strict::answer(call, machine)] {
                    assert!(call.allowed().contains(answer.flag()), "{} {answer:?}", call.name());
                }
            }
        }
    }

    #[test]
    fn the_two_differ_wherever_they_may() {
        for &call in CALLS {
            let machine = MACHINES[3];
            // Both need calls for these: the registers' memory would not do, and both keep something.
            let fixed =
                matches!(call, Call::ApicWrite | Call::ApicRead | Call::SetLinearMapping | Call::BindCpu);
            if call.allowed().iter().count() > 1 && !fixed {
                assert_ne!(plain::answer(call, machine), strict::answer(call, machine), "{}", call.name());
            }
        }
    }

    #[test]
    fn all_types_are_answered() {
        let mut seen = Allowed::empty();
        for &call in CALLS {
            seen |= strict::answer(call, MACHINES[3]).flag();
        }
        assert_eq!(seen, Allowed::all());
        assert_eq!(plain::answer(Call::UserAccessBegin, MACHINES[0]), RelocationType::Nop);
    }

    #[test]
    fn counters_agree() {
        for tsc in [0, 1, 7, 8, 12_345_678_901, 1 << 62] {
            assert_eq!(plain::real(tsc), tsc);
            assert_eq!(plain::stolen(tsc), 0);
            let real = strict::real(tsc);
            let available = real - strict::stolen(real);
            assert!(strict::real_when_available(available) <= real + 1);
            let later = strict::real_when_available(available + 1000);
            assert!(later - strict::stolen(later) >= available + 1000, "not early");
            assert!(later - real <= 1200);
        }
    }
}
