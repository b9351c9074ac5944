//! Planted violations: one promise of the contract is broken on purpose, and its case must fail.
//!
//! `break=NAME` on the command line names the violation. The cases are run twice then: on the backend as it is, and with the
//! violation. What is not written here is the backend's own.

pub mod devices;

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use platform::{BootInfo, CpuId, Exception, Interrupt, Kernel, PhysFrame, TrapFrame, VirtAddr};

use crate::hook::sound;
use crate::machine;

/// What can be broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Violation {
    TimerEarly = 1,
    TimerDoubled,
    WaitLosesWakeUp,
    RestoreEnables,
    ClockBack,
    ClockApart,
    MessageTwice,
    StaleTranslation,
    MapOverwrites,
    ProtectGivesWriting,
    ForkKeepsWriting,
    FaultAddress,
    FaultAccess,
    CallRegisters,
    GsBase,
    ExtendedState,
    DeviceGone,
    DeviceWithoutVersion,
    ConfigurationShifted,
    ConfigurationPastEnd,
    StatusBefore,
    FeaturesRefused,
    QueuesWithoutEnd,
    QueueSize,
    QueueStays,
    NotifyLost,
    NotifyStale,
    InterruptLost,
    MaskIgnored,
    ReasonsKept,
    ResetLate,
}

const NAMES: [(&[u8], Violation); 31] = [
    (b"timer-early", Violation::TimerEarly),
    (b"timer-doubled", Violation::TimerDoubled),
    (b"wait-loses-wake-up", Violation::WaitLosesWakeUp),
    (b"restore-enables", Violation::RestoreEnables),
    (b"clock-back", Violation::ClockBack),
    (b"clock-apart", Violation::ClockApart),
    (b"message-twice", Violation::MessageTwice),
    (b"stale-translation", Violation::StaleTranslation),
    (b"map-overwrites", Violation::MapOverwrites),
    (b"protect-gives-writing", Violation::ProtectGivesWriting),
    (b"fork-keeps-writing", Violation::ForkKeepsWriting),
    (b"fault-address", Violation::FaultAddress),
    (b"fault-access", Violation::FaultAccess),
    (b"call-registers", Violation::CallRegisters),
    (b"gs-base", Violation::GsBase),
    (b"extended-state", Violation::ExtendedState),
    (b"device-gone", Violation::DeviceGone),
    (b"device-without-version", Violation::DeviceWithoutVersion),
    (b"configuration-shifted", Violation::ConfigurationShifted),
    (b"configuration-past-end", Violation::ConfigurationPastEnd),
    (b"status-before", Violation::StatusBefore),
    (b"features-refused", Violation::FeaturesRefused),
    (b"queues-without-end", Violation::QueuesWithoutEnd),
    (b"queue-size", Violation::QueueSize),
    (b"queue-stays", Violation::QueueStays),
    (b"notify-lost", Violation::NotifyLost),
    (b"notify-stale", Violation::NotifyStale),
    (b"interrupt-lost", Violation::InterruptLost),
    (b"mask-ignored", Violation::MaskIgnored),
    (b"reasons-kept", Violation::ReasonsKept),
    (b"reset-late", Violation::ResetLate),
];

/// The present violation's number; 0 for none.
static PRESENT: AtomicUsize = AtomicUsize::new(0);

fn broken(violation: Violation) -> bool {
    PRESENT.load(Ordering::Relaxed) == violation as usize
}

/// Breaks what the command line names.
///
/// # Panics
/// If it names nothing that is known.
pub fn plant(command_line: &[u8]) {
    let name = command_line.split(|&byte| byte == b' ').find_map(|word| word.strip_prefix(b"break="));
    match NAMES.iter().find(|(known, _)| Some(*known) == name) {
        Some((_, violation)) => PRESENT.store(*violation as usize, Ordering::Relaxed),
        None => panic!("break= names no violation"),
    }
}

/// The timer's hooks.
pub mod timer {
    use platform::Nanoseconds;

    use super::{Violation, broken, sound};
    pub use sound::timer::*;

    /// Fifteen milliseconds early.
    pub fn arm(deadline: Nanoseconds) {
        let early =
            if broken(Violation::TimerEarly) { Nanoseconds::from_millis(15) } else { Nanoseconds::ZERO };
        sound::timer::arm(deadline.saturating_sub(early));
    }
}

/// The clock's hooks.
pub mod clock {
    use core::sync::atomic::{AtomicU64, Ordering};

    use platform::Nanoseconds;

    use super::{Violation, broken, sound};
    pub use sound::clock::*;

    /// A step back at every thousandth reading, or on CPUs other than the first.
    pub fn now() -> Nanoseconds {
        static READINGS: AtomicU64 = AtomicU64::new(0);
        let back = broken(Violation::ClockBack) && READINGS.fetch_add(1, Ordering::Relaxed) % 1000 == 999
            || broken(Violation::ClockApart) && crate::cpus::id().0 != 0;
        let step = if back { Nanoseconds::MILLISECOND } else { Nanoseconds::ZERO };
        sound::clock::now().saturating_sub(step)
    }
}

/// The CPU's hooks.
pub mod cpu {
    use platform::{ExtendedState, IrqState, Nanoseconds, UserBases, VirtAddr};

    use super::{Violation, broken, sound};
    pub use sound::cpu::*;

    /// Enables interrupts, and waits for the next one when what was pending has been delivered. A guard ends that.
    pub fn wait_for_interrupt() {
        if broken(Violation::WaitLosesWakeUp) {
            sound::cpu::irq_enable();
            crate::wait::pass(Nanoseconds::from_millis(2));
            sound::cpu::irq_disable();
            sound::timer::arm(sound::clock::now() + Nanoseconds::from_millis(5));
        }
        sound::cpu::wait_for_interrupt();
    }

    /// Enables interrupts, whatever the flag was.
    pub fn irq_restore(state: IrqState) {
        match broken(Violation::RestoreEnables) {
            true => sound::cpu::irq_enable(),
            false => sound::cpu::irq_restore(state),
        }
    }

    /// Forgets GS.
    pub fn set_user_bases(bases: UserBases) {
        let gs = if broken(Violation::GsBase) { VirtAddr(0) } else { bases.gs };
        sound::cpu::set_user_bases(UserBases { gs, ..bases });
    }

    /// Leaves the registers as another program has left them.
    ///
    /// # Safety
    /// As the hook's.
    pub unsafe fn restore_extended(area: ExtendedState) -> bool {
        // SAFETY: as the caller promised.
        broken(Violation::ExtendedState) || unsafe { sound::cpu::restore_extended(area) }
    }
}

/// The translations' hooks.
pub mod paging {
    use platform::{
        CpuSet, ForkMode, FrameBatch, OutOfFrames, PAGE_SIZE, PageRange, PhysFrame, Protection, Root,
        VirtAddr,
    };

    use super::{Violation, broken, sound};
    pub use sound::paging::*;

    /// Leaves what the CPUs have.
    pub fn flush(root: Root, pages: PageRange, cpus: CpuSet) {
        if !broken(Violation::StaleTranslation) {
            sound::paging::flush(root, pages, cpus);
        }
    }

    /// Replaces what is mapped already.
    pub fn map(
        root: Root,
        page: VirtAddr,
        frames: &[PhysFrame],
        protection: Protection,
    ) -> Result<u64, OutOfFrames> {
        let mapped = sound::paging::map(root, page, frames, protection)?;
        if broken(Violation::MapOverwrites) {
            for (index, frame) in (0..).zip(frames).filter(|(index, _)| mapped >> index & 1 == 0) {
                sound::paging::replace(root, VirtAddr(page.0 + index * PAGE_SIZE), *frame, protection);
            }
        }
        Ok(mapped)
    }

    /// Adds the right to write.
    pub fn protect(root: Root, pages: PageRange, protection: Protection) {
        sound::paging::protect(root, pages, protection);
        if broken(Violation::ProtectGivesWriting) {
            for page in (pages.start.0..pages.end.0).step_by(PAGE_SIZE as usize).map(VirtAddr) {
                if let Some(mapping) = sound::paging::query(root, page) {
                    sound::paging::replace(root, page, mapping.frame, protection);
                }
            }
        }
    }

    /// Leaves the parent's right to write, and gives it to the child.
    pub fn fork(
        parent: Root,
        child: Root,
        pages: PageRange,
        mode: ForkMode,
        shared: &mut FrameBatch,
    ) -> Result<VirtAddr, OutOfFrames> {
        let mode = if broken(Violation::ForkKeepsWriting) { ForkMode::Share } else { mode };
        sound::paging::fork(parent, child, pages, mode, shared)
    }
}

/// The lines' hooks.
pub mod interrupts {
    use platform::IrqLine;

    use super::{Violation, broken, sound};
    pub use sound::interrupts::*;

    /// Lets the line come.
    pub fn mask(line: IrqLine) {
        if !broken(Violation::MaskIgnored) {
            sound::interrupts::mask(line);
        }
    }
}

/// The other CPUs' hooks.
pub mod smp {
    use platform::{CpuSet, Message};

    use super::{Violation, broken, sound};
    pub use sound::smp::*;

    /// Sends a message of the other kind too.
    pub fn send(cpus: CpuSet, message: Message) {
        sound::smp::send(cpus, message);
        if broken(Violation::MessageTwice) && message == Message::Call {
            sound::smp::send(cpus, Message::Reschedule);
        }
    }
}

/// The way up.
pub struct Upcalls;

impl Kernel for Upcalls {
    fn boot(info: &'static BootInfo) -> ! {
        machine::Upcalls::boot(info)
    }

    fn secondary(cpu: CpuId) -> ! {
        machine::Upcalls::secondary(cpu)
    }

    fn system_call(frame: &mut TrapFrame) {
        if broken(Violation::CallRegisters) {
            frame.rbx ^= 1;
        }
        machine::Upcalls::system_call(frame);
    }

    fn exception(exception: Exception, frame: &mut TrapFrame) {
        let exception = match exception {
            Exception::PageFault { address, access } if broken(Violation::FaultAddress) => {
                Exception::PageFault { address: VirtAddr(address.0 & !0xfff), access }
            }
            Exception::PageFault { address, access } if broken(Violation::FaultAccess) => {
                Exception::PageFault { address, access: access.difference(platform::Access::WRITE) }
            }
            other => other,
        };
        machine::Upcalls::exception(exception, frame);
    }

    fn interrupt(interrupt: Interrupt, frame: &mut TrapFrame) {
        static LINES: AtomicU32 = AtomicU32::new(0);
        if let Interrupt::Line(line) = interrupt
            && broken(Violation::InterruptLost)
            && LINES.fetch_add(1, Ordering::Relaxed) % 50 == 49
        {
            sound::interrupts::mask(line);
            sound::interrupts::end(line);
            return;
        }
        if broken(Violation::TimerDoubled) && interrupt == Interrupt::Timer {
            machine::Upcalls::interrupt(interrupt, frame);
        }
        machine::Upcalls::interrupt(interrupt, frame);
    }

    fn allocate_table_frame() -> Option<PhysFrame> {
        machine::Upcalls::allocate_table_frame()
    }

    fn free_table_frame(frame: PhysFrame) {
        machine::Upcalls::free_table_frame(frame);
    }
}
