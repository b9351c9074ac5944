//! Running programs: `execve(2)` and process 1.
//!
//! A file leads to a [`Program`] (through the interpreters of scripts), and a program to an address space that holds all
//! it starts with ([`load`]), built while the old program still is in its own. Only when nothing can fail any more does
//! the running task leave that for the new one ([`execute`]).

pub mod elf;
pub mod load;
pub mod placement;
pub mod script;
pub mod stack;
pub mod strings;

mod auxiliary;
mod calls;
mod elf_error;
mod error;
mod program;
mod replace;

pub use calls::SYSTEM_CALLS;
pub use error::ExecError;
pub use program::{Program, Start};
pub use replace::execute;

/// A file that may be a program.
pub trait ProgramFile {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`, which the caller has checked against the size.
    ///
    /// # Errors
    /// If the file cannot be read there.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError>;
}

/// The file could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadError;

impl ProgramFile for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let start = usize::try_from(offset).map_err(|_| ReadError)?;
        let rest = self.get(start..).ok_or(ReadError)?;
        buffer.copy_from_slice(rest.get(..buffer.len()).ok_or(ReadError)?);
        Ok(())
    }
}
