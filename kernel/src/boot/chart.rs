//! The boot chart: when each phase of the boot was reached, told to whoever started the machine.

use core::fmt::Write;

use platform::Nanoseconds;

use crate::hook::power;
use crate::sync::SpinLock;
use crate::time;

/// Room for one report line.
const LINE: usize = 96;

/// Keeps lines of several CPUs apart.
static LINES: SpinLock<()> = SpinLock::new(());

/// A line of text for [`power::report`].
pub struct ReportLine {
    bytes: [u8; LINE],
    length: usize,
}

impl ReportLine {
    /// An empty line.
    pub const fn new() -> Self {
        Self { bytes: [0; LINE], length: 0 }
    }

    /// Sends it.
    pub fn send(&self) {
        power::report(&self.bytes[..self.length]);
    }
}

impl Default for ReportLine {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for ReportLine {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let taken = text.len().min(LINE - self.length);
        self.bytes[self.length..self.length + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

/// Notes that `phase` is done now.
pub fn phase(name: &str) {
    phase_at(time::now(), name);
}

/// Notes that `phase` was done at `when`.
pub fn phase_at(when: Nanoseconds, name: &str) {
    let _serialized = LINES.lock();
    let mut line = ReportLine::new();
    // A name that does not fit is cut off.
    let _ = write!(line, "phase {} {name}", when.0);
    line.send();
}
