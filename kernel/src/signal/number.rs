//! Signal numbers and sets of them.

use core::fmt;
use core::ops::{BitAnd, BitOr, Not};

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A signal, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// How many signals there are.
pub const SIGNALS: usize = 64;

macro_rules! signals {
    ($($name:ident = $number:literal;)*) => {
        $(#[doc = concat!("`signal(7)`: ", stringify!($name))] pub const $name: Signal = Signal($number);)*

        impl fmt::Debug for Signal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($number => f.write_str(stringify!($name)),)*
                    number => write!(f, "signal {number}"),
                }
            }
        }
    };
}

// Linux arch/x86/include/uapi/asm/signal.h.
signals! {
    SIGHUP = 1;
    SIGINT = 2;
    SIGQUIT = 3;
    SIGILL = 4;
    SIGTRAP = 5;
    SIGABRT = 6;
    SIGBUS = 7;
    SIGFPE = 8;
    SIGKILL = 9;
    SIGUSR1 = 10;
    SIGSEGV = 11;
    SIGUSR2 = 12;
    SIGPIPE = 13;
    SIGALRM = 14;
    SIGTERM = 15;
    SIGSTKFLT = 16;
    SIGCHLD = 17;
    SIGCONT = 18;
    SIGSTOP = 19;
    SIGTSTP = 20;
    SIGTTIN = 21;
    SIGTTOU = 22;
    SIGURG = 23;
    SIGXCPU = 24;
    SIGXFSZ = 25;
    SIGVTALRM = 26;
    SIGPROF = 27;
    SIGWINCH = 28;
    SIGIO = 29;
    SIGPWR = 30;
    SIGSYS = 31;
}

/// The first real-time signal: from here on each one sent is queued.
pub const SIGRTMIN: Signal = Signal(32);

impl Signal {
    /// The signal with this number, if there is one.
    pub const fn new(number: i32) -> Option<Self> {
        if number >= 1 && number <= SIGNALS as i32 { Some(Self(number as u8)) } else { None }
    }

    /// 1 to 64.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Place in a table, from 0.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Whether every one sent is queued, rather than one at a time.
    pub const fn is_realtime(self) -> bool {
        self.0 >= SIGRTMIN.0
    }

    /// The set with this signal alone.
    pub const fn set(self) -> SignalSet {
        SignalSet(1 << (self.0 - 1))
    }

    /// What happens where no handler is set and the signal is not ignored.
    pub const fn default_action(self) -> DefaultAction {
        match self {
            SIGCONT => DefaultAction::Continue,
            SIGCHLD | SIGWINCH | SIGURG => DefaultAction::Ignore,
            SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => DefaultAction::Stop,
            SIGQUIT | SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | SIGXCPU | SIGXFSZ | SIGSYS => {
                DefaultAction::Core
            }
            _ => DefaultAction::Terminate,
        }
    }
}

/// What a signal does by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultAction {
    /// Ends the process.
    Terminate,
    /// Ends the process, with a core dump where those are wanted.
    Core,
    /// Nothing.
    Ignore,
    /// Stops the process.
    Stop,
    /// Lets a stopped process go on, which sending it has already done.
    Continue,
}

/// A set of signals, as Linux's `sigset_t`: bit `number - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Every signal.
    pub const ALL: Self = Self(u64::MAX);
    /// Those that can be neither blocked, handled nor ignored.
    pub const UNBLOCKABLE: Self = SIGKILL.set().with(SIGSTOP);
    /// Those that stop a process by default.
    pub const STOPS: Self = SIGSTOP.set().with(SIGTSTP).with(SIGTTIN).with(SIGTTOU);
    /// Those raised by what the program itself just did; delivered before others.
    pub const SYNCHRONOUS: Self =
        SIGSEGV.set().with(SIGBUS).with(SIGILL).with(SIGTRAP).with(SIGFPE).with(SIGSYS);

    /// Whether `signal` is in it.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.set().0 != 0
    }

    /// With `signal` in it.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | signal.set().0)
    }

    /// Without the signals of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Without those that cannot be blocked: what may serve as a mask.
    #[must_use]
    pub const fn as_mask(self) -> Self {
        self.without(Self::UNBLOCKABLE)
    }

    /// Whether there is none in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The one with the lowest number.
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal(self.0.trailing_zeros() as u8 + 1)) }
    }
}

impl BitAnd for SignalSet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for SignalSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for SignalSet {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}
