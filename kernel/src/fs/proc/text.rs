//! Text that is put together piece by piece.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use crate::errno::{Errno, KResult};

/// A growing text. It may be as long as programs make it, so there may be no memory for it; then it grows no more, and
/// [`Self::finish`] says so.
#[derive(Default)]
pub struct Text {
    bytes: Vec<u8>,
    is_short: bool,
}

impl Text {
    /// No text.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), is_short: false }
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.is_short |= self.bytes.try_reserve(bytes.len()).is_err();
        if !self.is_short {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Appends what `write!` makes.
    pub fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // A failure is remembered.
        let _ = self.write_fmt(arguments);
    }

    /// As [`Self::put`], with blanks behind it if it is shorter than `width` bytes.
    pub fn put_padded(&mut self, width: usize, arguments: fmt::Arguments<'_>) {
        let end = self.bytes.len() + width;
        self.put(arguments);
        while self.bytes.len() < end && !self.is_short {
            self.bytes(b" ");
        }
    }

    /// Appends a path of which line feeds are written as `\ooo`.
    pub fn escaped_newlines(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' { self.bytes(b"\\012") } else { self.bytes(&[byte]) }
        }
    }

    /// Appends a name of which spaces and other separators are written as `\ooo`.
    pub fn escaped(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if matches!(byte, b' ' | b'\t' | b'\n' | b'\\') {
                self.put(format_args!("\\{byte:03o}"));
            } else {
                self.bytes(&[byte]);
            }
        }
    }

    /// The whole text.
    ///
    /// # Errors
    /// ENOMEM if there was no memory for some of it.
    pub fn finish(self) -> KResult<Vec<u8>> {
        if self.is_short { Err(Errno::ENOMEM) } else { Ok(self.bytes) }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes());
        if self.is_short { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Appends a formatted piece to a [`Text`].
macro_rules! put {
    ($text:expr, $($arguments:tt)*) => { $text.put(format_args!($($arguments)*)) };
}
pub(crate) use put;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_whole_or_none() {
        let mut text = Text::new();
        put!(text, "{}:", 7);
        text.put_padded(2, format_args!("{}", 123));
        text.put_padded(3, format_args!("{}", 8));
        text.escaped(b"a b");
        text.escaped_newlines(b"\n ");
        assert_eq!(text.finish(), Ok(b"7:1238  a\\040b\\012 ".to_vec()));
        let mut text = Text { bytes: b"so far".to_vec(), is_short: true };
        text.bytes(b"more");
        put!(text, "{}", 7);
        text.put_padded(1000, format_args!("{}", 7));
        text.escaped(b"a b");
        text.escaped_newlines(b"\n ");
        assert_eq!(text.bytes, b"so far");
        assert_eq!(text.finish(), Err(Errno::ENOMEM));
    }
}
