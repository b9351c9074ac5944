//! The registers of the local APIC as xAPIC has them in memory, on an APIC in x2APIC mode (Intel SDM vol. 3A, 11.12.1.2).

/// What reading or writing a register comes to in x2APIC mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Nothing: there is no such register, or it has another meaning.
    Nothing,
    /// The register with this number.
    Register(u32),
    /// The identity, whose place in the register differs.
    Identity,
    /// Half of the interrupt command: it is sent with the lower one.
    CommandDestination,
    /// The interrupt command.
    Command,
}

/// First model-specific register of an APIC in x2APIC mode.
pub const FIRST: u32 = 0x800;
/// Offset of the timer's vector entry.
pub const TIMER_ENTRY: u32 = 0x320;
/// Offset of what the timer counts down from.
pub const INITIAL_COUNT: u32 = 0x380;
/// Offset of where the timer is.
pub const CURRENT_COUNT: u32 = 0x390;
/// Offset of the timer's divisor.
pub const DIVIDE: u32 = 0x3e0;

/// The register at `offset`, for reading.
pub const fn read(offset: u32) -> Access {
    if offset & 0xf != 0 {
        return Access::Nothing;
    }
    match offset >> 4 {
        0x02 => Access::Identity,
        0x30 => Access::Command,
        0x31 => Access::CommandDestination,
        number @ (0x03 | 0x08 | 0x0a | 0x0f..=0x28 | 0x2f | 0x32..=0x39 | 0x3e) => {
            Access::Register(FIRST + number)
        }
        _ => Access::Nothing,
    }
}

/// The register at `offset`, for writing.
pub const fn write(offset: u32) -> Access {
    if offset & 0xf != 0 {
        return Access::Nothing;
    }
    match offset >> 4 {
        0x30 => Access::Command,
        0x31 => Access::CommandDestination,
        number @ (0x08 | 0x0b | 0x0f | 0x28 | 0x2f | 0x32..=0x38 | 0x3e) => Access::Register(FIRST + number),
        _ => Access::Nothing,
    }
}

/// The command of x2APIC mode: the destination, 8 bits at the top of its half, becomes a number of 32 bits.
pub const fn command(destination: u32, low: u32) -> u64 {
    ((destination >> 24) as u64) << 32 | low as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_their_numbers() {
        assert_eq!(write(0xb0), Access::Register(0x80b));
        assert_eq!(write(0x20), Access::Nothing, "the identity is fixed");
        assert_eq!(read(0x20), Access::Identity);
        assert_eq!(read(0xb0), Access::Nothing, "there is no end to read");
        assert_eq!(read(0x390), Access::Register(0x839));
        assert_eq!(write(0x390), Access::Nothing);
        assert_eq!((read(0xe0), write(0xe0)), (Access::Nothing, Access::Nothing), "no destination format");
        assert_eq!((read(0x304), write(0xfff)), (Access::Nothing, Access::Nothing));
    }

    #[test]
    fn no_register_faults() {
        // What x2APIC mode has: Intel SDM vol. 3A, table 11-6.
        let exists = |number: u32| matches!(number, 0x02 | 0x03 | 0x08 | 0x0a | 0x0b | 0x0d | 0x0f..=0x28 | 0x2f | 0x30 | 0x32..=0x39 | 0x3e | 0x3f);
        for offset in 0..0x1000 {
            for access in [read(offset), write(offset)] {
                if let Access::Register(register) = access {
                    assert!(exists(register - FIRST), "{offset:#x}");
                }
            }
        }
    }

    #[test]
    fn commands() {
        assert_eq!(command(5 << 24, 0x40f2), 5 << 32 | 0x40f2);
    }
}
