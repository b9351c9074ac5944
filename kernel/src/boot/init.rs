//! Process 1: finding its program and starting it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;

use platform::{CpuSet, TrapFrame};

use super::chart::phase;
use super::cmdline::{CommandLine, InitParameters};
use super::{end, parameters};
use crate::errno::{Errno, KResult};
use crate::exec::strings::StringList;
use crate::exec::{self, ExecError, Program, Start};
use crate::fs::{self, FileTable, FsContext, OnExec};
use crate::hook::cpu;
use crate::net::inet;
use crate::process::process::NewProcess;
use crate::process::{Credentials, Limits, Pid, Process, Task, TaskName, tree};
use crate::sched::{self, Nice, SchedState};
use crate::signal::SignalActions;
use crate::sync::interrupts;
use crate::trap;

/// Its number.
const PID: Pid = Pid(1);
/// Where a program is looked for that the command line does not name, in this order, as Linux does.
const USUAL_PLACES: [&[u8]; 5] = [b"/init", b"/sbin/init", b"/etc/init", b"/bin/init", b"/bin/sh"];
/// Its environment, before what the command line adds.
const ENVIRONMENT: [&[u8]; 2] = [b"HOME=/", b"TERM=linux"];
/// The largest file of arguments (`monoguest.argv=`), in bytes.
const MOST_ARGUMENTS: usize = 1 << 20;
/// `AT_FDCWD`
const CURRENT_DIRECTORY: i32 = -100;
const O_RDWR: u32 = 2;

/// Why there is no process 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InitError {
    /// None of the usual places has a program.
    NotFound,
    /// What was asked for, or what was found, cannot be run.
    CannotRun {
        /// Its path.
        path: Vec<u8>,
        /// Why not.
        error: ExecError,
    },
    /// The file that `monoguest.argv=` names is of no use.
    BadArguments {
        /// Its path.
        path: Vec<u8>,
        /// Why not.
        error: ArgumentsError,
    },
    /// There are no means to make a process at all.
    NoProcess(Errno),
}

/// Why a file does not give arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgumentsError {
    /// It cannot be read.
    Unreadable(Errno),
    /// It does not name a program.
    Empty,
}

impl From<Errno> for InitError {
    fn from(error: Errno) -> Self {
        Self::NoProcess(error)
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no init found: put one at /init or name it with init="),
            Self::CannotRun { path, error } => write!(f, "{} {error}", path.escape_ascii()),
            Self::BadArguments { path, error: ArgumentsError::Unreadable(error) } => {
                write!(f, "monoguest.argv={} cannot be read: {error}", path.escape_ascii())
            }
            Self::BadArguments { path, error: ArgumentsError::Empty } => {
                write!(f, "monoguest.argv={} names no program", path.escape_ascii())
            }
            Self::NoProcess(error) => write!(f, "process 1 cannot be made: {error}"),
        }
    }
}

impl core::error::Error for InitError {}

/// Makes process 1 and lets it run; it looks for its program by itself. Once, at boot, with a root file system there.
///
/// # Errors
/// If there is no memory for it. What goes wrong later ends the boot from process 1 itself.
pub fn start() -> Result<(), InitError> {
    if parameters::command_line().has("norandmaps") {
        exec::load::set_randomized(false);
    }
    let pid = Pid::allocate().ok_or(Errno::EAGAIN)?;
    assert!(pid == PID, "process 1 is not the first process");
    let process = Process::new(NewProcess {
        pid,
        files: FileTable::empty(),
        fs: FsContext::initial(),
        actions: SignalActions::new(),
        space: None,
        credentials: Arc::new(Credentials::root()),
        limits: Limits::initial(),
        exit_signal: 0,
    });
    process.signals.protect();
    let sched = SchedState::new(Nice::default(), CpuSet::first(platform::MAX_CPUS));
    let task = Task::without_program(pid, process.clone(), sched, first_code, 0)?;
    task.set_name(TaskName::new(b"init"));
    process.threads.lock().push(task.clone());
    process.live_threads.store(1, Ordering::Relaxed);
    {
        let mut tree = tree::lock();
        // As on Linux it belongs to group and session 0, so that it can lead a session of its own by `setsid(2)`.
        tree.add_process(&process);
        tree.add_task(&task);
    }
    sched::enqueue_new(&task);
    Ok(())
}

/// What process 1's task does first.
extern "C" fn first_code(_: usize) -> ! {
    interrupts::enable();
    open_console();
    if inet::AVAILABLE {
        inet::configure();
    }
    let mut frame = match run(parameters::command_line()) {
        Ok(frame) => frame,
        Err(error) => end::unusable(&error),
    };
    interrupts::disable();
    phase("user");
    trap::before_user_mode(&mut frame);
    cpu::enter_user(&frame)
}

/// Standard input, output and error.
fn open_console() {
    let opened = fs::open_kernel(b"/dev/console", O_RDWR).and_then(|console| {
        for _ in 0..3 {
            fs::install(console.clone(), OnExec::Keep)?;
        }
        Ok(())
    });
    if let Err(error) = opened {
        log::warn!("process 1 has no console: /dev/console: {error}");
    }
}

/// What process 1 is to be.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// This program with these arguments, the first of which is its name.
    Exactly(Vec<u8>, Vec<Vec<u8>>),
    /// Whatever is found in the usual places, with these arguments after its name.
    Usual(Vec<Vec<u8>>),
}

/// Reads what the command line wants; `read_file` reads a file of arguments.
fn wanted(
    line: CommandLine<'_>,
    arguments: Vec<Vec<u8>>,
    read_file: impl FnOnce(&[u8]) -> KResult<Vec<u8>>,
) -> Result<Wanted, InitError> {
    if let Some(path) = line.value("monoguest.argv") {
        let bad = |error| InitError::BadArguments { path: path.to_vec(), error };
        let text = read_file(path).map_err(|error| bad(ArgumentsError::Unreadable(error)))?;
        let text = text.strip_suffix(b"\0").unwrap_or(&text);
        let arguments: Vec<Vec<u8>> = text.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
        return match arguments.first() {
            Some(program) if !program.is_empty() => Ok(Wanted::Exactly(program.clone(), arguments)),
            _ => Err(bad(ArgumentsError::Empty)),
        };
    }
    let named = line.value("init").or_else(|| line.value("rdinit")).filter(|path| !path.is_empty());
    Ok(match named {
        Some(path) => Wanted::Exactly(path.to_vec(), with_name(path, &arguments)),
        None => Wanted::Usual(arguments),
    })
}

fn with_name(path: &[u8], arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    core::iter::once(path.to_vec()).chain(arguments.iter().cloned()).collect()
}

/// Runs the program that the command line wants; returns the registers it starts with.
fn run(line: CommandLine<'_>) -> Result<TrapFrame, InitError> {
    let InitParameters { arguments, environment } = line.for_init(parameters::KNOWN);
    let environment = environment_list(&environment)?;
    match wanted(line, arguments, |path| fs::read_file(path, MOST_ARGUMENTS))? {
        Wanted::Exactly(path, arguments) => {
            try_program(&path, &arguments, &environment).map_err(|error| InitError::CannotRun { path, error })
        }
        Wanted::Usual(arguments) => try_usual_places(&arguments, &environment),
    }
}

/// The first program that runs. Those that are there but cannot be run are passed over with a word.
fn try_usual_places(arguments: &[Vec<u8>], environment: &StringList) -> Result<TrapFrame, InitError> {
    let mut failed = InitError::NotFound;
    for path in USUAL_PLACES {
        match try_program(path, &with_name(path, arguments), environment) {
            Ok(frame) => return Ok(frame),
            Err(ExecError::Failed(Errno::ENOENT | Errno::ENOTDIR)) => {}
            Err(error) => {
                let error = InitError::CannotRun { path: path.to_vec(), error };
                log::warn!("{error}");
                if failed == InitError::NotFound {
                    failed = error;
                }
            }
        }
    }
    Err(failed)
}

fn try_program(path: &[u8], arguments: &[Vec<u8>], environment: &StringList) -> Result<TrapFrame, ExecError> {
    let file = fs::open_executable(CURRENT_DIRECTORY, path, 0)?;
    let mut list = StringList::new();
    for argument in arguments {
        list.push(argument)?;
    }
    let environment = environment.clone();
    let mut start = Start { file_name: path.to_vec(), arguments: list, environment, name_stays: true };
    let program = Program::find(file, &mut start)?;
    let frame = exec::execute(&program, &start)?;
    log::debug!("process 1 is {}", Shown(&start.arguments));
    Ok(frame)
}

/// The kernel's own variables and `added`, which take the place of those of the same name.
fn environment_list(added: &[Vec<u8>]) -> KResult<StringList> {
    let name = |variable: &[u8]| variable.split(|&byte| byte == b'=').next().unwrap_or_default().to_vec();
    let mut list = StringList::new();
    for own in ENVIRONMENT {
        let replaced = added.iter().find(|variable| name(variable) == name(own));
        list.push(replaced.map_or(own, Vec::as_slice))?;
    }
    for variable in added {
        if !ENVIRONMENT.iter().any(|own| name(own) == name(variable)) {
            list.push(variable)?;
        }
    }
    Ok(list)
}

/// Strings with blanks between them, for the log.
struct Shown<'a>(&'a StringList);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = String::from_utf8_lossy(self.0.bytes()).replace('\0', " ");
        f.write_str(text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(line: &str, file: KResult<&[u8]>) -> Result<Wanted, InitError> {
        let line = CommandLine::new(line.as_bytes());
        wanted(line, line.for_init(parameters::KNOWN).arguments, |_| file.map(<[u8]>::to_vec))
    }

    fn exactly(path: &str, arguments: &[&str]) -> Result<Wanted, InitError> {
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        Ok(Wanted::Exactly(path.as_bytes().to_vec(), arguments))
    }

    #[test]
    fn the_command_line_names_the_program() {
        let none = Err(Errno::ENOENT);
        assert_eq!(want("quiet", none), Ok(Wanted::Usual(vec![])));
        assert_eq!(want("quiet -- a b", none), Ok(Wanted::Usual(vec![b"a".to_vec(), b"b".to_vec()])));
        assert_eq!(want("init=/bin/sh -- -c ls", none), exactly("/bin/sh", &["/bin/sh", "-c", "ls"]));
        assert_eq!(want("rdinit=/x", none), exactly("/x", &["/x"]));
        assert_eq!(want("rdinit=/x init=/y", none), exactly("/y", &["/y"]));
        assert_eq!(want("init=", none), Ok(Wanted::Usual(vec![])));
    }

    #[test]
    fn a_file_may_hold_the_arguments() {
        let line = "init=/other monoguest.argv=/.argv -- more";
        assert_eq!(
            want(line, Ok(b"/bin/sh\0-c\0a \"b\"\nc\0")),
            exactly("/bin/sh", &["/bin/sh", "-c", "a \"b\"\nc"])
        );
        assert_eq!(want(line, Ok(b"/x\0\0\0")), exactly("/x", &["/x", "", ""]), "empty arguments count");
        assert_eq!(want(line, Ok(b"/x")), exactly("/x", &["/x"]));
        let failed = |error| Err(InitError::BadArguments { path: b"/.argv".to_vec(), error });
        assert_eq!(want(line, Ok(b"")), failed(ArgumentsError::Empty));
        assert_eq!(want(line, Ok(b"\0-c\0")), failed(ArgumentsError::Empty));
        assert_eq!(want(line, Err(Errno::ENOENT)), failed(ArgumentsError::Unreadable(Errno::ENOENT)));
    }

    #[test]
    fn variables_of_the_command_line_come_first() {
        let list = |added: &[&str]| {
            let added: Vec<Vec<u8>> = added.iter().map(|variable| variable.as_bytes().to_vec()).collect();
            String::from_utf8(environment_list(&added).unwrap().bytes().to_vec()).unwrap()
        };
        assert_eq!(list(&[]), "HOME=/\0TERM=linux\0");
        assert_eq!(list(&["A=1", "TERM=vt100"]), "HOME=/\0TERM=vt100\0A=1\0");
        assert_eq!(list(&["HOMES=2"]), "HOME=/\0TERM=linux\0HOMES=2\0");
    }

    #[test]
    fn errors_are_one_line() {
        let not_elf = exec::elf::ElfError::NotElf;
        let error = InitError::CannotRun { path: b"/init".to_vec(), error: not_elf.into() };
        assert_eq!(error.to_string(), "/init is not an ELF file");
        let error = InitError::CannotRun { path: b"/a\nb".to_vec(), error: Errno::EACCES.into() };
        assert_eq!(error.to_string(), "/a\\nb cannot be run: permission denied");
    }
}
