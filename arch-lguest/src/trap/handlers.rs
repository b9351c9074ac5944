//! From the entry stubs to the kernel.

use core::sync::atomic::Ordering::Relaxed;

use arch_x86::extended_state::continuation;
use lguest_abi::{Event, FIRST_INTERRUPT_VECTOR};
use platform::{Access, Exception, Kernel, TrapFrame, VirtAddr};

use crate::data::DATA;
use crate::interrupts;

/// `orig_rax` of a frame that is no system call's.
const NO_SYSTEM_CALL: u64 = u64::MAX;
/// The one exception that is frequent.
const PAGE_FAULT: u32 = 14;

pub(super) extern "C" fn system_call<K: Kernel>(frame: &mut TrapFrame) {
    K::system_call(frame);
}

/// `orig_rax` holds the event.
pub(super) extern "C" fn event<K: Kernel>(frame: &mut TrapFrame) {
    let event = Event::from_word(frame.orig_rax);
    frame.orig_rax = NO_SYSTEM_CALL;
    if event.vector == PAGE_FAULT {
        let address = VirtAddr(DATA.cr2.load(Relaxed));
        let access = Access::from_bits_truncate(event.error_code);
        K::exception(Exception::PageFault { address, access }, frame);
    } else if event.vector >= FIRST_INTERRUPT_VECTOR {
        interrupts::dispatch::<K>(event.vector - FIRST_INTERRUPT_VECTOR, frame);
    } else {
        exception::<K>(event, frame);
    }
}

fn exception<K: Kernel>(event: Event, frame: &mut TrapFrame) {
    if !frame.is_user()
        && let Some(next) = continuation(frame.rip)
    {
        frame.rip = next;
        return;
    }
    let code = event.error_code;
    K::exception(
        match event.vector {
            0 => Exception::DivideError,
            1 => Exception::Debug,
            3 => Exception::Breakpoint,
            4 => Exception::Overflow,
            5 => Exception::BoundRange,
            6 => Exception::InvalidOpcode,
            10 => Exception::InvalidTss(code),
            11 => Exception::SegmentNotPresent(code),
            12 => Exception::StackFault(code),
            13 => Exception::GeneralProtection(code),
            16 => Exception::FloatingPoint,
            17 => Exception::AlignmentCheck,
            19 => Exception::SimdFloatingPoint,
            other => Exception::Other(other as u8),
        },
        frame,
    );
}
