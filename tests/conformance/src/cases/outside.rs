//! What needs somebody outside: a hand at the console, or an eye on the host.

use platform::Nanoseconds;

use super::{Case, outside};
use crate::hook::{clock, console, cpu, interrupts, timer};
use crate::report::{Outcome, ensure, say};
use crate::{cpus, wait};

pub const CASES: &[Case] =
    &[outside("idle: waiting takes no time of the host", idle), outside("input: the console's line", input)];

/// Long enough for whoever watches.
const REST: Nanoseconds = Nanoseconds::from_seconds(5);

fn idle() -> Outcome {
    let events = &cpus::this().events;
    let before = events.timers();
    say!("resting");
    cpu::irq_disable();
    timer::arm(clock::now() + REST);
    while events.timers() == before {
        cpu::wait_for_interrupt();
        cpu::irq_disable();
    }
    cpu::irq_enable();
    say!("rested");
    Ok(())
}

fn input() -> Outcome {
    let events = &cpus::this().events;
    let Some(line) = console::input_line() else { return Err("the console has no interrupt line".into()) };
    let routed = interrupts::route(line, cpus::id());
    ensure!(routed == Ok(()), "the console's line could not be routed: {routed:?}");
    let mut buffer = [0; 16];
    let left = console::read(&mut buffer);
    ensure!(left == 0, "there was input before anybody typed");
    for expected in [b"a", b"b"] {
        let before = events.lines().0;
        interrupts::unmask(line);
        say!("type {}", expected.escape_ascii());
        wait::until("the console's interrupt", || events.lines().0 != before);
        // The handler has masked the line, so input that comes late does not interrupt.
        ensure!(events.lines().1 == line.0, "line {} interrupted instead of {}", events.lines().1, line.0);
        let mut count = 0;
        wait::until("the input", || {
            let mut byte = [0];
            console::read(&mut byte) == 1 && byte == *expected
        });
        while console::read(&mut buffer) != 0 {
            count += 1;
        }
        ensure!(count == 0, "more input came than was typed");
    }
    Ok(())
}
