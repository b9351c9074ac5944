//! Interrupt lines.

use core::marker::PhantomData;

use platform::{CpuId, InterruptError, Interrupts, IrqLine, Kernel, MessageAddress};

use crate::lines::{FIRST_MESSAGE, Line};
use crate::state::{WAKE, World, discovered, facts, here, here_disabled, violation};

/// An interrupt controller with 64 wired lines and as many messages as the machine was given.
#[derive(Debug)]
pub struct SimInterrupts<K>(PhantomData<fn() -> K>);

/// Whether the controller has this line now.
fn exists(world: &World, line: IrqLine) -> bool {
    line.0 < FIRST_MESSAGE || world.lines.has(line)
}

fn check_cpu(hook: &str, world: &World, cpu: CpuId) -> Result<(), String> {
    if world.started.contains(cpu) {
        return Ok(());
    }
    Err(format!("{hook}: CPU {} has not started", cpu.0))
}

/// Changes a line that the kernel has routed.
fn change(hook: &str, line: IrqLine, edit: impl FnOnce(&mut Line)) {
    here(hook);
    let mut world = discovered(hook);
    match world.lines.get(line).filter(|line| line.route.is_some()) {
        Some(found) => edit(found),
        None => {
            drop(world);
            violation(format!("{hook}: {line:?} is not routed"));
        }
    }
    world.lines.update();
    WAKE.notify_all();
}

#[platform::backend]
impl<K: Kernel> Interrupts for SimInterrupts<K> {
    fn route(line: IrqLine, cpu: CpuId) -> Result<(), InterruptError> {
        here("Interrupts::route");
        let mut world = discovered("Interrupts::route");
        if !exists(&world, line) {
            return Err(InterruptError::NoSuchLine);
        }
        if let Err(message) = check_cpu("Interrupts::route", &world, cpu) {
            drop(world);
            violation(message);
        }
        let state = world.lines.get_or_add(line);
        state.route = Some(cpu);
        state.unmasked = false;
        world.lines.update();
        Ok(())
    }

    fn mask(line: IrqLine) {
        change("Interrupts::mask", line, |line| line.unmasked = false);
    }

    fn unmask(line: IrqLine) {
        change("Interrupts::unmask", line, |line| line.unmasked = true);
    }

    fn end(line: IrqLine) {
        let cpu = here_disabled("Interrupts::end");
        let mut wrong = None;
        change("Interrupts::end", line, |line| {
            if line.in_service == Some(cpu.id) {
                line.in_service = None;
            } else {
                wrong = Some(line.in_service);
            }
        });
        if let Some(server) = wrong {
            violation(format!(
                "Interrupts::end of {line:?} on CPU {}, but it is served by {server:?}",
                cpu.id.0
            ));
        }
    }

    fn allocate_message(cpu: CpuId) -> Result<(IrqLine, MessageAddress), InterruptError> {
        here("Interrupts::allocate_message");
        let mut world = discovered("Interrupts::allocate_message");
        let count = facts().message_lines;
        if count == 0 {
            return Err(InterruptError::Unsupported);
        }
        if let Err(message) = check_cpu("Interrupts::allocate_message", &world, cpu) {
            drop(world);
            violation(message);
        }
        let line = (FIRST_MESSAGE..FIRST_MESSAGE + count)
            .map(IrqLine)
            .find(|line| !world.lines.has(*line))
            .ok_or(InterruptError::Exhausted)?;
        world.lines.get_or_add(line).route = Some(cpu);
        Ok((line, MessageAddress { address: 0xfee0_0000 | u64::from(cpu.0) << 12, data: line.0 }))
    }

    fn free_message(line: IrqLine) {
        here("Interrupts::free_message");
        let mut world = discovered("Interrupts::free_message");
        let known = line.0 >= FIRST_MESSAGE && world.lines.remove(line);
        world.lines.update();
        drop(world);
        if !known {
            violation(format!("Interrupts::free_message: {line:?} is no allocated message"));
        }
    }
}
