//! Interrupt lines: the host's virtual interrupts but for the timer's, by their numbers. They are edges.

use core::marker::PhantomData;
use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{MOST_INTERRUPTS, VIRQ_TIMER};
use platform::{CpuId, Interrupt, InterruptError, IrqLine, Kernel, MessageAddress, TrapFrame};

use crate::data::DATA;
use crate::host;
use crate::time::timer;

/// [`platform::Interrupts`] of an lguest guest.
#[derive(Debug)]
pub struct LguestInterrupts<K>(PhantomData<K>);

fn is_line(line: IrqLine) -> bool {
    line.0 != VIRQ_TIMER && line.0 < MOST_INTERRUPTS
}

/// Lets virtual interrupt `number` come; one that has waited comes at once if interrupts are enabled.
pub fn unblock(number: u32) {
    DATA.blocked_interrupts.fetch_and(!(1 << number), Relaxed);
    host::send_interrupts();
}

/// Tells the kernel what arrived.
#[inline(always)]
pub fn dispatch<K: Kernel>(number: u32, frame: &mut TrapFrame) {
    if number != VIRQ_TIMER {
        K::interrupt(Interrupt::Line(IrqLine(number)), frame);
    } else if timer::expired() {
        K::interrupt(Interrupt::Timer, frame);
    }
}

#[platform::backend]
impl<K: Kernel> platform::Interrupts for LguestInterrupts<K> {
    fn route(line: IrqLine, cpu: CpuId) -> Result<(), InterruptError> {
        if !is_line(line) || cpu.0 != 0 {
            return Err(InterruptError::NoSuchLine);
        }
        Self::mask(line);
        Ok(())
    }

    fn mask(line: IrqLine) {
        if is_line(line) {
            DATA.blocked_interrupts.fetch_or(1 << line.0, Relaxed);
        }
    }

    fn unmask(line: IrqLine) {
        if is_line(line) {
            unblock(line.0);
        }
    }

    #[inline(always)]
    fn end(_line: IrqLine) {}

    fn allocate_message(_: CpuId) -> Result<(IrqLine, MessageAddress), InterruptError> {
        Err(InterruptError::Unsupported)
    }

    fn free_message(_: IrqLine) {}
}
