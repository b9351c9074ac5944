//! Mutexes, condition variables and read-write locks under load; robust and shared mutexes.

use guest_programs::process::{End, child, wait};
use guest_programs::sync::Gate;
use guest_programs::{Case, call, cases, check, eq, mem, ok};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, Once, RwLock, mpsc};
use std::thread;

pub const CASES: &[Case] = cases![
    mutex_counts_exactly: 60,
    condvar_hands_over: 60,
    condvar_wait_times_out,
    producers_and_consumers: 60,
    rwlock_keeps_writers_alone: 60,
    once_runs_once,
    channels_deliver_all: 60,
    pthread_mutex_kinds,
    pthread_mutex_timed,
    pthread_spin_and_barrier,
    process_shared_mutex: 60,
    robust_mutex_of_dead_thread,
    robust_mutex_of_dead_process,
    robust_list_calls,
];

fn join(threads: Vec<thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn mutex_counts_exactly() {
    let counter = Arc::new(Mutex::new((0u64, 0u64)));
    join(
        (0..8)
            .map(|_| {
                let counter = counter.clone();
                thread::spawn(move || {
                    for _ in 0..5000 {
                        let mut both = ok!(counter.lock().map_err(|_| "poisoned"));
                        both.0 += 1;
                        both.1 += 2;
                    }
                })
            })
            .collect(),
    );
    eq!(*ok!(counter.lock().map_err(|_| "poisoned")), (40_000, 80_000));
}

fn condvar_hands_over() {
    let turn = Arc::new((Mutex::new(0usize), Condvar::new()));
    const N: usize = 5;
    join(
        (0..N)
            .map(|me| {
                let turn = turn.clone();
                thread::spawn(move || {
                    for _ in 0..200 {
                        let guard = ok!(turn.0.lock().map_err(|_| "poisoned"));
                        let mut guard =
                            ok!(turn.1.wait_while(guard, |t| *t % N != me).map_err(|_| "poisoned"));
                        *guard += 1;
                        turn.1.notify_all();
                    }
                })
            })
            .collect(),
    );
    eq!(*ok!(turn.0.lock().map_err(|_| "poisoned")), 200 * N);
}

fn condvar_wait_times_out() {
    let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    let took = guest_programs::time::elapsed(|| {
        let guard = ok!(mutex.lock().map_err(|_| "poisoned"));
        let wait = condvar.wait_timeout_while(guard, std::time::Duration::from_millis(50), |()| true);
        check!(ok!(wait.map_err(|_| "poisoned")).1.timed_out());
    });
    guest_programs::time::check_sleep(50 * guest_programs::time::MILLI, took);
}

fn producers_and_consumers() {
    let queue = Arc::new((Mutex::new(std::collections::VecDeque::new()), Condvar::new(), Condvar::new()));
    let sum = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for p in 0..3u64 {
        let queue = queue.clone();
        threads.push(thread::spawn(move || {
            for i in 0..1000u64 {
                let guard = ok!(queue.0.lock().map_err(|_| "poisoned"));
                let mut guard = ok!(queue.1.wait_while(guard, |q| q.len() >= 8).map_err(|_| "poisoned"));
                guard.push_back(p * 1000 + i);
                queue.2.notify_one();
            }
        }));
    }
    for _ in 0..3 {
        let (queue, sum) = (queue.clone(), sum.clone());
        threads.push(thread::spawn(move || {
            for _ in 0..1000 {
                let guard = ok!(queue.0.lock().map_err(|_| "poisoned"));
                let mut guard = ok!(queue.2.wait_while(guard, |q| q.is_empty()).map_err(|_| "poisoned"));
                sum.fetch_add(guard.pop_front().unwrap_or(0), SeqCst);
                queue.1.notify_one();
            }
        }));
    }
    join(threads);
    eq!(sum.load(SeqCst), (0..3000).sum::<u64>());
}

fn rwlock_keeps_writers_alone() {
    let lock = Arc::new(RwLock::new([0u64; 8]));
    join(
        (0..6)
            .map(|n| {
                let lock = lock.clone();
                thread::spawn(move || {
                    for _ in 0..1500 {
                        if n < 2 {
                            ok!(lock.write().map_err(|_| "")).iter_mut().for_each(|v| *v += 1);
                        } else {
                            let values = ok!(lock.read().map_err(|_| ""));
                            check!(values.iter().all(|v| *v == values[0]));
                        }
                    }
                })
            })
            .collect(),
    );
    eq!(*ok!(lock.read().map_err(|_| "")), [3000; 8]);
}

fn once_runs_once() {
    static ONCE: Once = Once::new();
    static RAN: AtomicU64 = AtomicU64::new(0);
    join(
        (0..8)
            .map(|_| {
                thread::spawn(|| {
                    ONCE.call_once(|| {
                        guest_programs::time::sleep(guest_programs::time::MILLI);
                        RAN.fetch_add(1, SeqCst);
                    });
                    eq!(RAN.load(SeqCst), 1);
                })
            })
            .collect(),
    );
}

fn channels_deliver_all() {
    let (send, receive) = mpsc::sync_channel::<u64>(4);
    let senders: Vec<_> = (0..4u64)
        .map(|n| {
            let send = send.clone();
            thread::spawn(move || (0..1000).for_each(|i| check!(send.send(n << 32 | i).is_ok())))
        })
        .collect();
    drop(send);
    let mut next = [0u64; 4];
    for value in receive {
        let from = (value >> 32) as usize;
        eq!(value & 0xffff_ffff, next[from]);
        next[from] += 1;
    }
    eq!(next, [1000; 4]);
    join(senders);
}

/// A pthread mutex of this kind and these options, in memory shared between processes.
fn pthread_mutex(kind: i32, robust: bool) -> *mut libc::pthread_mutex_t {
    let mutex = mem::shared(mem::PAGE) as *mut libc::pthread_mutex_t;
    // SAFETY: valid structures; the mutex lives in mapped memory.
    unsafe {
        let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
        eq!(libc::pthread_mutexattr_init(&mut attributes), 0);
        eq!(libc::pthread_mutexattr_settype(&mut attributes, kind), 0);
        eq!(libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED), 0);
        let robust = if robust { libc::PTHREAD_MUTEX_ROBUST } else { libc::PTHREAD_MUTEX_STALLED };
        eq!(libc::pthread_mutexattr_setrobust(&mut attributes, robust), 0);
        eq!(libc::pthread_mutex_init(mutex, &attributes), 0);
    }
    mutex
}

fn pthread_mutex_kinds() {
    let recursive = pthread_mutex(libc::PTHREAD_MUTEX_RECURSIVE, false);
    let checked = pthread_mutex(libc::PTHREAD_MUTEX_ERRORCHECK, false);
    // SAFETY: both are initialized.
    unsafe {
        (0..10).for_each(|_| eq!(libc::pthread_mutex_lock(recursive), 0));
        (0..10).for_each(|_| eq!(libc::pthread_mutex_unlock(recursive), 0));
        eq!(libc::pthread_mutex_lock(checked), 0);
        eq!(libc::pthread_mutex_lock(checked), libc::EDEADLK);
        eq!(libc::pthread_mutex_trylock(checked), libc::EBUSY);
        eq!(libc::pthread_mutex_unlock(checked), 0);
        eq!(libc::pthread_mutex_unlock(checked), libc::EPERM);
    }
}

fn pthread_mutex_timed() {
    let mutex = pthread_mutex(libc::PTHREAD_MUTEX_NORMAL, false);
    let took = guest_programs::time::elapsed(|| {
        let end = ok!(guest_programs::time::clock(libc::CLOCK_REALTIME)) + 30 * guest_programs::time::MILLI;
        // SAFETY: initialized; locked by this thread, so that the timed attempt must fail.
        unsafe {
            eq!(libc::pthread_mutex_lock(mutex), 0);
            eq!(libc::pthread_mutex_timedlock(mutex, &guest_programs::time::timespec(end)), libc::ETIMEDOUT);
            eq!(libc::pthread_mutex_unlock(mutex), 0);
        }
    });
    guest_programs::time::check_sleep(30 * guest_programs::time::MILLI, took);
}

fn pthread_spin_and_barrier() {
    let page = mem::shared(mem::PAGE);
    let barrier = page as *mut libc::pthread_barrier_t;
    let count: &AtomicU64 = mem::at(page + 256);
    // SAFETY: in shared memory, initialized before use.
    unsafe {
        let mut attributes: libc::pthread_barrierattr_t = std::mem::zeroed();
        libc::pthread_barrierattr_init(&mut attributes);
        libc::pthread_barrierattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
        eq!(libc::pthread_barrier_init(barrier, &attributes, 4), 0);
    }
    let pids = [0; 4].map(|_| {
        child(|| {
            for round in 1..=50 {
                count.fetch_add(1, SeqCst);
                // SAFETY: initialized above.
                unsafe { libc::pthread_barrier_wait(barrier) };
                eq!(count.load(SeqCst), 4 * round);
                // SAFETY: initialized above.
                unsafe { libc::pthread_barrier_wait(barrier) };
            }
        })
    });
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn process_shared_mutex() {
    let mutex = pthread_mutex(libc::PTHREAD_MUTEX_NORMAL, false);
    let counter = mem::shared(mem::PAGE);
    let pids = [0; 4].map(|_| {
        child(|| {
            for _ in 0..3000 {
                // SAFETY: initialized and shared.
                unsafe { libc::pthread_mutex_lock(mutex) };
                mem::poke(counter, mem::peek::<u64>(counter) + 1);
                // SAFETY: locked above.
                unsafe { libc::pthread_mutex_unlock(mutex) };
            }
        })
    });
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
    eq!(mem::peek::<u64>(counter), 12_000);
}

fn robust_mutex_of_dead_thread() {
    let mutex = pthread_mutex(libc::PTHREAD_MUTEX_NORMAL, true) as usize;
    let owner = thread::spawn(move || {
        // SAFETY: initialized; the thread ends holding it.
        eq!(unsafe { libc::pthread_mutex_lock(mutex as *mut _) }, 0);
    });
    // Waits for the owner, whose death is told.
    check!(owner.join().is_ok());
    let mutex = mutex as *mut libc::pthread_mutex_t;
    // SAFETY: initialized.
    unsafe {
        eq!(libc::pthread_mutex_lock(mutex), libc::EOWNERDEAD);
        eq!(libc::pthread_mutex_consistent(mutex), 0);
        eq!(libc::pthread_mutex_unlock(mutex), 0);
        eq!(libc::pthread_mutex_lock(mutex), 0);
        eq!(libc::pthread_mutex_unlock(mutex), 0);
    }
}

fn robust_mutex_of_dead_process() {
    let mutex = pthread_mutex(libc::PTHREAD_MUTEX_NORMAL, true);
    let locked = Gate::new();
    let pid = child(|| {
        // SAFETY: initialized and shared.
        eq!(unsafe { libc::pthread_mutex_lock(mutex) }, 0);
        locked.open();
        let _ = call!(SYS_pause);
    });
    locked.pass();
    // Killed while another already waits.
    let waiter = child(|| {
        locked.open();
        // SAFETY: initialized and shared.
        eq!(unsafe { libc::pthread_mutex_lock(mutex) }, libc::EOWNERDEAD);
        // SAFETY: locked by this process now.
        eq!(unsafe { libc::pthread_mutex_consistent(mutex) }, 0);
        // SAFETY: as above.
        eq!(unsafe { libc::pthread_mutex_unlock(mutex) }, 0);
    });
    locked.pass();
    ok!(guest_programs::process::kill(pid, libc::SIGKILL));
    eq!(wait(pid), End::Signal(libc::SIGKILL));
    eq!(wait(waiter), End::Exit(0));
}

fn robust_list_calls() {
    let (mut head, mut length) = (0usize, 0usize);
    eq!(call!(SYS_get_robust_list, 0, &mut head, &mut length), Ok(0));
    eq!(length, 24);
    let list = mem::anon(mem::PAGE);
    mem::poke(list, list);
    eq!(call!(SYS_set_robust_list, list, 24), Ok(0));
    eq!(call!(SYS_get_robust_list, 0, &mut head, &mut length), Ok(0));
    eq!(head, list);
    guest_programs::err!(call!(SYS_set_robust_list, list, 23), EINVAL);
    guest_programs::err!(call!(SYS_get_robust_list, 0x3fff_ffff, &mut head, &mut length), ESRCH);
    // A list that is nonsense, or a loop, or points into the kernel, hurts nobody at exit.
    for next in [list, 8, mem::KERNEL, mem::NON_CANONICAL, list + 64] {
        mem::poke(list, next);
        mem::poke(list + 64, list + 128);
        mem::poke(list + 128, list + 64);
        let pid = child(|| _ = ok!(call!(SYS_set_robust_list, list, 24)));
        eq!(wait(pid), End::Exit(0));
    }
    let pid = child(|| _ = ok!(call!(SYS_set_robust_list, mem::KERNEL, 24)));
    eq!(wait(pid), End::Exit(0));
}
