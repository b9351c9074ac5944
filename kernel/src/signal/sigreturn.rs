//! The way back from a signal handler: `rt_sigreturn(2)`.

use core::mem::MaybeUninit;

use platform::TrapFrame;

use super::frame::{Registers, RtFrame, UserContext, flag};
use super::number::SIGSEGV;
use super::{SigInfo, altstack, extended, restart, send};
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::mm::user::user_top;
use crate::process::current;
use crate::syscall::{Call, SysResult};

/// Flags a program may set.
const USER_FLAGS: u64 = flag::CARRY
    | flag::PARITY
    | flag::ADJUST
    | flag::ZERO
    | flag::SIGN
    | flag::TRAP
    | flag::DIRECTION
    | flag::OVERFLOW
    | flag::RESUME
    | flag::ALIGNMENT_CHECK;

pub(super) fn rt_sigreturn(call: &mut Call<'_>) -> SysResult {
    // The handler's `ret` has taken the return address from the frame.
    let frame = UserAddr(call.frame.rsp.wrapping_sub(8));
    if restore(frame, call.frame).is_err() {
        let task = current();
        log::debug!("{}[{}]: bad frame in rt_sigreturn", task.name(), task.tid().0);
        send::force(SigInfo::kernel(SIGSEGV));
    }
    restart::forget();
    // Whatever RAX holds now is the program's own, not a result to restart for.
    call.frame.orig_rax = u64::MAX;
    Ok(call.frame.rax)
}

fn restore(at: UserAddr, user: &mut TrapFrame) -> KResult<()> {
    let mut frame = MaybeUninit::<RtFrame>::uninit();
    let context: &UserContext = &at.read_to(&mut frame)?.context;
    let task = current();
    task.set_blocked(context.mask);
    restore_registers(&context.registers, user)?;
    extended::restore_from(UserAddr(context.registers.extended))?;
    // As in Linux, an alternate stack that cannot be set is left as it was.
    let _ = altstack::set(Some(&context.stack), user.rsp);
    Ok(())
}

fn restore_registers(from: &Registers, user: &mut TrapFrame) -> KResult<()> {
    let cs = u64::from(from.cs) | 3;
    let ss = u64::from(from.ss) | 3;
    // Other selectors and addresses would fault on the way back to user mode.
    if cs != TrapFrame::USER_CODE || (ss != TrapFrame::USER_DATA && ss != 3) || from.rip >= user_top().0 {
        return Err(Errno::EFAULT);
    }
    *user = TrapFrame {
        r15: from.r15,
        r14: from.r14,
        r13: from.r13,
        r12: from.r12,
        rbp: from.rbp,
        rbx: from.rbx,
        r11: from.r11,
        r10: from.r10,
        r9: from.r9,
        r8: from.r8,
        rax: from.rax,
        rcx: from.rcx,
        rdx: from.rdx,
        rsi: from.rsi,
        rdi: from.rdi,
        orig_rax: u64::MAX,
        rip: from.rip,
        cs: TrapFrame::USER_CODE,
        rflags: (user.rflags & !USER_FLAGS) | (from.rflags & USER_FLAGS),
        rsp: from.rsp,
        ss: TrapFrame::USER_DATA,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Registers {
        Registers {
            rip: 0x40_0000,
            rsp: 0x7fff_0000,
            cs: 0x33,
            ss: 0x2b,
            rflags: 0x246,
            ..Registers::default()
        }
    }

    #[test]
    fn flags_a_program_may_not_set_stay() {
        let mut user = TrapFrame::user(0, 0);
        let before = user.rflags;
        let from = Registers { rflags: u64::MAX, ..valid() };
        restore_registers(&from, &mut user).unwrap();
        assert_eq!(user.rflags & !USER_FLAGS, before & !USER_FLAGS);
        assert_eq!(user.rflags & USER_FLAGS, USER_FLAGS);
        let from = Registers { rflags: 0, ..valid() };
        restore_registers(&from, &mut user).unwrap();
        assert!(user.interrupts_enabled());
    }

    #[test]
    fn kernel_selectors_and_addresses_are_refused() {
        let mut user = TrapFrame::user(1, 2);
        let untouched = user;
        for bad in [
            Registers { cs: 0x10, ..valid() },
            Registers { cs: 0, ..valid() },
            Registers { ss: 0x18, ..valid() },
            Registers { rip: 0xffff_8000_0000_0000, ..valid() },
            Registers { rip: 0x8000_0000_0000, ..valid() },
        ] {
            assert!(restore_registers(&bad, &mut user).is_err());
            assert_eq!(user, untouched);
        }
        restore_registers(&valid(), &mut user).unwrap();
        assert_eq!((user.rip, user.rsp, user.cs), (0x40_0000, 0x7fff_0000, TrapFrame::USER_CODE));
    }
}
