//! Waiting for what must come, with a limit far beyond any honest delay.

use platform::Nanoseconds;

use crate::hook::clock;

/// No conforming platform takes so long for anything here, however busy its host. Of one that is broken on purpose it is known that
/// what it owes never comes.
const LIMIT: Nanoseconds = Nanoseconds::from_seconds(if cfg!(feature = "planted") { 6 } else { 30 });

/// Spins until `come`. Panics, naming `what`, when that takes too long.
pub fn until(what: &str, come: impl Fn() -> bool) {
    assert!(comes(come), "{what}: waited {} s in vain", LIMIT.seconds());
}

/// Spins until `come`; whether it did within the limit.
pub fn comes(come: impl Fn() -> bool) -> bool {
    let start = clock::now();
    while !come() {
        if clock::now().saturating_sub(start) > LIMIT {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Spins until the clock has gone on by `time`.
pub fn pass(time: Nanoseconds) {
    let end = clock::now() + time;
    while clock::now() < end {
        core::hint::spin_loop();
    }
}
