//! The status channel: the lines a kernel writes to QEMU's debug console to say how its boot went and how it ended.

use std::fmt;
use std::time::Duration;

/// xtask's exit status for a kernel panic.
pub const PANIC: u8 = 101;
/// xtask's exit status for a boot that could not go on.
pub const UNUSABLE: u8 = 102;
/// xtask's exit status for a guest that was stopped because its time was up.
pub const TIMED_OUT: u8 = 124;

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Process 1 ended with this status; 128 + N when signal N killed it
    Exit(u8),
    /// The guest asked for a reboot
    Reboot,
    /// The kernel panicked
    Panic,
    /// The boot could not go on, for this reason
    Unusable(String),
}

impl End {
    /// The exit status xtask passes on.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Exit(status) => *status,
            Self::Reboot => 0,
            Self::Panic => PANIC,
            Self::Unusable(_) => UNUSABLE,
        }
    }
}

/// A step of the boot, named when it was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// Since the kernel's first instruction
    pub at: Duration,
    /// The phase that ended there
    pub name: String,
}

/// Everything a guest wrote to the status channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The boot's phases in the order they came
    pub phases: Vec<Phase>,
    /// How the guest ended, if it said so
    pub end: Option<End>,
}

/// A status channel that does not follow its format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusError {
    /// This line has no known form
    UnknownLine(String),
    /// This line says a second time how the guest ended
    SecondEnd(String),
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLine(line) => {
                write!(f, "the guest wrote {line:?} to the status channel, which has no meaning")
            }
            Self::SecondEnd(line) => write!(f, "the guest said twice how it ended, the second time {line:?}"),
        }
    }
}

impl std::error::Error for StatusError {}

impl Status {
    /// Reads the channel. A last line without its newline was cut off by the guest's end and does not count.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatusError> {
        let mut status = Self::default();
        let text = String::from_utf8_lossy(bytes);
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let line = line.trim_end_matches('\r');
            if let Some(phase) = line.strip_prefix("phase ") {
                status
                    .phases
                    .push(parse_phase(phase).ok_or_else(|| StatusError::UnknownLine(line.to_owned()))?);
                continue;
            }
            let end = parse_end(line).ok_or_else(|| StatusError::UnknownLine(line.to_owned()))?;
            if status.end.replace(end).is_some() {
                return Err(StatusError::SecondEnd(line.to_owned()));
            }
        }
        Ok(status)
    }
}

fn parse_phase(text: &str) -> Option<Phase> {
    let (nanoseconds, name) = text.split_once(' ')?;
    Some(Phase { at: Duration::from_nanos(nanoseconds.parse().ok()?), name: name.to_owned() })
}

fn parse_end(line: &str) -> Option<End> {
    match line.split_once(' ') {
        Some(("exit", code)) => code.parse().ok().map(End::Exit),
        Some(("unusable", reason)) => Some(End::Unusable(reason.to_owned())),
        None if line == "reboot" => Some(End::Reboot),
        None if line == "panic" => Some(End::Panic),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_phases_and_the_end() {
        let status = Status::parse(b"phase 0 entry\nphase 1500 memory map\nexit 42\n").unwrap();
        assert_eq!(status.end, Some(End::Exit(42)));
        assert_eq!(status.phases.len(), 2);
        assert_eq!(status.phases[1], Phase { at: Duration::from_nanos(1500), name: "memory map".into() });
    }

    #[test]
    fn each_end_has_its_exit_status() {
        for (text, expected) in [
            ("exit 0\n", 0),
            ("exit 139\n", 139),
            ("exit 255\n", 255),
            ("reboot\n", 0),
            ("panic\n", PANIC),
            ("unusable no initramfs\n", UNUSABLE),
        ] {
            let end = Status::parse(text.as_bytes()).unwrap().end.unwrap();
            assert_eq!(end.exit_status(), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_made_of_what_is_not_in_the_format() {
        assert_eq!(Status::parse(b"").unwrap().end, None);
        // Cut off while it was written.
        assert_eq!(Status::parse(b"exit 4").unwrap().end, None);
        for bad in ["exit 256\n", "exit\n", "exit -1\n", "hello\n", "phase x y\n", "\n", "panic now\n"] {
            assert!(matches!(Status::parse(bad.as_bytes()), Err(StatusError::UnknownLine(_))), "{bad:?}");
        }
        assert_eq!(Status::parse(b"exit 0\npanic\n"), Err(StatusError::SecondEnd("panic".to_owned())));
    }
}
