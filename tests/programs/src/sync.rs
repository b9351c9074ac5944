//! Ordering between processes and threads, without sleeping.

use crate::sys::{Sys, pipe, read, write};
use crate::{Errno, call, fail, ok};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// A one-way signal between processes: each `open` lets one `pass` through. Made of a pipe.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    out: i32,
    inn: i32,
}

impl Gate {
    /// A closed gate, for processes forked from here on.
    #[allow(clippy::new_without_default, reason = "opens descriptors, which a default value should not")]
    pub fn new() -> Gate {
        let (out, inn) = ok!(pipe(libc::O_CLOEXEC));
        Gate { out, inn }
    }

    /// Lets one `pass` through.
    pub fn open(&self) {
        self.send(b'!');
    }

    /// Waits for an `open`.
    pub fn pass(&self) {
        self.receive();
    }

    /// Lets one `receive` through with a byte.
    pub fn send(&self, byte: u8) {
        eq_one(write(self.inn, &[byte]));
    }

    /// Waits for a byte.
    pub fn receive(&self) -> u8 {
        let mut byte = [0];
        loop {
            match read(self.out, &mut byte) {
                Err(Errno(libc::EINTR)) => {}
                other => {
                    eq_one(other);
                    return byte[0];
                }
            }
        }
    }

    /// Whether an `open` is waiting to be passed.
    pub fn is_open(&self) -> bool {
        let mut fd = libc::pollfd { fd: self.out, events: libc::POLLIN, revents: 0 };
        ok!(call!(SYS_poll, &mut fd, 1, 0)) == 1
    }
}

fn eq_one(result: Sys) {
    if result != Ok(1) {
        fail!("gate: {result:?}")
    }
}

/// `futex` wait on a word while it holds `value`, without time limit.
pub fn futex_wait(word: &AtomicU32, value: u32) -> Sys {
    call!(SYS_futex, word, libc::FUTEX_WAIT, value, 0)
}

/// `futex` wake of up to `n` waiters.
pub fn futex_wake(word: &AtomicU32, n: u32) -> Sys {
    call!(SYS_futex, word, libc::FUTEX_WAKE, n)
}

/// Waits, by futex, until the word is no longer `value`.
pub fn await_change(word: &AtomicU32, value: u32) {
    while word.load(SeqCst) == value {
        match futex_wait(word, value) {
            Ok(_) | Err(Errno(libc::EAGAIN)) | Err(Errno(libc::EINTR)) => {}
            Err(e) => fail!("futex wait: {e:?}"),
        }
    }
}

/// Repeats `attempt` until it gives true, yielding in between; the case's time limit bounds it.
pub fn until(mut attempt: impl FnMut() -> bool) {
    while !attempt() {
        crate::sys::yield_now();
    }
}
