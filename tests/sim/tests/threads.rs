//! Kernel threads that change stacks by themselves.

mod common;

use std::arch::naked_asm;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use common::{Cpu, SCRIPT, Script, Smp, Timer, here, idle, run, say, start};
use platform::{CpuId, CpuSet, End, Interrupt, Message, Nanoseconds};
use sim::{Machine, in_fresh_process};

/// Saves this context at `*save` and goes on with `to`.
///
/// # Safety
/// `to` was saved by this function or made by `new_thread`, and is used once.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch(save: *mut u64, to: u64) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// A context that calls `body` when it is switched to.
fn new_thread(body: extern "sysv64" fn() -> !) -> u64 {
    let frame = common::stack().0 - 8 * 8;
    // SAFETY: the upper end of a new stack: six registers, the address, and a slot that aligns the stack as a call does.
    unsafe { (frame as *mut [u64; 8]).write([0, 0, 0, 0, 0, 0, body as *const () as u64, 0]) };
    frame
}

static MOVING: AtomicU64 = AtomicU64::new(0);
static IDLE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static READY: AtomicBool = AtomicBool::new(false);

/// Counts in its own variable while it is moved from CPU to CPU.
extern "sysv64" fn moving_thread() -> ! {
    Cpu::irq_enable();
    for round in 0..1000 {
        assert_eq!(here(), round % 2, "moved by the interrupt that ended the last round");
        sim::run_for(Nanoseconds(10));
        let state = Cpu::irq_save();
        assert_eq!(state.0, 1);
        Cpu::irq_restore(state);
    }
    say("a thousand rounds");
    <common::Power>::end(End::PowerOff)
}

/// The timer moves the thread to the other CPU; a message makes a CPU take it.
fn on_interrupt(interrupt: Interrupt) {
    let cpu = here();
    match interrupt {
        Interrupt::Timer => {
            READY.store(true, SeqCst);
            // SAFETY: this CPU's idle context was saved when it took the thread; the thread goes on at the other CPU,
            // which the idle context sends a message only after this has been saved.
            unsafe { switch(MOVING.as_ptr(), IDLE[cpu as usize].load(SeqCst)) };
        }
        Interrupt::Message(Message::Reschedule) => take_thread(),
        other => panic!("{other:?}"),
    }
}

/// Runs the thread until it leaves, then tells the other CPU.
fn take_thread() {
    let cpu = here();
    Timer::arm(sim::now() + Nanoseconds(10));
    // SAFETY: the thread is saved and on no CPU: the other one says so by its message.
    unsafe { switch(IDLE[cpu as usize].as_ptr(), MOVING.load(SeqCst)) };
    assert!(READY.swap(false, SeqCst));
    Smp::send(CpuSet::one(CpuId(1 - cpu)), Message::Reschedule);
}

#[test]
fn a_kernel_thread_moves_between_cpus() {
    in_fresh_process("a_kernel_thread_moves_between_cpus", || {
        let outcome = run(
            Machine::new().cpus(2),
            Script {
                boot: || {
                    start(1).unwrap();
                    MOVING.store(new_thread(moving_thread), SeqCst);
                    take_thread();
                    idle();
                },
                interrupt: on_interrupt,
                ..SCRIPT
            },
        );
        outcome.expect(End::PowerOff);
        assert_eq!((outcome.reports[0].as_str(), outcome.time), ("a thousand rounds", Nanoseconds(10_000)));
    });
}
