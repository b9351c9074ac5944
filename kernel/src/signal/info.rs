//! What is known of a signal that was sent: Linux's `siginfo_t`.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use platform::Nanoseconds;

use super::Signal;
use super::number::SIGCONT;
use crate::errno::{Errno, KResult};
use crate::process::credentials::Uid;
use crate::process::{Pid, Process, current};

/// Values of `si_code` (Linux include/uapi/asm-generic/siginfo.h).
#[allow(missing_docs)]
pub mod code {
    pub const SI_USER: i32 = 0;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_TKILL: i32 = -6;
    pub const ILL_ILLOPN: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTDIV: i32 = 3;
    pub const FPE_FLTOVF: i32 = 4;
    pub const FPE_FLTUND: i32 = 5;
    pub const FPE_FLTRES: i32 = 6;
    pub const FPE_FLTINV: i32 = 7;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const CLD_EXITED: i32 = 1;
    pub const CLD_KILLED: i32 = 2;
    pub const CLD_DUMPED: i32 = 3;
    pub const CLD_TRAPPED: i32 = 4;
    pub const CLD_STOPPED: i32 = 5;
    pub const CLD_CONTINUED: i32 = 6;
}

/// Bytes of the structure user programs see.
pub const SIGINFO_BYTES: usize = 128;
/// Bytes of the part of it that depends on the signal's origin.
const FIELD_BYTES: usize = SIGINFO_BYTES - 16;

/// A signal and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// Which.
    pub signal: Signal,
    /// `si_errno`, which the kernel itself leaves at 0.
    pub errno: i32,
    /// `si_code`: who sent it, or why.
    pub code: i32,
    /// The rest.
    pub fields: Fields,
}

/// What a [`SigInfo`] says beside number and code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Sent by a process or by the kernel (process 0).
    Sender {
        /// Who.
        pid: Pid,
        /// Its real user.
        uid: Uid,
    },
    /// A timer's expiry.
    Timer {
        /// Number of the timer.
        id: i32,
        /// Expiries beside the one that is told.
        overrun: i32,
        /// `sigev_value`.
        value: u64,
    },
    /// Something happened to a child.
    Child(ChildEvent),
    /// An exception at or because of this address.
    Fault {
        /// `si_addr`.
        address: u64,
    },
    /// Input or output is possible.
    Poll {
        /// Events, as of `poll(2)`.
        band: i64,
        /// File descriptor.
        fd: i32,
    },
    /// As a program gave it to `rt_sigqueueinfo(2)`.
    Raw(RawFields),
}

/// The bytes from offset 16 of a `siginfo_t` that a program made up. Elsewhere in memory, for they are rare and would make
/// every [`SigInfo`] several times as long to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFields(Vec<u8>);

/// What a SIGCHLD says of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildEvent {
    /// The child.
    pub pid: Pid,
    /// Its real user.
    pub uid: Uid,
    /// Exit status, or the signal that ended, stopped or continued it.
    pub status: i32,
    /// Time in user mode, in Linux's `clock_t` ticks of 10 ms.
    pub user_ticks: i64,
    /// Time in the kernel, in the same ticks.
    pub system_ticks: i64,
}

impl SigInfo {
    /// From the kernel, with nothing more to say.
    pub const fn kernel(signal: Signal) -> Self {
        Self::sent(signal, code::SI_KERNEL, Pid(0), Uid(0))
    }

    /// From the current process, as by `kill(2)`.
    pub fn user(signal: Signal) -> Self {
        Self::from_current(signal, code::SI_USER)
    }

    /// From the current process, with a code of [`code`].
    pub fn from_current(signal: Signal, code: i32) -> Self {
        let process = &current().process;
        Self::sent(signal, code, process.pid, process.credentials.lock().uid)
    }

    /// A timer's expiry; `overrun` is filled in when the signal is taken.
    pub const fn timer(signal: Signal, id: i32, value: u64) -> Self {
        Self { signal, errno: 0, code: code::SI_TIMER, fields: Fields::Timer { id, overrun: 0, value } }
    }

    /// An exception, with a code of [`code`].
    pub const fn fault(signal: Signal, code: i32, address: u64) -> Self {
        Self { signal, errno: 0, code, fields: Fields::Fault { address } }
    }

    /// Something happened to a child: `status` is what `wait(2)` would give.
    pub const fn child(signal: Signal, pid: Pid, uid: Uid, status: u32) -> Self {
        const STOPPED: u32 = 0x7f;
        const CONTINUED: u32 = 0xffff;
        const CORE_DUMPED: u32 = 0x80;
        let high = (status >> 8 & 0xff) as i32;
        let (code, status) = match (status, status & 0x7f) {
            (CONTINUED, _) => (code::CLD_CONTINUED, SIGCONT.number()),
            (_, STOPPED) => (code::CLD_STOPPED, high),
            (_, 0) => (code::CLD_EXITED, high),
            (status, number) if status & CORE_DUMPED != 0 => (code::CLD_DUMPED, number as i32),
            (_, number) => (code::CLD_KILLED, number as i32),
        };
        let event = ChildEvent { pid, uid, status, user_ticks: 0, system_ticks: 0 };
        Self { signal, errno: 0, code, fields: Fields::Child(event) }
    }

    /// A child has ended, with what it used. Context: a task.
    pub fn child_ended(signal: Signal, child: &Process) -> Self {
        let uid = child.credentials.lock().uid;
        let mut info = Self::child(signal, child.pid, uid, child.exit_status.load(Ordering::Acquire));
        if let Fields::Child(event) = &mut info.fields {
            let usage = child.usage();
            event.user_ticks = ticks(usage.user);
            event.system_ticks = ticks(usage.system);
        }
        info
    }

    const fn sent(signal: Signal, code: i32, pid: Pid, uid: Uid) -> Self {
        Self { signal, errno: 0, code, fields: Fields::Sender { pid, uid } }
    }

    /// What is left of a signal for which no memory was there to keep more.
    pub(super) const fn forgotten(signal: Signal) -> Self {
        Self::sent(signal, code::SI_USER, Pid(0), Uid(0))
    }

    /// As a program gave it: `bytes` is a whole `siginfo_t`, whose signal number is overruled.
    ///
    /// # Errors
    /// ENOMEM.
    pub(super) fn from_bytes(signal: Signal, bytes: &[u8; SIGINFO_BYTES]) -> KResult<Self> {
        let mut fields = Vec::new();
        fields.try_reserve_exact(FIELD_BYTES).map_err(|_| Errno::ENOMEM)?;
        fields.extend_from_slice(&bytes[SIGINFO_BYTES - FIELD_BYTES..]);
        let fields = Fields::Raw(RawFields(fields));
        Ok(Self { signal, errno: int_at(bytes, 4), code: int_at(bytes, 8), fields })
    }

    /// Whether the kernel itself sent it: nobody can hold it off a process that ignores what it may.
    pub const fn is_from_kernel(&self) -> bool {
        self.code > 0
    }

    /// As user programs see it.
    pub fn to_bytes(&self) -> [u8; SIGINFO_BYTES] {
        let mut bytes = [0; SIGINFO_BYTES];
        self.put_to(&mut bytes);
        bytes
    }

    /// As [`Self::to_bytes`], to where they are used, which is all zeros.
    pub fn put_to(&self, bytes: &mut [u8; SIGINFO_BYTES]) {
        put(bytes, 0, &self.signal.number().to_le_bytes());
        put(bytes, 4, &self.errno.to_le_bytes());
        put(bytes, 8, &self.code.to_le_bytes());
        match &self.fields {
            Fields::Sender { pid, uid } => {
                put(bytes, 16, &pid.0.to_le_bytes());
                put(bytes, 20, &uid.0.to_le_bytes());
            }
            Fields::Timer { id, overrun, value } => {
                put(bytes, 16, &id.to_le_bytes());
                put(bytes, 20, &overrun.to_le_bytes());
                put(bytes, 24, &value.to_le_bytes());
            }
            Fields::Child(event) => {
                put(bytes, 16, &event.pid.0.to_le_bytes());
                put(bytes, 20, &event.uid.0.to_le_bytes());
                put(bytes, 24, &event.status.to_le_bytes());
                put(bytes, 32, &event.user_ticks.to_le_bytes());
                put(bytes, 40, &event.system_ticks.to_le_bytes());
            }
            Fields::Fault { address } => put(bytes, 16, &address.to_le_bytes()),
            Fields::Poll { band, fd } => {
                put(bytes, 16, &band.to_le_bytes());
                put(bytes, 24, &fd.to_le_bytes());
            }
            Fields::Raw(fields) => put(bytes, 16, &fields.0),
        }
    }

    /// As `struct signalfd_siginfo` (Linux include/uapi/linux/signalfd.h).
    pub fn to_signalfd(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        put(&mut bytes, 0, &self.signal.number().to_le_bytes());
        put(&mut bytes, 4, &self.errno.to_le_bytes());
        put(&mut bytes, 8, &self.code.to_le_bytes());
        match &self.fields {
            Fields::Sender { pid, uid } => {
                put(&mut bytes, 12, &pid.0.to_le_bytes());
                put(&mut bytes, 16, &uid.0.to_le_bytes());
            }
            Fields::Timer { id, overrun, value } => {
                put(&mut bytes, 24, &id.to_le_bytes());
                put(&mut bytes, 32, &overrun.to_le_bytes());
                put(&mut bytes, 44, &value.to_le_bytes()[..4]);
                put(&mut bytes, 48, &value.to_le_bytes());
            }
            Fields::Child(event) => {
                put(&mut bytes, 12, &event.pid.0.to_le_bytes());
                put(&mut bytes, 16, &event.uid.0.to_le_bytes());
                put(&mut bytes, 40, &event.status.to_le_bytes());
                put(&mut bytes, 56, &event.user_ticks.to_le_bytes());
                put(&mut bytes, 64, &event.system_ticks.to_le_bytes());
            }
            Fields::Fault { address } => put(&mut bytes, 72, &address.to_le_bytes()),
            Fields::Poll { band, fd } => {
                put(&mut bytes, 20, &fd.to_le_bytes());
                put(&mut bytes, 28, &(*band as u32).to_le_bytes());
            }
            // A program's own layout is that of `sigqueue(3)`: sender and value.
            Fields::Raw(RawFields(fields)) => {
                put(&mut bytes, 12, &fields[..8]);
                put(&mut bytes, 44, &fields[8..12]);
                put(&mut bytes, 48, &fields[8..16]);
            }
        }
        bytes
    }
}

/// A length of time in Linux's `clock_t`, 100 to the second.
const fn ticks(time: Nanoseconds) -> i64 {
    (time.0 / 10_000_000) as i64
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn int_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
