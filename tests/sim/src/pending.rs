//! Interrupts that wait for a CPU, and their delivery.

use std::sync::atomic::Ordering::SeqCst;

use platform::{Interrupt, Message, TrapFrame};

use crate::state::{CpuState, NEVER, NOW, facts, here, violation, world};

/// The messages by their bits, the most urgent first.
const MESSAGES: [Message; 3] = [Message::Stop, Message::Call, Message::Reschedule];

/// The bit that stands for `message` in [`CpuState::messages`].
pub fn message_bit(message: Message) -> u32 {
    match message {
        Message::Stop => 1 << 0,
        Message::Call => 1 << 1,
        Message::Reschedule => 1 << 2,
    }
}

/// Whether `cpu` has an interrupt to take.
pub fn is_pending(cpu: &CpuState) -> bool {
    cpu.messages.load(SeqCst) != 0
        || cpu.line_ready.load(SeqCst)
        || cpu.deadline.load(SeqCst) <= NOW.load(SeqCst) && cpu.deadline.load(SeqCst) != NEVER
}

/// Takes one interrupt that waits for `cpu`, which is this one.
pub fn take(cpu: &CpuState) -> Option<Interrupt> {
    for message in MESSAGES {
        let bit = message_bit(message);
        if cpu.messages.fetch_and(!bit, SeqCst) & bit != 0 {
            return Some(Interrupt::Message(message));
        }
    }
    let deadline = cpu.deadline.load(SeqCst);
    if deadline != NEVER && deadline <= NOW.load(SeqCst) {
        cpu.deadline.store(NEVER, SeqCst);
        return Some(Interrupt::Timer);
    }
    if cpu.line_ready.load(SeqCst) {
        return world().lines.take(cpu.id).map(Interrupt::Line);
    }
    None
}

/// Delivers what waits for this CPU in the kernel, as long as interrupts are enabled. Returns how many.
pub fn deliver(hook: &str) -> usize {
    let mut delivered = 0;
    loop {
        // Each delivery may end on another CPU: the kernel may have switched and moved this stack.
        let cpu = here(hook);
        if !cpu.irq_enabled.load(SeqCst) {
            return delivered;
        }
        let Some(interrupt) = take(cpu) else { return delivered };
        cpu.irq_enabled.store(false, SeqCst);
        let mut frame = kernel_frame(true);
        from_kernel(&mut frame, hook, |frame| (facts().entries.interrupt)(interrupt, frame));
        delivered += 1;
    }
}

/// Registers of kernel code that was interrupted.
pub fn kernel_frame(interrupts: bool) -> TrapFrame {
    let here = 0u64;
    let flags = if interrupts { TrapFrame::INTERRUPT_FLAG | 2 } else { 2 };
    TrapFrame {
        orig_rax: u64::MAX,
        rip: kernel_frame as *const () as u64,
        cs: TrapFrame::KERNEL_CODE,
        rflags: flags,
        rsp: &raw const here as u64,
        ss: TrapFrame::KERNEL_DATA,
        ..TrapFrame::default()
    }
}

/// Runs an entry into the kernel from the kernel itself, with interrupts disabled by the caller; afterwards the flag is
/// what the frame says.
pub fn from_kernel(frame: &mut TrapFrame, hook: &str, enter: impl FnOnce(&mut TrapFrame)) {
    let user_access = here(hook).user_access.swap(false, SeqCst);
    enter(frame);
    let cpu = here(hook);
    if cpu.irq_enabled.load(SeqCst) {
        violation(format!("the kernel returned from an entry with interrupts enabled on CPU {}", cpu.id.0));
    }
    if frame.is_user() {
        violation("the kernel turned a kernel frame into a user frame".to_owned());
    }
    cpu.user_access.store(user_access, SeqCst);
    cpu.irq_enabled.store(frame.interrupts_enabled(), SeqCst);
}
