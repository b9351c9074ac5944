//! What is said on the console.

use core::fmt::{self, Write};

use platform::End;

use crate::hook::{console, cpu, power};

/// A line on the console.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::report::line(format_args!($($arguments)*)) };
}
pub(crate) use say;

/// What a case found.
pub type Outcome = Result<(), alloc::string::String>;

/// Ends the case with a failure unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($arguments:tt)*) => {
        if !$condition {
            return Err(alloc::format!($($arguments)*));
        }
    };
}
pub(crate) use ensure;

static LOCK: spin::Mutex<()> = spin::Mutex::new(());

struct Writer;

impl Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        console::write(text.as_bytes());
        Ok(())
    }
}

/// Writes one line whole.
pub fn line(arguments: fmt::Arguments<'_>) {
    let state = cpu::irq_save();
    let guard = LOCK.lock();
    // The console takes everything.
    let _ = writeln!(Writer, "{arguments}");
    drop(guard);
    cpu::irq_restore(state);
}

struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        line(format_args!("[{}] {}", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Shows what the backend logs.
pub fn init_log() {
    if log::set_logger(&Log).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

/// The boot cannot go on.
pub fn unusable(reason: &str) -> ! {
    say!("conformance: cannot boot: {reason}");
    power::report(alloc::format!("unusable {reason}").as_bytes());
    power::end(End::Unusable)
}

/// This kernel is wrong, or what is below it.
pub fn panicked(message: &dyn fmt::Display) -> ! {
    let _ = writeln!(Writer, "conformance: panic: {message}");
    power::report(b"panic");
    power::end(End::Panic)
}
