//! What the platform calls: boot, system calls, exceptions, interrupts.

use core::sync::atomic::Ordering;

use platform::{
    Access, BootInfo, CpuId, Exception, Interrupt, Kernel, Message, PhysFrame, TrapFrame, VirtAddr,
};

use crate::errno::Errno;
use crate::hook::cpu;
use crate::mm::{self, fault};
use crate::percpu::this_cpu;
use crate::process::current;
use crate::sync::interrupts;
use crate::syscall::{self, Call};
use crate::{boot, percpu, sched, signal, time};

/// The kernel, as the platform sees it.
pub struct Upcalls;

impl Kernel for Upcalls {
    fn boot(info: &'static BootInfo) -> ! {
        boot::start::boot_cpu(info)
    }

    fn secondary(cpu: CpuId) -> ! {
        boot::smp::secondary_cpu(cpu)
    }

    #[inline]
    fn system_call(frame: &mut TrapFrame) {
        interrupts::enable();
        frame.orig_rax = frame.rax;
        frame.rax = match syscall::dispatch(&mut Call { frame }) {
            Ok(result) => result,
            Err(error) => failed(error),
        };
        interrupts::disable();
        let task = current();
        if task.has_work() || this_cpu().need_resched.load(Ordering::Relaxed) {
            leave_with_work(frame, Entry::SystemCall);
        }
    }

    fn exception(exception: Exception, frame: &mut TrapFrame) {
        if frame.is_user() {
            interrupts::enable();
            match exception {
                Exception::PageFault { address, access } => {
                    if let Err(fault) = fault::user(address, access) {
                        signal::fault(&fault, address, access, frame);
                    }
                }
                other => signal::exception(other, frame),
            }
            interrupts::disable();
            before_user_mode(frame);
        } else {
            kernel_exception(exception, frame);
        }
    }

    fn interrupt(interrupt: Interrupt, frame: &mut TrapFrame) {
        let this = this_cpu();
        this.interrupts.store(this.interrupts.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        match interrupt {
            Interrupt::Timer => time::on_timer_interrupt(frame.is_user()),
            Interrupt::Line(line) => crate::irq::handle(line),
            Interrupt::Message(Message::Reschedule) => sched::on_reschedule_message(),
            Interrupt::Message(Message::Call) => percpu::calls::run_queued(),
            Interrupt::Message(Message::Stop) => cpu::halt(),
            Interrupt::Spurious => {}
        }
        if frame.is_user() {
            before_user_mode(frame);
        }
    }

    fn allocate_table_frame() -> Option<PhysFrame> {
        mm::frames::allocate_table()
    }

    fn free_table_frame(frame: PhysFrame) {
        mm::frames::free_table(frame);
    }
}

/// What a system call that failed leaves in RAX. Out of line, so that others need fewer registers.
#[inline(never)]
fn failed(error: Errno) -> u64 {
    if error.is_restart() {
        signal::note_restart();
    }
    error.to_rax()
}

/// How a task came into the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// By a system call, which a signal may have to restart.
    SystemCall,
    /// By an exception or interrupt.
    Other,
}

/// Does what is to be done before user mode goes on. Context: interrupts disabled, as when it returns.
#[inline]
pub fn before_user_mode(frame: &mut TrapFrame) {
    if current().has_work() || this_cpu().need_resched.load(Ordering::Relaxed) {
        leave_with_work(frame, Entry::Other);
    }
}

#[cold]
fn leave_with_work(frame: &mut TrapFrame, entry: Entry) {
    let mut entry = entry;
    loop {
        if this_cpu().need_resched.load(Ordering::Relaxed) {
            sched::resched_if_needed();
        } else if current().has_signal_work() {
            interrupts::enable();
            signal::deliver_pending(frame, entry);
            // A restart is arranged once, by the first look at the signals.
            entry = Entry::Other;
            interrupts::disable();
        } else {
            return;
        }
    }
}

/// An exception in the kernel itself: a fault on user memory that the kernel meant to touch, or a bug.
fn kernel_exception(exception: Exception, frame: &mut TrapFrame) {
    match exception {
        Exception::PageFault { address, access } => {
            if mm::user::fixup(VirtAddr(frame.rip)).is_some() && !access.contains(Access::RESERVED) {
                // The fault may have to allocate, wait or flush other CPUs.
                let resolved = frame.interrupts_enabled() && {
                    interrupts::enable();
                    let resolved = fault::user(address, access | Access::USER).is_ok();
                    interrupts::disable();
                    resolved
                };
                if resolved {
                    return;
                }
            }
            if let Some(fixup) = mm::user::fixup(VirtAddr(frame.rip)) {
                frame.rip = fixup.0;
                return;
            }
        }
        Exception::GeneralProtection(_) | Exception::StackFault(_) => {
            // A non-canonical user pointer raises these instead of a page fault.
            if let Some(fixup) = mm::user::fixup(VirtAddr(frame.rip)) {
                frame.rip = fixup.0;
                return;
            }
        }
        Exception::NonMaskable => return,
        _ => {}
    }
    panic!("{exception:?} in the kernel at {:#x}\n{frame:#x?}", frame.rip);
}
