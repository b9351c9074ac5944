//! Turning a file into a program: which formats there are, and how each is laid out in memory.

pub mod elf;
mod elf_error;
pub mod script;

/// What `execve` fails with, by Linux's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum ExecErrno {
    /// Reading the file failed.
    Eio = 5,
    /// Not a program that can run here.
    Enoexec = 8,
    /// There is no memory, or no room in the address space.
    Enomem = 12,
    /// A segment cannot be mapped as the file asks.
    Einval = 22,
    /// The program wants an interpreter that cannot be used.
    Elibbad = 80,
}

impl ExecErrno {
    /// The number, positive.
    pub const fn number(self) -> u16 {
        self as u16
    }
}

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
