//! The host's own command line.

use platform::Unusable;

use crate::tables::shadow::LEAST_TABLES;

/// What to do when a guest is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// It stays over.
    Never,
    /// One that asks for it starts again.
    Asked,
    /// One that was killed starts again too, so many times.
    Killed(u32),
}

/// What the command line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// `counters`: print each guest's counters at the end.
    pub counters: bool,
    /// `restart=asked`, `restart=N`.
    pub restart: Restart,
    /// `tables=N`: how many shadow tables a guest may have, instead of a number that its memory gives.
    pub tables: Option<u64>,
}

impl Options {
    /// Reads a command line of words.
    pub fn parse(line: &[u8]) -> Result<Self, Unusable> {
        let mut options = Self { counters: false, restart: Restart::Never, tables: None };
        for word in line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()) {
            if word == b"counters" {
                options.counters = true;
            } else if word == b"restart=asked" {
                options.restart = Restart::Asked;
            } else if let Some(times) = number(word, b"restart=") {
                options.restart = Restart::Killed(u32::try_from(times).unwrap_or(u32::MAX));
            } else if let Some(tables) = number(word, b"tables=") {
                if tables < LEAST_TABLES as u64 {
                    return Err(Unusable("tables=N needs 32 tables or more"));
                }
                options.tables = Some(tables);
            } else {
                return Err(Unusable(
                    "the hypervisor's command line has a word other than counters, restart=asked, restart=N, tables=N",
                ));
            }
        }
        Ok(options)
    }
}

/// The number behind `name` in `word`, if it is that.
fn number(word: &[u8], name: &[u8]) -> Option<u64> {
    core::str::from_utf8(word.strip_prefix(name)?).ok()?.parse().ok()
}

const _: () = assert!(LEAST_TABLES == 32);
