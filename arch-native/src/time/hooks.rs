//! Clock and timer of a PC, as the contract has them.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use platform::{Kernel, Nanoseconds, UserClock};

use super::{timer, tsc, user_clock};
use crate::machine::Machine;

/// [`platform::Clock`] of a PC.
#[derive(Debug)]
pub struct PcClock<K, M>(PhantomData<(K, M)>);

const NOT_READ: u64 = u64::MAX;
static WALL_CLOCK_AT_BOOT: AtomicU64 = AtomicU64::new(NOT_READ);

#[platform::backend]
impl<K: Kernel, M: Machine> platform::Clock for PcClock<K, M> {
    #[inline]
    fn now() -> Nanoseconds {
        tsc::now()
    }

    fn wall_clock_at_boot() -> Nanoseconds {
        if WALL_CLOCK_AT_BOOT.load(Relaxed) == NOT_READ {
            let at_boot = M::wall_clock().map_or(Nanoseconds::ZERO, |now| now.saturating_sub(tsc::now()));
            WALL_CLOCK_AT_BOOT.store(at_boot.0, Relaxed);
        }
        Nanoseconds(WALL_CLOCK_AT_BOOT.load(Relaxed))
    }

    #[inline(always)]
    fn stolen() -> Nanoseconds {
        M::stolen()
    }

    fn user_clock() -> Option<UserClock> {
        user_clock::get()
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
