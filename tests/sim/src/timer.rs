//! One-shot events in virtual time.

use core::marker::PhantomData;
use std::sync::atomic::Ordering::SeqCst;

use platform::{Kernel, Nanoseconds, Timer};

use crate::state::{NEVER, discovered, here_disabled};

/// Each CPU's one-shot event: exact, and never early.
#[derive(Debug)]
pub struct SimTimer<K>(PhantomData<fn() -> K>);

#[platform::backend]
impl<K: Kernel> Timer for SimTimer<K> {
    fn arm(deadline: Nanoseconds) {
        let cpu = here_disabled("Timer::arm");
        drop(discovered("Timer::arm"));
        cpu.deadline.store(deadline.0, SeqCst);
    }

    fn disarm() {
        let cpu = here_disabled("Timer::disarm");
        drop(discovered("Timer::disarm"));
        cpu.deadline.store(NEVER, SeqCst);
    }
}
