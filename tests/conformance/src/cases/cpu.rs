//! Entry to user mode and back.

use platform::{Nanoseconds, TrapFrame, VirtAddr};

use super::{Case, case};
use crate::hook::{clock, cpu, timer};
use crate::report::{Outcome, ensure};
use crate::space::{self, DATA, READ_WRITE, STACK_TOP, Space};
use crate::user::{self, Left};
use crate::{cpus, memory, programs};

pub const CASES: &[Case] = &[
    case("user mode gets the registers of its frame and gives them back", registers),
    case("system call tells number, arguments, return address and flags", system_call),
    case("kernel is entered with the direction flag clear", direction_flag),
    case("user mode is interrupted and goes on as it was", interrupted),
    case("user memory can be reached by the kernel when it asks", user_access),
];

/// A frame with something else in each register.
fn pattern(space: &Space) -> TrapFrame {
    TrapFrame {
        r15: 0x1515_1515_1515_1515,
        r14: 0x1414,
        r13: u64::MAX,
        r12: 0x1212_0000_0000_1212,
        rbp: 0x8000_0000_0000_0000,
        rbx: 0xbbbb,
        r11: 0x1111,
        r10: 0x1010_1010,
        r9: 0x99,
        r8: 0x8888_8888_8888_8888,
        rax: 0xaaaa_0000_aaaa,
        rcx: 0xcccc,
        rdx: 0xdddd_dddd,
        rsi: 0x5151_5151,
        rdi: 0xd1d1_d1d1_d1d1,
        ..space.start()
    }
}

fn same_registers(a: &TrapFrame, b: &TrapFrame) -> bool {
    let general = |frame: &TrapFrame| {
        [
            frame.r15, frame.r14, frame.r13, frame.r12, frame.rbp, frame.rbx, frame.r10, frame.r9, frame.r8,
            frame.rax, frame.rdx, frame.rsi, frame.rdi, frame.rsp,
        ]
    };
    general(a) == general(b)
}

fn registers() -> Outcome {
    let space = Space::with_program(programs::undefined());
    space.activate();
    let start = pattern(&space);
    let (left, end) = user::run(&start);
    space::leave();
    ensure!(matches!(left, Left::Exception(platform::Exception::InvalidOpcode)), "left by {left:?}");
    ensure!(same_registers(&start, &end), "went in as {start:#x?} and came back as {end:#x?}");
    ensure!(end.rcx == start.rcx && end.r11 == start.r11, "rcx or r11 changed: {end:#x?}");
    ensure!(end.rip == start.rip, "stopped at {:#x}", end.rip);
    ensure!(end.cs == TrapFrame::USER_CODE && end.is_user(), "cs is {:#x}", end.cs);
    ensure!(end.interrupts_enabled(), "rflags are {:#x}", end.rflags);
    Ok(())
}

fn system_call() -> Outcome {
    let space = Space::with_program(programs::call());
    space.activate();
    let start = pattern(&space);
    let (left, mut frame) = user::run(&start);
    ensure!(left == Left::SystemCall, "left by {left:?}");
    ensure!(same_registers(&start, &frame), "called with {start:#x?}, seen as {frame:#x?}");
    let next = start.rip + 2;
    ensure!(frame.rip == next && frame.rcx == next, "return address {:#x}, rcx {:#x}", frame.rip, frame.rcx);
    ensure!(frame.r11 == frame.rflags, "r11 is {:#x}, rflags {:#x}", frame.r11, frame.rflags);
    ensure!(frame.is_user() && frame.interrupts_enabled(), "cs {:#x}, rflags {:#x}", frame.cs, frame.rflags);
    frame.rax = 0x4242;
    let (left, end) = user::run(&frame);
    space::leave();
    ensure!(matches!(left, Left::Exception(platform::Exception::InvalidOpcode)), "returned to {left:?}");
    ensure!(same_registers(&frame, &end), "returned with {frame:#x?}, seen as {end:#x?}");
    Ok(())
}

fn direction_flag() -> Outcome {
    const DIRECTION: u64 = 1 << 10;
    let space = Space::with_program(programs::backwards());
    space.activate();
    let (left, end) = user::run(&space.start());
    let flags: u64;
    // SAFETY: only reads the flags; the stack is balanced.
    unsafe { core::arch::asm!("pushfq", "pop {}", out(reg) flags) };
    space::leave();
    ensure!(left == Left::SystemCall, "left by {left:?}");
    ensure!(end.rflags & DIRECTION != 0, "the frame lost user mode's direction flag");
    ensure!(flags & DIRECTION == 0, "the kernel runs with user mode's direction flag");
    Ok(())
}

fn interrupted() -> Outcome {
    let mut space = Space::with_program(programs::spin());
    let stop = space.map(DATA, READ_WRITE);
    space.activate();
    let events = &cpus::this().events;
    let entries = events.user_entries();
    for round in 0..20 {
        let word = memory::word(stop, 0);
        word.store(0, core::sync::atomic::Ordering::Release);
        let mut start = pattern(&space);
        start.rdi = DATA.0;
        start.rbx = 0;
        let before = events.timers();
        // User mode spins until the event has been handled.
        events.set_on_timer(Some(word));
        cpu::irq_disable();
        timer::arm(clock::now() + Nanoseconds::from_millis(2));
        cpu::irq_enable();
        let (left, end) = user::run(&start);
        events.set_on_timer(None);
        ensure!(left == Left::SystemCall, "round {round}: left by {left:?}");
        ensure!(events.timers() == before + 1, "round {round}: {} events", events.timers() - before);
        let expected = TrapFrame { rbx: end.rbx, ..start };
        ensure!(same_registers(&expected, &end), "round {round}: {expected:#x?} became {end:#x?}");
    }
    space::leave();
    ensure!(events.user_entries() > entries, "no event ever came in user mode");
    Ok(())
}

fn user_access() -> Outcome {
    let mut space = Space::with_program(programs::call());
    let data = space.map(DATA, READ_WRITE);
    space.activate();
    memory::word(data, 3).store(77, core::sync::atomic::Ordering::Release);
    cpu::user_access_begin();
    let read = crate::probe::read(VirtAddr(DATA.0 + 24));
    let wrote = crate::probe::write(VirtAddr(DATA.0 + 32), 78);
    let fault = crate::probe::read(VirtAddr(STACK_TOP.0 + 8));
    cpu::user_access_end();
    space::leave();
    ensure!(read == Ok(77), "reading user memory gave {read:?}");
    ensure!(wrote == Ok(()), "writing user memory gave {wrote:?}");
    ensure!(
        memory::word(data, 4).load(core::sync::atomic::Ordering::Acquire) == 78,
        "the write did not arrive"
    );
    match fault {
        Err(fault) if fault.address.0 == STACK_TOP.0 + 8 => Ok(()),
        other => Err(alloc::format!("an access beyond the stack gave {other:x?}")),
    }
}
