//! Clocks, sleeps and timers.

use guest_programs::process::in_child;
use guest_programs::signal::{block, count, counted, handle, set, take};
use guest_programs::sync::until;
use guest_programs::sys::{auxv, getpid, zeroed};
use guest_programs::time::{MILLI, SECOND, check_sleep, clock, elapsed, nanos, now, sleep, timespec};
use guest_programs::{Case, Sys, call, cases, check, eq, err, mem, ok, run};

const CASES: &[Case] = cases![
    all_clocks_tell_time,
    clocks_agree_where_they_should,
    monotonic_never_goes_back,
    monotonic_across_threads: 60,
    resolutions,
    clock_errors,
    realtime_can_be_set,
    cpu_clocks_count_work_only,
    vdso_is_there_and_agrees,
    gettimeofday_and_time,
    nanosleep_lengths,
    nanosleep_errors,
    absolute_sleeps,
    sleeps_in_parallel,
    interval_timer,
    virtual_and_profiling_timers,
    alarm_rings,
    posix_timer_signals,
    posix_timer_overruns,
    posix_timer_errors,
    timers_do_not_survive_exec_or_fork,
];

fn main() {
    run(&[CASES], &[])
}

const ALL: [i32; 9] = [
    libc::CLOCK_REALTIME,
    libc::CLOCK_MONOTONIC,
    libc::CLOCK_PROCESS_CPUTIME_ID,
    libc::CLOCK_THREAD_CPUTIME_ID,
    libc::CLOCK_MONOTONIC_RAW,
    libc::CLOCK_REALTIME_COARSE,
    libc::CLOCK_MONOTONIC_COARSE,
    libc::CLOCK_BOOTTIME,
    libc::CLOCK_TAI,
];

fn all_clocks_tell_time() {
    for id in ALL {
        let mut t: libc::timespec = zeroed();
        ok!(call!(SYS_clock_gettime, id, &mut t));
        check!((0..SECOND).contains(&t.tv_nsec) && t.tv_sec >= 0, "clock {id}: {} {}", t.tv_sec, t.tv_nsec);
    }
}

fn clocks_agree_where_they_should() {
    let at = |id: i32| ok!(clock(id));
    for (coarse, fine) in [
        (libc::CLOCK_MONOTONIC_COARSE, libc::CLOCK_MONOTONIC),
        (libc::CLOCK_REALTIME_COARSE, libc::CLOCK_REALTIME),
    ] {
        let (before, middle, after) = (at(fine), at(coarse), at(fine));
        check!(middle <= after && middle >= before - 50 * MILLI, "{before} {middle} {after}");
    }
    let monotonic = at(libc::CLOCK_MONOTONIC);
    check!(at(libc::CLOCK_BOOTTIME) >= monotonic - MILLI);
    // A second of one is a second of the others, to a percent.
    for id in [libc::CLOCK_MONOTONIC_RAW, libc::CLOCK_BOOTTIME] {
        // Between two readings of the clock it is measured by, for much time may pass from one reading to the next.
        let look = || (at(libc::CLOCK_MONOTONIC), at(id), at(libc::CLOCK_MONOTONIC));
        let (before, start, begun) = look();
        sleep(200 * MILLI);
        let (ending, end, after) = look();
        let (least, took, most) = (ending - begun, end - start, after - before);
        check!(took >= least - least / 100 && took <= most + most / 100, "{least} {took} {most}");
    }
}

fn monotonic_never_goes_back() {
    for id in
        [libc::CLOCK_MONOTONIC, libc::CLOCK_MONOTONIC_RAW, libc::CLOCK_BOOTTIME, libc::CLOCK_MONOTONIC_COARSE]
    {
        let mut last = ok!(clock(id));
        for _ in 0..20_000 {
            let now = ok!(clock(id));
            check!(now >= last, "clock {id} went back from {last} to {now}");
            last = now;
        }
    }
    // System call and vDSO mixed.
    let mut last = now();
    for i in 0..20_000 {
        let next = if i % 2 == 0 { now() } else { ok!(clock(libc::CLOCK_MONOTONIC)) };
        check!(next >= last, "went back from {last} to {next}");
        last = next;
    }
}

fn monotonic_across_threads() {
    // What one thread has read, no other may read a smaller value of afterwards, on whatever CPU.
    use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
    static LATEST: AtomicI64 = AtomicI64::new(0);
    let threads: Vec<_> = (0..4)
        .map(|n| {
            std::thread::spawn(move || {
                for i in 0..30_000 {
                    let seen = LATEST.load(SeqCst);
                    let mine = if (i + n) % 2 == 0 { now() } else { ok!(clock(libc::CLOCK_MONOTONIC)) };
                    check!(mine >= seen, "{mine} after {seen}");
                    LATEST.fetch_max(mine, SeqCst);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn resolutions() {
    for id in ALL {
        let mut t: libc::timespec = zeroed();
        ok!(call!(SYS_clock_getres, id, &mut t));
        check!(nanos(&t) >= 1 && nanos(&t) <= 20 * MILLI, "clock {id}: {} ns", nanos(&t));
        ok!(call!(SYS_clock_getres, id, 0));
    }
    let mut t: libc::timespec = zeroed();
    ok!(call!(SYS_clock_getres, libc::CLOCK_MONOTONIC, &mut t));
    eq!(nanos(&t), 1);
}

fn clock_errors() {
    let mut t: libc::timespec = zeroed();
    for id in [99, 1000, i32::MAX] {
        err!(call!(SYS_clock_gettime, id, &mut t), EINVAL);
        err!(call!(SYS_clock_getres, id, &mut t), EINVAL);
        err!(call!(SYS_clock_settime, id, &t), EINVAL);
    }
    err!(call!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, mem::KERNEL), EFAULT);
    err!(call!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, 0), EFAULT);
    err!(call!(SYS_clock_settime, libc::CLOCK_MONOTONIC, &timespec(5)), EINVAL);
    let wrong = libc::timespec { tv_sec: 5, tv_nsec: SECOND };
    err!(call!(SYS_clock_settime, libc::CLOCK_REALTIME, &wrong), EINVAL);
    in_child(|| {
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        err!(call!(SYS_clock_settime, libc::CLOCK_REALTIME, &timespec(SECOND)), EPERM);
    });
}

fn realtime_can_be_set() {
    // Set to what it is, so that this may run anywhere; the monotonic clock takes no notice.
    let before = ok!(clock(libc::CLOCK_MONOTONIC));
    let real = ok!(clock(libc::CLOCK_REALTIME));
    check!(real > 946_684_800 * SECOND, "the year is before 2000");
    ok!(call!(SYS_clock_settime, libc::CLOCK_REALTIME, &timespec(real)));
    check!((ok!(clock(libc::CLOCK_REALTIME)) - real).abs() < 10 * SECOND);
    let after = ok!(clock(libc::CLOCK_MONOTONIC));
    check!(after >= before && after - before < 10 * SECOND);
}

/// What a clock advances by while `work` runs: the least of several runs, because a virtual CPU that loses its own
/// processor in the middle has that time counted as work.
fn least_advance(id: i32, work: impl Fn()) -> i64 {
    let advance = |_| {
        let start = ok!(clock(id));
        work();
        ok!(clock(id)) - start
    };
    (0..5).map(advance).min().unwrap_or_default()
}

fn cpu_clocks_count_work_only() {
    for id in [libc::CLOCK_PROCESS_CPUTIME_ID, libc::CLOCK_THREAD_CPUTIME_ID] {
        let slept = least_advance(id, || sleep(100 * MILLI));
        check!(slept < 50 * MILLI, "{slept} ns of work while asleep");
        let start = ok!(clock(id));
        until(|| ok!(clock(id)) - start > 20 * MILLI);
    }
    // The thread's clock does not count other threads' work; the process's does.
    let (thread, process) = (libc::CLOCK_THREAD_CPUTIME_ID, libc::CLOCK_PROCESS_CPUTIME_ID);
    let others_work = move || {
        let other = std::thread::spawn(move || {
            let start = ok!(clock(thread));
            until(|| ok!(clock(thread)) - start > 60 * MILLI);
        });
        check!(other.join().is_ok());
    };
    check!(least_advance(process, others_work) >= 60 * MILLI);
    let own = least_advance(thread, others_work);
    check!(own < 50 * MILLI, "{own} ns of work while another thread worked");
}

/// Address of a function in the vDSO, by name.
fn vdso(name: &[u8]) -> Option<usize> {
    let base = auxv(libc::AT_SYSINFO_EHDR) as usize;
    if base == 0 {
        return None;
    }
    let (phoff, phnum): (u64, u16) = (mem::peek(base + 32), mem::peek(base + 56));
    let headers = (0..usize::from(phnum)).map(|i| base + phoff as usize + i * 56);
    let (mut bias, mut dynamic) = (0, 0);
    for h in headers {
        match mem::peek::<u32>(h) {
            1 => bias = base + mem::peek::<usize>(h + 8) - mem::peek::<usize>(h + 16),
            2 => dynamic = base + mem::peek::<usize>(h + 8),
            _ => {}
        }
    }
    let entry = |tag: usize| {
        (0..100)
            .map(|i| dynamic + i * 16)
            .take_while(|d| mem::peek::<usize>(*d) != 0)
            .find_map(|d| (mem::peek::<usize>(d) == tag).then(|| bias + mem::peek::<usize>(d + 8)))
    };
    let (strings, symbols) = (entry(5)?, entry(6)?);
    // The symbols end where the strings begin, as every linker lays them out; or there are few of them.
    let count = if strings > symbols { ((strings - symbols) / 24).min(64) } else { 16 };
    (0..count).map(|i| symbols + i * 24).find_map(|s| {
        let at = strings + mem::peek::<u32>(s) as usize;
        let matches = (0..name.len()).all(|i| mem::peek::<u8>(at + i) == name[i])
            && mem::peek::<u8>(at + name.len()) == 0;
        (matches && mem::peek::<u16>(s + 6) != 0).then(|| bias + mem::peek::<usize>(s + 8))
    })
}

fn vdso_is_there_and_agrees() {
    check!(auxv(libc::AT_SYSINFO_EHDR) != 0, "no vDSO");
    eq!(mem::bytes(auxv(libc::AT_SYSINFO_EHDR) as usize, 4), b"\x7fELF");
    let Some(at) = vdso(b"__vdso_clock_gettime") else { guest_programs::fail!("no __vdso_clock_gettime") };
    // SAFETY: the symbol has this signature.
    let gettime: extern "C" fn(i32, *mut libc::timespec) -> i32 = unsafe { std::mem::transmute(at) };
    let mut t: libc::timespec = zeroed();
    for id in ALL {
        let before = ok!(clock(id));
        eq!(gettime(id, &mut t), 0);
        let after = ok!(clock(id));
        check!((before..=after).contains(&nanos(&t)), "clock {id}: {before} {} {after}", nanos(&t));
    }
    eq!(gettime(99, &mut t), -libc::EINVAL);
    // Readable and executable, not writable.
    check!(guest_programs::signal::write_faults(auxv(libc::AT_SYSINFO_EHDR) as usize).is_some());
    if let Some(at) = vdso(b"__vdso_getcpu") {
        // SAFETY: the symbol has this signature.
        let getcpu: extern "C" fn(*mut u32, *mut u32, usize) -> i32 = unsafe { std::mem::transmute(at) };
        let (mut cpu, mut node) = (99u32, 99u32);
        eq!(getcpu(&mut cpu, &mut node, 0), 0);
        check!(cpu < 64 && node == 0);
    }
}

fn gettimeofday_and_time() {
    let mut tv = [0i64; 2];
    let real = ok!(clock(libc::CLOCK_REALTIME));
    ok!(call!(SYS_gettimeofday, tv.as_mut_ptr(), 0));
    let micros = tv[0] * SECOND + tv[1] * 1000;
    check!((real - 1000..real + 10 * SECOND).contains(&micros));
    let mut seconds = 0i64;
    let told = ok!(call!(SYS_time, &mut seconds)) as i64;
    check!(told == seconds && (told - tv[0]).abs() <= 10);
    err!(call!(SYS_time, mem::KERNEL), EFAULT);
    err!(call!(SYS_gettimeofday, mem::KERNEL, 0), EFAULT);
}

fn nanosleep_lengths() {
    for length in [0, 1, 1000, 50_000, MILLI, 30 * MILLI, 200 * MILLI] {
        check_sleep(length, elapsed(|| sleep(length)));
    }
    // Many short ones: none early.
    for _ in 0..100 {
        check_sleep(100_000, elapsed(|| sleep(100_000)));
    }
}

fn nanosleep_errors() {
    for (tv_sec, tv_nsec) in [(0, -1), (0, SECOND), (-1, 0), (0, i64::MAX)] {
        let t = libc::timespec { tv_sec, tv_nsec };
        err!(call!(SYS_nanosleep, &t, 0), EINVAL);
        err!(call!(SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, &t, 0), EINVAL);
    }
    err!(call!(SYS_nanosleep, mem::KERNEL, 0), EFAULT);
    err!(call!(SYS_clock_nanosleep, 99, 0, &timespec(0), 0), EINVAL);
    err!(call!(SYS_clock_nanosleep, libc::CLOCK_THREAD_CPUTIME_ID, 0, &timespec(0), 0), EINVAL | EOPNOTSUPP);
    // As long as can be said: it waits, until a signal.
    handle(libc::SIGALRM, 0, count);
    guest_programs::signal::tick(10);
    let forever = libc::timespec { tv_sec: i64::MAX, tv_nsec: 999_999_999 };
    err!(call!(SYS_nanosleep, &forever, 0), EINTR);
}

fn absolute_sleeps() {
    for id in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME, libc::CLOCK_BOOTTIME] {
        let end = ok!(clock(id)) + 30 * MILLI;
        ok!(call!(SYS_clock_nanosleep, id, libc::TIMER_ABSTIME, &timespec(end), 0));
        let late = ok!(clock(id)) - end;
        check!((0..10 * SECOND).contains(&late), "clock {id}: {late}");
        // In the past: at once.
        check_sleep(
            0,
            elapsed(|| _ = ok!(call!(SYS_clock_nanosleep, id, libc::TIMER_ABSTIME, &timespec(1), 0))),
        );
    }
}

fn sleeps_in_parallel() {
    // Twenty sleepers of different lengths take as long as the longest, in the order of their lengths.
    let took = elapsed(|| {
        let threads: Vec<_> = (1..=20)
            .map(|i| {
                std::thread::spawn(move || check_sleep(i * 50 * MILLI, elapsed(|| sleep(i * 50 * MILLI))))
            })
            .collect();
        threads.into_iter().for_each(|t| check!(t.join().is_ok()));
    });
    check!(took < 10_500 * MILLI, "{took} ns");
}

fn itimer(which: i32, first: i64, every: i64) -> Sys {
    let tv = |n: i64| libc::timeval { tv_sec: n / SECOND, tv_usec: n % SECOND / 1000 };
    let timer = libc::itimerval { it_interval: tv(every), it_value: tv(first) };
    call!(SYS_setitimer, which, &timer, 0)
}

fn interval_timer() {
    handle(libc::SIGALRM, libc::SA_RESTART, count);
    let took = elapsed(|| {
        ok!(itimer(libc::ITIMER_REAL, 20 * MILLI, 10 * MILLI));
        until(|| counted() >= 5);
    });
    check!(took >= 60 * MILLI, "five rings in {took} ns");
    let mut left: libc::itimerval = zeroed();
    ok!(call!(SYS_getitimer, libc::ITIMER_REAL, &mut left));
    eq!((left.it_interval.tv_sec, left.it_interval.tv_usec), (0, 10_000));
    check!(left.it_value.tv_usec > 0 && left.it_value.tv_usec <= 10_000);
    ok!(itimer(libc::ITIMER_REAL, 0, 0));
    let rung = counted();
    sleep(30 * MILLI);
    eq!(counted(), rung);
    // Once only.
    ok!(itimer(libc::ITIMER_REAL, 5 * MILLI, 0));
    until(|| counted() > rung);
    ok!(call!(SYS_getitimer, libc::ITIMER_REAL, &mut left));
    eq!((left.it_value.tv_sec, left.it_value.tv_usec), (0, 0));
    err!(call!(SYS_setitimer, 9, &left, 0), EINVAL);
    left.it_value.tv_usec = 1_000_000;
    err!(call!(SYS_setitimer, libc::ITIMER_REAL, &left, 0), EINVAL);
    err!(call!(SYS_getitimer, libc::ITIMER_REAL, mem::KERNEL), EFAULT);
}

fn virtual_and_profiling_timers() {
    for (which, number) in [(libc::ITIMER_VIRTUAL, libc::SIGVTALRM), (libc::ITIMER_PROF, libc::SIGPROF)] {
        handle(number, libc::SA_RESTART, count);
        let before = counted();
        let start = ok!(clock(libc::CLOCK_PROCESS_CPUTIME_ID));
        let used = || ok!(clock(libc::CLOCK_PROCESS_CPUTIME_ID)) - start;
        ok!(itimer(which, 10 * MILLI, 0));
        // Asleep it does not run. On a busy machine a few instructions before and after may take so long that it rings.
        let slept = call!(SYS_nanosleep, &timespec(50 * MILLI), 0);
        if counted() == before {
            ok!(slept);
        } else {
            check!(used() >= 10 * MILLI, "{slept:?}");
        }
        while counted() == before {
            std::hint::black_box((0..1000u32).sum::<u32>());
        }
        check!((10 * MILLI..10 * SECOND).contains(&used()), "{} ns", used());
    }
}

fn alarm_rings() {
    block(&[libc::SIGALRM]);
    eq!(call!(SYS_alarm, 100), Ok(0));
    let mut left = 0;
    let took = elapsed(|| {
        left = ok!(call!(SYS_alarm, 1));
        eq!(take(&[libc::SIGALRM]).si_signo, libc::SIGALRM);
    });
    check!((90..=100).contains(&left));
    check_sleep(SECOND, took);
    eq!(call!(SYS_alarm, 0), Ok(0));
}

fn timer_create(id: i32, signal: i32, value: usize) -> Sys<i32> {
    // sigev_value, sigev_signo, sigev_notify, padding
    let event = [value, signal as usize, 0, 0, 0, 0, 0, 0];
    let mut timer = -1i32;
    call!(SYS_timer_create, id, event.as_ptr(), &mut timer)?;
    Ok(timer)
}

fn timer_set(timer: i32, first: i64, every: i64) {
    let time = libc::itimerspec { it_interval: timespec(every), it_value: timespec(first) };
    ok!(call!(SYS_timer_settime, timer, 0, &time, 0));
}

fn posix_timer_signals() {
    block(&[libc::SIGUSR1, libc::SIGALRM]);
    for id in [libc::CLOCK_MONOTONIC, libc::CLOCK_REALTIME] {
        let timer = ok!(timer_create(id, libc::SIGUSR1, 0x1234_5678_9abc));
        let took = elapsed(|| {
            timer_set(timer, 20 * MILLI, 0);
            let info = take(&[libc::SIGUSR1]);
            eq!(info.si_code, libc::SI_TIMER);
            // SAFETY: the kernel fills the value for a timer's signal.
            eq!(unsafe { info.si_value().sival_ptr as usize }, 0x1234_5678_9abc);
        });
        check_sleep(20 * MILLI, took);
        let mut left: libc::itimerspec = zeroed();
        ok!(call!(SYS_timer_gettime, timer, &mut left));
        eq!(nanos(&left.it_value), 0);
        ok!(call!(SYS_timer_delete, timer));
        err!(call!(SYS_timer_delete, timer), EINVAL);
    }
    // Without an event: SIGALRM.
    let mut timer = -1i32;
    ok!(call!(SYS_timer_create, libc::CLOCK_MONOTONIC, 0, &mut timer));
    timer_set(timer, MILLI, 0);
    eq!(take(&[libc::SIGALRM]).si_code, libc::SI_TIMER);
    // To one thread: SIGEV_THREAD_ID.
    let event =
        [7usize, libc::SIGUSR1 as usize | 4 << 32, guest_programs::sys::gettid() as usize, 0, 0, 0, 0, 0];
    ok!(call!(SYS_timer_create, libc::CLOCK_MONOTONIC, event.as_ptr(), &mut timer));
    timer_set(timer, MILLI, 0);
    eq!(take(&[libc::SIGUSR1]).si_code, libc::SI_TIMER);
}

fn posix_timer_overruns() {
    block(&[libc::SIGUSR1]);
    let timer = ok!(timer_create(libc::CLOCK_MONOTONIC, libc::SIGUSR1, 0));
    timer_set(timer, MILLI, MILLI);
    sleep(30 * MILLI);
    take(&[libc::SIGUSR1]);
    check!(ok!(call!(SYS_timer_getoverrun, timer)) >= 20);
    timer_set(timer, 0, 0);
    // One that went off already may be pending still.
    let _ = call!(SYS_rt_sigtimedwait, &set(&[libc::SIGUSR1]), 0, &timespec(0), 8);
    sleep(10 * MILLI);
    eq!(guest_programs::signal::pending(), 0);
}

fn posix_timer_errors() {
    err!(timer_create(99, libc::SIGUSR1, 0), EINVAL);
    err!(timer_create(libc::CLOCK_MONOTONIC, 99, 0), EINVAL);
    let timer = ok!(timer_create(libc::CLOCK_MONOTONIC, libc::SIGUSR1, 0));
    let wrong = libc::itimerspec {
        it_interval: timespec(0),
        it_value: libc::timespec { tv_sec: 0, tv_nsec: SECOND },
    };
    err!(call!(SYS_timer_settime, timer, 0, &wrong, 0), EINVAL);
    err!(call!(SYS_timer_settime, timer, 0, mem::KERNEL, 0), EFAULT);
    err!(call!(SYS_timer_settime, 9999, 0, &wrong, 0), EINVAL);
    err!(call!(SYS_timer_gettime, 9999, &wrong), EINVAL);
    err!(call!(SYS_timer_getoverrun, 9999), EINVAL);
}

fn timers_do_not_survive_exec_or_fork() {
    let timer = ok!(timer_create(libc::CLOCK_MONOTONIC, libc::SIGUSR1, 0));
    in_child(|| err!(call!(SYS_timer_getoverrun, timer), EINVAL));
    eq!(call!(SYS_timer_getoverrun, timer), Ok(0));
    check!(getpid() > 0);
}
