//! One console for several guests: whose line it is is written in front, and input goes to one of them.

/// The key before a command to the host: Ctrl-].
const ESCAPE: u8 = 0x1d;

/// Whose output stands on the current line.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    /// Lines are prefixed.
    several: bool,
    owner: Option<usize>,
}

impl Lines {
    /// At the start of a line, for one guest or several.
    pub const fn new(several: bool) -> Self {
        Self { several, owner: None }
    }

    /// Passes `text` of `guest` on to `write`, with what must stand around it.
    pub fn write(&mut self, guest: usize, text: &[u8], mut write: impl FnMut(&[u8])) {
        if !self.several {
            write(text);
            return;
        }
        for piece in text.split_inclusive(|&byte| byte == b'\n') {
            if self.owner != Some(guest) {
                if self.owner.is_some() {
                    write(b"\r\n");
                }
                write(&[b'[', b'0' + guest as u8, b']', b' ']);
            }
            write(piece);
            self.owner = if piece.ends_with(b"\n") { None } else { Some(guest) };
        }
    }

    /// Starts a line for the host itself.
    pub fn begin(&mut self, mut write: impl FnMut(&[u8])) {
        if self.owner.take().is_some() {
            write(b"\r\n");
        }
    }
}

/// What a byte of input means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// Input for this guest.
    Input(usize, u8),
    /// Print the counters.
    Counters,
    /// Nothing yet, or the choice of another guest.
    Nothing,
}

/// Where input goes. Ctrl-] and a digit chooses a guest, Ctrl-] c prints the counters, Ctrl-] twice is Ctrl-] for the guest.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    guests: usize,
    chosen: usize,
    escaped: bool,
}

impl Keys {
    /// Input goes to the first of `guests`.
    pub const fn new(guests: usize) -> Self {
        Self { guests, chosen: 0, escaped: false }
    }

    /// Takes one byte.
    pub fn take(&mut self, byte: u8) -> Key {
        if !core::mem::replace(&mut self.escaped, false) {
            if byte == ESCAPE {
                self.escaped = true;
                return Key::Nothing;
            }
            return Key::Input(self.chosen, byte);
        }
        match byte {
            b'0'..=b'9' if usize::from(byte - b'0') < self.guests => {
                self.chosen = usize::from(byte - b'0');
                Key::Nothing
            }
            b'c' => Key::Counters,
            _ => Key::Input(self.chosen, byte),
        }
    }
}

/// Bytes a guest has not read yet; what comes while it is full is lost, as on a serial port.
#[derive(Clone, Copy, Debug)]
pub struct InputQueue {
    bytes: [u8; 256],
    first: usize,
    count: usize,
}

impl InputQueue {
    /// Nothing to read.
    pub const fn new() -> Self {
        Self { bytes: [0; 256], first: 0, count: 0 }
    }

    /// Adds a byte.
    pub fn push(&mut self, byte: u8) {
        if self.count < self.bytes.len() {
            self.bytes[(self.first + self.count) % self.bytes.len()] = byte;
            self.count += 1;
        }
    }

    /// Takes the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        let byte = self.bytes[self.first];
        self.count = self.count.checked_sub(1)?;
        self.first = (self.first + 1) % self.bytes.len();
        Some(byte)
    }

    /// Whether there is nothing to read.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Default for InputQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_whose_they_are() {
        let mut lines = Lines::new(true);
        let mut out = Vec::new();
        for (guest, text) in [(0, "one\ntw"), (0, "o\n"), (1, "part"), (0, "other\n"), (1, "rest\n")] {
            lines.write(guest, text.as_bytes(), |bytes| out.extend(bytes));
        }
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out, "[0] one\n[0] two\n[1] part\r\n[0] other\n[1] rest\n");
        let mut alone = Lines::new(false);
        alone.write(0, b"\xffraw", |bytes| assert_eq!(bytes, b"\xffraw"));
    }

    #[test]
    fn keys_choose_a_guest() {
        let mut keys = Keys::new(2);
        assert_eq!(keys.take(b'a'), Key::Input(0, b'a'));
        assert_eq!(
            [0x1d, b'1', b'b'].map(|byte| keys.take(byte)),
            [Key::Nothing, Key::Nothing, Key::Input(1, b'b')]
        );
        assert_eq!([0x1d, b'7'].map(|byte| keys.take(byte))[1], Key::Input(1, b'7'));
        assert_eq!([0x1d, b'c'].map(|byte| keys.take(byte))[1], Key::Counters);
        assert_eq!([0x1d, 0x1d].map(|byte| keys.take(byte))[1], Key::Input(1, 0x1d));
        // With one guest there is nothing to choose.
        let mut keys = Keys::new(1);
        assert_eq!(
            [b'a', 0x1d, 0x1d, b'c', 0x1d, b'c', 0x1d, b'0', 0x1d, b'1'].map(|byte| keys.take(byte)),
            [
                Key::Input(0, b'a'),
                Key::Nothing,
                Key::Input(0, 0x1d),
                Key::Input(0, b'c'),
                Key::Nothing,
                Key::Counters,
                Key::Nothing,
                Key::Nothing,
                Key::Nothing,
                Key::Input(0, b'1'),
            ]
        );
    }

    #[test]
    fn input_is_read_in_order_and_a_flood_is_dropped() {
        let mut queue = InputQueue::new();
        (0..300u32).for_each(|n| queue.push(n as u8));
        assert!((0..256u32).all(|n| queue.pop() == Some(n as u8)));
        assert_eq!(queue.pop(), None);
        queue.push(7);
        assert!(!queue.is_empty() && queue.pop() == Some(7) && queue.is_empty());
    }
}
