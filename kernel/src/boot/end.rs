//! How a run ends.

use core::fmt::Write;

use platform::End;

use super::chart::ReportLine;
use crate::hook::{power, smp};
use crate::percpu::{cpu_id, online};

/// Process 1 has ended with a status as `wait(2)` gives it: the machine is off.
pub fn init_ended(status: u32) -> ! {
    let signal = status & 0x7f;
    let code = if signal == 0 { (status >> 8) as u8 } else { 128 + signal as u8 };
    if signal != 0 {
        log::error!("process 1 was killed by signal {signal}");
    }
    stop_others();
    let mut line = ReportLine::new();
    // The line is short enough.
    let _ = write!(line, "exit {code}");
    line.send();
    power::end(End::Exit(code))
}

/// The user asked for it (`reboot(2)`).
pub fn power_off() -> ! {
    stop_others();
    power::report(b"exit 0");
    power::end(End::PowerOff)
}

/// The user asked for it (`reboot(2)`).
pub fn restart() -> ! {
    stop_others();
    power::report(b"reboot");
    power::end(End::Restart)
}

/// The boot cannot go on; `reason` says why in one line.
pub fn unusable(reason: &dyn core::fmt::Display) -> ! {
    // The console is all there is to tell it to.
    let _ = writeln!(crate::logger::RawConsole, "monoguest: cannot boot: {reason}");
    let mut line = ReportLine::new();
    let _ = write!(line, "unusable {reason}");
    line.send();
    power::end(End::Unusable)
}

/// The kernel has found itself to be wrong.
pub fn panicked(message: &dyn core::fmt::Display) -> ! {
    crate::logger::note_panic();
    stop_others();
    let _ = writeln!(crate::logger::RawConsole, "monoguest: panic on CPU {}: {message}", cpu_id().0);
    power::report(b"panic");
    power::end(End::Panic)
}

fn stop_others() {
    let others = online().without(cpu_id());
    if !others.is_empty() {
        smp::send(others, platform::Message::Stop);
    }
}
