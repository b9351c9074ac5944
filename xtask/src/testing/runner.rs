//! Runs one case: makes its files, starts its guest, plays its steps on the console, and judges what came of it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::guest::{Outcome, Qemu, poll_timeout, verdict};
use crate::initramfs::{ARGV_FILE, Initramfs};
use crate::lguest::{self, DiskContent};
use crate::qemu::{Console, Launch};
use crate::rom;
use crate::status::End;
use crate::testing::case::{Case, Expected, Files, ImageChange, Module, Source, Step};
use crate::testing::check::Check;
use crate::variant::{Backend, Dispatch};
use crate::workspace::Workspace;

/// A guest that writes more than this has lost its way.
const LONGEST_CONSOLE: usize = 16 << 20;

/// MiB of the guest beside the others.
const OTHER_MEMORY: u32 = 4;

/// What all cases share.
#[derive(Debug)]
pub struct Bench {
    /// Where things are
    pub workspace: Workspace,
    /// The emulator
    pub qemu: PathBuf,
    /// The default user space, on this machine
    pub busybox: PathBuf,
    /// The default user space, for the guest
    pub standard: Initramfs,
    /// A directory for the guests' files
    pub scratch: PathBuf,
    /// How all guests reach their backend, if that was asked for
    pub dispatch: Option<Dispatch>,
}

/// What came of a case.
#[derive(Debug)]
pub struct Verdict {
    /// Why it failed, if it did
    pub failure: Option<String>,
    /// The console and what else helps to find out why; of a check that has passed, its figure
    pub detail: String,
    /// From QEMU's start to its end
    pub took: Duration,
}

impl Bench {
    /// Runs a case with its image.
    pub fn run(&self, case: &Case, image: &Path) -> Result<Verdict> {
        let directory = self.scratch.join(case.name.replace('/', "-"));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let changed = case.image_change.map(|change| changed(image, change, &directory)).transpose()?;
        let launch = self.launch(case, changed.as_deref().unwrap_or(image), &directory)?;
        let earlier = Case { present: Vec::new(), ..case.clone() };
        for _ in 1..case.boots {
            let verdict = self.boot(&earlier, &launch, &directory)?;
            if verdict.failure.is_some() {
                return Ok(verdict);
            }
        }
        let verdict = self.boot(case, &launch, &directory)?;
        if verdict.failure.is_none() {
            // Only a failed case's files are of use to anybody.
            let _ = fs::remove_dir_all(&directory);
        }
        Ok(verdict)
    }

    /// Runs a check in an empty directory.
    pub fn check(&self, check: &Check) -> Result<Verdict> {
        let directory = self.scratch.join(check.name.replace('/', "-"));
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let started = Instant::now();
        let result = (check.run)(self, check, &directory);
        let took = started.elapsed();
        Ok(match result {
            Ok(detail) => {
                let _ = fs::remove_dir_all(&directory);
                Verdict { failure: None, detail, took }
            }
            Err(error) => {
                let (name, directory) = (check.name, directory.display());
                let detail = format!("rerun: cargo xtask test {name}\nits files: {directory}\n");
                Verdict { failure: Some(format!("{error:#}")), detail, took }
            }
        })
    }

    fn boot(&self, case: &Case, launch: &Launch, directory: &Path) -> Result<Verdict> {
        let log_path = directory.join("qemu.log");
        let log =
            fs::File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;

        let started = Instant::now();
        let mut qemu = Qemu::start(launch, Stdio::piped(), Stdio::piped(), log.into())?;
        let mut play = Play::new(&mut qemu, case)?;
        let stopped = play.run(started + case.limit)?;
        let console = play.console();
        let exit = if matches!(stopped, Stopped::No) { qemu.finish()? } else { qemu.stop()? };
        let took = started.elapsed();

        let failure = match verdict(launch, exit) {
            Err(error) => Some(error.to_string()),
            Ok((_, ended)) => judge(case, stopped, ended, &console),
        };
        let detail = match failure {
            Some(_) => self.detail(case, launch, &console, &fs::read_to_string(log_path).unwrap_or_default()),
            None => String::new(),
        };
        Ok(Verdict { failure, detail, took })
    }

    fn launch(&self, case: &Case, image: &Path, directory: &Path) -> Result<Launch> {
        let mut append = vec!["console=ttyS0".to_owned()];
        let bytes = match (&case.files, case.tree(&self.standard)) {
            (_, Some(mut tree)) => {
                self.add(case, &mut tree)?;
                if let Some((program, arguments)) = case.argv.split_first() {
                    let mut argv = vec![tree.resolve(program)?];
                    argv.extend_from_slice(arguments);
                    tree.set_argv(&argv)?;
                    append.push(format!("monoguest.argv={ARGV_FILE}"));
                }
                Some(tree.pack())
            }
            (Files::Raw(fixture), None) => {
                Some(fixture(&self.busybox).context("cannot make the case's initramfs")?)
            }
            (_, None) => None,
        };
        let initrd = match bytes {
            Some(bytes) => {
                let path = directory.join("initramfs");
                fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
                Some(path)
            }
            None => None,
        };
        if !case.append.is_empty() {
            append.push(case.append.clone());
        }
        let launch = Launch {
            qemu: self.qemu.clone(),
            hardware: case.hardware.clone(),
            image: image.to_owned(),
            initrd,
            append: append.join(" "),
            status: directory.join("status"),
            console: Console::Plain,
            gdb: None,
            rom: rom::place(&self.workspace, &case.rom(), &case.hardware.machine, directory)?,
        };
        match case.variant.backend {
            Backend::Lguest => self.below_hypervisor(case, launch, directory),
            _ => Ok(launch),
        }
    }

    fn below_hypervisor(&self, case: &Case, launch: Launch, directory: &Path) -> Result<Launch> {
        let hypervisor = with_images(case, directory)?;
        let guest = lguest::guest(&launch, &hypervisor)?;
        let mut launch = lguest::wrap(&self.workspace, launch, &hypervisor, directory)?;
        match (&case.module, &launch.initrd) {
            (Module::Guests, _) | (Module::Changed(_) | Module::Beside(..), None) => {}
            (Module::Beside(product, parameters), Some(path)) => {
                let image = case.variant.of(*product).image_path(&self.workspace, *product);
                let image = fs::read(&image).with_context(|| format!("cannot read {}", image.display()))?;
                let other = lguest::Guest {
                    image,
                    initramfs: None,
                    command_line: parameters.clone(),
                    memory: OTHER_MEMORY,
                    ..guest.clone()
                };
                fs::write(path, lguest::archive_beside(&guest, &other, &hypervisor))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            (Module::Missing, _) => launch.initrd = None,
            (Module::Changed(change), Some(path)) => {
                fs::write(path, change(guest, &hypervisor))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(launch)
    }

    fn add(&self, case: &Case, tree: &mut Initramfs) -> Result<()> {
        for (path, source, permissions) in &case.added {
            let contents = match source {
                Source::Bytes(bytes) => bytes.clone(),
                Source::Host(file) => {
                    fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
                }
                Source::Program(program) => {
                    let file = program.path(&self.workspace);
                    fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
                }
            };
            tree.file(path, contents, *permissions);
        }
        Ok(())
    }

    fn detail(&self, case: &Case, launch: &Launch, console: &str, log: &str) -> String {
        let options = self.dispatch.map(|mode| format!("--dispatch {mode} ")).unwrap_or_default();
        let mut text =
            format!("rerun: cargo xtask test {options}{}\nQEMU: {}\n", case.name, launch.shell_line());
        for (what, content) in [("QEMU's messages", log), ("the console", console)] {
            if !content.trim().is_empty() {
                text.push_str(&format!("--- {what}\n{}\n", content.trim_end()));
            }
        }
        text
    }
}

/// A copy of the image that `change` was done to.
fn changed(image: &Path, change: ImageChange, directory: &Path) -> Result<PathBuf> {
    let mut bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    change(&mut bytes).with_context(|| format!("cannot change a copy of {}", image.display()))?;
    let path = directory.join("image");
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// What a case asks of the hypervisor, with the images of its disks made.
fn with_images(case: &Case, directory: &Path) -> Result<lguest::Hypervisor> {
    let mut hypervisor = case.hypervisor.clone();
    let mut images = case.images.iter().enumerate();
    for disk in &mut hypervisor.disks {
        if let DiskContent::Qemu(path) = &mut disk.content
            && let Some((number, bytes)) = images.next()
        {
            *path = directory.join(format!("disk{number}.img"));
            fs::write(&*path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(hypervisor)
}

/// Why the console was left before the guest ended by itself.
#[derive(Debug)]
enum Stopped {
    /// It was not
    No,
    /// The limit was reached; what was waited for, if anything
    Limit(Option<String>),
    /// The guest used this much CPU time while it should have been idle
    Busy { used: Duration, of: Duration },
    /// The console grew too long
    TooMuch,
}

/// The console of a running guest and the steps on it.
struct Play<'a> {
    qemu_pid: u32,
    input: ChildStdin,
    output: ChildStdout,
    console: Vec<u8>,
    /// Where the next text to wait for is looked for
    from: usize,
    steps: std::slice::Iter<'a, Step>,
    current: Option<Wait<'a>>,
}

/// What the present step waits for.
enum Wait<'a> {
    Text(&'a str),
    Idle { until: Instant, of: Duration, before: Duration, share: f64 },
}

impl<'a> Play<'a> {
    fn new(qemu: &mut Qemu, case: &'a Case) -> Result<Self> {
        let output = qemu.child.stdout.take().context("QEMU's output is a pipe")?;
        let flags = fcntl(&output, FcntlArg::F_GETFL).context("cannot use a pipe")?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&output, FcntlArg::F_SETFL(flags)).context("cannot use a pipe")?;
        Ok(Self {
            qemu_pid: qemu.child.id(),
            input: qemu.child.stdin.take().context("QEMU's input is a pipe")?,
            output,
            console: Vec::new(),
            from: 0,
            steps: case.steps.iter(),
            current: None,
        })
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&self.console).replace('\r', "")
    }

    /// Until QEMU closes its output, a step fails, or the deadline.
    fn run(&mut self, deadline: Instant) -> Result<Stopped> {
        loop {
            if let Some(stopped) = self.take_steps()? {
                return Ok(stopped);
            }
            let now = Instant::now();
            if now >= deadline {
                let waited = match &self.current {
                    Some(Wait::Text(text)) => Some((*text).to_owned()),
                    _ => None,
                };
                return Ok(Stopped::Limit(waited));
            }
            let until = match &self.current {
                Some(Wait::Idle { until, .. }) => deadline.min(*until),
                _ => deadline,
            };
            self.wait_for_output(poll_timeout(until.saturating_duration_since(now)))?;
            if !self.read()? {
                return Ok(Stopped::No);
            }
            if self.console.len() > LONGEST_CONSOLE {
                return Ok(Stopped::TooMuch);
            }
        }
    }

    /// Takes each step that can be taken now.
    fn take_steps(&mut self) -> Result<Option<Stopped>> {
        loop {
            match &self.current {
                Some(Wait::Text(text)) => {
                    let new = &self.console[self.from..];
                    let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes())
                    else {
                        return Ok(None);
                    };
                    self.from += at + text.len();
                }
                Some(Wait::Idle { until, of, before, share }) => {
                    if Instant::now() < *until {
                        return Ok(None);
                    }
                    let used = cpu_time(self.qemu_pid)?.saturating_sub(*before);
                    if used > of.mul_f64(*share) {
                        return Ok(Some(Stopped::Busy { used, of: *of }));
                    }
                }
                None => {}
            }
            self.current = None;
            match self.steps.next() {
                None => return Ok(None),
                Some(Step::Await(text)) => self.current = Some(Wait::Text(text)),
                Some(Step::Idle(time, share)) => {
                    let before = cpu_time(self.qemu_pid)?;
                    self.current =
                        Some(Wait::Idle { until: Instant::now() + *time, of: *time, before, share: *share });
                }
                Some(Step::Type(text)) => match self.input.write_all(text.as_bytes()) {
                    Ok(()) => {}
                    // The guest is gone: its end says more than this.
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                    Err(error) => return Err(error).context("cannot type on the guest's console"),
                },
            }
        }
    }

    fn wait_for_output(&self, timeout: PollTimeout) -> Result<()> {
        match poll(&mut [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for the console"),
        }
    }

    /// Takes what is there; false when QEMU has closed its output.
    fn read(&mut self) -> Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match self.output.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.console.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read the console"),
            }
        }
    }
}

/// The CPU time a process has used, in user and system mode.
fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name in parentheses may have blanks; the 14th and 15th field count clock ticks, 100 a second.
    let ticks: u64 = stat
        .rsplit_once(')')
        .map(|(_, fields)| {
            fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum()
        })
        .with_context(|| format!("{path} has an unknown form"))?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Why the case failed, if it did.
fn judge(case: &Case, stopped: Stopped, ended: Outcome, console: &str) -> Option<String> {
    match stopped {
        Stopped::Limit(waited) => {
            let limit = case.limit.as_secs();
            return Some(match waited {
                Some(text) => format!("timed out after {limit} s, waiting for {text:?}"),
                None => format!("timed out after {limit} s"),
            });
        }
        Stopped::Busy { used, of } => {
            return Some(format!(
                "QEMU used {} ms of CPU in {} ms in which the guest was to be idle",
                used.as_millis(),
                of.as_millis()
            ));
        }
        Stopped::TooMuch => return Some(format!("wrote more than {LONGEST_CONSOLE} bytes to the console")),
        Stopped::No => {}
    }
    let end = match ended {
        Outcome::Ended(end) => end,
        other => return Some(other.explanation().unwrap_or_else(|| "did not end".to_owned())),
    };
    let as_expected = match (&case.expected, &end) {
        (Expected::Exit(status), End::Exit(got)) => status == got,
        (Expected::Reboot, End::Reboot) | (Expected::Panic, End::Panic) => true,
        (Expected::Unusable(words), End::Unusable(reason)) => {
            if !console.lines().any(|line| line.contains(reason.as_str())) {
                return Some(format!("the reason `{reason}` is not on the console"));
            }
            words.iter().all(|word| reason.contains(word))
        }
        _ => false,
    };
    if !as_expected {
        return Some(format!("expected {:?}, got {end:?}", case.expected));
    }
    if let Some(text) = case.present.iter().find(|text| !console.contains(text.as_str())) {
        return Some(format!("the console lacks {text:?}"));
    }
    if let Some(text) = case.absent.iter().find(|text| console.contains(text.as_str())) {
        return Some(format!("the console has {text:?}"));
    }
    case.judges.iter().find_map(|judge| judge(console).err()).map(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case::case;

    fn ended(end: End) -> Outcome {
        Outcome::Ended(end)
    }

    #[test]
    fn a_case_passes_only_as_it_says() {
        let status = case("g/n").exits(3).prints("hello").never_prints("bad");
        let judged = |end, console| judge(&status, Stopped::No, ended(end), console);
        assert_eq!(judged(End::Exit(3), "hello\n"), None);
        assert!(judged(End::Exit(0), "hello\n").is_some());
        assert!(judged(End::Panic, "hello\n").is_some());
        assert!(judged(End::Exit(3), "other\n").unwrap().contains("lacks"));
        assert!(judged(End::Exit(3), "hello bad\n").unwrap().contains("has \"bad\""));
        let late = judge(&status, Stopped::Limit(Some("prompt".into())), ended(End::Exit(3)), "hello");
        assert!(late.unwrap().contains("prompt"));
    }

    #[test]
    fn an_unusable_boot_says_why_on_the_console_too() {
        let unusable = case("g/n").unusable(["cpio", "truncated"]);
        let end = || ended(End::Unusable("initramfs: cpio truncated at 12".into()));
        assert_eq!(judge(&unusable, Stopped::No, end(), "x: initramfs: cpio truncated at 12\n"), None);
        assert!(judge(&unusable, Stopped::No, end(), "nothing\n").unwrap().contains("not on the console"));
        let other = ended(End::Unusable("no init".into()));
        assert!(judge(&unusable, Stopped::No, other, "no init\n").is_some());
    }

    #[test]
    fn cpu_time_of_this_process_is_read() {
        assert!(cpu_time(std::process::id()).unwrap() < Duration::from_secs(3600));
        assert!(cpu_time(u32::MAX).is_err());
    }
}
