//! What a new program finds on its stack (System V ABI for AMD64, 3.4.1): its arguments, its environment and the
//! auxiliary vector, laid out as Linux does it.

use alloc::vec::Vec;
use core::ops::Range;

use super::strings::StringList;
use crate::errno::{Errno, KResult};

/// What the CPU is called (`AT_PLATFORM`).
const PLATFORM: &[u8] = b"x86_64\0";
/// Linux leaves a null pointer at the very end.
const END: usize = size_of::<u64>();
const WORD: usize = size_of::<u64>();
/// What the stack pointer is a multiple of.
const ALIGNMENT: u64 = 16;

/// Names of the auxiliary vector's entries (Linux include/uapi/linux/auxvec.h).
#[allow(missing_docs)]
pub mod auxiliary_type {
    pub const NULL: u64 = 0;
    pub const PROGRAM_HEADERS: u64 = 3;
    pub const PROGRAM_HEADER_SIZE: u64 = 4;
    pub const PROGRAM_HEADER_COUNT: u64 = 5;
    pub const PAGE_SIZE: u64 = 6;
    pub const INTERPRETER_BASE: u64 = 7;
    pub const FLAGS: u64 = 8;
    pub const ENTRY: u64 = 9;
    pub const UID: u64 = 11;
    pub const EUID: u64 = 12;
    pub const GID: u64 = 13;
    pub const EGID: u64 = 14;
    pub const PLATFORM: u64 = 15;
    pub const HARDWARE: u64 = 16;
    pub const CLOCK_TICKS: u64 = 17;
    pub const SECURE: u64 = 23;
    pub const RANDOM: u64 = 25;
    pub const HARDWARE_2: u64 = 26;
    pub const FILE_NAME: u64 = 31;
    pub const VDSO: u64 = 33;
    pub const SIGNAL_STACK: u64 = 51;
}

/// The value of an entry of the auxiliary vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuxiliaryValue {
    /// A number, or an address outside the stack.
    Number(u64),
    /// The address of the random bytes.
    Random,
    /// The address of the program's file name.
    FileName,
    /// The address of the CPU's name.
    Platform,
}

/// What goes on the stack.
pub struct StackContent<'a> {
    /// What the program was started as.
    pub file_name: &'a [u8],
    /// Its arguments.
    pub arguments: &'a StringList,
    /// Its environment.
    pub environment: &'a StringList,
    /// The auxiliary vector without its end: types and values.
    pub auxiliary: &'a [(u64, AuxiliaryValue)],
    /// Bytes nobody can guess.
    pub random: [u8; 16],
}

/// The stack of a program that has not started.
#[derive(Debug)]
pub struct StackImage {
    /// Address of the first byte: the stack pointer.
    pub pointer: u64,
    /// Everything from there to the top.
    pub bytes: Vec<u8>,
    /// Addresses of the argument strings.
    pub arguments: Range<u64>,
    /// Addresses of the environment strings.
    pub environment: Range<u64>,
    /// Addresses of the auxiliary vector.
    pub auxiliary: Range<u64>,
}

impl StackContent<'_> {
    /// Bytes that an image takes at most, whatever its top.
    pub fn most_bytes(&self) -> u64 {
        (self.string_bytes() + self.words() * WORD) as u64 + ALIGNMENT
    }

    fn string_bytes(&self) -> usize {
        let names = PLATFORM.len() + self.random.len() + self.file_name.len() + 1;
        names + self.arguments.bytes().len() + self.environment.bytes().len() + END
    }

    fn words(&self) -> usize {
        1 + self.arguments.len() + 1 + self.environment.len() + 1 + 2 * (self.auxiliary.len() + 1)
    }

    /// Lays it out below `top`, which is a multiple of 16 and has [`Self::most_bytes`] below it.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn lay_out(&self, top: u64) -> KResult<StackImage> {
        let file_name = top - (END + self.file_name.len() + 1) as u64;
        let environment = file_name - self.environment.bytes().len() as u64;
        let arguments = environment - self.arguments.bytes().len() as u64;
        let platform = arguments - PLATFORM.len() as u64;
        let random = platform - self.random.len() as u64;
        let pointer = (random - (self.words() * WORD) as u64) & !(ALIGNMENT - 1);

        let mut image = Vec::new();
        image.try_reserve_exact((top - pointer) as usize).map_err(|_| Errno::ENOMEM)?;
        let mut word = |value: u64| image.extend_from_slice(&value.to_le_bytes());
        word(self.arguments.len() as u64);
        for (strings, at) in [(self.arguments, arguments), (self.environment, environment)] {
            strings.starts().iter().for_each(|&start| word(at + u64::from(start)));
            word(0);
        }
        for &(kind, value) in self.auxiliary {
            word(kind);
            word(match value {
                AuxiliaryValue::Number(number) => number,
                AuxiliaryValue::Random => random,
                AuxiliaryValue::FileName => file_name,
                AuxiliaryValue::Platform => platform,
            });
        }
        word(auxiliary_type::NULL);
        word(0);
        let words_end = pointer + image.len() as u64;
        image.resize((random - pointer) as usize, 0);
        image.extend_from_slice(&self.random);
        image.extend_from_slice(PLATFORM);
        image.extend_from_slice(self.arguments.bytes());
        image.extend_from_slice(self.environment.bytes());
        image.extend_from_slice(self.file_name);
        image.resize((top - pointer) as usize, 0);
        let auxiliary_bytes = 2 * (self.auxiliary.len() + 1) * WORD;
        Ok(StackImage {
            pointer,
            bytes: image,
            arguments: arguments..environment,
            environment: environment..file_name,
            auxiliary: words_end - auxiliary_bytes as u64..words_end,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOP: u64 = 0x7fff_ffff_0000;

    type Strings = Vec<Vec<u8>>;

    fn list(strings: &[&[u8]]) -> StringList {
        let mut list = StringList::new();
        strings.iter().for_each(|string| list.push(string).unwrap());
        list
    }

    impl StackImage {
        fn word(&self, at: u64) -> u64 {
            let at = (at - self.pointer) as usize;
            u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
        }

        fn string(&self, at: u64) -> &[u8] {
            let rest = &self.bytes[(at - self.pointer) as usize..];
            &rest[..rest.iter().position(|&byte| byte == 0).unwrap()]
        }

        /// Reads the image as a program's start code does: arguments, environment, auxiliary vector.
        fn parse(&self) -> (Strings, Strings, Vec<(u64, u64)>) {
            let mut at = self.pointer;
            let mut next = || {
                at += 8;
                self.word(at - 8)
            };
            let count = next();
            let arguments = (0..count).map(|_| self.string(next()).to_vec()).collect();
            assert_eq!(next(), 0);
            let mut environment = Vec::new();
            loop {
                match next() {
                    0 => break,
                    string => environment.push(self.string(string).to_vec()),
                }
            }
            let mut auxiliary = Vec::new();
            loop {
                match (next(), next()) {
                    (0, value) => {
                        assert_eq!(value, 0);
                        break;
                    }
                    entry => auxiliary.push(entry),
                }
            }
            assert_eq!(at, self.auxiliary.end);
            (arguments, environment, auxiliary)
        }
    }

    const AUXILIARY: &[(u64, AuxiliaryValue)] = &[
        (auxiliary_type::PAGE_SIZE, AuxiliaryValue::Number(4096)),
        (auxiliary_type::RANDOM, AuxiliaryValue::Random),
        (auxiliary_type::FILE_NAME, AuxiliaryValue::FileName),
        (auxiliary_type::PLATFORM, AuxiliaryValue::Platform),
    ];

    #[test]
    fn looks_as_the_abi_says() {
        let (arguments, environment) = (list(&[b"sh", b"-c", b""]), list(&[b"HOME=/"]));
        let content = StackContent {
            file_name: b"/bin/sh",
            arguments: &arguments,
            environment: &environment,
            auxiliary: AUXILIARY,
            random: *b"sixteen bytes!!!",
        };
        let image = content.lay_out(TOP).unwrap();
        assert_eq!(image.pointer % 16, 0);
        assert_eq!(image.pointer + image.bytes.len() as u64, TOP);
        assert_eq!(image.word(TOP - 8), 0);
        assert_eq!(image.string(TOP - 16), b"/bin/sh", "the file name is the last of the strings");
        let (read_arguments, read_environment, auxiliary) = image.parse();
        assert_eq!(read_arguments, [&b"sh"[..], b"-c", b""]);
        assert_eq!(read_environment, [b"HOME=/"]);
        assert_eq!(auxiliary[0], (6, 4096));
        let at = |index: usize| &image.bytes[(auxiliary[index].1 - image.pointer) as usize..];
        assert!(at(1).starts_with(b"sixteen bytes!!!"));
        assert!(at(2).starts_with(b"/bin/sh\0"));
        assert!(at(3).starts_with(b"x86_64\0"));
        // What /proc/PID/cmdline and environ show.
        let range = |range: &Range<u64>| {
            &image.bytes[(range.start - image.pointer) as usize..(range.end - image.pointer) as usize]
        };
        assert_eq!(range(&image.arguments), b"sh\0-c\0\0");
        assert_eq!(range(&image.environment), b"HOME=/\0");
        assert_eq!(range(&image.auxiliary).len(), (AUXILIARY.len() + 1) * 16);
    }

    proptest! {
        #[test]
        fn whatever_goes_on_comes_off(
            arguments in prop::collection::vec("[a-z]{0,40}", 0..20),
            environment in prop::collection::vec("[A-Z]{1,9}=[a-z]{0,40}", 0..20),
            name in "/[a-z]{0,30}",
            entries in 0..=AUXILIARY.len(),
        ) {
            let bytes = |strings: &[String]| strings.iter().map(|string| string.clone().into_bytes()).collect::<Vec<_>>();
            let (arguments, environment) = (bytes(&arguments), bytes(&environment));
            let as_list = |strings: &[Vec<u8>]| list(&strings.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let content = StackContent {
                file_name: name.as_bytes(),
                arguments: &as_list(&arguments),
                environment: &as_list(&environment),
                auxiliary: &AUXILIARY[..entries],
                random: [7; 16],
            };
            let image = content.lay_out(TOP).unwrap();
            prop_assert_eq!(image.pointer % 16, 0);
            prop_assert_eq!(image.pointer + image.bytes.len() as u64, TOP);
            prop_assert!(image.bytes.len() as u64 <= content.most_bytes());
            let (read_arguments, read_environment, auxiliary) = image.parse();
            prop_assert_eq!(read_arguments, arguments);
            prop_assert_eq!(read_environment, environment);
            prop_assert_eq!(auxiliary.len(), entries);
        }
    }
}
