//! Interrupt lines and who handles them.

use alloc::vec::Vec;

use platform::{CpuId, InterruptError, IrqLine};

use crate::errno::{Errno, KResult};
use crate::hook::interrupts;
use crate::sync::IrqLock;

/// What is called when a line is raised: on the CPU the line is routed to, interrupts disabled.
pub type LineHandler = fn(IrqLine);

static HANDLERS: IrqLock<Vec<(IrqLine, LineHandler)>> = IrqLock::new(Vec::new());

impl From<InterruptError> for Errno {
    fn from(error: InterruptError) -> Self {
        match error {
            InterruptError::NoSuchLine => Self::ENXIO,
            InterruptError::Exhausted => Self::ENOSPC,
            InterruptError::Unsupported => Self::EOPNOTSUPP,
        }
    }
}

/// Lets `line` be delivered to the boot CPU and handled there. Several handlers may share a line.
pub fn register(line: IrqLine, handler: LineHandler) -> KResult<()> {
    let known = {
        let mut handlers = HANDLERS.lock();
        let known = handlers.iter().any(|(other, _)| *other == line);
        handlers.push((line, handler));
        known
    };
    if !known {
        interrupts::route(line, CpuId(0))?;
        interrupts::unmask(line);
    }
    Ok(())
}

/// A line was raised. Context: the interrupt, interrupts disabled.
pub fn handle(line: IrqLine) {
    let mut index = 0;
    let mut handled = false;
    loop {
        let next = {
            let handlers = HANDLERS.lock();
            let found = handlers[index.min(handlers.len())..].iter().position(|(other, _)| *other == line);
            found.map(|at| (index + at, handlers[index + at].1))
        };
        let Some((at, handler)) = next else { break };
        handler(line);
        handled = true;
        index = at + 1;
    }
    if !handled {
        // Nobody knows how to quieten it: it must not come again.
        interrupts::mask(line);
        log::warn!("interrupt line {} was raised, and nobody handles it", line.0);
    }
    interrupts::end(line);
}
