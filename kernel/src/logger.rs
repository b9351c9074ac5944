//! The kernel's log: the console, and a buffer that `dmesg` reads.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::hook::console;
use crate::sync::IrqLock;
use crate::time;

/// Bytes of log kept for readers.
pub const KEPT: usize = 32 * 1024;

/// The newest bytes of the log.
pub struct History {
    bytes: [u8; KEPT],
    /// Bytes ever written.
    written: u64,
}

static HISTORY: IrqLock<History> = IrqLock::new(History { bytes: [0; KEPT], written: 0 });
static CONSOLE: IrqLock<()> = IrqLock::new(());
/// Log levels below this number go to the console (Linux's console log level).
static CONSOLE_LEVEL: AtomicU64 = AtomicU64::new(DEFAULT_CONSOLE_LEVEL);
static PANICKED: AtomicBool = AtomicBool::new(false);

const DEFAULT_CONSOLE_LEVEL: u64 = 5;

struct Logger;

static LOGGER: Logger = Logger;

/// Makes the `log` macros write here. Once, at boot.
pub fn init() {
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// Sets which messages the console shows: Linux levels below `level` (`loglevel=`; `quiet` is 4).
pub fn set_console_level(level: u64) {
    CONSOLE_LEVEL.store(level, Ordering::Relaxed);
}

/// What [`set_console_level`] set last.
pub fn console_level() -> u64 {
    CONSOLE_LEVEL.load(Ordering::Relaxed)
}

/// Linux's number for a level.
fn linux_level(level: Level) -> u64 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let now = time::now();
        let level = linux_level(record.level());
        let to_console = level < CONSOLE_LEVEL.load(Ordering::Relaxed);
        let mut line = Line { to_console, length: 0, bytes: [0; LINE] };
        // A line that does not fit is cut off; there is nobody to tell.
        let _ = write!(line, "[{:5}.{:06}] {}", now.seconds(), now.subsec() / 1000, record.args());
        line.end();
    }

    fn flush(&self) {}
}

const LINE: usize = 512;

struct Line {
    to_console: bool,
    length: usize,
    bytes: [u8; LINE],
}

impl Line {
    fn end(mut self) {
        self.length = self.length.min(LINE - 1);
        self.bytes[self.length] = b'\n';
        let text = &self.bytes[..=self.length];
        HISTORY.lock().append(text);
        if self.to_console {
            write_console(text);
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (LINE - 1).saturating_sub(self.length);
        let taken = text.len().min(room);
        self.bytes[self.length..self.length + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

impl History {
    fn append(&mut self, text: &[u8]) {
        for &byte in text {
            self.bytes[(self.written % KEPT as u64) as usize] = byte;
            self.written += 1;
        }
    }
}

/// Copies log text from position `from` (bytes ever written) on; returns how much, and the position behind it. Text
/// that is no longer kept is skipped.
pub fn read_history(from: u64, to: &mut [u8]) -> (usize, u64) {
    let history = HISTORY.lock();
    let from = from.max(history.written.saturating_sub(KEPT as u64)).min(history.written);
    let length = ((history.written - from) as usize).min(to.len());
    for (index, byte) in to[..length].iter_mut().enumerate() {
        *byte = history.bytes[((from + index as u64) % KEPT as u64) as usize];
    }
    (length, from + length as u64)
}

/// How much log was ever written, in bytes.
pub fn history_end() -> u64 {
    HISTORY.lock().written
}

/// Writes to the console as it is, but for line feeds, which get a carriage return.
pub fn write_console(text: &[u8]) {
    // A panic may come while the console is locked, by this CPU even.
    let _serialized = (!PANICKED.load(Ordering::Relaxed)).then(|| CONSOLE.lock());
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        match line.split_last() {
            Some((b'\n', rest)) => {
                console::write(rest);
                console::write(b"\r\n");
            }
            _ => console::write(line),
        }
    }
}

/// Writes raw bytes to the console, under its lock (ttys do their own processing).
pub fn write_console_raw(bytes: &[u8]) {
    let _serialized = (!PANICKED.load(Ordering::Relaxed)).then(|| CONSOLE.lock());
    console::write(bytes);
}

/// From now on the console is written without its lock.
pub fn note_panic() {
    PANICKED.store(true, Ordering::Relaxed);
}

/// The console for `write!`, past the log.
pub struct RawConsole;

impl Write for RawConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_console(text.as_bytes());
        Ok(())
    }
}
