//! What a ROM answers for a call.

bitflags::bitflags! {
    /// Types of relocation that a ROM may answer for a call.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Allowed: u8 {
        /// [`RelocationType::None`].
        const NONE = 1 << 0;
        /// [`RelocationType::CallRel`].
        const CALL = 1 << 1;
        /// [`RelocationType::JumpRel`].
        const JUMP = 1 << 2;
        /// [`RelocationType::Nop`].
        const NOP = 1 << 3;
    }
}

/// The type of a relocation, as `VMI_GetRelocationInfo` returns it in RDX.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum RelocationType {
    /// The native instruction stays.
    None = 0,
    /// `call rel32` to the address.
    CallRel = 1,
    /// `jmp rel32` to the address.
    JumpRel = 2,
    /// There is nothing to do.
    Nop = 3,
}

impl RelocationType {
    /// The type with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::CallRel),
            2 => Some(Self::JumpRel),
            3 => Some(Self::Nop),
            _ => None,
        }
    }

    /// The type as a member of a set.
    pub const fn flag(self) -> Allowed {
        Allowed::from_bits_truncate(1 << self as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_version_3() {
        for (number, kind, flag) in [
            (0, RelocationType::None, Allowed::NONE),
            (1, RelocationType::CallRel, Allowed::CALL),
            (2, RelocationType::JumpRel, Allowed::JUMP),
            (3, RelocationType::Nop, Allowed::NOP),
        ] {
            assert_eq!(RelocationType::from_number(number), Some(kind));
            assert_eq!(kind.flag(), flag);
        }
        assert_eq!(RelocationType::from_number(4), None);
        assert_eq!(RelocationType::from_number(u64::MAX), None);
    }
}
