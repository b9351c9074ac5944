//! Futexes: wait, wake, time limits, requeue, bit sets, private and shared.

use guest_programs::mem::{self, PAGE};
use guest_programs::process::{End, child, wait};
use guest_programs::sync::{await_change, futex_wait, futex_wake, until};
use guest_programs::time::{MILLI, SECOND, check_sleep, clock, elapsed, timespec};
use guest_programs::{Case, Sys, call, cases, check, eq, err, ok, run};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

const CASES: &[Case] = cases![
    wait_with_other_value,
    wake_without_waiters,
    wake_counts,
    wake_lets_exactly_so_many_go,
    wait_times_out,
    wait_with_absolute_time,
    wait_bad_times,
    bad_words,
    bad_operations,
    bitset_chooses,
    bitset_zero_is_refused,
    requeue_moves_waiters,
    compare_requeue_checks,
    wake_operation,
    private_and_shared_in_one_process,
    shared_between_processes,
    shared_by_file_at_other_addresses,
    private_memory_after_fork_is_apart,
    interrupted_by_signal,
    restarted_after_signal,
    ping_pong: 60,
    handover_loses_nothing: 60,
    word_on_read_only_page,
    waiter_killed_is_forgotten,
];

fn main() {
    run(&[CASES], &[])
}

const PRIVATE: i32 = libc::FUTEX_PRIVATE_FLAG;

fn futex(word: &AtomicU32, op: i32, value: u32, timeout: usize, other: usize, value3: u32) -> Sys {
    call!(SYS_futex, word, op, value, timeout, other, value3)
}

fn wait_with_other_value() {
    let word = AtomicU32::new(1);
    err!(futex_wait(&word, 0), EAGAIN);
    err!(futex(&word, libc::FUTEX_WAIT | PRIVATE, 2, 0, 0, 0), EAGAIN);
    err!(futex(&word, libc::FUTEX_WAIT_BITSET, 2, 0, 0, 1), EAGAIN);
}

fn wake_without_waiters() {
    let word = AtomicU32::new(0);
    eq!(futex_wake(&word, 1), Ok(0));
    eq!(futex_wake(&word, 0), Ok(0));
    eq!(futex(&word, libc::FUTEX_WAKE | PRIVATE, 100, 0, 0, 0), Ok(0));
}

/// Threads that wait on a word once each, and how many of them have come back.
struct Waiters {
    word: &'static AtomicU32,
    back: &'static AtomicU32,
    threads: Vec<thread::JoinHandle<()>>,
}

/// Starts waiters and returns once all of them sleep in the kernel, which a requeue onto the same word shows without
/// waking anybody: it tells how many waiters it found.
fn sleepers(n: u32, op: i32, mask: u32) -> Waiters {
    let page = mem::anon(PAGE);
    let (word, back): (&'static AtomicU32, &'static AtomicU32) = (mem::at(page), mem::at(page + 64));
    let threads = (0..n)
        .map(|_| {
            thread::spawn(move || {
                eq!(futex(word, op, 0, 0, 0, mask), Ok(0));
                back.fetch_add(1, SeqCst);
            })
        })
        .collect();
    until(|| count(word, op & PRIVATE) == n);
    Waiters { word, back, threads }
}

/// How many wait on the word: moves them all to another word and back.
fn count(word: &AtomicU32, private: i32) -> u32 {
    let other = AtomicU32::new(0);
    let many = 1usize << 20;
    let moved =
        ok!(futex(word, libc::FUTEX_REQUEUE | private, 0, many, &other as *const _ as usize, 0)) as u32;
    eq!(
        ok!(futex(&other, libc::FUTEX_REQUEUE | private, 0, many, word as *const _ as usize, 0)) as u32,
        moved
    );
    moved
}

fn finish(waiters: Waiters) {
    until(|| {
        let _ = futex_wake(waiters.word, 1000);
        let _ = futex(waiters.word, libc::FUTEX_WAKE | PRIVATE, 1000, 0, 0, 0);
        waiters.threads.iter().all(|t| t.is_finished())
    });
    waiters.threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn wake_counts() {
    let waiters = sleepers(5, libc::FUTEX_WAIT, 0);
    eq!(futex_wake(waiters.word, 2), Ok(2));
    eq!(futex_wake(waiters.word, 10), Ok(3));
    eq!(futex_wake(waiters.word, 10), Ok(0));
    until(|| waiters.back.load(SeqCst) == 5);
    finish(waiters);
}

fn wake_lets_exactly_so_many_go() {
    let waiters = sleepers(6, libc::FUTEX_WAIT | PRIVATE, 0);
    for woken in 1..=6 {
        eq!(futex(waiters.word, libc::FUTEX_WAKE | PRIVATE, 1, 0, 0, 0), Ok(1));
        until(|| waiters.back.load(SeqCst) == woken);
        eq!(count(waiters.word, PRIVATE), 6 - woken);
        eq!(waiters.back.load(SeqCst), woken);
    }
    finish(waiters);
}

fn wait_times_out() {
    let word = AtomicU32::new(0);
    for (op, limit) in
        [(libc::FUTEX_WAIT, 0), (libc::FUTEX_WAIT, 30 * MILLI), (libc::FUTEX_WAIT | PRIVATE, 10 * MILLI)]
    {
        let limit_at = timespec(limit);
        let took = elapsed(|| err!(futex(&word, op, 0, &limit_at as *const _ as usize, 0, 0), ETIMEDOUT));
        check_sleep(limit, took);
    }
    // The word is not looked at again; the time limit is enough, whoever changes it.
    let _ = word.fetch_add(1, SeqCst);
}

fn wait_with_absolute_time() {
    let word = AtomicU32::new(0);
    for (id, flag) in [(libc::CLOCK_MONOTONIC, 0), (libc::CLOCK_REALTIME, libc::FUTEX_CLOCK_REALTIME)] {
        let op = libc::FUTEX_WAIT_BITSET | flag;
        let took = elapsed(|| {
            let end = timespec(ok!(clock(id)) + 30 * MILLI);
            err!(futex(&word, op, 0, &end as *const _ as usize, 0, u32::MAX), ETIMEDOUT);
        });
        check_sleep(30 * MILLI, took);
        let past = timespec(1);
        err!(futex(&word, op, 0, &past as *const _ as usize, 0, u32::MAX), ETIMEDOUT);
    }
}

fn wait_bad_times() {
    let word = AtomicU32::new(0);
    for (tv_sec, tv_nsec) in [(0, 1_000_000_000), (0, -1), (-1, 0)] {
        let time = libc::timespec { tv_sec, tv_nsec };
        err!(futex(&word, libc::FUTEX_WAIT, 0, &time as *const _ as usize, 0, 0), EINVAL);
    }
    err!(futex(&word, libc::FUTEX_WAIT, 0, mem::KERNEL, 0, 0), EFAULT);
}

fn bad_words() {
    for wild in [mem::unmapped(), mem::KERNEL, mem::NON_CANONICAL & !3, 0] {
        err!(call!(SYS_futex, wild, libc::FUTEX_WAIT, 0, 0), EFAULT);
        err!(call!(SYS_futex, wild, libc::FUTEX_WAIT | PRIVATE, 0, 0), EFAULT);
        err!(call!(SYS_futex, wild, libc::FUTEX_WAKE, 1), EFAULT);
    }
    let word = [0u32; 2];
    err!(call!(SYS_futex, word.as_ptr() as usize + 1, libc::FUTEX_WAIT, 0, 0), EINVAL);
    err!(call!(SYS_futex, word.as_ptr() as usize + 2, libc::FUTEX_WAKE, 1), EINVAL);
}

fn bad_operations() {
    let word = AtomicU32::new(0);
    err!(futex(&word, 99, 0, 0, 0, 0), ENOSYS);
    err!(futex(&word, -1, 0, 0, 0, 0), ENOSYS);
    let other = AtomicU32::new(0);
    let at = &other as *const _ as usize;
    // Negative counts.
    err!(futex(&word, libc::FUTEX_REQUEUE, u32::MAX, 1, at, 0), EINVAL);
    err!(futex(&word, libc::FUTEX_REQUEUE, 1, -1isize as usize, at, 0), EINVAL);
    err!(futex(&word, libc::FUTEX_REQUEUE, 1, 1, mem::KERNEL, 0), EFAULT);
}

fn bitset_chooses() {
    let page = mem::anon(PAGE);
    let word: &'static AtomicU32 = mem::at(page);
    let backs: [&'static AtomicU32; 3] = [mem::at(page + 64), mem::at(page + 128), mem::at(page + 192)];
    let threads: Vec<_> = backs
        .into_iter()
        .enumerate()
        .map(|(i, back)| {
            thread::spawn(move || {
                eq!(futex(word, libc::FUTEX_WAIT_BITSET, 0, 0, 0, 1 << i), Ok(0));
                back.store(1, SeqCst);
            })
        })
        .collect();
    until(|| count(word, 0) == 3);
    let state = || backs.map(|b| b.load(SeqCst));
    eq!(futex(word, libc::FUTEX_WAKE_BITSET, 10, 0, 0, 8), Ok(0));
    eq!(futex(word, libc::FUTEX_WAKE_BITSET, 10, 0, 0, 2), Ok(1));
    until(|| state() == [0, 1, 0]);
    eq!(futex(word, libc::FUTEX_WAKE_BITSET, 10, 0, 0, 6), Ok(1));
    until(|| state() == [0, 1, 1]);
    // A plain wake takes any.
    eq!(futex_wake(word, 10), Ok(1));
    until(|| state() == [1, 1, 1]);
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn bitset_zero_is_refused() {
    let word = AtomicU32::new(0);
    err!(futex(&word, libc::FUTEX_WAIT_BITSET, 0, 0, 0, 0), EINVAL);
    err!(futex(&word, libc::FUTEX_WAKE_BITSET, 1, 0, 0, 0), EINVAL);
}

fn requeue_moves_waiters() {
    let waiters = sleepers(5, libc::FUTEX_WAIT, 0);
    let other = AtomicU32::new(7);
    let at = &other as *const _ as usize;
    // Wakes one, moves two of the rest.
    eq!(futex(waiters.word, libc::FUTEX_REQUEUE, 1, 2, at, 0), Ok(3));
    until(|| waiters.back.load(SeqCst) == 1);
    eq!((count(waiters.word, 0), count(&other, 0)), (2, 2));
    eq!(futex_wake(&other, 10), Ok(2));
    until(|| waiters.back.load(SeqCst) == 3);
    eq!(futex_wake(waiters.word, 10), Ok(2));
    finish(waiters);
}

fn compare_requeue_checks() {
    let waiters = sleepers(3, libc::FUTEX_WAIT | PRIVATE, 0);
    let other = AtomicU32::new(0);
    let at = &other as *const _ as usize;
    let op = libc::FUTEX_CMP_REQUEUE | PRIVATE;
    err!(futex(waiters.word, op, 1, 100, at, 5), EAGAIN);
    eq!(count(waiters.word, PRIVATE), 3);
    eq!(futex(waiters.word, op, 1, 100, at, 0), Ok(3));
    eq!(count(&other, PRIVATE), 2);
    eq!(futex(&other, libc::FUTEX_WAKE | PRIVATE, 100, 0, 0, 0), Ok(2));
    finish(waiters);
}

fn wake_operation() {
    // FUTEX_WAKE_OP: sets the second word, wakes on the first, and on the second if its old value compares.
    let waiters = sleepers(1, libc::FUTEX_WAIT, 0);
    let second = AtomicU32::new(3);
    let at = &second as *const _ as usize;
    // Set (0) to 9; compare equal (0) with 3.
    let op = 9 << 12 | 3;
    eq!(futex(waiters.word, libc::FUTEX_WAKE_OP, 1, 1, at, op), Ok(1));
    eq!(second.load(SeqCst), 9);
    // Add (1) 5; compare equal with 1: not so.
    eq!(futex(waiters.word, libc::FUTEX_WAKE_OP, 1, 1, at, 1 << 28 | 5 << 12 | 1), Ok(0));
    eq!(second.load(SeqCst), 14);
    err!(futex(waiters.word, libc::FUTEX_WAKE_OP, 1, 1, at, 0x7000_0000), ENOSYS);
    finish(waiters);
}

fn private_and_shared_in_one_process() {
    // In private memory both spellings would do, each with its like.
    for op in [0, PRIVATE] {
        let waiters = sleepers(2, libc::FUTEX_WAIT | op, 0);
        eq!(futex(waiters.word, libc::FUTEX_WAKE | op, 10, 0, 0, 0), Ok(2));
        finish(waiters);
    }
}

fn shared_between_processes() {
    let page = mem::shared(PAGE);
    let (word, turn): (&AtomicU32, &AtomicU32) = (mem::at(page), mem::at(page + 64));
    let pid = child(|| {
        turn.store(1, SeqCst);
        ok!(futex_wake(turn, 1));
        await_change(word, 0);
        eq!(word.load(SeqCst), 5);
    });
    await_change(turn, 0);
    word.store(5, SeqCst);
    ok!(futex_wake(word, 1));
    eq!(wait(pid), End::Exit(0));
}

fn shared_by_file_at_other_addresses() {
    guest_programs::fs::scratch();
    guest_programs::fs::put(c"f", &[0; PAGE], 0o644);
    let map = || {
        let fd = ok!(guest_programs::sys::open(c"f", libc::O_RDWR, 0));
        ok!(mem::mmap(0, PAGE, mem::RW, libc::MAP_SHARED, fd, 0))
    };
    let (mine, other) = (map(), map());
    check!(mine != other);
    let pid = child(|| eq!(futex_wait(mem::at(mine + 16), 0), Ok(0)));
    until(|| ok!(futex_wake(mem::at(other + 16), 1)) == 1);
    eq!(wait(pid), End::Exit(0));
}

fn private_memory_after_fork_is_apart() {
    // After a fork the word is two words: waking one does not wake waiters on the other.
    let page = mem::anon(PAGE);
    mem::poke(page, 0u32);
    let word: &AtomicU32 = mem::at(page);
    let pid = child(|| {
        let limit = timespec(50 * MILLI);
        err!(futex(word, libc::FUTEX_WAIT | PRIVATE, 0, &limit as *const _ as usize, 0, 0), ETIMEDOUT);
    });
    until(|| {
        eq!(futex(word, libc::FUTEX_WAKE | PRIVATE, 1, 0, 0, 0), Ok(0));
        eq!(futex_wake(word, 1), Ok(0));
        let (reaped, end) = ok!(guest_programs::process::wait_with(pid, libc::WNOHANG));
        check!(end == End::Exit(0), "{end:?}");
        reaped == pid
    });
}

fn interrupted_by_signal() {
    let word = AtomicU32::new(0);
    guest_programs::signal::handle(libc::SIGALRM, 0, guest_programs::signal::count);
    guest_programs::signal::tick(10);
    err!(futex_wait(&word, 0), EINTR);
    let limit = timespec(ok!(clock(libc::CLOCK_MONOTONIC)) + 100 * SECOND);
    err!(futex(&word, libc::FUTEX_WAIT_BITSET, 0, &limit as *const _ as usize, 0, 1), EINTR);
}

fn restarted_after_signal() {
    let waiters = sleepers(1, libc::FUTEX_WAIT, 0);
    guest_programs::signal::handle(libc::SIGALRM, libc::SA_RESTART, guest_programs::signal::count);
    // The process's signals go to this thread too; enough of them find the waiter as well.
    for _ in 0..100 {
        ok!(guest_programs::process::kill(guest_programs::sys::getpid(), libc::SIGALRM));
    }
    check!(guest_programs::signal::counted() > 0);
    eq!(waiters.back.load(SeqCst), 0);
    finish(waiters);
}

fn ping_pong() {
    let page = mem::shared(PAGE);
    let ball: &AtomicU32 = mem::at(page);
    const ROUNDS: u32 = 2000;
    let player = |parity: u32| {
        loop {
            let now = ball.load(SeqCst);
            if now >= ROUNDS {
                break;
            }
            if now % 2 == parity {
                ball.store(now + 1, SeqCst);
                ok!(futex_wake(ball, 1));
            } else {
                await_change(ball, now);
            }
        }
        ok!(futex_wake(ball, 1));
    };
    let pid = child(|| player(1));
    player(0);
    eq!(wait(pid), End::Exit(0));
}

fn handover_loses_nothing() {
    // A counting semaphore made of a futex, with more threads than CPUs.
    static TOKENS: AtomicU32 = AtomicU32::new(0);
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let takers: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                for _ in 0..2000 {
                    loop {
                        let n = TOKENS.load(SeqCst);
                        if n == 0 {
                            await_change(&TOKENS, 0);
                        } else if TOKENS.compare_exchange(n, n - 1, SeqCst, SeqCst).is_ok() {
                            TAKEN.fetch_add(1, SeqCst);
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for _ in 0..8000 {
        TOKENS.fetch_add(1, SeqCst);
        ok!(futex(&TOKENS, libc::FUTEX_WAKE, 1, 0, 0, 0));
    }
    takers.into_iter().for_each(|t| check!(t.join().is_ok()));
    eq!((TAKEN.load(SeqCst), TOKENS.load(SeqCst)), (8000, 0));
}

fn word_on_read_only_page() {
    let page = mem::anon(PAGE);
    mem::poke(page, 1u32);
    ok!(mem::mprotect(page, PAGE, libc::PROT_READ));
    err!(futex(mem::at(page), libc::FUTEX_WAIT | PRIVATE, 0, 0, 0, 0), EAGAIN);
    eq!(futex(mem::at(page), libc::FUTEX_WAKE | PRIVATE, 1, 0, 0, 0), Ok(0));
}

fn waiter_killed_is_forgotten() {
    let page = mem::shared(PAGE);
    let word: &AtomicU32 = mem::at(page);
    let pid = child(|| _ = futex_wait(word, 0));
    until(|| count(word, 0) == 1);
    ok!(guest_programs::process::kill(pid, libc::SIGKILL));
    eq!(wait(pid), End::Signal(libc::SIGKILL));
    eq!(futex_wake(word, 10), Ok(0));
}
