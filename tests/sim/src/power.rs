//! The end of the machine.

use core::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use platform::{End, Kernel, Power};

use crate::outcome::finish;
use crate::state::{FACTS, here, park};

static REPORTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Ends the run.
#[derive(Debug)]
pub struct SimPower<K>(PhantomData<fn() -> K>);

#[platform::backend]
impl<K: Kernel> Power for SimPower<K> {
    fn report(line: &[u8]) {
        let line = String::from_utf8_lossy(line).into_owned();
        if FACTS.get().is_some_and(|facts| facts.echo) {
            eprintln!("report: {line}");
        }
        REPORTS.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn end(how: End) -> ! {
        here("Power::end");
        finish(Ok(how));
        park()
    }
}

/// What was reported so far.
pub fn reports() -> Vec<String> {
    REPORTS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
