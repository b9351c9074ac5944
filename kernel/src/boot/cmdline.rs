//! The kernel's command line, read as Linux reads its own.
//!
//! Blanks separate parameters, `key=value` or a bare word; double quotes keep blanks together. In keys, `-` and `_` are the
//! same. What comes after a bare `--` is for process 1, and so is what the kernel does not know: words become its
//! arguments, `key=value` its environment.

use alloc::vec::Vec;
use core::fmt;

/// One parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameter<'a> {
    /// The part before the first `=`, or the whole word.
    pub key: &'a [u8],
    /// The part after it, without the quotes around it.
    pub value: Option<&'a [u8]>,
}

impl Parameter<'_> {
    /// Whether this is the parameter `key`.
    pub fn is(&self, key: &str) -> bool {
        let same = |(a, b): (&u8, u8)| *a == b || (is_dash(*a) && is_dash(b));
        self.key.len() == key.len() && self.key.iter().zip(key.bytes()).all(same)
    }

    /// The parameter as process 1 gets it, with the quotes left out.
    fn to_text(self) -> Vec<u8> {
        let mut text = Vec::from(self.key);
        if let Some(value) = self.value {
            text.push(b'=');
            text.extend_from_slice(value);
        }
        text
    }
}

/// A parameter whose value is not of the kind it has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadParameter<'a> {
    /// The key asked for.
    pub key: &'static str,
    /// What the command line has; `None` for a bare word.
    pub value: Option<&'a [u8]>,
    /// What it should be, in words.
    pub expected: &'static str,
}

impl fmt::Display for BadParameter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value {
            Some(value) => {
                write!(f, "boot parameter {}={} is not {}", self.key, value.escape_ascii(), self.expected)
            }
            None => write!(f, "boot parameter {} has no value; it needs {}", self.key, self.expected),
        }
    }
}

impl core::error::Error for BadParameter<'_> {}

/// The command line.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a> {
    text: &'a [u8],
}

impl<'a> CommandLine<'a> {
    /// A command line; it ends at a NUL, if it has one.
    pub fn new(text: &'a [u8]) -> Self {
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        Self { text: &text[..end] }
    }

    /// The whole line, without blanks at its ends: what `/proc/cmdline` shows.
    pub fn text(&self) -> &'a [u8] {
        self.text.trim_ascii()
    }

    /// The kernel's parameters, in order: those before `--`.
    pub fn parameters(&self) -> impl Iterator<Item = Parameter<'a>> + use<'a> {
        let mut words = Words { rest: self.text };
        core::iter::from_fn(move || words.next().filter(|word| !word.ends_parameters()))
    }

    /// Each value of a parameter that may be given several times, as `console=`.
    pub fn values(&self, key: &'static str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.parameters().filter(move |parameter| parameter.is(key)).filter_map(|parameter| parameter.value)
    }

    /// The value of a parameter; the last one counts.
    pub fn value(&self, key: &'static str) -> Option<&'a [u8]> {
        self.values(key).last()
    }

    /// Whether a bare word is there, as `quiet`.
    pub fn has(&self, key: &str) -> bool {
        self.parameters().any(|parameter| parameter.value.is_none() && parameter.is(key))
    }

    /// A number: decimal, hexadecimal with `0x`, octal with `0`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn number(&self, key: &'static str) -> Result<Option<u64>, BadParameter<'a>> {
        self.typed(key, "a number", |value| match number_prefix(value) {
            Some((number, [])) => Some(number),
            _ => None,
        })
    }

    /// A size in bytes: a number that may be followed by K, M, G or T.
    ///
    /// # Errors
    /// If it is something else, or too large.
    pub fn size(&self, key: &'static str) -> Result<Option<u64>, BadParameter<'a>> {
        self.typed(key, "a size (as 16M)", |value| {
            let (number, unit) = number_prefix(value)?;
            let shift = match unit {
                [] => 0,
                [b'k' | b'K'] => 10,
                [b'm' | b'M'] => 20,
                [b'g' | b'G'] => 30,
                [b't' | b'T'] => 40,
                _ => return None,
            };
            number.checked_mul(1 << shift)
        })
    }

    /// A choice: 1, y, yes, on or true, and their opposites. A bare word counts as yes.
    ///
    /// # Errors
    /// If it is something else.
    pub fn switch(&self, key: &'static str) -> Result<Option<bool>, BadParameter<'a>> {
        let Some(parameter) = self.parameters().filter(|parameter| parameter.is(key)).last() else {
            return Ok(None);
        };
        let Some(value) = parameter.value else { return Ok(Some(true)) };
        let is_one_of = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()));
        if is_one_of(&["1", "y", "yes", "on", "t", "true"]) {
            Ok(Some(true))
        } else if is_one_of(&["0", "n", "no", "off", "f", "false"]) {
            Ok(Some(false))
        } else {
            Err(BadParameter { key, value: Some(value), expected: "on or off" })
        }
    }

    fn typed<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, BadParameter<'a>> {
        let Some(parameter) = self.parameters().filter(|parameter| parameter.is(key)).last() else {
            return Ok(None);
        };
        let value = parameter.value;
        value.and_then(read).map(Some).ok_or(BadParameter { key, value, expected })
    }

    /// What process 1 gets besides its name, given the keys that the kernel knows.
    pub fn for_init(&self, known: &[&str]) -> InitParameters {
        let mut init = InitParameters::default();
        let mut words = Words { rest: self.text };
        for parameter in words.by_ref().take_while(|word| !word.ends_parameters()) {
            if parameter.is("init") || parameter.is("rdinit") {
                // Words before it were meant for the init it replaces.
                init.arguments.clear();
            }
            if known.iter().any(|key| parameter.is(key)) || parameter.is_for_a_module() {
                continue;
            }
            match parameter.value {
                None => init.arguments.push(parameter.to_text()),
                Some(_) => init.set_variable(parameter),
            }
        }
        init.arguments.extend(words.map(Parameter::to_text));
        init
    }
}

/// What the command line says to process 1.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct InitParameters {
    /// Its arguments after the first, which is its name.
    pub arguments: Vec<Vec<u8>>,
    /// Its environment, each `key=value`, to be added to the kernel's own (of which these replace the same keys).
    pub environment: Vec<Vec<u8>>,
}

impl InitParameters {
    fn set_variable(&mut self, parameter: Parameter<'_>) {
        let length = parameter.key.len() + 1;
        let text = parameter.to_text();
        match self.environment.iter_mut().find(|other| other.get(..length) == text.get(..length)) {
            Some(other) => *other = text,
            None => self.environment.push(text),
        }
    }
}

impl Parameter<'_> {
    fn ends_parameters(&self) -> bool {
        self.key == b"--" && self.value.is_none()
    }

    /// `module.option` belongs to a part of the kernel that may not be there, and never to process 1.
    fn is_for_a_module(&self) -> bool {
        self.key.contains(&b'.')
    }
}

/// The words of a line, quotes taken off.
struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Words<'a> {
    type Item = Parameter<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.trim_ascii_start();
        if text.is_empty() {
            self.rest = text;
            return None;
        }
        let mut in_quotes = false;
        let mut equals = None;
        let mut end = text.len();
        for (at, &byte) in text.iter().enumerate() {
            match byte {
                b'"' => in_quotes = !in_quotes,
                b'=' if equals.is_none() => equals = Some(at),
                _ if byte.is_ascii_whitespace() && !in_quotes => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        self.rest = &text[end..];
        let mut word = &text[..end];
        // Quotes around the whole, as "key=some value".
        if let Some(inner) = word.strip_prefix(b"\"") {
            equals = equals.map(|at| at - 1);
            word = inner.strip_suffix(b"\"").unwrap_or(inner);
        }
        let Some(equals) = equals else { return Some(Parameter { key: word, value: None }) };
        let mut value = &word[equals + 1..];
        // Quotes around the value, as key="some value".
        if let Some(inner) = value.strip_prefix(b"\"") {
            value = inner.strip_suffix(b"\"").unwrap_or(inner);
        }
        Some(Parameter { key: &word[..equals], value: Some(value) })
    }
}

fn is_dash(byte: u8) -> bool {
    byte == b'-' || byte == b'_'
}

/// The number that `text` starts with, and what follows it.
fn number_prefix(text: &[u8]) -> Option<(u64, &[u8])> {
    let (base, digits) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        [b'0', next, ..] if next.is_ascii_digit() => (8, &text[1..]),
        _ => (10, text),
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(base);
    let length = digits.iter().take_while(|byte| digit(byte).is_some()).count();
    if length == 0 {
        return None;
    }
    let (digits, rest) = digits.split_at(length);
    let number = digits
        .iter()
        .filter_map(digit)
        .try_fold(0u64, |number, digit| number.checked_mul(u64::from(base))?.checked_add(u64::from(digit)))?;
    Some((number, rest))
}

#[cfg(test)]
#[path = "cmdline_tests.rs"]
mod tests;
