//! The course both kernels run: one machine, one initramfs, one command line. Only the kernel differs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guest::Qemu;
use crate::initramfs::Initramfs;
use crate::lguest::{self, Hypervisor};
use crate::qemu::{Console, Hardware, Launch, Machine};
use crate::rom::Placed;
use crate::workspace::Workspace;

/// One of the two kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Its name, with its version
    pub name: String,
    /// Its ELF file with a PVH entry
    pub image: PathBuf,
    /// What its command line has and the other's has not
    pub append: String,
    /// The VMI ROM it finds
    pub rom: Option<Placed>,
}

/// What both run on.
#[derive(Clone, Debug)]
pub struct Course {
    /// The emulator
    pub qemu: PathBuf,
    /// A directory for the guests' files
    pub scratch: PathBuf,
    /// The machine model
    pub machine: Machine,
    /// The CPU model
    pub cpu: String,
    /// Memory in MiB, where that is not what is measured
    pub memory: u32,
    /// How long a guest may take
    pub limit: Duration,
    /// The guests are below the lguest hypervisor
    pub hypervisor: Option<Below>,
}

/// The lguest hypervisor that guests are below.
#[derive(Clone, Debug)]
pub struct Below {
    /// Where it was built
    pub workspace: Workspace,
    /// What it is asked for
    pub args: Hypervisor,
}

/// What both kernels' command lines have. Without `norandmaps` a program is at other addresses each time, and QEMU's
/// translating its instructions anew would be most of what running a program takes.
const COMMON: &str = "console=ttyS0 quiet norandmaps";

/// Which clock a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The machine's own
    Real,
    /// One nanosecond passes with each instruction, and idle time passes at once: the same in each run
    Instructions,
}

impl Course {
    /// Writes an initramfs for the guests.
    pub fn pack(&self, name: &str, tree: &Initramfs) -> Result<PathBuf> {
        let path = self.scratch.join(name);
        fs::write(&path, tree.pack()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// A file for QEMU's own messages, emptied.
    pub fn log(&self) -> Result<Stdio> {
        let path = self.log_path();
        Ok(File::create(&path).with_context(|| format!("cannot create {}", path.display()))?.into())
    }

    /// What QEMU said last, except that it was stopped.
    pub fn said(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        log.lines()
            .filter(|line| !line.contains("terminating on signal"))
            .map(|line| format!("\n{line}"))
            .collect()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.join("qemu.log")
    }

    /// A guest on this machine; `init` is process 1 with its arguments, blanks between them.
    pub fn launch(&self, contender: &Contender, initrd: &Path, init: &str, smp: u16, clock: Clock) -> Launch {
        let mut hardware = Hardware {
            machine: self.machine.clone(),
            cpu: self.cpu.clone(),
            smp,
            memory: self.memory,
            icount: clock == Clock::Instructions,
            qemu_args: Vec::new(),
        };
        if hardware.icount {
            hardware.qemu_args =
                ["-icount", "sleep=off", "-rtc", "base=2026-01-01,clock=vm"].map(Into::into).to_vec();
        }
        // `rdinit`: Linux takes `init` for a program on a disk.
        let (program, arguments) = init.split_once(' ').unwrap_or((init, ""));
        let append = [COMMON, &contender.append, &format!("rdinit={program}")];
        let mut append: Vec<&str> = append.into_iter().filter(|part| !part.is_empty()).collect();
        if !arguments.is_empty() {
            append.extend(["--", arguments]);
        }
        Launch {
            qemu: self.qemu.clone(),
            hardware,
            image: contender.image.clone(),
            initrd: Some(initrd.to_owned()),
            append: append.join(" "),
            status: self.scratch.join("status"),
            console: Console::Plain,
            gdb: None,
            rom: contender.rom.clone(),
        }
    }
}

/// A guest that runs, and its console.
#[derive(Debug)]
pub struct Running {
    /// When QEMU was started
    pub started: Instant,
    qemu: Qemu,
    input: ChildStdin,
    output: Receiver<(Instant, Vec<u8>)>,
    console: Vec<u8>,
    /// Where the next text to wait for is looked for
    from: usize,
    deadline: Instant,
}

impl Running {
    /// Starts a guest that may run as long as the course allows.
    pub fn start(launch: &Launch, course: &Course) -> Result<Self> {
        let below = course.hypervisor.as_ref();
        let wrapped = below
            .map(|below| lguest::wrap(&below.workspace, launch.clone(), &below.args, &course.scratch))
            .transpose()?;
        let started = Instant::now();
        let mut qemu =
            Qemu::start(wrapped.as_ref().unwrap_or(launch), Stdio::piped(), Stdio::piped(), course.log()?)?;
        let input = qemu.child.stdin.take().context("QEMU's input is a pipe")?;
        let mut console = qemu.child.stdout.take().context("QEMU's output is a pipe")?;
        let (sender, output) = mpsc::channel();
        // It ends with QEMU, which ends with this value.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = console.read(&mut buffer) {
                if sender.send((Instant::now(), buffer[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            started,
            qemu,
            input,
            output,
            console: Vec::new(),
            from: 0,
            deadline: started + course.limit,
        })
    }

    /// Waits for a text on the console and says when it came.
    pub fn wait_for(&mut self, text: &str) -> Result<Instant> {
        let mut last = self.started;
        loop {
            let new = &self.console[self.from..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.from += at + text.len();
                return Ok(last);
            }
            match self.output.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok((when, bytes)) => {
                    last = when;
                    self.console.extend_from_slice(&bytes);
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {text:?} on the console in time; its last lines are\n{}", self.last_lines())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!(
                        "the guest ended without {text:?} on the console; its last lines are\n{}",
                        self.last_lines()
                    )
                }
            }
        }
    }

    /// Waits until QEMU has ended by itself, and gives everything the console got.
    pub fn wait_for_end(mut self) -> Result<String> {
        loop {
            match self.output.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok((_, bytes)) => self.console.extend_from_slice(&bytes),
                Err(RecvTimeoutError::Disconnected) => {
                    self.qemu.finish()?;
                    return Ok(self.console());
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest did not end in time; its last lines are\n{}", self.last_lines())
                }
            }
        }
    }

    /// Types on the console.
    pub fn type_in(&mut self, text: &str) -> Result<()> {
        self.input.write_all(text.as_bytes()).context("cannot type on the guest's console")
    }

    /// Everything the console got so far.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.console).replace('\r', "")
    }

    fn last_lines(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.trim_end().lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Ends the guest.
    pub fn stop(mut self) -> Result<()> {
        self.qemu.stop().map(|_| ())
    }
}

/// The middle value; the mean of the two middle ones of an even number. None of nothing.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length.is_multiple_of(2) => Some((values[middle - 1] + values[middle]) / 2.0),
        _ => Some(values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course() -> Course {
        Course {
            qemu: "qemu".into(),
            scratch: "/t".into(),
            machine: "pc".parse().unwrap(),
            cpu: "max".into(),
            memory: 128,
            limit: Duration::from_secs(1),
            hypervisor: None,
        }
    }

    #[test]
    fn only_the_kernel_and_its_own_parameters_differ() {
        let contender = |name: &str, append: &str| Contender {
            name: name.into(),
            image: format!("/{name}").into(),
            append: append.into(),
            rom: None,
        };
        let (linux, ours) = (contender("linux", "panic=-1"), contender("monoguest", ""));
        let launch =
            |contender| course().launch(contender, Path::new("/i"), "/bench --a 1", 2, Clock::Instructions);
        let (linux, ours) = (launch(&linux), launch(&ours));
        assert_eq!(linux.append, "console=ttyS0 quiet norandmaps panic=-1 rdinit=/bench -- --a 1");
        assert_eq!(ours.append, "console=ttyS0 quiet norandmaps rdinit=/bench -- --a 1");
        let same = Launch { append: ours.append.clone(), image: ours.image.clone(), ..linux };
        assert_eq!(same.arguments(), ours.arguments());
        assert!(ours.shell_line().contains("-icount sleep=off"), "{}", ours.shell_line());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
