//! Output processing and echo.

use super::discipline::Discipline;
use super::termios::{InputFlags, LocalFlags, OutputFlags};

/// Most bytes that one byte of output becomes.
pub const MAX_EXPANSION: usize = 8;

/// What one byte of output becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Printed {
    Nothing,
    Byte(u8),
    ReturnAndFeed,
    Spaces(u32),
}

impl Discipline {
    /// How many bytes one byte of output becomes at most, with the present settings.
    pub fn expansion(&self) -> usize {
        let flags = self.termios.output();
        match flags.contains(OutputFlags::OPOST) {
            true if flags.contains(OutputFlags::XTABS) => MAX_EXPANSION,
            true if flags.contains(OutputFlags::ONLCR) => 2,
            _ => 1,
        }
    }

    /// Processes output: fills `to` and returns how much. `to` holds [`Self::expansion`] times as many bytes as `from`.
    pub fn process_output(&mut self, from: &[u8], to: &mut [u8]) -> usize {
        if !self.termios.output().contains(OutputFlags::OPOST) {
            to[..from.len()].copy_from_slice(from);
            return from.len();
        }
        let mut length = 0;
        let mut push = |byte| {
            to[length] = byte;
            length += 1;
        };
        for &byte in from {
            match self.printed(byte) {
                Printed::Nothing => {}
                Printed::Byte(byte) => push(byte),
                Printed::ReturnAndFeed => {
                    push(b'\r');
                    push(b'\n');
                }
                Printed::Spaces(count) => (0..count).for_each(|_| push(b' ')),
            }
        }
        length
    }

    fn printed(&mut self, byte: u8) -> Printed {
        let flags = self.termios.output();
        match byte {
            b'\n' => {
                let returns = flags.contains(OutputFlags::ONLCR);
                if returns || flags.contains(OutputFlags::ONLRET) {
                    self.column = 0;
                }
                self.line_column = self.column;
                if returns { Printed::ReturnAndFeed } else { Printed::Byte(b'\n') }
            }
            b'\r' if flags.contains(OutputFlags::ONOCR) && self.column == 0 => Printed::Nothing,
            b'\r' if flags.contains(OutputFlags::OCRNL) => {
                if flags.contains(OutputFlags::ONLRET) {
                    self.column = 0;
                    self.line_column = 0;
                }
                Printed::Byte(b'\n')
            }
            b'\r' => {
                self.column = 0;
                self.line_column = 0;
                Printed::Byte(b'\r')
            }
            b'\t' => {
                let spaces = 8 - (self.column & 7);
                self.column += spaces;
                if flags.contains(OutputFlags::XTABS) {
                    Printed::Spaces(spaces)
                } else {
                    Printed::Byte(b'\t')
                }
            }
            8 => {
                self.column = self.column.saturating_sub(1);
                Printed::Byte(8)
            }
            _ => {
                if !is_control(byte) && !self.is_continuation(byte) {
                    self.column += 1;
                }
                let upper = flags.contains(OutputFlags::OLCUC);
                Printed::Byte(if upper { to_upper(byte) } else { byte })
            }
        }
    }

    /// Whether `byte` continues a UTF-8 character, and has no column of its own.
    pub(super) fn is_continuation(&self, byte: u8) -> bool {
        self.termios.input().contains(InputFlags::IUTF8) && byte & 0xc0 == 0x80
    }

    /// Echoes a byte as output.
    pub(super) fn echo_raw(&mut self, byte: u8) {
        let mut printed = [0; MAX_EXPANSION];
        let length = self.process_output(&[byte], &mut printed);
        self.echo_bytes(&printed[..length]);
    }

    /// Echoes a byte so that it can be seen.
    pub(super) fn echo_visibly(&mut self, byte: u8) {
        if self.local(LocalFlags::ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.echo_bytes(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.echo_raw(byte);
        }
    }

    /// Wipes out the last column.
    pub(super) fn echo_wipe(&mut self) {
        for byte in *b"\x08 \x08" {
            self.echo_raw(byte);
        }
    }

    /// Ends the printing of what is erased (ECHOPRT).
    pub(super) fn finish_erasing(&mut self) {
        if self.erasing {
            self.echo_raw(b'/');
            self.erasing = false;
        }
    }
}

/// A control character, as Linux's `iscntrl` has it.
pub(super) fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// The upper case of a letter of Latin-1, as Linux has it.
fn to_upper(byte: u8) -> u8 {
    let lower = byte.is_ascii_lowercase() || (byte >= 0xdf && byte != 0xf7);
    if lower { byte - 32 } else { byte }
}

/// The lower case of a letter of Latin-1, as Linux has it.
pub(super) fn to_lower(byte: u8) -> u8 {
    let upper = byte.is_ascii_uppercase() || (0xc0..=0xde).contains(&byte) && byte != 0xd7;
    if upper { byte + 32 } else { byte }
}
