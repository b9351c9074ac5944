//! Exceptions and interrupts, as the host delivers them.

/// The vector of virtual interrupt 0; those below are the processor's exceptions.
pub const FIRST_INTERRUPT_VECTOR: u32 = 32;

/// The flags of RFLAGS that a guest may set for itself, in either mode: CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC, ID. The
/// host drops the others, and bit 1 and IF are always set in hardware; IF in a frame is `irq_enabled`.
pub const USER_FLAGS: u64 = 0x25_0dd5;

/// What is delivered: a vector, and the error code of the exceptions that have one (else 0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// As on hardware for exceptions; [`FIRST_INTERRUPT_VECTOR`] and the number for virtual interrupts.
    pub vector: u32,
    /// As on hardware. The U flag of a page fault tells guest-user from guest-kernel mode.
    pub error_code: u32,
}

impl Event {
    /// The word of the frame.
    pub const fn word(self) -> u64 {
        (self.vector as u64) << 32 | self.error_code as u64
    }

    /// The event of a frame's word.
    pub const fn from_word(word: u64) -> Self {
        Self { vector: (word >> 32) as u32, error_code: word as u32 }
    }
}

/// What the host leaves at RSP when it delivers an event: hardware's frame with the event below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct EventFrame {
    /// [`Event::word`].
    pub event: u64,
    /// Where the interrupted context goes on.
    pub rip: u64,
    /// 0x33 for user mode, 0x10 for kernel mode.
    pub cs: u64,
    /// With IF as the guest knows it.
    pub rflags: u64,
    /// Stack pointer of the interrupted context.
    pub rsp: u64,
    /// 0x2b for user mode, 0x18 for kernel mode.
    pub ss: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_is_below_hardwares_frame() {
        assert_eq!(size_of::<EventFrame>(), 48);
        assert_eq!(core::mem::offset_of!(EventFrame, rip), 8);
        assert_eq!(core::mem::offset_of!(EventFrame, rsp), 32);
    }

    #[test]
    fn an_event_survives_its_word() {
        let event = Event { vector: 14, error_code: 0x15 };
        assert_eq!(event.word(), 0x0000_000e_0000_0015);
        assert_eq!(Event::from_word(event.word()), event);
    }

    #[test]
    fn no_flag_that_changes_privilege_is_a_guests() {
        // IF, IOPL, NT, VM, VIF, VIP.
        assert_eq!(USER_FLAGS & (0x200 | 0x3000 | 0x4000 | 0x2_0000 | 0x8_0000 | 0x10_0000), 0);
    }
}
