//! What a process has used never becomes less, while threads end.

use guest_programs::sys::zeroed;
use guest_programs::time::{SECOND, clock};
use guest_programs::{Case, call, cases, check, ok};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::spawn;

pub const CASES: &[Case] = cases![process_time_goes_on_when_threads_end, user_time_never_goes_back];

static OVER: AtomicBool = AtomicBool::new(false);

/// Threads that come, do a little, and go, for as long as `work` lasts.
fn while_threads_end(work: impl FnOnce()) {
    let maker = spawn(|| {
        while !OVER.load(SeqCst) {
            let short = spawn(|| (0..20_000).for_each(|_| std::hint::spin_loop()));
            ok!(short.join().map_err(|_| ()));
        }
    });
    work();
    OVER.store(true, SeqCst);
    ok!(maker.join().map_err(|_| ()));
}

/// What `read` gives must never be less than before.
fn rises(read: impl Fn() -> i64) {
    let start = ok!(clock(libc::CLOCK_MONOTONIC));
    let mut before = read();
    while ok!(clock(libc::CLOCK_MONOTONIC)) - start < 2 * SECOND {
        let now = read();
        check!(now >= before, "{now} after {before}: {} ns back", before - now);
        before = now;
    }
}

fn process_time_goes_on_when_threads_end() {
    while_threads_end(|| rises(|| ok!(clock(libc::CLOCK_PROCESS_CPUTIME_ID))));
}

fn times() -> (i64, i64) {
    let mut usage: libc::rusage = zeroed();
    ok!(call!(SYS_getrusage, libc::RUSAGE_SELF, &mut usage));
    let micros = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    (micros(usage.ru_utime), micros(usage.ru_stime))
}

fn user_time_never_goes_back() {
    while_threads_end(|| {
        rises(|| times().0);
        rises(|| times().1);
    });
}
