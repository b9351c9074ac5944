//! How a run ended.

use std::fmt;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use platform::{End, Nanoseconds};

use crate::space::Stale;
use crate::state::ENDED;

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// Every CPU waits and nothing will ever wake one.
    Deadlock,
    /// A hook was called against its promises.
    Violation,
    /// Rust code panicked on a CPU.
    Panic,
    /// The host's processor raised an exception: a guard page, a wild pointer, an undefined instruction.
    Crash,
    /// The wall-clock limit has passed.
    Timeout,
}

/// A run that the kernel did not end.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    /// What sort.
    pub kind: FailureKind,
    /// What exactly, for people.
    pub message: String,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

/// All that is left of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How the kernel ended it, or why the simulator did.
    pub end: Result<End, Failure>,
    /// Console output; bytes that are not UTF-8 are replaced.
    pub console: String,
    /// Lines given to [`platform::Power::report`].
    pub reports: Vec<String>,
    /// Virtual time at the end.
    pub time: Nanoseconds,
    /// Translations that were taken away and never flushed from a CPU that has their space active.
    pub unflushed: Vec<Stale>,
}

impl Outcome {
    /// Asserts that the kernel ended the run as given.
    ///
    /// # Panics
    /// If not, with the console output.
    #[track_caller]
    pub fn expect(&self, end: End) -> &Self {
        assert!(
            self.end == Ok(end),
            "the run should end with {end:?}, not {:?}\nreports: {:?}\nconsole:\n{}",
            self.end,
            self.reports,
            self.console
        );
        self
    }

    /// Asserts that the simulator ended the run for a reason of this kind; returns its message.
    ///
    /// # Panics
    /// If not, with the console output.
    #[track_caller]
    pub fn expect_failure(&self, kind: FailureKind) -> &str {
        match &self.end {
            Err(failure) if failure.kind == kind => &failure.message,
            other => {
                panic!(
                    "the run should fail with {kind:?}, not end with {other:?}\nconsole:\n{}",
                    self.console
                )
            }
        }
    }
}

static END: Mutex<Option<Result<End, Failure>>> = Mutex::new(None);
static END_KNOWN: Condvar = Condvar::new();

/// Ends the run; the first end counts.
pub fn finish(end: Result<End, Failure>) {
    let mut slot = END.lock().unwrap_or_else(PoisonError::into_inner);
    slot.get_or_insert(end);
    ENDED.store(true, SeqCst);
    END_KNOWN.notify_all();
}

/// Waits for the end, at most so long.
pub fn wait_for_end(limit: Duration) -> Option<Result<End, Failure>> {
    let slot = END.lock().unwrap_or_else(PoisonError::into_inner);
    let (slot, _) = END_KNOWN
        .wait_timeout_while(slot, limit, |end| end.is_none())
        .unwrap_or_else(PoisonError::into_inner);
    slot.clone()
}
