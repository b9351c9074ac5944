//! What each interrupt vector stands for.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use platform::{Interrupt, IrqLine, Kernel, Message, TrapFrame};

use super::{lines, local_apic};
use crate::machine::Machine;
use crate::paging::flush;
use crate::time::timer;

/// Vectors of lines: from the first after the exceptions.
pub const FIRST_LINE: u8 = 0x20;
/// One past the last vector of a line.
pub const LINES_END: u8 = 0xf0;
/// The timer.
pub const TIMER: u8 = 0xf0;
/// [`Message::Reschedule`].
pub const RESCHEDULE: u8 = 0xf1;
/// [`Message::Call`].
pub const CALL: u8 = 0xf2;
/// [`Message::Stop`].
pub const STOP: u8 = 0xf3;
/// A request of [`flush`].
pub const FLUSH: u8 = 0xf4;
/// The APIC withdrew an interrupt it had announced. Needs no end.
pub const SPURIOUS: u8 = 0xff;

const NO_LINE: u32 = u32::MAX;

/// The line of each vector.
static LINES: [AtomicU32; 256] = [const { AtomicU32::new(NO_LINE) }; 256];

/// Says which line `vector` belongs to, or that it belongs to none.
pub fn assign(vector: u8, line: Option<IrqLine>) {
    LINES[usize::from(vector)].store(line.map_or(NO_LINE, |line| line.0), Relaxed);
}

/// The vector of a message.
#[inline(always)]
pub const fn of_message(message: Message) -> u8 {
    match message {
        Message::Reschedule => RESCHEDULE,
        Message::Call => CALL,
        Message::Stop => STOP,
    }
}

/// Tells the kernel what arrived.
#[inline(always)]
pub fn dispatch<K: Kernel, M: Machine>(vector: u8, frame: &mut TrapFrame) {
    frame.orig_rax = u64::MAX;
    let interrupt = match vector {
        TIMER => {
            local_apic::end::<M>();
            if !timer::expired::<M>() {
                return;
            }
            Interrupt::Timer
        }
        RESCHEDULE => {
            local_apic::end::<M>();
            Interrupt::Message(Message::Reschedule)
        }
        CALL => {
            local_apic::end::<M>();
            Interrupt::Message(Message::Call)
        }
        STOP => {
            local_apic::end::<M>();
            Interrupt::Message(Message::Stop)
        }
        FLUSH => {
            local_apic::end::<M>();
            flush::serve::<M>();
            return;
        }
        _ => match LINES[usize::from(vector)].load(Relaxed) {
            NO_LINE => {
                if vector != SPURIOUS {
                    local_apic::end::<M>();
                }
                Interrupt::Spurious
            }
            line if lines::is_held_back(IrqLine(line), vector) => {
                local_apic::end::<M>();
                return;
            }
            line => Interrupt::Line(IrqLine(line)),
        },
    };
    K::interrupt(interrupt, frame);
}
