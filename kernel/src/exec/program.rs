//! From a file to the program that runs: scripts lead to their interpreters.

use alloc::vec::Vec;

use super::elf::{ElfError, LoadPlan, UserLimits};
use super::error::ExecError;
use super::script::{self, SCRIPT_HEAD_BYTES};
use super::strings::StringList;
use super::{ProgramFile, ReadError};
use crate::errno::{Errno, KResult};
use crate::fs::{self, Executable};
use crate::mm::space::MIN_ADDRESS;
use crate::mm::user::user_top;

/// How many scripts may be interpreters of one another, as on Linux.
const MAX_SCRIPTS: usize = 5;
/// How much of a file is read at once: the headers of most programs, and any script's first line.
const HEAD_BYTES: usize = 768;
const _: () = assert!(HEAD_BYTES >= SCRIPT_HEAD_BYTES);

/// `AT_FDCWD`
pub(super) const AT_CURRENT_DIRECTORY: i32 = -100;

/// What a program is started with.
pub struct Start {
    /// What it is started as: `AT_EXECFN`, and the last part of it is the task's name.
    pub file_name: Vec<u8>,
    /// Its arguments.
    pub arguments: StringList,
    /// Its environment.
    pub environment: StringList,
    /// Whether `file_name` still leads to the file when the program runs; if not, it cannot be a script.
    pub name_stays: bool,
}

/// A file that is a program.
pub struct Program {
    /// The file.
    pub file: Executable,
    /// How it is put into memory.
    pub plan: LoadPlan,
}

impl Program {
    /// The program that `file` is, or that runs it if it is a script; then `start`'s arguments are changed accordingly.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub fn find(mut file: Executable, start: &mut Start) -> Result<Self, ExecError> {
        let mut script: Option<Vec<u8>> = None;
        for _ in 0..=MAX_SCRIPTS {
            let mut head = [0; HEAD_BYTES];
            let length = file.read_at(0, &mut head)?;
            let head = &head[..length];
            if !head.starts_with(b"#!") {
                let limits = UserLimits { bottom: MIN_ADDRESS, top: user_top().0 };
                let plan = LoadPlan::read(&FileWithHead { file: &file, head }, limits).map_err(unloadable)?;
                return Ok(Self { file, plan });
            }
            let interpreter = script::parse(head)?;
            if !start.name_stays {
                return Err(Errno::ENOENT.into());
            }
            let name = script.as_deref().unwrap_or(&start.file_name);
            match interpreter.argument {
                Some(argument) => start.arguments.replace_first(&[interpreter.path, argument, name])?,
                None => start.arguments.replace_first(&[interpreter.path, name])?,
            }
            let path = copy(interpreter.path)?;
            file = fs::open_executable(AT_CURRENT_DIRECTORY, &path, 0)
                .map_err(|error| ExecError::Interpreter { path: path.clone(), error })?;
            script = Some(path);
        }
        Err(ExecError::TooManyScripts)
    }
}

/// A dynamic linker that does not exist is what is wrong first, as on Linux.
fn unloadable(error: ElfError) -> ExecError {
    match error {
        ElfError::NeedsInterpreter(path) => match fs::open_executable(AT_CURRENT_DIRECTORY, &path, 0) {
            Ok(_) => ElfError::NeedsInterpreter(path).into(),
            Err(error) => ExecError::DynamicLinker { path, error },
        },
        other => other.into(),
    }
}

pub(super) fn copy(bytes: &[u8]) -> KResult<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// A file whose start has been read already.
struct FileWithHead<'a> {
    file: &'a Executable,
    head: &'a [u8],
}

impl ProgramFile for FileWithHead<'_> {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let head =
            usize::try_from(offset).ok().and_then(|offset| self.head.get(offset..)?.get(..buffer.len()));
        if let Some(head) = head {
            buffer.copy_from_slice(head);
            return Ok(());
        }
        match self.file.read_at(offset, buffer) {
            Ok(read) if read == buffer.len() => Ok(()),
            _ => Err(ReadError),
        }
    }
}
