//! What a test does to the machine while it runs: from the kernel under test, a user program, an event or a thread
//! outside.

use std::sync::atomic::Ordering::SeqCst;

use platform::{IrqLine, MessageAddress, Nanoseconds};

use crate::console::INPUT_LINE;
use crate::lines::FIRST_MESSAGE;
use crate::pending::deliver;
use crate::state::{NEXT_EVENT, NOW, WAKE, here, world};
use crate::user;
use crate::wait::{run_due_events, wait};

/// Virtual time, which this does not move.
pub fn now() -> Nanoseconds {
    Nanoseconds(NOW.load(SeqCst))
}

/// Moves virtual time forward by hand.
pub fn advance(by: Nanoseconds) {
    {
        let _world = world();
        NOW.fetch_add(by.0, SeqCst);
        WAKE.notify_all();
    }
    run_due_events();
}

/// Has `action` done when virtual time reaches `time`, by whichever CPU notices. It must not call the kernel.
pub fn at(time: Nanoseconds, action: impl FnOnce() + Send + 'static) {
    let mut world = world();
    let number = world.event_count;
    world.event_count += 1;
    world.events.insert((time.0, number), Box::new(action));
    NEXT_EVENT.fetch_min(time.0, SeqCst);
    WAKE.notify_all();
}

/// Types `bytes` on the console.
pub fn input(bytes: &[u8]) {
    let mut world = world();
    world.input.extend(bytes);
    let waiting = !world.input.is_empty();
    world.lines.get_or_add(INPUT_LINE).asserted = waiting;
    world.lines.update();
    WAKE.notify_all();
}

/// A device raises an edge on `line`. One that nobody uses yet is kept.
pub fn raise(line: IrqLine) {
    let mut world = world();
    world.lines.get_or_add(line).pending = true;
    world.lines.update();
    WAKE.notify_all();
}

/// A device writes a message as it was told by [`platform::Interrupts::allocate_message`].
///
/// # Panics
/// If nobody allocated it.
pub fn write_message(message: MessageAddress) {
    let mut world = world();
    let line = IrqLine(message.data);
    let known = line.0 >= FIRST_MESSAGE && world.lines.has(line);
    if known {
        world.lines.get_or_add(line).pending = true;
        world.lines.update();
        WAKE.notify_all();
    }
    drop(world);
    assert!(known, "a device wrote message {message:?}, which is not allocated");
}

/// Works for `length` of this CPU's time: in user mode and with interrupts enabled, interrupts are delivered meanwhile
/// and what they take does not count.
pub fn run_for(length: Nanoseconds) {
    let mut left = length.0;
    loop {
        let cpu = here("run_for");
        let start = NOW.load(SeqCst);
        let interruptible = cpu.irq_enabled.load(SeqCst);
        wait(cpu, start.saturating_add(left), interruptible);
        left = left.saturating_sub(NOW.load(SeqCst) - start);
        if interruptible {
            if cpu.user_context.load(SeqCst) != 0 {
                user::take_interrupts();
            } else {
                deliver("run_for");
            }
        }
        if left == 0 {
            return;
        }
    }
}
