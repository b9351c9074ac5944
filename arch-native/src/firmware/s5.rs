//! The values that switch the machine off: the `\_S5_` package in AML.
//!
//! Only this one object is needed of a whole programming language, and it is a constant by the specification's own
//! example (ACPI 6.4, 7.4.2): so its bytes are looked for, as small kernels do, instead of carrying an interpreter that
//! would be larger than the rest of this backend.

/// What goes into the sleep-type fields of the two control registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SleepType {
    pub a: u8,
    pub b: u8,
}

const NAME_OP: u8 = 0x08;
const PACKAGE_OP: u8 = 0x12;

/// Finds the package in the AML of a table.
pub fn find(aml: &[u8]) -> Option<SleepType> {
    aml.windows(4).enumerate().filter(|(_, name)| name == b"_S5_").find_map(|(at, _)| {
        let named = matches!(aml[..at], [.., NAME_OP] | [.., NAME_OP, b'\\']);
        if named { package(&aml[at + 4..]) } else { None }
    })
}

fn package(aml: &[u8]) -> Option<SleepType> {
    let (&PACKAGE_OP, rest) = aml.split_first()? else { return None };
    // The length takes one byte and as many more as its two highest bits say.
    let lead = *rest.first()?;
    let rest = rest.get(1 + usize::from(lead >> 6)..)?;
    let (&elements, rest) = rest.split_first()?;
    let (a, rest) = integer(rest)?;
    let b = if elements > 1 { integer(rest)?.0 } else { a };
    Some(SleepType { a, b })
}

/// A constant of at most eight bits.
fn integer(aml: &[u8]) -> Option<(u8, &[u8])> {
    match aml {
        [0x00, rest @ ..] => Some((0, rest)),
        [0x01, rest @ ..] => Some((1, rest)),
        [0x0a, value, rest @ ..] => Some((*value, rest)),
        [0x0b, low, _, rest @ ..] => Some((*low, rest)),
        [0x0c, low, _, _, _, rest @ ..] => Some((*low, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_forms_compilers_write() {
        let qemu = b"\x10\x05\\_SB_\x08_S5_\x12\x06\x04\x00\x00\x00\x00";
        assert_eq!(find(qemu), Some(SleepType { a: 0, b: 0 }));
        let rooted = b"\x08\\_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00";
        assert_eq!(find(rooted), Some(SleepType { a: 5, b: 7 }));
        let long_length = b"\x08_S5_\x12\x4a\x00\x02\x01\x0a\x03";
        assert_eq!(find(long_length), Some(SleepType { a: 1, b: 3 }));
        let single = b"\x08_S5_\x12\x04\x01\x0a\x06";
        assert_eq!(find(single), Some(SleepType { a: 6, b: 6 }));
    }

    #[test]
    fn passes_over_mentions_that_are_no_definition() {
        assert_eq!(find(b"_S5_\x12\x06\x04\x00\x00"), None);
        let second = b"\x70_S5_\x60\x08_S5_\x12\x06\x04\x0a\x02\x0a\x02\x00\x00";
        assert_eq!(find(second), Some(SleepType { a: 2, b: 2 }));
        assert_eq!(find(b"\x08_S5_\x12"), None);
    }

    proptest! {
        #[test]
        fn never_reads_beyond_the_table(aml in prop::collection::vec(any::<u8>(), 0..40), at in 0usize..40) {
            let mut aml = aml;
            let name = b"\x08_S5_\x12";
            for (to, from) in aml.iter_mut().skip(at).zip(name) {
                *to = *from;
            }
            find(&aml);
        }
    }
}
