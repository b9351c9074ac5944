//! Calls to the host.

/// A hypercall's number: RAX at a `syscall` instruction in guest-kernel mode. Numbers below 32 are lguest's or lguest64's
/// own; those from 64 on are new.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Hypercall {
    /// `()`: runs the ring, nothing else.
    FlushAsync = 0,
    /// `(data: guest-physical)`: names the page of [`crate::LguestData`]. The first hypercall of a virtual CPU, and only
    /// once.
    LguestInit = 1,
    /// `(text: guest-physical, reason, status)`: the guest is over; see [`ShutdownReason`]. `text` ends with a NUL
    /// within [`MOST_TEXT`] bytes; 0 for none.
    Shutdown = 2,
    /// `(root: guest-physical)`: loads a top-level table.
    NewPgtable = 4,
    /// `(what)`: 0 forgets all translations of the current root's user half, 1 forgets all of the guest.
    FlushTlb = 5,
    /// `(deadline: nanoseconds)`: raises virtual interrupt 0 once when the guest's clock has reached `deadline`; 0 never.
    SetClockevent = 9,
    /// `(how)`: see [`WaitMode`].
    Halt = 10,
    /// `(root, address, entry)`: the leaf entry for `address` under `root` (0 for the kernel half) is now `entry`.
    SetPte = 14,
    /// `(root, index)`: forgets what lies below one top-level entry.
    SetPgd = 15,
    /// `(text: guest-physical, bytes)`: prints `bytes` (at most [`MOST_TEXT`]) on the guest's console. If the address is
    /// that of a device in the [`crate::DevicePage`], `(device, what)`: see [`crate::NOTIFY_STATUS`] and
    /// [`crate::NOTIFY_QUEUE`].
    Notify = 17,
    /// `()`: delivers what is pending, and nothing else.
    SendInterrupts = 19,
    /// Return to the context of the five-word frame at RSP, in either mode. RAX, RCX and R11 are those in the shared
    /// page.
    Iret = 27,
    /// Return to user mode as `sysretq` does, to `user_rip` of the shared page with `user_rflags`; RAX is `user_rax`,
    /// RSP the one at the call.
    Sysret = 31,
    /// `(root)`: a top-level table is about to be freed or reused; not the loaded one.
    ReleasePgd = 32,
    /// `(root, start, end)`: entries of whole pages from `start` up to `end` under `root` (0 for the kernel half) have
    /// changed.
    SetRange = 64,
    /// `()`: the guest's clock in nanoseconds, in RAX.
    GetTime = 65,
    /// `(leaf, subleaf)`: what CPUID says to this guest, in `cpuid` of the shared page.
    Cpuid = 66,
    /// `(buffer: guest-physical, bytes)`: takes console input; how many bytes, in RAX.
    ConsoleRead = 67,
    /// `(line: guest-physical, bytes)`: a line (at most [`MOST_TEXT`] bytes, no line feed) for whoever started the host.
    Report = 68,
}

/// The longest text of one call.
pub const MOST_TEXT: u64 = 4096;

/// A number that is no hypercall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownHypercall(pub u64);

impl Hypercall {
    /// Every call.
    pub const ALL: [Self; 19] = [
        Self::FlushAsync,
        Self::LguestInit,
        Self::Shutdown,
        Self::NewPgtable,
        Self::FlushTlb,
        Self::SetClockevent,
        Self::Halt,
        Self::SetPte,
        Self::SetPgd,
        Self::Notify,
        Self::SendInterrupts,
        Self::Iret,
        Self::Sysret,
        Self::ReleasePgd,
        Self::SetRange,
        Self::GetTime,
        Self::Cpuid,
        Self::ConsoleRead,
        Self::Report,
    ];

    /// Its name, as lguest's headers spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlushAsync => "FLUSH_ASYNC",
            Self::LguestInit => "LGUEST_INIT",
            Self::Shutdown => "SHUTDOWN",
            Self::NewPgtable => "NEW_PGTABLE",
            Self::FlushTlb => "FLUSH_TLB",
            Self::SetClockevent => "SET_CLOCKEVENT",
            Self::Halt => "HALT",
            Self::SetPte => "SET_PTE",
            Self::SetPgd => "SET_PGD",
            Self::Notify => "NOTIFY",
            Self::SendInterrupts => "SEND_INTERRUPTS",
            Self::Iret => "IRET",
            Self::Sysret => "SYSRET",
            Self::ReleasePgd => "RELEASE_PGD",
            Self::SetRange => "SET_RANGE",
            Self::GetTime => "GET_TIME",
            Self::Cpuid => "CPUID",
            Self::ConsoleRead => "CONSOLE_READ",
            Self::Report => "REPORT",
        }
    }

    /// Whether the call may stand in the ring: it returns nothing, and does not change where the guest goes on.
    pub const fn may_wait(self) -> bool {
        matches!(
            self,
            Self::FlushAsync
                | Self::NewPgtable
                | Self::FlushTlb
                | Self::SetClockevent
                | Self::SetPte
                | Self::SetPgd
                | Self::Notify
                | Self::ReleasePgd
                | Self::SetRange
                | Self::Report
        )
    }
}

impl TryFrom<u64> for Hypercall {
    type Error = UnknownHypercall;

    fn try_from(number: u64) -> Result<Self, UnknownHypercall> {
        Self::ALL.into_iter().find(|call| *call as u64 == number).ok_or(UnknownHypercall(number))
    }
}

/// RSI of [`Hypercall::Shutdown`]. The first two are lguest's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum ShutdownReason {
    /// The user asked for power-off.
    PowerOff = 1,
    /// The user asked for a restart.
    Restart = 2,
    /// Process 1 ended; its status (0 to 255) is in RDX.
    Exit = 3,
    /// The guest kernel panicked.
    Panic = 4,
    /// The boot could not go on; the text says why.
    Unusable = 5,
}

impl ShutdownReason {
    /// The reason with this number, if it is one.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::PowerOff),
            2 => Some(Self::Restart),
            3 => Some(Self::Exit),
            4 => Some(Self::Panic),
            5 => Some(Self::Unusable),
            _ => None,
        }
    }
}

/// RDI of [`Hypercall::Halt`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum WaitMode {
    /// Enables interrupts and waits for one; returns after it has been delivered.
    ForInterrupt = 0,
    /// This virtual CPU never runs again.
    ForEver = 1,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_lguest_where_it_has_the_call() {
        for (number, name) in [
            (0, "FLUSH_ASYNC"),
            (1, "LGUEST_INIT"),
            (2, "SHUTDOWN"),
            (4, "NEW_PGTABLE"),
            (5, "FLUSH_TLB"),
            (9, "SET_CLOCKEVENT"),
            (10, "HALT"),
            (14, "SET_PTE"),
            (15, "SET_PGD"),
            (17, "NOTIFY"),
            (19, "SEND_INTERRUPTS"),
            (27, "IRET"),
            (31, "SYSRET"),
            (32, "RELEASE_PGD"),
        ] {
            assert_eq!(Hypercall::try_from(number).unwrap().name(), name);
        }
        // LOAD_IDT_ENTRY, SET_STACK, TS, SET_PMD, LOAD_TLS, LOAD_GDT_ENTRY are gone.
        for number in [3, 6, 7, 8, 11, 12, 13, 16, 18, 20, 33, 63, 69, u64::MAX] {
            assert_eq!(Hypercall::try_from(number), Err(UnknownHypercall(number)));
        }
    }

    #[test]
    fn every_call_is_listed_once() {
        for (at, call) in Hypercall::ALL.into_iter().enumerate() {
            assert_eq!(Hypercall::ALL.iter().position(|other| *other == call), Some(at));
            assert_eq!(Hypercall::try_from(call as u64), Ok(call));
        }
    }
}
