//! A device's line.

use platform::{DeviceEvents, IrqLine, Nanoseconds};

use super::{all, known};
use crate::driven::Driven;
use crate::hook::{clock, cpu, devices, interrupts, timer};
use crate::report::{Outcome, ensure};
use crate::{cpus, wait};

/// Requests of each device.
const ROUNDS: u64 = 500;
/// A wake-up that takes so long was lost.
const LOST: Nanoseconds = Nanoseconds::from_seconds(10);
/// How long it is watched that nothing comes.
const QUIET: Nanoseconds = Nanoseconds::from_millis(5);

/// Waits with interrupts disabled until another line's interrupt has come than the `before` first; whether one has.
fn line_comes(before: u64) -> bool {
    let events = &cpus::this().events;
    let timers = events.timers();
    timer::arm(clock::now() + LOST);
    while events.lines().0 == before && events.timers() == timers {
        cpu::wait_for_interrupt();
        cpu::irq_disable();
    }
    timer::disarm();
    events.lines().0 != before
}

/// Unmasks a line of which an interrupt may have been kept while it was masked: that comes first.
fn unmask_afresh(line: IrqLine) {
    interrupts::unmask(line);
    wait::pass(QUIET);
    // The handler has masked it.
    interrupts::unmask(line);
}

/// Nobody looks into the queue until the interrupt has come: whoever must is not told.
pub fn each() -> Outcome {
    let events = &cpus::this().events;
    for device in known()? {
        let (id, line) = (device.id, device.line);
        let routed = interrupts::route(line, cpus::id());
        ensure!(routed == Ok(()), "{id:?} has {line:?}, which could not be routed: {routed:?}");
        unmask_afresh(line);
        let mut driven = Driven::start(device, 4)?;
        for round in 0..ROUNDS {
            interrupts::unmask(line);
            cpu::irq_disable();
            let before = events.lines().0;
            driven.request(0);
            let came = line_comes(before);
            cpu::irq_enable();
            ensure!(came, "no interrupt came for request {round} of {id:?}");
            ensure!(events.lines().1 == line.0, "{id:?} raised line {}", events.lines().1);
            let told = devices::acknowledge(id);
            ensure!(told.contains(DeviceEvents::QUEUE), "{id:?} raised its line for {told:?}");
            ensure!(driven.queue.has_used(), "{id:?} raised its line before it had used anything");
            driven.complete(0)?;
        }
        interrupts::unmask(line);
        let before = events.lines().0;
        wait::pass(QUIET);
        ensure!(events.lines().0 == before, "{id:?} raised its line for nothing");
        interrupts::mask(line);
    }
    Ok(())
}

pub fn masked() -> Outcome {
    let events = &cpus::this().events;
    for device in known()? {
        let (id, line) = (device.id, device.line);
        let routed = interrupts::route(line, cpus::id());
        ensure!(routed == Ok(()), "{id:?} has {line:?}, which could not be routed: {routed:?}");
        let mut driven = Driven::start(device, 4)?;
        for _ in 0..20 {
            let before = events.lines().0;
            driven.request(0);
            driven.complete(0)?;
            wait::pass(QUIET);
            ensure!(events.lines().0 == before, "{id:?} was masked, and its line came");
            devices::acknowledge(id);
            unmask_afresh(line);
            cpu::irq_disable();
            let before = events.lines().0;
            driven.request(0);
            let came = line_comes(before);
            cpu::irq_enable();
            ensure!(came, "{id:?} was unmasked, and its line did not come");
            driven.complete(0)?;
            interrupts::mask(line);
            devices::acknowledge(id);
        }
    }
    Ok(())
}

pub fn reasons() -> Outcome {
    let others = all()?;
    for device in known()? {
        let id = device.id;
        let mut driven = Driven::start(device, 4)?;
        for other in &others {
            devices::acknowledge(other.id);
        }
        for _ in 0..20 {
            driven.request(0);
            driven.complete(0)?;
            // It says so before it raises its line, but not before it has used what it was given.
            ensure!(
                wait::comes(|| devices::acknowledge(id).contains(DeviceEvents::QUEUE)),
                "{id:?} used a buffer and tells nothing"
            );
            for other in &others {
                let told = devices::acknowledge(other.id);
                ensure!(told == DeviceEvents::empty(), "{:?} tells {told:?} of {id:?}", other.id);
            }
        }
    }
    Ok(())
}
