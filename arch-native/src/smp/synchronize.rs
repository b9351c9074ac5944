//! Whether two CPUs' time stamp counters show the same time: each reads its own in turn, and none may be behind what the
//! other has read before.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::time::tsc;

const ROUNDS: u64 = 16;
/// How often a turn is waited for; the other CPU may not run at the moment.
const MOST_POLLS: u64 = 20_000_000;

/// Whose turn it is: even for the first, odd for the second.
static TURN: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicU64 = AtomicU64::new(0);

/// The part of the CPU that starts another.
pub fn as_first() {
    LAST.store(0, Ordering::Relaxed);
    // The second waits for its first turn; what an earlier CPU left behind does not count.
    TURN.store(0, Ordering::Release);
    if !take_turns(0) {
        tsc::guard();
    }
}

/// The part of the CPU that is started.
pub fn as_second() {
    if !take_turns(1) {
        tsc::guard();
    }
}

fn take_turns(who: u64) -> bool {
    let mut good = true;
    for round in 0..ROUNDS {
        let mine = 2 * round + who;
        let came = (0..MOST_POLLS).any(|_| {
            core::hint::spin_loop();
            TURN.load(Ordering::Acquire) == mine
        });
        if !came {
            return false;
        }
        let now = tsc::ticks();
        good &= now >= LAST.swap(now, Ordering::AcqRel);
        TURN.store(mine + 1, Ordering::Release);
    }
    good
}
