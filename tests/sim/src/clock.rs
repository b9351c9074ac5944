//! Time: a shared counter.

use core::marker::PhantomData;
use std::sync::atomic::Ordering::SeqCst;

use platform::{Clock, Kernel, Nanoseconds, UserClock};

use crate::state::{FACTS, NEVER, NEXT_EVENT, NOW, NOW_STEP, WAKE, world};
use crate::wait::run_due_events;

/// Virtual time.
#[derive(Debug)]
pub struct SimClock<K>(PhantomData<fn() -> K>);

#[platform::backend]
impl<K: Kernel> Clock for SimClock<K> {
    fn now() -> Nanoseconds {
        let step = NOW_STEP.load(SeqCst);
        if step == 0 {
            return Nanoseconds(NOW.load(SeqCst));
        }
        let now = NOW.fetch_add(step, SeqCst) + step;
        {
            // Other CPUs may wait for what is now past.
            let _world = world();
            WAKE.notify_all();
        }
        let event = NEXT_EVENT.load(SeqCst);
        if event != NEVER && event <= now {
            run_due_events();
        }
        Nanoseconds(now)
    }

    fn wall_clock_at_boot() -> Nanoseconds {
        Nanoseconds(FACTS.get().map_or(0, |facts| facts.wall_clock))
    }

    fn stolen() -> Nanoseconds {
        Nanoseconds::ZERO
    }

    fn user_clock() -> Option<UserClock> {
        None
    }
}
