//! Input processing: signals, flow control, line editing.

use super::discipline::{Discipline, Effects};
use super::output::{is_control, to_lower};
use super::termios::{Control, InputFlags, LocalFlags};
use crate::signal::{SIGINT, SIGQUIT, SIGTSTP, Signal};

/// How much ERASE, WERASE and KILL take away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Erase {
    Character,
    Word,
    Line,
}

/// How a byte that was typed is echoed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    AsItIs,
    Visibly,
}

/// Part of a word for WERASE: letters (of Latin-1, as Linux has it), digits and the underscore.
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || (byte >= 0xc0 && byte != 0xd7 && byte != 0xf7)
}

impl Discipline {
    /// Takes in bytes that were typed.
    pub fn receive(&mut self, bytes: &[u8], effects: &mut Effects) {
        for &byte in bytes {
            self.receive_byte(byte, effects);
        }
    }

    fn receive_byte(&mut self, byte: u8, effects: &mut Effects) {
        let flags = self.termios.input();
        let mut byte = if flags.contains(InputFlags::ISTRIP) { byte & 0x7f } else { byte };
        if flags.contains(InputFlags::IUCLC) && self.local(LocalFlags::IEXTEN) {
            byte = to_lower(byte);
        }
        if self.local(LocalFlags::EXTPROC) {
            self.put(byte, effects);
            return;
        }
        if core::mem::take(&mut self.literal_next) {
            return self.receive_ordinary(byte, effects);
        }
        if self.controls_flow(byte, effects) {
            return;
        }
        if let Some(signal) = self.signal_of(byte) {
            return self.receive_signal(byte, signal, effects);
        }
        let byte = match byte {
            b'\r' if flags.contains(InputFlags::IGNCR) => return,
            b'\r' if flags.contains(InputFlags::ICRNL) => b'\n',
            b'\n' if flags.contains(InputFlags::INLCR) => b'\r',
            other => {
                if !self.is_canonical() || !self.edit(other, effects) {
                    self.receive_ordinary(other, effects);
                }
                return;
            }
        };
        if self.is_canonical() && self.edit(byte, effects) {
            return;
        }
        // What has been made a line feed is shown as one; a line feed that was typed is a control character.
        let shown = if byte == b'\n' { Shown::AsItIs } else { Shown::Visibly };
        self.take_in(byte, shown, effects);
    }

    /// START, STOP, and with IXANY anything while output is stopped. Returns whether the byte has served.
    fn controls_flow(&mut self, byte: u8, effects: &mut Effects) -> bool {
        let flags = self.termios.input();
        if !flags.contains(InputFlags::IXON) {
            return false;
        }
        // Where both are the same character, it does either in turn.
        let toggles = self.termios.is(byte, Control::Start) && self.termios.is(byte, Control::Stop);
        if self.termios.is(byte, Control::Start) && (!toggles || self.is_stopped()) {
            self.start(effects);
            self.commit_echo();
            return true;
        }
        if self.termios.is(byte, Control::Stop) {
            self.stop();
            return true;
        }
        if flags.contains(InputFlags::IXANY) && self.is_stopped() && self.signal_of(byte).is_none() {
            self.start(effects);
            self.commit_echo();
        }
        false
    }

    fn signal_of(&self, byte: u8) -> Option<Signal> {
        if !self.local(LocalFlags::ISIG) {
            return None;
        }
        [(Control::Intr, SIGINT), (Control::Quit, SIGQUIT), (Control::Susp, SIGTSTP)]
            .into_iter()
            .find(|(control, _)| self.termios.is(byte, *control))
            .map(|(_, signal)| signal)
    }

    fn receive_signal(&mut self, byte: u8, signal: Signal, effects: &mut Effects) {
        effects.signals.push(signal);
        if !self.local(LocalFlags::NOFLSH) {
            self.flush_input();
            self.drop_echo();
            effects.drop_output = true;
        }
        if self.termios.input().contains(InputFlags::IXON) {
            self.start(effects);
        }
        if self.local(LocalFlags::ECHO) {
            self.echo_visibly(byte);
        }
        if !self.is_stopped() {
            self.commit_echo();
        }
    }

    /// A byte that means something to line editing. Returns whether it has served.
    fn edit(&mut self, byte: u8, effects: &mut Effects) -> bool {
        let extended = self.local(LocalFlags::IEXTEN);
        let echo = self.local(LocalFlags::ECHO);
        let is = |control| self.termios.is(byte, control);
        if is(Control::Erase) {
            self.erase(Erase::Character);
        } else if is(Control::Kill) {
            self.kill();
        } else if extended && is(Control::WordErase) {
            self.erase(Erase::Word);
        } else if extended && is(Control::LiteralNext) {
            self.literal_next = true;
            if echo {
                self.finish_erasing();
                if self.local(LocalFlags::ECHOCTL) {
                    // Shown until the next character takes its place.
                    self.echo_raw(b'^');
                    self.echo_raw(8);
                }
            }
        } else if extended && echo && is(Control::Reprint) {
            self.finish_erasing();
            self.echo_visibly(byte);
            self.echo_raw(b'\n');
            for byte in self.unfinished() {
                self.echo_visibly(byte);
            }
        } else if byte == b'\n' {
            if echo || self.local(LocalFlags::ECHONL) {
                self.echo_raw(b'\n');
            }
            self.finish_line(Some(byte), effects);
        } else if is(Control::Eof) {
            self.finish_line(None, effects);
        } else if is(Control::Eol) || (extended && is(Control::Eol2)) {
            if echo {
                self.note_line_column();
                self.echo_visibly(byte);
            }
            self.finish_line(Some(byte), effects);
        } else {
            return false;
        }
        true
    }

    fn receive_ordinary(&mut self, byte: u8, effects: &mut Effects) {
        self.take_in(byte, Shown::Visibly, effects);
    }

    fn take_in(&mut self, byte: u8, shown: Shown, effects: &mut Effects) {
        if !self.has_room() {
            if self.termios.input().contains(InputFlags::IMAXBEL) {
                self.echo_raw(7);
            }
            return;
        }
        if self.local(LocalFlags::ECHO) {
            self.finish_erasing();
            match shown {
                Shown::AsItIs => self.echo_raw(byte),
                Shown::Visibly => {
                    self.note_line_column();
                    self.echo_visibly(byte);
                }
            }
        }
        if self.termios.input().contains(InputFlags::PARMRK) && byte == 0xff {
            self.put(byte, effects);
        }
        self.put(byte, effects);
    }

    /// A line of input begins where the cursor is.
    fn note_line_column(&mut self) {
        if self.unfinished_is_empty() {
            self.line_column = self.column;
        }
    }

    /// KILL.
    fn kill(&mut self) {
        if self.unfinished_is_empty() {
            return;
        }
        let echo = self.local(LocalFlags::ECHO);
        let wipes = LocalFlags::ECHOK | LocalFlags::ECHOKE | LocalFlags::ECHOE;
        if echo && self.local(wipes) {
            self.erase(Erase::Line);
            return;
        }
        self.drop_unfinished();
        if echo {
            self.finish_erasing();
            self.echo_visibly(self.termios.character(Control::Kill));
            if self.local(LocalFlags::ECHOK) {
                self.echo_raw(b'\n');
            }
        }
    }

    fn erase(&mut self, what: Erase) {
        if self.unfinished_is_empty() {
            return;
        }
        let mut in_word = false;
        while let Some((byte, length)) = self.last_character() {
            if what == Erase::Word {
                if is_word_byte(byte) {
                    in_word = true;
                } else if in_word {
                    break;
                }
            }
            let bytes: alloc::vec::Vec<u8> = self.unfinished_back().take(length).collect();
            self.drop_last(length);
            if self.local(LocalFlags::ECHO) {
                self.echo_erased(byte, &bytes, what);
            }
            if what == Erase::Character {
                break;
            }
        }
        if self.unfinished_is_empty() && self.local(LocalFlags::ECHO) {
            self.finish_erasing();
        }
    }

    /// The first byte of the last character of the line, and how many bytes the character has. None if there is no
    /// whole one.
    fn last_character(&self) -> Option<(u8, usize)> {
        let mut length = 0;
        for byte in self.unfinished_back() {
            length += 1;
            if !self.is_continuation(byte) {
                return Some((byte, length));
            }
        }
        None
    }

    /// Shows that a character is gone; `bytes` are its bytes from the last to the first.
    fn echo_erased(&mut self, first: u8, bytes: &[u8], what: Erase) {
        if self.local(LocalFlags::ECHOPRT) {
            if !self.erasing {
                self.echo_raw(b'\\');
                self.erasing = true;
            }
            self.echo_visibly(first);
            for &byte in bytes.iter().rev().skip(1) {
                // A byte without a column of its own, printed as if it had one.
                self.echo_raw(byte);
                self.column = self.column.saturating_sub(1);
            }
        } else if what == Erase::Character && !self.local(LocalFlags::ECHOE) {
            self.echo_visibly(self.termios.character(Control::Erase));
        } else if first == b'\t' {
            self.echo_wipe_tab();
        } else {
            let shown = self.local(LocalFlags::ECHOCTL);
            if is_control(first) && shown {
                self.echo_wipe();
            }
            if !is_control(first) || shown {
                self.echo_wipe();
            }
        }
    }

    /// Goes back over a tab that was typed after what is left of the line.
    fn echo_wipe_tab(&mut self) {
        let mut columns = 0;
        let mut after_tab = false;
        for byte in self.unfinished_back() {
            if byte == b'\t' {
                after_tab = true;
                break;
            }
            if is_control(byte) {
                columns += if self.local(LocalFlags::ECHOCTL) { 2 } else { 0 };
            } else if !self.is_continuation(byte) {
                columns += 1;
            }
        }
        if !after_tab {
            columns += self.line_column;
        }
        for _ in 0..8 - (columns & 7) {
            self.echo_bytes(&[8]);
            self.column = self.column.saturating_sub(1);
        }
    }
}
