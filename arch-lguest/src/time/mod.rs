//! Clock and timer.

pub(crate) mod timer;

use core::marker::PhantomData;
use core::sync::atomic::Ordering::Relaxed;

use arch_native::time::scale::Scale;
use arch_native::time::{tsc, user_clock};
use platform::{Kernel, Nanoseconds, UserClock};

use crate::data::DATA;
use crate::host;

/// [`platform::Clock`] of an lguest guest: the time stamp counter if the host allows it, or else the host.
#[derive(Debug)]
pub struct LguestClock<K>(PhantomData<K>);

/// Takes the clock as the host describes it in the shared page.
pub fn init() {
    if DATA.tsc_khz.load(Relaxed) != 0 {
        tsc::set_origin(DATA.tsc_base.load(Relaxed));
        tsc::set_tick(Scale(DATA.tsc_scale.load(Relaxed)));
    }
}

/// [`platform::Clock::now`].
#[inline]
pub fn now() -> Nanoseconds {
    if tsc::tick().is_some() { tsc::now() } else { host::time() }
}

#[platform::backend]
impl<K: Kernel> platform::Clock for LguestClock<K> {
    #[inline]
    fn now() -> Nanoseconds {
        now()
    }

    fn wall_clock_at_boot() -> Nanoseconds {
        Nanoseconds(DATA.wall_clock_base.load(Relaxed))
    }

    /// The host does not say.
    fn stolen() -> Nanoseconds {
        Nanoseconds::ZERO
    }

    fn user_clock() -> Option<UserClock> {
        user_clock::get()
    }
}

/// [`platform::Timer`] of an lguest guest.
#[derive(Debug)]
pub struct LguestTimer<K>(PhantomData<K>);

#[platform::backend]
impl<K: Kernel> platform::Timer for LguestTimer<K> {
    #[inline]
    fn arm(deadline: Nanoseconds) {
        timer::arm(deadline);
    }

    #[inline]
    fn disarm() {
        timer::disarm();
    }
}
