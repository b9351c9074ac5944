//! Terminal settings: `termios(3)`.

use zerocopy::{FromBytes, Immutable, IntoBytes};

bitflags::bitflags! {
    /// What happens to input (Linux include/uapi/asm-generic/termbits-common.h and termbits.h).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct InputFlags: u32 {
        /// Strip the eighth bit.
        const ISTRIP = 0x20;
        /// Line feed becomes carriage return.
        const INLCR = 0x40;
        /// Carriage return is dropped.
        const IGNCR = 0x80;
        /// Carriage return becomes line feed.
        const ICRNL = 0x100;
        /// Upper case becomes lower case.
        const IUCLC = 0x200;
        /// START and STOP control output.
        const IXON = 0x400;
        /// Anything starts output again.
        const IXANY = 0x800;
        /// Ring the bell when there is no room for more.
        const IMAXBEL = 0x2000;
        /// Input is UTF-8.
        const IUTF8 = 0x4000;
        /// Double 0xff, which marks errors of a line.
        const PARMRK = 0x8;
        const _ = !0;
    }

    /// What happens to output.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct OutputFlags: u32 {
        /// Anything at all.
        const OPOST = 0x1;
        /// Lower case becomes upper case.
        const OLCUC = 0x2;
        /// Line feed becomes carriage return and line feed.
        const ONLCR = 0x4;
        /// Carriage return becomes line feed.
        const OCRNL = 0x8;
        /// No carriage return in column 0.
        const ONOCR = 0x10;
        /// Line feed also returns the carriage.
        const ONLRET = 0x20;
        /// Tabs become spaces.
        const XTABS = 0x1800;
        const _ = !0;
    }

    /// How a terminal deals with its user.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct LocalFlags: u32 {
        /// Characters that raise signals.
        const ISIG = 0x1;
        /// Lines, with editing.
        const ICANON = 0x2;
        /// Echo.
        const ECHO = 0x8;
        /// ERASE wipes out.
        const ECHOE = 0x10;
        /// A line feed after KILL.
        const ECHOK = 0x20;
        /// Line feeds are echoed even without ECHO.
        const ECHONL = 0x40;
        /// Signals do not flush.
        const NOFLSH = 0x80;
        /// Background output stops its process.
        const TOSTOP = 0x100;
        /// Control characters are shown as ^X.
        const ECHOCTL = 0x200;
        /// What is erased is printed.
        const ECHOPRT = 0x400;
        /// KILL wipes out the line.
        const ECHOKE = 0x800;
        /// WERASE, LNEXT, REPRINT, EOL2.
        const IEXTEN = 0x8000;
        /// Somebody else does all of this.
        const EXTPROC = 0x1_0000;
        const _ = !0;
    }
}

/// Places in [`Termios::characters`].
#[allow(missing_docs)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Control {
    Intr = 0,
    Quit = 1,
    Erase = 2,
    Kill = 3,
    Eof = 4,
    Time = 5,
    Min = 6,
    Start = 8,
    Stop = 9,
    Susp = 10,
    Eol = 11,
    Reprint = 12,
    WordErase = 14,
    LiteralNext = 15,
    Eol2 = 16,
}

/// How many control characters there are.
const CHARACTERS: usize = 19;

/// Speed code and character size in `c_cflag`: B38400, CS8, CREAD, HUPCL.
const INITIAL_CONTROL: u32 = 0o17 | 0o60 | 0o200 | 0o2000;
/// Bits of `c_cflag` that hold the speed code.
const SPEED_MASK: u32 = 0o10017;
/// Code and speed of a serial console.
const SERIAL_SPEED: (u32, u32) = (0o10002, 115_200);
/// CLOCAL: no modem.
const LOCAL_LINE: u32 = 0o4000;

/// A terminal's settings, as the kernel's `struct termios2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Termios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    discipline: u8,
    characters: [u8; CHARACTERS],
    input_speed: u32,
    output_speed: u32,
}

/// The same without speeds, as the kernel's `struct termios`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct ShortTermios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    discipline: u8,
    characters: [u8; CHARACTERS],
}

const _: () = {
    assert!(size_of::<Termios>() == 44);
    assert!(size_of::<ShortTermios>() == 36);
};

impl Termios {
    /// What a terminal starts with.
    pub const fn initial() -> Self {
        let local = LocalFlags::ISIG.bits()
            | LocalFlags::ICANON.bits()
            | LocalFlags::ECHO.bits()
            | LocalFlags::ECHOE.bits()
            | LocalFlags::ECHOK.bits()
            | LocalFlags::ECHOCTL.bits()
            | LocalFlags::ECHOKE.bits()
            | LocalFlags::IEXTEN.bits();
        let mut characters = [0; CHARACTERS];
        characters[Control::Intr as usize] = 3;
        characters[Control::Quit as usize] = 0x1c;
        characters[Control::Erase as usize] = 0x7f;
        characters[Control::Kill as usize] = 0x15;
        characters[Control::Eof as usize] = 4;
        characters[Control::Min as usize] = 1;
        characters[Control::Start as usize] = 0x11;
        characters[Control::Stop as usize] = 0x13;
        characters[Control::Susp as usize] = 0x1a;
        characters[Control::Reprint as usize] = 0x12;
        // VDISCARD, which Linux keeps and does not use.
        characters[13] = 0x0f;
        characters[Control::WordErase as usize] = 0x17;
        characters[Control::LiteralNext as usize] = 0x16;
        Self {
            input: InputFlags::ICRNL.bits() | InputFlags::IXON.bits(),
            output: OutputFlags::OPOST.bits() | OutputFlags::ONLCR.bits(),
            control: INITIAL_CONTROL,
            local,
            discipline: 0,
            characters,
            input_speed: 38_400,
            output_speed: 38_400,
        }
    }

    /// What a serial console starts with.
    pub const fn serial() -> Self {
        let mut termios = Self::initial();
        termios.control = termios.control & !SPEED_MASK | SERIAL_SPEED.0 | LOCAL_LINE;
        termios.input_speed = SERIAL_SPEED.1;
        termios.output_speed = SERIAL_SPEED.1;
        termios
    }

    /// What happens to input.
    pub const fn input(&self) -> InputFlags {
        InputFlags::from_bits_retain(self.input)
    }

    /// What happens to output.
    pub const fn output(&self) -> OutputFlags {
        OutputFlags::from_bits_retain(self.output)
    }

    /// How it deals with its user.
    pub const fn local(&self) -> LocalFlags {
        LocalFlags::from_bits_retain(self.local)
    }

    /// A control character's code, or a number that stands in its place.
    pub const fn character(&self, control: Control) -> u8 {
        self.characters[control as usize]
    }

    /// Whether `byte` is this control character. A code of 0 turns it off.
    pub const fn is(&self, byte: u8, control: Control) -> bool {
        byte != 0 && self.characters[control as usize] == byte
    }

    /// Without the speeds.
    pub fn short(&self) -> ShortTermios {
        ShortTermios {
            input: self.input,
            output: self.output,
            control: self.control,
            local: self.local,
            discipline: self.discipline,
            characters: self.characters,
        }
    }

    /// With all but the speeds taken from `short`.
    #[must_use]
    pub fn with_short(&self, short: &ShortTermios) -> Self {
        Self {
            input: short.input,
            output: short.output,
            control: short.control,
            local: short.local,
            discipline: self.discipline,
            characters: short.characters,
            ..*self
        }
    }

    /// With other flags, for tests.
    #[cfg(test)]
    pub fn set(mut self, input: InputFlags, output: OutputFlags, local: LocalFlags) -> Self {
        (self.input, self.output, self.local) = (input.bits(), output.bits(), local.bits());
        self
    }

    /// With another control character, for tests.
    #[cfg(test)]
    pub fn with_character(mut self, control: Control, byte: u8) -> Self {
        self.characters[control as usize] = byte;
        self
    }
}
