//! The frame a signal handler runs on: Linux's `struct rt_sigframe` of x86-64 (arch/x86/include/asm/sigframe.h,
//! arch/x86/include/uapi/asm/sigcontext.h).

use platform::TrapFrame;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::action::Action;
use super::altstack::{AltStack, UserStack};
use super::extended;
use super::info::SIGINFO_BYTES;
use super::{ActionFlags, SigInfo, SignalSet};
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::mm::user::user_top;
use crate::process::Task;

/// Bytes below the stack pointer that a function may use without saying so.
const RED_ZONE: u64 = 128;

/// `UC_FP_XSTATE`: the floating-point state is in the form of `xsave`.
const UC_FP_XSTATE: u64 = 1;
/// `UC_SIGCONTEXT_SS`: `ss` is meaningful.
const UC_SIGCONTEXT_SS: u64 = 2;
/// `UC_STRICT_RESTORE_SS`: `ss` is restored as it is.
const UC_STRICT_RESTORE_SS: u64 = 4;

/// `struct sigcontext_64`.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Registers {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    pub error: u64,
    pub trap: u64,
    pub old_mask: u64,
    pub fault_address: u64,
    pub extended: u64,
    pub reserved: [u64; 8],
}

/// `struct ucontext`.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct UserContext {
    pub flags: u64,
    pub link: u64,
    pub stack: UserStack,
    pub registers: Registers,
    pub mask: SignalSet,
}

/// What lies at the handler's stack pointer.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct RtFrame {
    return_address: u64,
    pub context: UserContext,
    info: [u8; SIGINFO_BYTES],
}

const _: () = {
    assert!(size_of::<Registers>() == 256);
    assert!(size_of::<UserContext>() == 304);
    assert!(size_of::<RtFrame>() == 440);
    assert!(core::mem::offset_of!(RtFrame, context) == 8);
    assert!(core::mem::offset_of!(RtFrame, info) == 312);
};

/// Where the parts of a frame go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    /// [`RtFrame`]: 8 below a multiple of 16, as after a call.
    frame: u64,
    /// Floating-point state: a multiple of 64.
    extended: u64,
}

/// Where a frame goes for a thread with stack pointer `sp` and this alternate stack.
fn place(sp: u64, alt: AltStack, flags: ActionFlags, extended_bytes: usize) -> KResult<Place> {
    let nested = alt.exists() && alt.in_use(sp);
    let below_red_zone = sp.wrapping_sub(RED_ZONE);
    let enters = flags.contains(ActionFlags::ON_STACK) && alt.exists() && !alt.in_use(below_red_zone);
    let start = if enters { alt.top() } else { below_red_zone };
    let extended = start.wrapping_sub(extended_bytes as u64) & !63;
    let frame = (extended.wrapping_sub(size_of::<RtFrame>() as u64) & !15).wrapping_sub(8);
    // Running off the end of the alternate stack must not overwrite what lies there.
    if (nested || enters) && !alt.contains(frame) {
        return Err(Errno::EFAULT);
    }
    Ok(Place { frame, extended })
}

/// Puts the frame of `info` on the user's stack and makes `user` continue in the handler.
pub(super) fn push(task: &Task, user: &mut TrapFrame, info: &SigInfo, action: &Action) -> KResult<()> {
    let flags = action.flags();
    // Without a place to return to, and with a handler no instruction pointer can hold, there is no handler.
    if !flags.contains(ActionFlags::RESTORER) || action.handler >= user_top().0 {
        return Err(Errno::EFAULT);
    }
    let alt = *task.signals.alt_stack.lock();
    let at = place(user.rsp, alt, flags, extended::frame_bytes())?;
    extended::save_to(UserAddr(at.extended))?;
    let mask = task.signals.mask_to_return_to();
    let mut frame = RtFrame {
        return_address: action.restorer,
        context: UserContext {
            flags: if extended::uses_xsave() { UC_FP_XSTATE } else { 0 }
                | UC_SIGCONTEXT_SS
                | UC_STRICT_RESTORE_SS,
            link: 0,
            stack: alt.to_user(user.rsp),
            registers: registers(task, user, mask, at.extended),
            mask,
        },
        info: [0; SIGINFO_BYTES],
    };
    if flags.contains(ActionFlags::SIGINFO) {
        info.put_to(&mut frame.info);
    }
    UserAddr(at.frame).write(&frame)?;
    extended::start_afresh();
    enter(user, info, action, at.frame);
    Ok(())
}

#[inline(always)]
fn registers(task: &Task, user: &TrapFrame, mask: SignalSet, extended: u64) -> Registers {
    let trap = *task.signals.last_trap.lock();
    Registers {
        r8: user.r8,
        r9: user.r9,
        r10: user.r10,
        r11: user.r11,
        r12: user.r12,
        r13: user.r13,
        r14: user.r14,
        r15: user.r15,
        rdi: user.rdi,
        rsi: user.rsi,
        rbp: user.rbp,
        rbx: user.rbx,
        rdx: user.rdx,
        rax: user.rax,
        rcx: user.rcx,
        rsp: user.rsp,
        rip: user.rip,
        rflags: user.rflags,
        cs: user.cs as u16,
        gs: 0,
        fs: 0,
        ss: user.ss as u16,
        error: trap.error,
        trap: trap.number,
        old_mask: mask.0,
        fault_address: trap.address,
        extended,
        reserved: [0; 8],
    }
}

/// Flags a handler starts without: single-step, direction, resume.
const CLEARED_FOR_HANDLER: u64 = flag::TRAP | flag::DIRECTION | flag::RESUME;

fn enter(user: &mut TrapFrame, info: &SigInfo, action: &Action, frame: u64) {
    user.rdi = info.signal.number() as u64;
    user.rsi = frame + core::mem::offset_of!(RtFrame, info) as u64;
    user.rdx = frame + core::mem::offset_of!(RtFrame, context) as u64;
    user.rax = 0;
    user.rip = action.handler;
    user.rsp = frame;
    user.cs = TrapFrame::USER_CODE;
    user.ss = TrapFrame::USER_DATA;
    user.rflags &= !CLEARED_FOR_HANDLER;
}

/// Bits of RFLAGS (Intel SDM vol. 1, 3.4.3).
pub(super) mod flag {
    pub const CARRY: u64 = 1 << 0;
    pub const PARITY: u64 = 1 << 2;
    pub const ADJUST: u64 = 1 << 4;
    pub const ZERO: u64 = 1 << 6;
    pub const SIGN: u64 = 1 << 7;
    pub const TRAP: u64 = 1 << 8;
    pub const DIRECTION: u64 = 1 << 10;
    pub const OVERFLOW: u64 = 1 << 11;
    pub const RESUME: u64 = 1 << 16;
    pub const ALIGNMENT_CHECK: u64 = 1 << 18;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alt(base: u64, size: u64) -> AltStack {
        AltStack::NONE.changed(&UserStack::new(base, size, 0), 0).unwrap()
    }

    #[test]
    fn frame_lies_below_the_red_zone_and_is_aligned_as_after_a_call() {
        for sp in [0x7fff_0000, 0x7fff_0008, 0x7fff_0123] {
            let at = place(sp, AltStack::NONE, ActionFlags::RESTORER, 836).unwrap();
            assert!(at.extended + 836 <= sp - RED_ZONE);
            assert_eq!(at.extended % 64, 0);
            assert!(at.frame + 440 <= at.extended);
            assert_eq!(at.frame % 16, 8);
        }
    }

    #[test]
    fn alternate_stack_is_used_when_asked_for_and_not_yet_in_use() {
        let stack = alt(0x10000, 0x4000);
        let asked = ActionFlags::RESTORER | ActionFlags::ON_STACK;
        let at = place(0x7fff_0000, stack, asked, 512).unwrap();
        assert!(at.frame > 0x10000 && at.extended + 512 <= 0x14000);
        let not_asked = place(0x7fff_0000, stack, ActionFlags::RESTORER, 512).unwrap();
        assert!(not_asked.frame > 0x14000);
        // A second signal goes below the first.
        let second = place(at.frame, stack, asked, 512).unwrap();
        assert!(second.extended + 512 <= at.frame - RED_ZONE && second.frame > 0x10000);
    }

    #[test]
    fn alternate_stack_too_small_is_refused() {
        let stack = alt(0x10000, 2048);
        assert_eq!(place(0x7fff_0000, stack, ActionFlags::ON_STACK, 2500), Err(Errno::EFAULT));
        let on_it = 0x10000 + 600;
        assert_eq!(place(on_it, stack, ActionFlags::empty(), 512), Err(Errno::EFAULT));
    }
}
