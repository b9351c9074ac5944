//! Text that is put together piece by piece.

use alloc::vec::Vec;
use core::fmt::{self, Write};

/// A growing text.
#[derive(Default)]
pub struct Text(pub Vec<u8>);

impl Text {
    /// No text.
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Appends what `write!` makes.
    pub fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // Writing to memory does not fail.
        let _ = self.write_fmt(arguments);
    }

    /// Appends a path of which line feeds are written as `\ooo`.
    pub fn escaped_newlines(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' { self.bytes(b"\\012") } else { self.0.push(byte) }
        }
    }

    /// Appends a name of which spaces and other separators are written as `\ooo`.
    pub fn escaped(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if matches!(byte, b' ' | b'\t' | b'\n' | b'\\') {
                self.put(format_args!("\\{byte:03o}"));
            } else {
                self.0.push(byte);
            }
        }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Appends a formatted piece to a [`Text`].
macro_rules! put {
    ($text:expr, $($arguments:tt)*) => { $text.put(format_args!($($arguments)*)) };
}
pub(super) use put;
