//! Building several things, more than one at a time where the machine has the processors and the memory.
//!
//! Most of an image's building is its link-time optimization, which has one thread. A lane builds one thing after the
//! other; no two lanes are in the same of cargo's target directories, where one would wait for the other.

use std::fmt;
use std::fs;
use std::io::{IsTerminal, Read, pipe};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::item::Item;
use super::make::{self, Built};
use crate::process::{kill_tree, tie};
use crate::report::say;
use crate::toolchain::ImageToolchain;
use crate::variant::Backend;
use crate::workspace::Workspace;

/// MiB that a lane may need: the largest image's link-time optimization takes half of it.
const LANE_MIB: u64 = 2048;
/// How often signals are looked for.
const TICK: Duration = Duration::from_millis(100);

/// What happens to the others when something cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtFailure {
    /// They are not built: those that are begun are stopped
    Stop,
    /// They are built
    GoOn,
}

/// How many were made now, and how many before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Now
    pub built: usize,
    /// Before
    pub cached: usize,
}

impl Counts {
    /// Counts one more.
    pub fn count(&mut self, built: &Built) {
        *if built.anew { &mut self.built } else { &mut self.cached } += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} built, {} cached", self.built, self.cached)
    }
}

/// Builds these and what runs them, `most` at a time or as many as the machine has room for; what came of each that was
/// begun, in no particular order.
pub fn build(
    workspace: &Workspace,
    items: &[Item],
    most: Option<usize>,
    at_failure: AtFailure,
) -> Result<Vec<(Item, Result<Built>)>> {
    let items = with_what_is_below(items);
    for item in &items {
        item.check()?;
    }
    // What is missing is installed once.
    ImageToolchain::require()?;
    let started = Instant::now();
    let lanes = number_of_lanes(&items, most);
    let signals = Signals::watch()?;
    let progress = Progress::start(items.len());
    let plan = Plan::new(items);
    let (sender, events) = mpsc::channel();
    let mut results = Vec::new();
    thread::scope(|scope| {
        for _ in 0..lanes {
            let (sender, plan, progress) = (sender.clone(), &plan, &progress);
            scope.spawn(move || {
                while let Some(item) = plan.take() {
                    progress.begin(item);
                    let result = make::make(workspace, item, |cargo| plan.run(cargo, item, progress));
                    if result.is_err() && at_failure == AtFailure::Stop {
                        plan.stop();
                    }
                    plan.give_back(item);
                    let _ = sender.send((item, result));
                }
            });
        }
        drop(sender);
        loop {
            match events.recv_timeout(TICK) {
                Ok((item, result)) => {
                    progress.end(item, &result);
                    results.push((item, result));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Some(signal) = signals.arrived() {
                plan.stop();
                progress.finish();
                signals.die_by(signal);
            }
        }
    });
    progress.finish();
    let mut counts = Counts::default();
    results.iter().filter_map(|(_, result)| result.as_ref().ok()).for_each(|built| counts.count(built));
    let failed = results.len() - counts.built - counts.cached;
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed or stopped") };
    say!("images: {counts}{failed}, {lanes} at a time, in {:.1} s", started.elapsed().as_secs_f64());
    Ok(results)
}

/// Each once, and what must be there to run it.
fn with_what_is_below(items: &[Item]) -> Vec<Item> {
    let mut all = Vec::new();
    for item in items.iter().filter_map(|item| item.below()).chain(items.iter().copied()) {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

fn number_of_lanes(items: &[Item], most: Option<usize>) -> usize {
    let mut backends: Vec<Backend> = Vec::new();
    for item in items {
        if !backends.contains(&item.backend()) {
            backends.push(item.backend());
        }
    }
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let room = available_mib().map_or(1, |mib| usize::try_from(mib / LANE_MIB).unwrap_or(usize::MAX));
    [backends.len(), processors, room, most.unwrap_or(usize::MAX)].into_iter().min().unwrap_or(1).max(1)
}

/// MiB that programs can have without the machine's swapping.
fn available_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib / 1024)
}

/// What is still to be built, and by whom.
struct Plan(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Item>,
    /// Those whose directories are in use
    busy: Vec<Backend>,
    /// The cargos that run
    running: Vec<Pid>,
    stopped: bool,
}

impl Plan {
    fn new(waiting: Vec<Item>) -> Self {
        Self(Mutex::new(State { waiting, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a lane should build next: of the backend that has most left, unless another lane is at it. With none, the
    /// lane is at its end: whoever is at the others goes on with them.
    fn take(&self) -> Option<Item> {
        let mut state = self.state();
        let free = |item: &&Item| !state.busy.contains(&item.backend());
        let left =
            |item: &&Item| state.waiting.iter().filter(|other| other.backend() == item.backend()).count();
        // The last of the largest is taken by `max_by_key`, and the first is to be.
        let item = *state.waiting.iter().filter(free).rev().max_by_key(left)?;
        state.waiting.retain(|other| *other != item);
        state.busy.push(item.backend());
        Some(item)
    }

    fn give_back(&self, item: Item) {
        self.state().busy.retain(|backend| *backend != item.backend());
    }

    /// Nothing more is begun, and what is begun is ended.
    fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.waiting.clear();
        state.running.drain(..).for_each(kill_tree);
    }

    /// Runs cargo to its end, and shows what it says if it is not about progress.
    fn run(&self, cargo: &mut Command, item: Item, progress: &Progress) -> Result<()> {
        let (mut output, input) = pipe().context("cannot make a pipe")?;
        cargo.arg("--quiet").stdout(input.try_clone().context("cannot share a pipe")?).stderr(input);
        if std::io::stderr().is_terminal()
            && ["CARGO_TERM_COLOR", "NO_COLOR"].iter().all(|name| std::env::var_os(name).is_none())
        {
            cargo.env("CARGO_TERM_COLOR", "always");
        }
        let mut state = self.state();
        if state.stopped {
            bail!("stopped, for another failed");
        }
        let mut child = tie(cargo).spawn().context("cannot run cargo")?;
        let pid = Pid::from_raw(child.id().cast_signed());
        state.running.push(pid);
        drop(state);
        // The command has the pipe's writing end, and its end is to be seen.
        cargo.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());

        let mut said = Vec::new();
        let read = output.read_to_end(&mut said);
        // From here on its number may become another's.
        let mut state = self.state();
        state.running.retain(|running| *running != pid);
        let status = child.wait().context("cannot wait for cargo")?;
        if state.stopped {
            bail!("stopped, for another failed");
        }
        drop(state);
        read.context("cannot read what cargo says")?;
        let said = String::from_utf8_lossy(&said);
        if !said.trim().is_empty() {
            progress.show(&format!("cargo, about {item}:\n{}", said.trim_end()));
        }
        if !status.success() {
            bail!("see cargo's messages above");
        }
        Ok(())
    }
}

/// What is being built: a bar on a terminal, and a line for each that took its time.
struct Progress {
    bar: ProgressBar,
    running: Mutex<Vec<String>>,
}

impl Progress {
    fn start(count: usize) -> Self {
        // indicatif draws nothing where standard error is no terminal.
        let style = ProgressStyle::with_template("{elapsed:>4} [{bar:20}] {pos}/{len} {wide_msg}");
        let bar = ProgressBar::new(count as u64);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_secs(1));
        Self { bar, running: Mutex::default() }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<String>)) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        self.bar.set_message(running.join("  "));
    }

    fn begin(&self, item: Item) {
        self.change(|running| running.push(item.to_string()));
    }

    fn end(&self, item: Item, result: &Result<Built>) {
        let name = item.to_string();
        self.change(|running| running.retain(|other| *other != name));
        self.bar.inc(1);
        if let Ok(built) = result
            && built.anew
        {
            self.show(&format!("built {name} in {:.1} s", built.took.as_secs_f64()));
        }
    }

    fn show(&self, text: &str) {
        self.bar.suspend(|| say!("{text}"));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The signals that ask this process to end. What it has started must end first: only the keyboard's reach that too.
struct Signals {
    before: SigSet,
    descriptor: SignalFd,
}

impl Signals {
    /// From here on they are seen by this alone, until it is dropped.
    fn watch() -> Result<Self> {
        let mut watched = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            watched.add(signal);
        }
        let before = watched.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("cannot block signals")?;
        let descriptor = SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("cannot watch signals")?;
        Ok(Self { before, descriptor })
    }

    fn arrived(&self) -> Option<Signal> {
        let info = self.descriptor.read_signal().ok()??;
        Signal::try_from(info.ssi_signo.cast_signed()).ok()
    }

    /// Ends this process as the signal would have.
    fn die_by(&self, signal: Signal) {
        let _ = raise(signal);
        let _ = self.before.thread_set_mask();
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variant::{Dispatch, Product, Profile, Variant};

    fn image(backend: Backend, dispatch: Dispatch) -> Item {
        Item::Image(Product::Monoguest, Variant { backend, dispatch, profile: Profile::Release })
    }

    #[test]
    fn two_lanes_are_never_at_the_same_backend() {
        use Backend::{Lguest, Native, Vmi};
        let [a, b, c] = [Dispatch::Static, Dispatch::Direct, Dispatch::Table].map(|d| image(Native, d));
        let (vmi, lguest) = (image(Vmi, Dispatch::Static), image(Lguest, Dispatch::Static));
        let plan = Plan::new(vec![vmi, a, b, c, lguest]);
        // What has most left comes first, in its order.
        assert_eq!(plan.take(), Some(a));
        assert_eq!(plan.take(), Some(vmi));
        assert_eq!(plan.take(), Some(lguest));
        assert_eq!(plan.take(), None);
        plan.give_back(vmi);
        assert_eq!(plan.take(), None);
        plan.give_back(a);
        assert_eq!(plan.take(), Some(b));
        assert_eq!(plan.take(), None);
        plan.stop();
        plan.give_back(b);
        assert_eq!(plan.take(), None);
    }

    #[test]
    fn what_runs_guests_is_built_once_and_first() {
        let images = [Dispatch::Static, Dispatch::Table].map(|dispatch| image(Backend::Lguest, dispatch));
        let all = with_what_is_below(&[images[0], images[1], images[0]]);
        assert_eq!(all, [Item::Hypervisor, images[0], images[1]]);
    }

    #[test]
    fn lanes_are_no_more_than_there_is_work_or_room_for() {
        let native = image(Backend::Native, Dispatch::Static);
        assert_eq!(number_of_lanes(&[native], None), 1);
        let several = [native, image(Backend::Vmi, Dispatch::Static), Item::Hypervisor];
        assert_eq!(number_of_lanes(&several, Some(1)), 1);
        assert!((1..=3).contains(&number_of_lanes(&several, None)));
        assert!(available_mib().is_some_and(|mib| mib > 64));
    }
}
