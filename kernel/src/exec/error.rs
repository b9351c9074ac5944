//! Why a program cannot be started.

use alloc::vec::Vec;
use core::fmt;

use super::elf::ElfError;
use super::script::ScriptError;
use crate::errno::Errno;

/// Why a program cannot be started; the one that asked for it goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExecError {
    /// It cannot be opened, or there are no means to run it.
    Failed(Errno),
    /// It is a script whose interpreter cannot be opened.
    Interpreter {
        /// Path of the interpreter.
        path: Vec<u8>,
        /// Why not.
        error: Errno,
    },
    /// It needs a dynamic linker, which cannot be opened.
    DynamicLinker {
        /// Path of the dynamic linker.
        path: Vec<u8>,
        /// Why not.
        error: Errno,
    },
    /// Its interpreter is a script, and so on for too long.
    TooManyScripts,
    /// It starts as a script, but is none.
    Script(ScriptError),
    /// It is no program for this machine.
    Elf(ElfError),
}

impl ExecError {
    /// What `execve` returns for it.
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Failed(error) | Self::Interpreter { error, .. } | Self::DynamicLinker { error, .. } => {
                *error
            }
            Self::TooManyScripts => Errno::ELOOP,
            Self::Script(error) => error.errno(),
            Self::Elf(error) => error.errno(),
        }
    }
}

impl From<Errno> for ExecError {
    fn from(error: Errno) -> Self {
        Self::Failed(error)
    }
}

impl From<ScriptError> for ExecError {
    fn from(error: ScriptError) -> Self {
        Self::Script(error)
    }
}

impl From<ElfError> for ExecError {
    fn from(error: ElfError) -> Self {
        Self::Elf(error)
    }
}

impl From<ExecError> for Errno {
    fn from(error: ExecError) -> Self {
        error.errno()
    }
}

/// Reads on from "`/init` …".
impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "cannot be run: {error}"),
            Self::Interpreter { path, error } => {
                write!(f, "is a script, but its interpreter {} cannot be run: {error}", path.escape_ascii())
            }
            Self::DynamicLinker { path, .. } => ElfError::NeedsInterpreter(path.clone()).fmt(f),
            Self::TooManyScripts => {
                f.write_str("is a script for a script for a script, and so on for too long")
            }
            Self::Script(error) => error.fmt(f),
            Self::Elf(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ExecError {}
