//! From the entry stubs to the kernel.

use arch_x86::extended_state::continuation;
use platform::{Access, Exception, Kernel, TrapFrame, VirtAddr};

use super::entry;
use crate::interrupts::vectors;
use crate::machine::Machine;
use crate::sensitive::sensitive;

/// `orig_rax` of a frame that is no system call's.
const NO_SYSTEM_CALL: u64 = u64::MAX;

pub(super) extern "C" fn system_call<K: Kernel>(frame: &mut TrapFrame) {
    K::system_call(frame);
}

pub(super) extern "C" fn interrupt<K: Kernel, M: Machine>(frame: &mut TrapFrame) {
    let vector = !frame.orig_rax as u8;
    vectors::dispatch::<K, M>(vector, frame);
}

pub(super) extern "C" fn page_fault<K: Kernel, M: Machine>(frame: &mut TrapFrame) {
    let address = VirtAddr(M::cr2());
    let access = Access::from_bits_truncate(frame.orig_rax as u32);
    frame.orig_rax = NO_SYSTEM_CALL;
    K::exception(Exception::PageFault { address, access }, frame);
}

pub(super) extern "C" fn exception<K: Kernel, M: Machine>(frame: &mut TrapFrame, vector: u32) {
    let code = frame.orig_rax as u32;
    frame.orig_rax = NO_SYSTEM_CALL;
    if !frame.is_user() {
        if M::is_user_return(frame.rip) {
            refused_user_return::<K, M>(frame, code);
        }
        if let Some(next) = continuation(frame.rip) {
            frame.rip = next;
            return;
        }
    }
    K::exception(
        match vector {
            0 => Exception::DivideError,
            1 => Exception::Debug,
            2 => Exception::NonMaskable,
            3 => Exception::Breakpoint,
            4 => Exception::Overflow,
            5 => Exception::BoundRange,
            6 => Exception::InvalidOpcode,
            7 => Exception::DeviceNotAvailable,
            8 => Exception::DoubleFault,
            10 => Exception::InvalidTss(code),
            11 => Exception::SegmentNotPresent(code),
            12 => Exception::StackFault(code),
            13 => Exception::GeneralProtection(code),
            16 => Exception::FloatingPoint,
            17 => Exception::AlignmentCheck,
            18 => Exception::MachineCheck,
            19 => Exception::SimdFloatingPoint,
            other => Exception::Other(other as u8),
        },
        frame,
    );
}

/// The processor refused to go to user mode with what the kernel was asked to put there (an instruction pointer that is
/// not canonical, say). The general registers are user mode's, and so is GS; the rest of the context lies where the
/// refused instruction found it. It becomes a protection fault of user mode.
#[cold]
fn refused_user_return<K: Kernel, M: Machine>(frame: &TrapFrame, code: u32) -> ! {
    // SAFETY: user mode's GS base is active, for the instruction is preceded by the same exchange; the five words the
    // instruction was to take are on the kernel stack, above this frame.
    let mut user = unsafe {
        core::arch::asm!(sensitive!("swapgs"), recorded = const M::RECORDED as u32);
        let [rip, cs, rflags, rsp, ss] = (frame.rsp as *const [u64; 5]).read();
        TrapFrame { rip, cs, rflags, rsp, ss, ..*frame }
    };
    user.cs = TrapFrame::USER_CODE;
    user.ss = TrapFrame::USER_DATA;
    K::exception(Exception::GeneralProtection(code), &mut user);
    // SAFETY: a user context, on this CPU's kernel stack with interrupts disabled.
    unsafe { entry::enter_user::<M>(&user) }
}
