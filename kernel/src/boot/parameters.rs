//! The kernel's own parameters, spelled as Linux spells them.

use alloc::vec::Vec;

use spin::Once;

use super::cmdline::CommandLine;
use crate::logger;

static TEXT: Once<Vec<u8>> = Once::new();

/// Parameters the kernel takes; all others go to process 1.
pub const KNOWN: &[&str] = &[
    "console",
    "init",
    "ip",
    "rdinit",
    "quiet",
    "debug",
    "loglevel",
    "monoguest.argv",
    "nosmp",
    "maxcpus",
    "norandmaps",
    "panic",
    "root",
    "ro",
    "rw",
    "rootfstype",
    "mitigations",
    "nokaslr",
    "earlyprintk",
    "earlycon",
    "reboot",
    "tsc",
    "clocksource",
    "acpi",
];

/// Keeps the command line and does what it says about the log. Once, at boot, when there is a heap.
pub fn set(text: &[u8]) {
    TEXT.call_once(|| text.to_vec());
    let line = command_line();
    if line.has("debug") {
        logger::set_console_level(8);
    } else if line.has("quiet") {
        logger::set_console_level(4);
    }
    match line.number("loglevel") {
        Ok(Some(level)) => logger::set_console_level(level),
        Ok(None) => {}
        Err(bad) => log::warn!("{bad}"),
    }
}

/// The command line as it was given.
pub fn text() -> &'static [u8] {
    TEXT.get().map_or(&[], Vec::as_slice)
}

/// The command line.
pub fn command_line() -> CommandLine<'static> {
    CommandLine::new(text())
}
