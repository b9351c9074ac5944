//! What xtask itself says, on standard error.

use std::fmt::{Arguments, Display};
use std::io::Write;

/// The command was understood but cannot mean anything here; xtask exits with 2, as for a wrong option.
#[derive(Debug)]
pub struct Usage(pub String);

impl Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Says one line about what is being done.
pub fn line(text: Arguments<'_>) {
    // A closed standard error must not end a run that is otherwise fine.
    let _ = writeln!(std::io::stderr(), "xtask: {text}");
}

/// Prints an error with its causes, outermost first.
pub fn error(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "error: {error}");
    for cause in error.chain().skip(1) {
        let _ = writeln!(std::io::stderr(), "  because: {cause}");
    }
}

/// `say!("…")`: one line on standard error.
macro_rules! say {
    ($($arg:tt)*) => { $crate::report::line(format_args!($($arg)*)) };
}
pub(crate) use say;
