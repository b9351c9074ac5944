//! Interrupt lines: who gets them, and which wait.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

use platform::{CpuId, IrqLine};

use crate::state::CPUS;

/// Lines below this number are wired; those from it on are messages.
pub const FIRST_MESSAGE: u32 = 64;

/// One line. An edge is kept in `pending`; a level stays in `asserted` until its device is served.
#[derive(Default)]
pub struct Line {
    pub route: Option<CpuId>,
    pub unmasked: bool,
    pub pending: bool,
    pub asserted: bool,
    pub in_service: Option<CpuId>,
}

impl Line {
    fn ready_for(&self, cpu: CpuId) -> bool {
        self.route == Some(cpu)
            && self.unmasked
            && self.in_service.is_none()
            && (self.pending || self.asserted)
    }
}

/// The lines in use.
pub struct Lines {
    lines: BTreeMap<u32, Line>,
}

impl Lines {
    pub const fn new() -> Self {
        Self { lines: BTreeMap::new() }
    }

    pub fn get(&mut self, line: IrqLine) -> Option<&mut Line> {
        self.lines.get_mut(&line.0)
    }

    pub fn get_or_add(&mut self, line: IrqLine) -> &mut Line {
        self.lines.entry(line.0).or_default()
    }

    pub fn remove(&mut self, line: IrqLine) -> bool {
        self.lines.remove(&line.0).is_some()
    }

    pub fn has(&self, line: IrqLine) -> bool {
        self.lines.contains_key(&line.0)
    }

    /// Brings the CPUs' own knowledge up to date after any change.
    pub fn update(&self) {
        for cpu in &CPUS {
            cpu.line_ready.store(self.lines.values().any(|line| line.ready_for(cpu.id)), SeqCst);
        }
    }

    /// The next line for `cpu`, which now serves it.
    pub fn take(&mut self, cpu: CpuId) -> Option<IrqLine> {
        let (&number, line) = self.lines.iter_mut().find(|(_, line)| line.ready_for(cpu))?;
        line.pending = false;
        line.in_service = Some(cpu);
        self.update();
        Some(IrqLine(number))
    }
}
