//! Runs a guest: starts QEMU, waits for its end within a time limit, and says how the guest ended.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::process::tie;
use crate::qemu::Launch;
use crate::status::{End, Status, TIMED_OUT};
use crate::terminal::Saved;

/// How long QEMU may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(2);

/// Why a guest no longer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest said how it ended
    Ended(End),
    /// Its time was up and QEMU was stopped
    TimedOut(Duration),
    /// QEMU ended and the guest had said nothing
    Silent(ExitStatus),
    /// This signal asked xtask to stop, and it stopped QEMU first
    Interrupted(i32),
}

impl Outcome {
    /// The exit status xtask passes on.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Ended(end) => end.exit_status(),
            Self::TimedOut(_) => TIMED_OUT,
            Self::Silent(_) => 1,
            Self::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(1),
        }
    }

    /// What a person should know besides the exit status, if anything.
    pub fn explanation(&self) -> Option<String> {
        match self {
            Self::Ended(End::Exit(_)) => None,
            Self::Ended(End::Reboot) => Some("the guest asked for a reboot".to_owned()),
            Self::Ended(End::Panic) => {
                Some("the kernel panicked: its message is on the console above".to_owned())
            }
            Self::Ended(End::Unusable(reason)) => Some(format!("the boot could not go on: {reason}")),
            Self::TimedOut(limit) => {
                Some(format!("timed out after {} s: QEMU was stopped", limit.as_secs_f64()))
            }
            Self::Silent(status) => Some(format!(
                "QEMU is gone ({}) and the guest did not say how it ended. Either QEMU's own message is above, or it \
                 was told to quit, or the guest reset the machine (a triple fault does that): \
                 `--qemu-arg=-d --qemu-arg=int,cpu_reset` shows the faults",
                describe_status(*status)
            )),
            Self::Interrupted(signal) => Some(format!("stopped by signal {signal}")),
        }
    }
}

fn describe_status(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("killed by signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or(-1)),
    }
}

/// A running QEMU; stopped and waited for when dropped.
#[derive(Debug)]
pub struct Qemu {
    /// The process
    pub child: Child,
}

impl Qemu {
    /// Starts QEMU so that it cannot outlive the thread that calls this.
    pub fn start(launch: &Launch, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Self> {
        Self::spawn(launch, |command| command.stdin(stdin).stdout(stdout).stderr(stderr))
    }

    /// The same, in a process group of its own: the keyboard's signals do not reach it.
    pub fn start_apart(launch: &Launch, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Self> {
        Self::spawn(launch, |command| command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0))
    }

    fn spawn(launch: &Launch, streams: impl FnOnce(&mut Command) -> &mut Command) -> Result<Self> {
        // What an earlier guest left must not be taken for this one's.
        fs::write(&launch.status, b"")
            .with_context(|| format!("cannot write {}", launch.status.display()))?;
        let mut command = Command::new(&launch.qemu);
        streams(tie(command.args(launch.arguments())));
        let child = command.spawn().with_context(|| format!("cannot start {}", launch.qemu.display()))?;
        Ok(Self { child })
    }

    /// Waits until QEMU has made the socket it listens on for gdb.
    pub fn wait_for_socket(&mut self, socket: &Path, deadline: Instant) -> Result<()> {
        while !socket.exists() {
            if self.child.try_wait().context("cannot wait for QEMU")?.is_some() {
                bail!("QEMU ended before gdb could reach it: see its message above");
            }
            if Instant::now() >= deadline {
                bail!("QEMU does not listen for gdb");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits for a QEMU that is about to end by itself, and stops it if it does not.
    pub fn finish(&mut self) -> Result<ExitStatus> {
        match self.wait_briefly()? {
            Some(status) => Ok(status),
            None => self.stop(),
        }
    }

    /// Asks QEMU to end, insists if it does not, and waits for it.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait().context("cannot wait for QEMU")? {
            return Ok(status);
        }
        // The process is not waited for yet, so its id is still its own.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        if let Some(status) = self.wait_briefly()? {
            return Ok(status);
        }
        self.child.kill().context("cannot kill QEMU")?;
        self.child.wait().context("cannot wait for QEMU")
    }

    fn wait_briefly(&mut self) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + GRACE;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for QEMU")? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// How the guest behind `launch` ended, now that QEMU is gone with `status`.
pub fn verdict(launch: &Launch, status: ExitStatus) -> Result<(Status, Outcome)> {
    let bytes =
        fs::read(&launch.status).with_context(|| format!("cannot read {}", launch.status.display()))?;
    let said = Status::parse(&bytes)?;
    let outcome = said.end.clone().map_or(Outcome::Silent(status), Outcome::Ended);
    Ok((said, outcome))
}

/// Runs a guest on this process's own terminal or streams. The terminal is as before when this returns.
pub fn run_here(launch: &Launch, limit: Option<Duration>) -> Result<(Status, Outcome)> {
    let mut stopping = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        stopping.add(signal);
    }
    let mut watched = stopping;
    watched.add(Signal::SIGCHLD);
    let mut blocked = watched;
    // Restoring the terminal must not stop this process when another has the foreground.
    blocked.add(Signal::SIGTTOU);
    blocked.thread_block().context("cannot block signals")?;
    let signals = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("cannot watch signals")?;

    let saved = Saved::take();
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut qemu = Qemu::start(launch, Stdio::inherit(), Stdio::inherit(), Stdio::inherit())?;
    let ended = wait(&mut qemu, &signals, deadline)?;
    let status = qemu.stop()?;
    drop(saved);

    let (said, outcome) = verdict(launch, status)?;
    Ok(match ended {
        // A guest that ended just before counts as ended.
        Why::Deadline if said.end.is_none() => (said, Outcome::TimedOut(limit.unwrap_or_default())),
        Why::Signal(signal) if said.end.is_none() => (said, Outcome::Interrupted(signal)),
        _ => (said, outcome),
    })
}

enum Why {
    Gone,
    Deadline,
    Signal(i32),
}

fn wait(qemu: &mut Qemu, signals: &SignalFd, deadline: Option<Instant>) -> Result<Why> {
    loop {
        if qemu.child.try_wait().context("cannot wait for QEMU")?.is_some() {
            return Ok(Why::Gone);
        }
        let timeout = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Ok(Why::Deadline),
            Some(left) => poll_timeout(left),
            None => PollTimeout::NONE,
        };
        match poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot wait for signals"),
        }
        while let Some(info) = signals.read_signal().context("cannot read a signal")? {
            let signal = info.ssi_signo.cast_signed();
            if signal != Signal::SIGCHLD as i32 {
                return Ok(Why::Signal(signal));
            }
        }
    }
}

/// At least `left`, so that waiting never becomes spinning, and at most what poll takes.
pub fn poll_timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}
