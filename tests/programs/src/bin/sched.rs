//! Scheduling: CPUs, affinity, priorities, fairness.

use guest_programs::process::{End, child, in_child, wait};
use guest_programs::sync::until;
use guest_programs::sys::zeroed;
use guest_programs::time::{MILLI, SECOND, now, sleep};
use guest_programs::{Case, call, cases, check, eq, err, mem, ok, run};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

const CASES: &[Case] = cases![
    affinity_get_and_set,
    affinity_errors,
    affinity_is_inherited,
    migration_to_every_cpu,
    every_cpu_does_work: 60,
    getcpu_agrees_with_affinity,
    yield_lets_others_run,
    busy_threads_share,
    sleeper_wakes_under_load: 60,
    nice_values,
    policies,
    priority_limits,
    round_robin_interval,
    more_threads_than_cpus: 60,
];

fn main() {
    run(&[CASES], &[])
}

fn affinity() -> u64 {
    let mut mask = [0u64; 16];
    let n = ok!(call!(SYS_sched_getaffinity, 0, 128, mask.as_mut_ptr()));
    check!(n >= 8 && n % 8 == 0);
    check!(mask[1..].iter().all(|word| *word == 0), "more than 64 CPUs");
    mask[0]
}

fn pin(mask: u64) {
    ok!(call!(SYS_sched_setaffinity, 0, 8, &mask));
}

fn cpu() -> u32 {
    let (mut cpu, mut node) = (u32::MAX, u32::MAX);
    ok!(call!(SYS_getcpu, &mut cpu, &mut node, 0));
    eq!(node, 0);
    cpu
}

fn cpus() -> Vec<u32> {
    let mask = affinity();
    (0..64).filter(|i| mask >> i & 1 == 1).collect()
}

fn affinity_get_and_set() {
    let all = affinity();
    check!(all != 0);
    for i in cpus() {
        pin(1 << i);
        eq!(affinity(), 1 << i);
    }
    // CPUs that are not there are left out.
    pin(!0);
    eq!(affinity(), all);
    eq!(std::thread::available_parallelism().map_or(0, |n| n.get()), all.count_ones() as usize);
}

fn affinity_errors() {
    let all = affinity();
    err!(call!(SYS_sched_setaffinity, 0, 8, &0u64), EINVAL);
    let absent = !all & !(all << 1 | all << 2);
    err!(call!(SYS_sched_setaffinity, 0, 8, &(absent & 1 << 63)), EINVAL);
    err!(call!(SYS_sched_setaffinity, 0x3fff_ffff, 8, &1u64), ESRCH);
    err!(call!(SYS_sched_getaffinity, 0x3fff_ffff, 8, &mut 0u64), ESRCH);
    err!(call!(SYS_sched_getaffinity, 0, 3, &mut 0u64), EINVAL);
    err!(call!(SYS_sched_getaffinity, 0, 8, mem::KERNEL), EFAULT);
    err!(call!(SYS_sched_setaffinity, 0, 8, mem::KERNEL), EFAULT);
}

fn affinity_is_inherited() {
    let first = cpus()[0];
    pin(1 << first);
    in_child(|| {
        eq!(affinity(), 1 << first);
        eq!(cpu(), first);
    });
    check!(std::thread::spawn(move || eq!(affinity(), 1 << first)).join().is_ok());
}

fn migration_to_every_cpu() {
    let cpus = cpus();
    for round in 0..20 {
        for i in &cpus {
            pin(1 << i);
            // It is there when the call returns.
            eq!(cpu(), *i);
            let page = mem::anon(mem::PAGE);
            mem::poke(page, round);
            ok!(mem::munmap(page, mem::PAGE));
        }
    }
    // Another thread is moved from outside while it runs and while it sleeps.
    static STOP: AtomicBool = AtomicBool::new(false);
    let (send, receive) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        check!(send.send(guest_programs::sys::gettid()).is_ok());
        let mut rounds = 0u64;
        while !STOP.load(SeqCst) {
            rounds += 1;
            if rounds.is_multiple_of(1000) {
                sleep(100_000);
            }
        }
    });
    let tid = ok!(receive.recv());
    for _ in 0..100 {
        for i in &cpus {
            ok!(call!(SYS_sched_setaffinity, tid, 8, &(1u64 << i)));
        }
    }
    STOP.store(true, SeqCst);
    check!(thread.join().is_ok());
}

fn every_cpu_does_work() {
    // As many threads as CPUs, each bound to one, all make progress at the same time.
    let cpus = cpus();
    let counters: Vec<&'static AtomicU64> =
        cpus.iter().enumerate().map(|(i, _)| mem::at(mem::anon(mem::PAGE) + 8 * i)).collect();
    static STOP: AtomicBool = AtomicBool::new(false);
    let threads: Vec<_> = cpus
        .iter()
        .zip(&counters)
        .map(|(i, counter)| {
            let (i, counter) = (*i, *counter);
            std::thread::spawn(move || {
                pin(1 << i);
                while !STOP.load(SeqCst) {
                    eq!(cpu(), i);
                    counter.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    until(|| counters.iter().all(|c| c.load(SeqCst) > 1000));
    STOP.store(true, SeqCst);
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn getcpu_agrees_with_affinity() {
    for i in cpus() {
        pin(1 << i);
        for _ in 0..100 {
            eq!(cpu(), i);
            // SAFETY: reads the CPU number by whatever way libc knows.
            eq!(unsafe { libc::sched_getcpu() }, i as i32);
        }
    }
    err!(call!(SYS_getcpu, mem::KERNEL, 0, 0), EFAULT);
    eq!(call!(SYS_getcpu, 0, 0, 0), Ok(0));
}

fn yield_lets_others_run() {
    // On one CPU, two processes that hand a word to and fro by yielding only.
    pin(1 << cpus()[0]);
    let word: &AtomicU64 = mem::at(mem::shared(mem::PAGE));
    let pid = child(|| {
        (0..500).for_each(|i| {
            until(|| word.load(SeqCst) == 2 * i + 1);
            word.store(2 * i + 2, SeqCst);
        })
    });
    for i in 0..500 {
        until(|| word.load(SeqCst) == 2 * i);
        word.store(2 * i + 1, SeqCst);
    }
    eq!(wait(pid), End::Exit(0));
}

fn busy_threads_share() {
    // On one CPU, four that never enter the kernel all get on: the scheduler preempts.
    pin(1 << cpus()[0]);
    let page = mem::shared(mem::PAGE);
    let counters: [&AtomicU64; 4] =
        [mem::at(page), mem::at(page + 64), mem::at(page + 128), mem::at(page + 192)];
    let pids = counters.map(|c| {
        child(|| {
            loop {
                c.fetch_add(1, SeqCst);
            }
        })
    });
    until(|| counters.iter().all(|c| c.load(SeqCst) > 100_000));
    // Over a while, none gets less than a quarter of its share.
    let start = counters.map(|c| c.load(SeqCst));
    sleep(800 * MILLI);
    let done: Vec<u64> = counters.iter().zip(start).map(|(c, s)| c.load(SeqCst) - s).collect();
    let total: u64 = done.iter().sum();
    check!(done.iter().all(|d| *d * 16 >= total), "{done:?}");
    pids.into_iter().for_each(guest_programs::process::finish);
}

fn sleeper_wakes_under_load() {
    // With all CPUs busy, one that sleeps is let run soon after its time.
    let pids: Vec<i32> = (0..cpus().len() * 2)
        .map(|_| {
            child(|| {
                loop {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let mut worst = 0;
    for _ in 0..20 {
        let start = now();
        sleep(5 * MILLI);
        let late = now() - start - 5 * MILLI;
        check!(late >= 0);
        worst = worst.max(late);
    }
    check!(worst < 2 * SECOND, "{worst} ns late");
    pids.into_iter().for_each(guest_programs::process::finish);
}

fn nice_values() {
    // The call itself gives 20 minus the value.
    eq!(call!(SYS_getpriority, libc::PRIO_PROCESS, 0), Ok(20));
    ok!(call!(SYS_setpriority, libc::PRIO_PROCESS, 0, 5));
    eq!(call!(SYS_getpriority, libc::PRIO_PROCESS, 0), Ok(15));
    in_child(|| eq!(call!(SYS_getpriority, libc::PRIO_PROCESS, 0), Ok(15)));
    ok!(call!(SYS_setpriority, libc::PRIO_PROCESS, 0, 1000));
    eq!(call!(SYS_getpriority, libc::PRIO_PROCESS, 0), Ok(1));
    ok!(call!(SYS_setpriority, libc::PRIO_PROCESS, 0, -1000));
    eq!(call!(SYS_getpriority, libc::PRIO_PROCESS, 0), Ok(40));
    ok!(call!(SYS_setpriority, libc::PRIO_PGRP, 0, 0));
    eq!(call!(SYS_getpriority, libc::PRIO_PGRP, 0), Ok(20));
    err!(call!(SYS_getpriority, 9, 0), EINVAL);
    err!(call!(SYS_setpriority, 9, 0, 0), EINVAL);
    err!(call!(SYS_getpriority, libc::PRIO_PROCESS, 0x3fff_ffff), ESRCH);
    in_child(|| {
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        ok!(call!(SYS_setpriority, libc::PRIO_PROCESS, 0, 3));
        err!(call!(SYS_setpriority, libc::PRIO_PROCESS, 0, 1), EACCES);
        err!(call!(SYS_setpriority, libc::PRIO_PROCESS, guest_programs::sys::getppid(), 10), EPERM);
    });
}

fn policies() {
    eq!(call!(SYS_sched_getscheduler, 0), Ok(libc::SCHED_OTHER as usize));
    let mut priority = 99i32;
    ok!(call!(SYS_sched_getparam, 0, &mut priority));
    eq!(priority, 0);
    ok!(call!(SYS_sched_setscheduler, 0, libc::SCHED_BATCH, &0i32));
    eq!(call!(SYS_sched_getscheduler, 0), Ok(libc::SCHED_BATCH as usize));
    ok!(call!(SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &0i32));
    err!(call!(SYS_sched_setscheduler, 0, libc::SCHED_OTHER, &1i32), EINVAL);
    err!(call!(SYS_sched_setscheduler, 0, 77, &0i32), EINVAL);
    err!(call!(SYS_sched_setscheduler, 0, libc::SCHED_FIFO, &0i32), EINVAL);
    err!(call!(SYS_sched_setscheduler, 0x3fff_ffff, libc::SCHED_OTHER, &0i32), ESRCH);
    err!(call!(SYS_sched_getscheduler, -1), EINVAL);
    err!(call!(SYS_sched_getparam, 0, 0), EINVAL | EFAULT);
}

fn priority_limits() {
    eq!(call!(SYS_sched_get_priority_max, libc::SCHED_OTHER), Ok(0));
    eq!(call!(SYS_sched_get_priority_min, libc::SCHED_FIFO), Ok(1));
    eq!(call!(SYS_sched_get_priority_max, libc::SCHED_RR), Ok(99));
    err!(call!(SYS_sched_get_priority_max, 77), EINVAL);
}

fn round_robin_interval() {
    let mut t: libc::timespec = zeroed();
    ok!(call!(SYS_sched_rr_get_interval, 0, &mut t));
    check!((0..SECOND).contains(&guest_programs::time::nanos(&t)));
    err!(call!(SYS_sched_rr_get_interval, -1, &mut t), EINVAL);
}

fn more_threads_than_cpus() {
    static SUM: AtomicU64 = AtomicU64::new(0);
    let threads: Vec<_> = (0..40)
        .map(|i| {
            std::thread::spawn(move || {
                for round in 0..50 {
                    SUM.fetch_add(1, SeqCst);
                    match (i + round) % 3 {
                        0 => guest_programs::sys::yield_now(),
                        1 => sleep(10_000),
                        _ => _ = std::hint::black_box((0..1000u32).sum::<u32>()),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
    eq!(SUM.load(SeqCst), 2000);
}
