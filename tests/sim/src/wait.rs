//! Waiting, and with it the passing of virtual time.

use std::fmt::Write;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;

use crate::outcome::{Failure, FailureKind, finish};
use crate::pending::is_pending;
use crate::state::{CPUS, CpuState, ENDED, NEVER, NEXT_EVENT, NOW, Status, WAKE, World, park, world};

impl World {
    /// Whether this CPU would go on if its thread looked.
    fn can_go_on(&self, cpu: &CpuState) -> bool {
        match self.status[cpu.id.index()] {
            Status::Off | Status::Halted => false,
            Status::Running => true,
            Status::Waiting { until, interruptible } => {
                until <= NOW.load(SeqCst) || interruptible && is_pending(cpu)
            }
        }
    }

    /// When the next CPU or event is due, all CPUs waiting.
    fn next_moment(&self) -> u64 {
        let waits = CPUS.iter().filter_map(|cpu| match self.status[cpu.id.index()] {
            Status::Waiting { until, interruptible: true } => Some(until.min(cpu.deadline.load(SeqCst))),
            Status::Waiting { until, interruptible: false } => Some(until),
            _ => None,
        });
        waits.chain([NEXT_EVENT.load(SeqCst)]).min().unwrap_or(NEVER)
    }

    /// What each started CPU does, for people.
    pub fn describe(&self) -> String {
        let mut text = format!("at {} ns", NOW.load(SeqCst));
        for id in self.started.iter() {
            let cpu = &CPUS[id.index()];
            let _ = write!(text, "; CPU {} ", id.0);
            let _ = match self.status[id.index()] {
                Status::Off => write!(text, "is off"),
                Status::Running => write!(text, "runs"),
                Status::Waiting { interruptible: true, .. } => write!(text, "waits for an interrupt"),
                Status::Waiting { interruptible: false, until } => write!(text, "works until {until} ns"),
                Status::Halted => write!(text, "has halted"),
            };
            let flag = if cpu.irq_enabled.load(SeqCst) { "enabled" } else { "disabled" };
            let place = if cpu.user_context.load(SeqCst) == 0 { "kernel" } else { "user mode" };
            let _ = write!(text, " ({place}, interrupts {flag}");
            match cpu.deadline.load(SeqCst) {
                NEVER => text.push_str(", timer off)"),
                deadline => drop(write!(text, ", timer at {deadline} ns)")),
            }
        }
        text
    }

    /// If no CPU can go on, moves time to the next moment; false if there is none and there never will be.
    fn pass_time(&mut self) -> bool {
        if self.acting > 0 || self.started.iter().any(|id| self.can_go_on(&CPUS[id.index()])) {
            return true;
        }
        match self.next_moment() {
            NEVER => self.outside > 0,
            moment => {
                NOW.fetch_max(moment, SeqCst);
                WAKE.notify_all();
                true
            }
        }
    }
}

/// Waits on `cpu` until the time has come or, if asked, an interrupt is pending.
pub fn wait(cpu: &CpuState, until: u64, interruptible: bool) {
    block(cpu, Status::Waiting { until, interruptible });
}

/// Stops `cpu` for ever; time goes on without it.
pub fn halt(cpu: &CpuState) -> ! {
    block(cpu, Status::Halted);
    park()
}

/// Keeps `cpu` in `status` until it can go on, moving time if it is the last to wait.
fn block(cpu: &CpuState, status: Status) {
    let mut world = world();
    world.status[cpu.id.index()] = status;
    loop {
        if ENDED.load(SeqCst) {
            drop(world);
            park();
        }
        if NEXT_EVENT.load(SeqCst) <= NOW.load(SeqCst) && NEXT_EVENT.load(SeqCst) != NEVER {
            drop(world);
            run_due_events();
            world = self::world();
            continue;
        }
        if world.can_go_on(cpu) {
            world.status[cpu.id.index()] = Status::Running;
            return;
        }
        let before = NOW.load(SeqCst);
        if !world.pass_time() {
            let message = format!("every CPU waits and nothing can wake one: {}", world.describe());
            drop(world);
            finish(Err(Failure { kind: FailureKind::Deadlock, message }));
            park();
        }
        if NOW.load(SeqCst) == before {
            world = WAKE.wait(world).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs what the test wants done by now.
pub fn run_due_events() {
    loop {
        let mut world = world();
        let due = world.events.first_key_value().is_some_and(|((time, _), _)| *time <= NOW.load(SeqCst));
        let event = if due { world.events.pop_first() } else { None };
        world.acting += usize::from(event.is_some());
        let next = world.events.first_key_value().map_or(NEVER, |((time, _), _)| *time);
        NEXT_EVENT.store(next, SeqCst);
        drop(world);
        match event {
            Some((_, action)) => {
                action();
                // Time stood still meanwhile, and others may have waited for that.
                self::world().acting -= 1;
                WAKE.notify_all();
            }
            None => return,
        }
    }
}
