//! Exceptions in user mode become signals.

use core::sync::atomic::{AtomicU64, Ordering};

use platform::{Access, Exception, Nanoseconds, TrapFrame, VirtAddr};

use super::extended;
use super::frame::flag;
use super::info::code;
use super::number::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};
use super::state::LastTrap;
use super::{Disposition, SigInfo, Signal, send};
use crate::mm::fault::FaultError;
use crate::process::current;

/// Vector of a page fault.
const PAGE_FAULT: u64 = 14;

/// A page fault in user mode that could not be resolved. Context: interrupts enabled, no lock held.
#[cold]
pub fn fault(error: &FaultError, address: VirtAddr, access: Access, frame: &TrapFrame) {
    note_trap(PAGE_FAULT, access.bits().into(), Some(address.0));
    match error {
        FaultError::NotMapped => raise(SigInfo::fault(SIGSEGV, code::SEGV_MAPERR, address.0), frame),
        FaultError::Protection => raise(SigInfo::fault(SIGSEGV, code::SEGV_ACCERR, address.0), frame),
        FaultError::BusError => raise(SigInfo::fault(SIGBUS, code::BUS_ADRERR, address.0), frame),
        // The program has been killed.
        FaultError::OutOfMemory => {}
    }
}

/// Any other exception in user mode. Context: interrupts enabled, no lock held.
#[cold]
pub fn exception(exception: Exception, frame: &TrapFrame) {
    let here = frame.rip;
    let (vector, error, info) = match exception {
        Exception::DivideError => (0, 0, SigInfo::fault(SIGFPE, code::FPE_INTDIV, here)),
        Exception::Debug => {
            let stepped = frame.rflags & flag::TRAP != 0;
            (1, 0, SigInfo::fault(SIGTRAP, if stepped { code::TRAP_TRACE } else { code::TRAP_BRKPT }, here))
        }
        Exception::Breakpoint => (3, 0, SigInfo::kernel(SIGTRAP)),
        Exception::Overflow => (4, 0, SigInfo::kernel(SIGSEGV)),
        Exception::BoundRange => (5, 0, SigInfo::kernel(SIGSEGV)),
        Exception::InvalidOpcode => (6, 0, SigInfo::fault(SIGILL, code::ILL_ILLOPN, here)),
        Exception::DeviceNotAvailable => (7, 0, SigInfo::kernel(SIGSEGV)),
        Exception::InvalidTss(error) => (10, error, SigInfo::kernel(SIGSEGV)),
        Exception::SegmentNotPresent(error) => (11, error, SigInfo::kernel(SIGBUS)),
        Exception::StackFault(error) => (12, error, SigInfo::kernel(SIGBUS)),
        Exception::GeneralProtection(error) => (13, error, SigInfo::kernel(SIGSEGV)),
        Exception::PageFault { address, access } => {
            return fault(&FaultError::NotMapped, address, access, frame);
        }
        Exception::FloatingPoint => match floating_point_code(extended::raised_exceptions().x87) {
            Some(code) => (16, 0, SigInfo::fault(SIGFPE, code, here)),
            // Nothing is raised any more: there is nothing to tell.
            None => return,
        },
        Exception::AlignmentCheck => (17, 0, SigInfo::fault(SIGBUS, code::BUS_ADRALN, 0)),
        Exception::SimdFloatingPoint => match floating_point_code(extended::raised_exceptions().sse) {
            Some(code) => (19, 0, SigInfo::fault(SIGFPE, code, here)),
            None => return,
        },
        Exception::NonMaskable => return,
        Exception::DoubleFault | Exception::MachineCheck => panic!("{exception:?} in user mode at {here:#x}"),
        Exception::Other(vector) => (vector.into(), 0, SigInfo::kernel(SIGSEGV)),
    };
    note_trap(vector, error.into(), None);
    raise(info, frame);
}

/// The code of a floating-point error, by what is raised and not masked (see [`extended::RaisedExceptions`]).
fn floating_point_code(raised: u32) -> Option<i32> {
    const INVALID: u32 = 1;
    const ZERO_DIVIDE: u32 = 4;
    const OVERFLOW: u32 = 8;
    const UNDERFLOW_OR_DENORMAL: u32 = 0x12;
    const PRECISION: u32 = 0x20;
    [
        (INVALID, code::FPE_FLTINV),
        (ZERO_DIVIDE, code::FPE_FLTDIV),
        (OVERFLOW, code::FPE_FLTOVF),
        (UNDERFLOW_OR_DENORMAL, code::FPE_FLTUND),
        (PRECISION, code::FPE_FLTRES),
    ]
    .into_iter()
    .find(|(bits, _)| raised & bits != 0)
    .map(|(_, code)| code)
}

fn note_trap(number: u64, error: u64, address: Option<u64>) {
    let task = current();
    let mut last = task.signals.last_trap.lock();
    let address = address.unwrap_or(last.address);
    *last = LastTrap { number, error, address };
}

fn raise(info: SigInfo, frame: &TrapFrame) {
    if is_unhandled(info.signal) && LOG_LIMIT.allows(crate::time::now()) {
        let task = current();
        let trap = *task.signals.last_trap.lock();
        log::info!(
            "{}[{}]: {:?} by exception {} (error {:#x}, address {:#x}) at {:#x}, stack {:#x}",
            task.name(),
            task.tid().0,
            info.signal,
            trap.number,
            trap.error,
            trap.address,
            frame.rip,
            frame.rsp
        );
    }
    send::force(info);
}

fn is_unhandled(signal: Signal) -> bool {
    let task = current();
    let action = task.process.actions.lock().get(signal);
    action.disposition() != Disposition::Handler || task.signals.blocked().contains(signal)
}

/// At most [`LogLimit::LINES`] lines in a stretch of [`LogLimit::WINDOW`].
struct LogLimit {
    window_start: AtomicU64,
    lines: AtomicU64,
}

static LOG_LIMIT: LogLimit = LogLimit { window_start: AtomicU64::new(0), lines: AtomicU64::new(0) };

impl LogLimit {
    const WINDOW: Nanoseconds = Nanoseconds::from_seconds(5);
    const LINES: u64 = 10;

    fn allows(&self, now: Nanoseconds) -> bool {
        let start = Nanoseconds(self.window_start.load(Ordering::Relaxed));
        if now.saturating_sub(start) >= Self::WINDOW {
            self.window_start.store(now.0, Ordering::Relaxed);
            self.lines.store(0, Ordering::Relaxed);
        }
        self.lines.fetch_add(1, Ordering::Relaxed) < Self::LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floating_point_codes_follow_linux_priority() {
        assert_eq!(floating_point_code(0), None);
        assert_eq!(floating_point_code(0x3f), Some(code::FPE_FLTINV));
        assert_eq!(floating_point_code(0x3e), Some(code::FPE_FLTDIV));
        assert_eq!(floating_point_code(0x02), Some(code::FPE_FLTUND));
        assert_eq!(floating_point_code(0x20), Some(code::FPE_FLTRES));
    }

    #[test]
    fn log_limit_opens_again_after_its_window() {
        let limit = LogLimit { window_start: AtomicU64::new(0), lines: AtomicU64::new(0) };
        let allowed = (0..50).filter(|_| limit.allows(Nanoseconds::SECOND)).count();
        assert_eq!(allowed, 10);
        assert!(limit.allows(Nanoseconds::from_seconds(7)));
    }
}
