//! What a timer descriptor (`timerfd_create(2)`) counts.

use alloc::sync::{Arc, Weak};

use platform::Nanoseconds;

use super::interval::next_period;
use super::timers::{TimerHandle, TimerTarget, arm};
use super::{now, realtime, wall};
use crate::errno::{Errno, KResult};
use crate::sync::{IrqLock, WaitQueue, Wake};

/// The clock a timer descriptor runs by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceClock {
    /// CLOCK_MONOTONIC, or CLOCK_BOOTTIME, which is the same here.
    Monotonic,
    /// CLOCK_REALTIME.
    Realtime,
}

impl SourceClock {
    /// The clock of a Linux number.
    ///
    /// # Errors
    /// EINVAL if `timerfd_create(2)` takes no such clock.
    pub fn from_number(number: i32) -> KResult<Self> {
        match number {
            0 | 8 => Ok(Self::Realtime),
            1 | 7 | 9 => Ok(Self::Monotonic),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Time to the next expiration and between expirations; zero is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimerSpec {
    /// To the next expiration, or of it.
    pub value: Nanoseconds,
    /// Between expirations.
    pub interval: Nanoseconds,
}

/// How [`TimerSource::set`] takes its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// From now on.
    Relative,
    /// A point in time (TFD_TIMER_ABSTIME).
    Absolute,
    /// The same, and a read fails once the clock has been set (TFD_TIMER_CANCEL_ON_SET).
    AbsoluteUntilClockIsSet,
}

/// A timer that counts its expirations until they are read. Dropping it disarms it.
pub struct TimerSource(Arc<Inner>);

struct Inner {
    me: Weak<Self>,
    clock: SourceClock,
    readers: WaitQueue,
    state: IrqLock<State>,
}

#[derive(Default)]
struct State {
    handle: Option<TimerHandle>,
    /// When it expires next; none if disarmed, or expired and not periodic.
    deadline: Option<Nanoseconds>,
    /// The deadline is on the wall clock.
    on_wall_clock: bool,
    interval: Nanoseconds,
    /// It has expired, and goes on when it is read.
    expired: bool,
    cancel_on_set: bool,
    cancelled: bool,
}

impl State {
    fn reading(&self) -> Nanoseconds {
        if self.on_wall_clock { realtime() } else { now() }
    }
}

impl TimerSource {
    /// A disarmed timer.
    pub fn new(clock: SourceClock) -> Self {
        Self(Arc::new_cyclic(|me| Inner {
            me: me.clone(),
            clock,
            readers: WaitQueue::new(),
            state: IrqLock::new(State::default()),
        }))
    }

    /// Arms it, or disarms it if `spec.value` is zero. Returns what was left. Context: a task, no lock held.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn set(&self, spec: TimerSpec, start: Start) -> KResult<TimerSpec> {
        let inner = &*self.0;
        let armed = spec.value != Nanoseconds::ZERO;
        let on_wall_clock = inner.clock == SourceClock::Realtime && start != Start::Relative;
        inner.follow_wall_clock(armed && on_wall_clock)?;

        let mut state = inner.state.lock();
        let old = left(&state);
        if let Some(handle) = state.handle.take() {
            handle.try_cancel();
        }
        let cancel_on_set = on_wall_clock && start == Start::AbsoluteUntilClockIsSet;
        *state = State { on_wall_clock, interval: spec.interval, cancel_on_set, ..State::default() };
        if armed {
            let from = if start == Start::Relative { state.reading() } else { Nanoseconds::ZERO };
            state.deadline = Some(from.saturating_add(spec.value));
            inner.arm(&mut state)?;
        }
        Ok(old)
    }

    /// What is left.
    pub fn get(&self) -> TimerSpec {
        left(&self.0.state.lock())
    }

    /// Takes the expirations counted since the last time; none if there are none. A periodic timer goes on.
    ///
    /// # Errors
    /// ECANCELED once after the clock was set, where that was asked for.
    pub fn take_expirations(&self) -> KResult<Option<u64>> {
        let mut state = self.0.state.lock();
        if core::mem::take(&mut state.cancelled) {
            return Err(Errno::ECANCELED);
        }
        if !core::mem::take(&mut state.expired) {
            return Ok(None);
        }
        let Some(deadline) = state.deadline else { return Ok(Some(1)) };
        let (next, passed) = next_period(deadline, state.interval, state.reading());
        state.deadline = Some(next);
        self.0.arm(&mut state)?;
        Ok(Some(passed.max(1)))
    }

    /// Whether [`Self::take_expirations`] has something to say.
    pub fn is_ready(&self) -> bool {
        let state = self.0.state.lock();
        state.expired || state.cancelled
    }

    /// Woken when it expires.
    pub fn readers(&self) -> &WaitQueue {
        &self.0.readers
    }
}

fn left(state: &State) -> TimerSpec {
    let value = match state.deadline {
        None => Nanoseconds::ZERO,
        Some(deadline) => {
            let reading = state.reading();
            if deadline > reading {
                deadline - reading
            } else if state.interval != Nanoseconds::ZERO {
                next_period(deadline, state.interval, reading).0 - reading
            } else {
                // It is about to expire.
                Nanoseconds(1)
            }
        }
    };
    TimerSpec { value, interval: state.interval }
}

impl Drop for TimerSource {
    fn drop(&mut self) {
        let _left = self.0.follow_wall_clock(false);
        let mut state = self.0.state.lock();
        state.deadline = None;
        if let Some(handle) = state.handle.take() {
            handle.try_cancel();
        }
    }
}

impl Inner {
    fn arm(&self, state: &mut State) -> KResult<()> {
        let (Some(deadline), Some(me)) = (state.deadline, self.me.upgrade()) else { return Ok(()) };
        let at = if state.on_wall_clock { wall::monotonic_of(deadline) } else { deadline };
        state.handle = Some(arm(at, me)?);
        Ok(())
    }

    fn follow_wall_clock(&self, follow: bool) -> KResult<()> {
        if let (SourceClock::Realtime, Some(me)) = (self.clock, self.me.upgrade()) {
            let watcher: Arc<dyn Wake> = me;
            wall::CLOCK_WAS_SET.unwatch(&watcher);
            if follow {
                return wall::CLOCK_WAS_SET.watch(watcher);
            }
        }
        Ok(())
    }
}

impl TimerTarget for Inner {
    fn expired(self: Arc<Self>, at: Nanoseconds) {
        let mut state = self.state.lock();
        let due = match state.deadline {
            Some(deadline) if state.on_wall_clock => wall::monotonic_of(deadline) <= at,
            Some(deadline) => deadline <= at,
            None => false,
        };
        if !due || state.expired {
            return;
        }
        state.handle = None;
        state.expired = true;
        if state.interval == Nanoseconds::ZERO {
            state.deadline = None;
        }
        drop(state);
        self.readers.wake_all();
    }
}

/// The wall clock has been set.
impl Wake for Inner {
    fn wake(&self) {
        let mut state = self.state.lock();
        if state.cancel_on_set {
            state.cancelled = true;
        }
        if let Some(handle) = state.handle.take() {
            handle.try_cancel();
            if self.arm(&mut state).is_err() {
                log::error!("no memory to go on with a timer descriptor");
                state.deadline = None;
            }
        }
        let ready = state.cancelled;
        drop(state);
        if ready {
            self.readers.wake_all();
        }
    }
}
