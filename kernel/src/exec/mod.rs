//! Turning a file into a program: which formats there are, and how each is laid out in memory.

pub mod elf;
mod elf_error;
pub mod script;

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
