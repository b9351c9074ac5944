//! What interrupts have been delivered, by CPU.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use platform::{Interrupt, Message, Nanoseconds, TrapFrame};

use crate::cpus;
use crate::hook::{clock, cpu, interrupts};

/// Counts of one CPU.
pub struct Events {
    timers: AtomicU64,
    timer_at: AtomicU64,
    calls: AtomicU64,
    reschedules: AtomicU64,
    lines: AtomicU64,
    last_line: AtomicU32,
    user_entries: AtomicU64,
    on_timer: AtomicPtr<AtomicU64>,
}

impl Events {
    pub const fn new() -> Self {
        Self {
            timers: AtomicU64::new(0),
            timer_at: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            reschedules: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            last_line: AtomicU32::new(u32::MAX),
            user_entries: AtomicU64::new(0),
            on_timer: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Timer interrupts.
    pub fn timers(&self) -> u64 {
        self.timers.load(Ordering::Acquire)
    }

    /// What the clock said at the latest of them.
    pub fn timer_at(&self) -> Nanoseconds {
        Nanoseconds(self.timer_at.load(Ordering::Acquire))
    }

    /// [`Message::Call`]s.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Acquire)
    }

    /// [`Message::Reschedule`]s.
    pub fn reschedules(&self) -> u64 {
        self.reschedules.load(Ordering::Acquire)
    }

    /// Device interrupts, and the line of the latest.
    pub fn lines(&self) -> (u64, u32) {
        (self.lines.load(Ordering::Acquire), self.last_line.load(Ordering::Acquire))
    }

    /// Interrupts of user mode.
    pub fn user_entries(&self) -> u64 {
        self.user_entries.load(Ordering::Acquire)
    }

    /// A word that the next timer interrupts set to 1.
    pub fn set_on_timer(&self, word: Option<&'static AtomicU64>) {
        let word = word.map_or(ptr::null_mut(), |word| ptr::from_ref(word).cast_mut());
        self.on_timer.store(word, Ordering::Release);
    }

    /// Interrupts of any kind with a cause.
    pub fn all(&self) -> u64 {
        self.timers() + self.calls() + self.reschedules() + self.lines().0
    }
}

/// [`platform::Kernel::interrupt`].
pub fn on_interrupt(interrupt: Interrupt, frame: &TrapFrame) {
    let events = &cpus::this().events;
    if frame.is_user() {
        events.user_entries.fetch_add(1, Ordering::AcqRel);
    }
    match interrupt {
        Interrupt::Timer => {
            events.timer_at.store(clock::now().0, Ordering::Release);
            events.timers.fetch_add(1, Ordering::AcqRel);
            // SAFETY: what is stored there came from a reference that lives for ever.
            if let Some(word) = unsafe { events.on_timer.load(Ordering::Acquire).as_ref() } {
                word.store(1, Ordering::Release);
            }
        }
        Interrupt::Message(Message::Call) => _ = events.calls.fetch_add(1, Ordering::AcqRel),
        Interrupt::Message(Message::Reschedule) => _ = events.reschedules.fetch_add(1, Ordering::AcqRel),
        Interrupt::Message(Message::Stop) => cpu::halt(),
        Interrupt::Line(line) => {
            interrupts::mask(line);
            events.last_line.store(line.0, Ordering::Release);
            events.lines.fetch_add(1, Ordering::AcqRel);
            interrupts::end(line);
        }
        Interrupt::Spurious => {}
    }
}
