//! The end of the machine.

/// How a run ended, for whoever started the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Process 1 ended with this status.
    Exit(u8),
    /// The user asked for power-off.
    PowerOff,
    /// The user asked for a restart.
    Restart,
    /// The kernel panicked.
    Panic,
    /// The boot could not go on.
    Unusable,
}

/// The end of the machine, and what it tells whoever started it.
#[crate::part(power)]
pub trait Power {
    /// Tells whoever started the machine one line of text (no line feed in it), beside the console: the boot chart and the exit
    /// status travel this way. Does nothing where there is no such channel. Variation of: a pvpanic or debug port
    /// write. Any context.
    fn report(line: &[u8]);

    /// Ends the machine. Variation of: ACPI S5, a reset, or the emulator's exit device. Any context; other CPUs may
    /// still run.
    fn end(how: End) -> !;
}
