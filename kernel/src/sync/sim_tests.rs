//! Wake-ups at awkward moments, on the simulated machine.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use platform::Nanoseconds;
use sim::Machine;

use super::WaitQueue;
use crate::testing;
use crate::time::{TimerTarget, arm, now, sleep_until};

const MS: Nanoseconds = Nanoseconds::MILLISECOND;

static QUEUE: WaitQueue = WaitQueue::new();
/// What is waited for: so many may go on.
static THINGS: AtomicU64 = AtomicU64::new(0);

fn take() -> Option<()> {
    THINGS.try_update(Ordering::Relaxed, Ordering::Relaxed, |things| things.checked_sub(1)).ok().map(drop)
}

/// Wakes one task for so many things, as whoever made them would.
struct Waker(u64);

impl TimerTarget for Waker {
    fn expired(self: Arc<Self>, _: Nanoseconds) {
        THINGS.fetch_add(self.0, Ordering::Relaxed);
        QUEUE.wake_one();
    }
}

#[test]
fn a_task_woken_for_what_another_takes_is_woken_again() {
    let name = "sync::sim_tests::a_task_woken_for_what_another_takes_is_woken_again";
    testing::run(name, Machine::new, || {
        // Somebody has taken what the first wake-up was for.
        arm(now() + MS, Arc::new(Waker(0))).unwrap();
        arm(now() + MS + MS, Arc::new(Waker(1))).unwrap();
        let mut first_look = true;
        QUEUE.wait_uninterruptible(|| {
            if core::mem::take(&mut first_look) {
                // The interrupt comes as soon as interrupts are enabled anew: when the task has got into the queue.
                sim::advance(MS);
            }
            take()
        });
        assert_eq!(now(), Nanoseconds(2 * MS.0));
        assert!(QUEUE.is_empty());
    });
}

#[test]
fn a_task_that_gives_up_hands_its_wake_up_on() {
    static SECOND_WENT_ON: AtomicU64 = AtomicU64::new(0);
    let name = "sync::sim_tests::a_task_that_gives_up_hands_its_wake_up_on";
    testing::run(name, Machine::new, || {
        testing::spawn(|| {
            sleep_until(now() + MS).unwrap();
            QUEUE.wait_uninterruptible(take);
            SECOND_WENT_ON.store(now().0, Ordering::Relaxed);
        });
        let deadline = now() + Nanoseconds(3 * MS.0);
        let result = QUEUE.wait_until(Some(deadline), || {
            let found = take();
            if now() >= deadline {
                // It comes just behind the last look.
                Arc::new(Waker(1)).expired(now());
            }
            found
        });
        assert_eq!(result, Ok(None), "the first has waited long enough");
        sleep_until(now() + MS).unwrap();
        assert_eq!(SECOND_WENT_ON.load(Ordering::Relaxed), deadline.0);
    });
}
