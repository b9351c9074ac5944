//! Describing a machine and running a kernel on it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use platform::{BootInfo, CpuId, CpuSet, Kernel, MAX_CPUS, Nanoseconds, PhysAddr, PhysRange, TrapFrame};

use crate::devices::Model;
use crate::outcome::{Failure, FailureKind, Outcome, wait_for_end};
use crate::state::{
    CPUS, ENDED, Entries, FACTS, Facts, NOW, NOW_STEP, Status, WAKE, become_cpu, facts, world,
};
use crate::{console, control, cpu, crash, devices, memory, power, space, user};

/// How long a run may take by the wall clock unless told otherwise.
const WALL_LIMIT: Duration = Duration::from_secs(30);
/// Stack of the boot CPU: what firmware or loader would provide.
const BOOT_STACK_BYTES: usize = 4 << 20;

/// A machine that has not started yet.
pub struct Machine {
    cpus: usize,
    refused: CpuSet,
    ram: Vec<PhysRange>,
    command_line: Vec<u8>,
    initramfs: Option<Vec<u8>>,
    wall_clock: Nanoseconds,
    unusable: Option<&'static str>,
    message_lines: u32,
    echo: bool,
    wall_limit: Duration,
    outside: Vec<Box<dyn FnOnce() + Send>>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// One CPU, 16 MiB, no command line, no initramfs, 32 message lines.
    pub fn new() -> Self {
        Self {
            cpus: 1,
            refused: CpuSet::EMPTY,
            ram: Vec::new(),
            command_line: Vec::new(),
            initramfs: None,
            wall_clock: Nanoseconds::ZERO,
            unusable: None,
            message_lines: 32,
            echo: false,
            wall_limit: WALL_LIMIT,
            outside: Vec::new(),
        }
        .memory_mib(16)
    }

    /// How many CPUs there are.
    ///
    /// # Panics
    /// If none, or more than [`MAX_CPUS`].
    #[must_use]
    pub fn cpus(mut self, count: usize) -> Self {
        assert!((1..=MAX_CPUS).contains(&count), "a machine has 1 to {MAX_CPUS} CPUs");
        self.cpus = count;
        self
    }

    /// This CPU exists but does not answer when it is started.
    #[must_use]
    pub fn silent_cpu(mut self, cpu: CpuId) -> Self {
        self.refused = self.refused.with(cpu);
        self
    }

    /// A PC's memory: so many MiB with a hole from 636 KiB to 1 MiB.
    #[must_use]
    pub fn memory_mib(self, mib: u64) -> Self {
        self.memory(&[(0x1000, 0x9f000), (0x10_0000, mib << 20)])
    }

    /// RAM at these physical addresses, from start up to, not including, end; all but the first page may be RAM.
    #[must_use]
    pub fn memory(mut self, ranges: &[(u64, u64)]) -> Self {
        self.ram = ranges
            .iter()
            .map(|&(start, end)| PhysRange { start: PhysAddr(start), end: PhysAddr(end) })
            .collect();
        self.ram.sort_by_key(|range| range.start);
        assert!(
            self.ram.iter().all(|range| range.start < range.end)
                && self.ram.windows(2).all(|pair| pair[0].end <= pair[1].start),
            "ranges of memory are not empty and do not overlap"
        );
        self
    }

    /// The kernel's command line.
    #[must_use]
    pub fn command_line(mut self, line: impl Into<Vec<u8>>) -> Self {
        self.command_line = line.into();
        self
    }

    /// The initramfs.
    #[must_use]
    pub fn initramfs(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.initramfs = Some(bytes.into());
        self
    }

    /// Registers a user program: what runs when user mode is entered with `rip` at `address`, if that page may be
    /// executed. It gets the registers it is entered with. See [`user`].
    #[must_use]
    pub fn program(self, address: u64, program: impl Fn(&TrapFrame) + Send + Sync + 'static) -> Self {
        user::register(address, program);
        self
    }

    /// Moves time by `step` with each call of [`platform::Clock::now`], so that loops which wait for time to pass end.
    #[must_use]
    pub fn now_step(self, step: Nanoseconds) -> Self {
        NOW_STEP.store(step.0, SeqCst);
        self
    }

    /// The wall clock's time at boot.
    #[must_use]
    pub fn wall_clock(mut self, time: Nanoseconds) -> Self {
        self.wall_clock = time;
        self
    }

    /// Discovery fails for this reason.
    #[must_use]
    pub fn unusable(mut self, reason: &'static str) -> Self {
        self.unusable = Some(reason);
        self
    }

    /// How many lines devices can raise by messages.
    #[must_use]
    pub fn message_lines(mut self, count: u32) -> Self {
        self.message_lines = count;
        self
    }

    /// Gives it a virtio device; those that were given before come first.
    #[must_use]
    pub fn device(self, model: impl Model + 'static) -> Self {
        devices::add(Box::new(model));
        self
    }

    /// Does `action` when virtual time reaches `time`; see [`crate::at`].
    #[must_use]
    pub fn at(self, time: Nanoseconds, action: impl FnOnce() + Send + 'static) -> Self {
        control::at(time, action);
        self
    }

    /// Types `bytes` on the console when virtual time reaches `time`.
    #[must_use]
    pub fn input_at(self, time: Nanoseconds, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.at(time, move || control::input(&bytes))
    }

    /// Runs `body` on a thread outside the machine. Until it returns, a machine in which all CPUs wait is no deadlock.
    #[must_use]
    pub fn outside(mut self, body: impl FnOnce() + Send + 'static) -> Self {
        self.outside.push(Box::new(body));
        self
    }

    /// How long the run may take by the wall clock.
    #[must_use]
    pub fn wall_limit(mut self, limit: Duration) -> Self {
        self.wall_limit = limit;
        self
    }

    /// Copies console output and reports to standard error as they come.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Boots the kernel and runs it to the end, whatever that is.
    ///
    /// # Panics
    /// If a machine has run in this process before: the statics of kernel and simulator live once a process. See
    /// [`crate::in_fresh_process`].
    pub fn run<K: Kernel>(self) -> Outcome {
        static USED: AtomicBool = AtomicBool::new(false);
        assert!(
            !USED.swap(true, SeqCst),
            "a machine has run in this process before: run each in sim::in_fresh_process"
        );
        let info = memory::build(self.ram, &self.command_line, self.initramfs.as_deref());
        let facts = Facts {
            entries: Entries::of::<K>(),
            cpus: self.cpus,
            refused_cpus: self.refused,
            wall_clock: self.wall_clock.0,
            description: "simulator",
            unusable: self.unusable,
            message_lines: self.message_lines,
            echo: self.echo,
        };
        assert!(FACTS.set(facts).is_ok(), "facts are set once, by the only run");
        crash::install();
        {
            let mut world = world();
            world.started = CpuSet::one(CpuId(0));
            world.status[0] = Status::Running;
            world.outside = self.outside.len();
        }
        for body in self.outside {
            std::thread::spawn(move || {
                let _present = Outside;
                body();
            });
        }
        std::thread::Builder::new()
            .name("cpu0".to_owned())
            .stack_size(BOOT_STACK_BYTES)
            .spawn(move || run_boot_cpu(info))
            .unwrap_or_else(|error| panic!("no thread for CPU 0: {error}"));

        let end = wait_for_end(self.wall_limit).unwrap_or_else(|| {
            let message = format!("{:?} have passed: {}", self.wall_limit, world().describe());
            ENDED.store(true, SeqCst);
            Err(Failure { kind: FailureKind::Timeout, message })
        });
        Outcome {
            end,
            console: console::output(),
            reports: power::reports(),
            time: Nanoseconds(NOW.load(SeqCst)),
            unflushed: space::unflushed(),
        }
    }
}

/// Somebody outside the machine may still wake it.
struct Outside;

impl Drop for Outside {
    fn drop(&mut self) {
        world().outside -= 1;
        WAKE.notify_all();
    }
}

fn run_boot_cpu(info: &'static BootInfo) {
    let cpu = become_cpu(CPUS[0].id);
    crash::use_signal_stack();
    cpu::set_placeholder(cpu);
    (facts().entries.boot)(info)
}
