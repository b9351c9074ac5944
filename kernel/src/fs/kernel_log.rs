//! `/dev/kmsg`: the kernel's log, a line at a time.

use alloc::format;

use super::device::{FileOps, Seek};
use super::file::OpenFile;
use super::io::{IoDst, IoSrc};
use super::memory_device::take_all;
use super::poll::PollEvents;
use crate::errno::{Errno, KResult};
use crate::logger;
use crate::sync::{Mutex, WaitQueue};

/// The longest line taken.
const LINE: usize = 1024;

/// Woken when a program has written a line. The kernel's own lines wake nobody: they may come from anywhere.
static LINES: WaitQueue = WaitQueue::new();

struct Position {
    /// Bytes of log ever written up to the next line to be read.
    offset: u64,
    line: u64,
}

/// A reader of the log.
pub struct LogReader(Mutex<Position>);

impl LogReader {
    /// At the oldest line kept.
    pub fn new() -> Self {
        Self(Mutex::new(Position { offset: 0, line: 0 }))
    }
}

impl Default for LogReader {
    fn default() -> Self {
        Self::new()
    }
}

/// Splits `[    1.234567] text` into microseconds and text.
fn split_time(line: &[u8]) -> (u64, &[u8]) {
    let Some(end) = line.iter().position(|&byte| byte == b']') else { return (0, line) };
    let digits = line[..end].iter().filter(|byte| byte.is_ascii_digit());
    let time = digits.fold(0u64, |time, byte| time.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')));
    (time, line[end + 1..].strip_prefix(b" ").unwrap_or(&line[end + 1..]))
}

impl FileOps for LogReader {
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        let mut position = self.0.lock();
        if position.offset >= logger::history_end() {
            if file.is_nonblocking() {
                return Err(Errno::EAGAIN);
            }
            let offset = position.offset;
            LINES.wait(|| (logger::history_end() > offset).then_some(()))?;
        }
        let mut bytes = [0; LINE];
        let (length, after) = logger::read_history(position.offset, &mut bytes);
        let start = after - length as u64;
        let end = bytes[..length].iter().position(|&byte| byte == b'\n').map_or(length, |at| at + 1);
        let (time, text) = split_time(&bytes[..end]);
        let head = format!("6,{},{time},-;", position.line);
        let newline: &[u8] = if text.ends_with(b"\n") { b"" } else { b"\n" };
        if to.remaining() < head.len() + text.len() + newline.len() {
            return Err(Errno::EINVAL);
        }
        let before = to.moved();
        for part in [head.as_bytes(), text, newline] {
            to.write_whole(part)?;
        }
        position.offset = start + end as u64;
        position.line += 1;
        Ok(to.moved() - before)
    }

    fn write(&self, _file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        let bytes = take_all(from, LINE)?;
        let (level, text) = match bytes.strip_prefix(b"<").and_then(|rest| {
            let end = rest.iter().position(|&byte| byte == b'>')?;
            let number = core::str::from_utf8(&rest[..end]).ok()?.parse::<u32>().ok()?;
            Some((number & 7, &rest[end + 1..]))
        }) {
            Some(found) => found,
            None => (4, &bytes[..]),
        };
        let text = text.trim_ascii_end();
        let level = match level {
            0..=3 => log::Level::Error,
            4 => log::Level::Warn,
            5 | 6 => log::Level::Info,
            _ => log::Level::Debug,
        };
        match core::str::from_utf8(text) {
            Ok(text) => log::log!(level, "{text}"),
            Err(_) => log::log!(level, "{}", text.escape_ascii()),
        }
        LINES.wake_all();
        Ok(bytes.len())
    }

    fn poll(&self) -> PollEvents {
        let at_end = self.0.try_lock().is_some_and(|position| position.offset >= logger::history_end());
        if at_end { PollEvents::WRITABLE } else { PollEvents::READABLE | PollEvents::WRITABLE }
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        visit(&LINES);
    }

    fn seek(&self) -> Seek {
        Seek::Ignored
    }
}
