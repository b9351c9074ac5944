//! Clock and timer.


pub(crate) mod apic_timer;
pub(crate) mod calibrate;
pub mod counter;
pub(crate) mod rtc;
pub mod scale;
pub(crate) mod timer;
mod user_clock;

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use platform::{Kernel, Nanoseconds, UserClock, VirtAddr};

use crate::machine::Machine;

/// What the machine may have to count against.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sources {
    /// The HPET's registers, mapped.
    pub hpet: Option<VirtAddr>,
    /// The power management timer's port, and whether it counts 32 bits, not 24.
    pub pm_timer: Option<(u16, bool)>,
}

/// [`platform::Clock`] of a PC.
#[derive(Debug)]
pub struct PcClock<K, M>(PhantomData<(K, M)>);

const NOT_READ: u64 = u64::MAX;
static WALL_CLOCK_AT_BOOT: AtomicU64 = AtomicU64::new(NOT_READ);

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Clock for PcClock<K, M> {
    #[inline]
    fn now() -> Nanoseconds {
        counter::now::<M>()
    }

    fn wall_clock_at_boot() -> Nanoseconds {
        if WALL_CLOCK_AT_BOOT.load(Relaxed) == NOT_READ {
            let at_boot = M::wall_clock()
                .map_or(Nanoseconds::ZERO, |now| now.saturating_sub(counter::now::<M>()));
            WALL_CLOCK_AT_BOOT.store(at_boot.0, Relaxed);
        }
        Nanoseconds(WALL_CLOCK_AT_BOOT.load(Relaxed))
    }

    fn user_clock() -> Option<UserClock> {
        M::is_user_counter().then(user_clock::get).flatten()
    }
}

/// [`platform::Timer`] of a PC.
#[derive(Debug)]
pub struct PcTimer<K, M>(PhantomData<(K, M)>);

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Timer for PcTimer<K, M> {
    #[inline]
    fn arm(deadline: Nanoseconds) {
        timer::arm::<M>(deadline);
    }

    #[inline]
    fn disarm() {
        timer::disarm();
    }
}
