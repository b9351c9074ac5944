//! The host's own command line.

use platform::Unusable;

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
}

impl Options {
    /// Reads a command line of words.
    pub fn parse(line: &[u8]) -> Result<Self, Unusable> {
        let mut options = Self { counters: false, restart: Restart::Never };
        for word in line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()) {
            match word {
                b"counters" => options.counters = true,
                b"restart=asked" => options.restart = Restart::Asked,
                _ => {
                    let times =
                        word.strip_prefix(b"restart=").and_then(|digits| core::str::from_utf8(digits).ok());
                    let times = times.and_then(|digits| digits.parse().ok());
                    let unknown = Unusable(
                        "the hypervisor's command line has a word other than counters, restart=asked, restart=N",
                    );
                    options.restart = Restart::Killed(times.ok_or(unknown)?);
                }
            }
        }
        Ok(options)
    }
}
