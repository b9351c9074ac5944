//! The line discipline: what becomes of what is typed and printed, as Linux's N_TTY does it.
//!
//! It knows nothing of devices, tasks or locks: bytes go in, and what is to be done comes out ([`Effects`]).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::termios::{Control, LocalFlags, Termios};
use crate::signal::Signal;

/// Bytes of input kept for readers.
pub const CAPACITY: usize = 4096;
/// Bytes of echo kept while output is stopped or has no room.
const ECHO_CAPACITY: usize = 4096;

/// What input asks to be done.
#[derive(Default, Debug)]
pub struct Effects {
    /// To be sent to the foreground process group, in order.
    pub signals: Vec<Signal>,
    /// There may be something to read that was not before.
    pub readable: bool,
    /// Output was stopped, and may go on.
    pub output_may_go_on: bool,
    /// Output that was not sent yet is to be dropped.
    pub drop_output: bool,
}

/// What one byte of input is to a reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mark {
    /// Itself.
    Plain,
    /// Itself, and the end of a line.
    LineEnd,
    /// The end of a line, or of the file, and nothing itself.
    Eof,
}

/// What a reader was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Bytes.
    pub count: usize,
    /// The line, or what was there, ends here: the read is complete.
    pub complete: bool,
}

/// One terminal's line discipline.
pub struct Discipline {
    pub(super) termios: Termios,
    buffer: VecDeque<(u8, Mark)>,
    /// How many of the first bytes of the buffer belong to finished lines.
    finished: usize,
    /// The next byte is taken as it is.
    pub(super) literal_next: bool,
    /// What is erased is being printed (ECHOPRT).
    pub(super) erasing: bool,
    /// Output is stopped.
    stopped: bool,
    /// Where the cursor is, as far as known: columns from the left.
    pub(super) column: u32,
    /// Where it was when the current line of input began.
    pub(super) line_column: u32,
    /// Echo not sent yet.
    echo: Vec<u8>,
    /// How much of it is sent even if output has been stopped since.
    committed_echo: usize,
}

impl Discipline {
    /// With nothing typed yet.
    pub const fn new(termios: Termios) -> Self {
        Self {
            termios,
            buffer: VecDeque::new(),
            finished: 0,
            literal_next: false,
            erasing: false,
            stopped: false,
            column: 0,
            line_column: 0,
            echo: Vec::new(),
            committed_echo: 0,
        }
    }

    /// The settings.
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    pub(super) fn local(&self, flag: LocalFlags) -> bool {
        self.termios.local().contains(flag)
    }

    /// Whether input is read by lines.
    pub fn is_canonical(&self) -> bool {
        self.local(LocalFlags::ICANON)
    }

    /// Changes the settings. Returns whether there may be something to read that was not before.
    pub fn set_termios(&mut self, termios: Termios) -> bool {
        let was_canonical = self.is_canonical();
        self.termios = termios;
        if was_canonical == self.is_canonical() {
            return false;
        }
        for (_, mark) in &mut self.buffer {
            *mark = Mark::Plain;
        }
        self.finished = 0;
        if !was_canonical && let Some((_, mark)) = self.buffer.back_mut() {
            // What is there already can be read, as one line.
            *mark = Mark::LineEnd;
            self.finished = self.buffer.len();
        }
        self.erasing = false;
        self.literal_next = false;
        !self.buffer.is_empty()
    }

    /// How many bytes of input may come without any being lost for lack of room.
    pub fn room(&self) -> usize {
        let room = (CAPACITY - 1).saturating_sub(self.buffer.len());
        // A line that is too long loses its end rather than hold up what would end or kill it.
        if room == 0 && self.is_canonical() && self.finished == 0 { 1 } else { room }
    }

    pub(super) fn unfinished_is_empty(&self) -> bool {
        self.buffer.len() == self.finished
    }

    /// Bytes of the line that is not finished, from the last back.
    pub(super) fn unfinished_back(&self) -> impl Iterator<Item = u8> + '_ {
        self.buffer.range(self.finished..).rev().map(|(byte, _)| *byte)
    }

    pub(super) fn unfinished(&self) -> Vec<u8> {
        self.buffer.range(self.finished..).map(|(byte, _)| *byte).collect()
    }

    /// Drops the last `count` bytes of the line that is not finished.
    pub(super) fn drop_last(&mut self, count: usize) {
        let left = self.buffer.len().saturating_sub(count).max(self.finished);
        self.buffer.truncate(left);
    }

    /// Drops the line that is not finished.
    pub(super) fn drop_unfinished(&mut self) {
        self.buffer.truncate(self.finished);
    }

    /// Whether an ordinary byte can be taken in.
    pub(super) fn has_room(&mut self) -> bool {
        self.buffer.len() < CAPACITY - 1 && self.buffer.try_reserve(1).is_ok()
    }

    /// Takes in an ordinary byte, if there is room.
    pub(super) fn put(&mut self, byte: u8, effects: &mut Effects) {
        if self.has_room() {
            self.buffer.push_back((byte, Mark::Plain));
            effects.readable |= !self.is_canonical();
        }
    }

    /// Finishes the line with `end`, or with nothing (end of file).
    pub(super) fn finish_line(&mut self, end: Option<u8>, effects: &mut Effects) {
        let last = match end {
            Some(byte) => (byte, Mark::LineEnd),
            None => (0, Mark::Eof),
        };
        if self.buffer.len() < CAPACITY && self.buffer.try_reserve(1).is_ok() {
            self.buffer.push_back(last);
        } else if let Some(slot) = self.buffer.back_mut() {
            *slot = last;
        }
        self.finished = self.buffer.len();
        effects.readable = true;
    }

    /// Whether a read would be given something, where `enough` bytes count as something without lines.
    pub fn is_readable(&self, enough: usize) -> bool {
        if self.is_canonical() { self.finished > 0 } else { self.buffer.len() >= enough.max(1) }
    }

    /// As `poll(2)` sees it: VMIN counts if VTIME does not.
    pub fn is_ready(&self) -> bool {
        let waits_for_minimum = self.termios.character(Control::Time) == 0;
        self.is_readable(if waits_for_minimum { self.termios.character(Control::Min).into() } else { 1 })
    }

    /// How many bytes could be read now.
    pub fn readable_bytes(&self) -> usize {
        let end = if self.is_canonical() { self.finished } else { self.buffer.len() };
        self.buffer.range(..end).filter(|(_, mark)| *mark != Mark::Eof).count()
    }

    /// Gives a reader what is there: at most one line, at most `to.len()` bytes (not 0). None if there is nothing.
    pub fn take(&mut self, to: &mut [u8]) -> Option<Taken> {
        if !self.is_readable(1) {
            return None;
        }
        let by_lines = self.is_canonical();
        let mut count = 0;
        while count < to.len() {
            let Some((byte, mark)) = self.pop() else { break };
            if mark != Mark::Eof {
                to[count] = byte;
                count += 1;
            }
            if by_lines && mark != Mark::Plain {
                return Some(Taken { count, complete: true });
            }
        }
        // An end of file right behind what filled the buffer belongs to it, and is not one by itself.
        if by_lines && self.finished > 0 && self.buffer.front().is_some_and(|(_, mark)| *mark == Mark::Eof) {
            self.pop();
            return Some(Taken { count, complete: true });
        }
        Some(Taken { count, complete: if by_lines { self.finished == 0 } else { self.buffer.is_empty() } })
    }

    fn pop(&mut self) -> Option<(u8, Mark)> {
        let first = self.buffer.pop_front();
        self.finished = self.finished.saturating_sub(1);
        first
    }

    /// Drops all input.
    pub fn flush_input(&mut self) {
        self.buffer.clear();
        self.finished = 0;
        self.literal_next = false;
        self.erasing = false;
    }

    /// Whether output is stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops output.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Lets output go on.
    pub fn start(&mut self, effects: &mut Effects) {
        if self.stopped {
            self.stopped = false;
            effects.output_may_go_on = true;
        }
    }

    /// Takes the echo that waits to be sent, at most `room` bytes; while output is stopped, only what was committed
    /// before.
    pub fn take_echo(&mut self, room: usize) -> Vec<u8> {
        let ready = if self.stopped { self.committed_echo } else { self.echo.len() };
        let count = ready.min(room);
        if count == 0 {
            return Vec::new();
        }
        self.committed_echo = self.committed_echo.saturating_sub(count);
        let rest = self.echo.split_off(count);
        core::mem::replace(&mut self.echo, rest)
    }

    /// The echo so far is to be sent whatever comes next.
    pub(super) fn commit_echo(&mut self) {
        self.committed_echo = self.echo.len();
    }

    /// Drops the echo that waits to be sent.
    pub fn drop_echo(&mut self) {
        self.echo.clear();
        self.committed_echo = 0;
    }

    /// Queues bytes of echo; what there is no room for is lost, as nobody sees it.
    pub(super) fn echo_bytes(&mut self, bytes: &[u8]) {
        if self.echo.len() + bytes.len() <= ECHO_CAPACITY && self.echo.try_reserve(bytes.len()).is_ok() {
            self.echo.extend_from_slice(bytes);
        }
    }
}
