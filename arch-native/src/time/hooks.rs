//! Clock and timer of a bare PC, as the contract has them.

use core::marker::PhantomData;

use platform::{Kernel, Nanoseconds, UserClock};

use super::{rtc, timer, tsc, user_clock};

/// [`platform::Clock`] of a bare PC.
#[derive(Debug)]
pub struct NativeClock<K>(PhantomData<K>);

#[platform::backend]
impl<K: Kernel> platform::Clock for NativeClock<K> {
    #[inline]
    fn now() -> Nanoseconds {
        tsc::now()
    }

    fn wall_clock_at_boot() -> Nanoseconds {
        rtc::wall_clock_at_boot()
    }

    fn user_clock() -> Option<UserClock> {
        user_clock::get()
    }
}

/// [`platform::Timer`] of a bare PC.
#[derive(Debug)]
pub struct NativeTimer<K>(PhantomData<K>);

#[platform::backend]
impl<K: Kernel> platform::Timer for NativeTimer<K> {
    #[inline]
    fn arm(deadline: Nanoseconds) {
        timer::arm(deadline);
    }

    #[inline]
    fn disarm() {
        timer::disarm();
    }
}
