//! Creating and joining threads, what they share, their storage.

use guest_programs::process::clone_onto;
use guest_programs::sync::await_change;
use guest_programs::sys::{getpid, gettid};
use guest_programs::{Case, call, cases, check, eq, err, mem, ok};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;

pub const CASES: &[Case] = cases![
    create_and_join,
    many_at_once: 60,
    create_and_end_repeatedly: 60,
    numbers_of_threads,
    threads_share_descriptors_and_directory,
    thread_local_storage,
    thread_local_destructors,
    raw_thread_clears_its_number,
    thread_area_is_settable,
    stacks_are_apart_and_guarded,
    pthread_attributes,
    barrier_rounds: 60,
    threads_allocate_memory: 60,
    per_thread_names,
];

fn create_and_join() {
    let value = Box::new(41);
    eq!(ok!(thread::spawn(move || *value + 1).join().map_err(|_| "panic")), 42);
    // Scoped threads borrow.
    let mut data = [0u32; 64];
    thread::scope(|scope| {
        for chunk in data.chunks_mut(16) {
            scope.spawn(|| chunk.iter_mut().enumerate().for_each(|(i, v)| *v = i as u32));
        }
    });
    check!(data.iter().enumerate().all(|(i, v)| *v as usize == i % 16));
}

fn many_at_once() {
    static READY: AtomicU32 = AtomicU32::new(0);
    static GO: AtomicU32 = AtomicU32::new(0);
    let threads: Vec<_> = (0..64u32)
        .map(|i| {
            let builder = thread::Builder::new().stack_size(64 * 1024);
            ok!(builder.spawn(move || {
                READY.fetch_add(1, SeqCst);
                await_change(&GO, 0);
                i * 2
            }))
        })
        .collect();
    guest_programs::sync::until(|| READY.load(SeqCst) == 64);
    GO.store(1, SeqCst);
    ok!(guest_programs::sync::futex_wake(&GO, u32::MAX >> 1));
    let sum: u32 = threads.into_iter().map(|t| t.join().unwrap_or(0)).sum();
    eq!(sum, 64 * 63);
}

fn create_and_end_repeatedly() {
    // Stacks and numbers are given back: otherwise this runs out of something.
    static DONE: AtomicU32 = AtomicU32::new(0);
    for _ in 0..500 {
        let pair = [0; 2].map(|_| thread::spawn(|| DONE.fetch_add(1, SeqCst)));
        pair.into_iter().for_each(|t| check!(t.join().is_ok()));
    }
    eq!(DONE.load(SeqCst), 1000);
}

fn numbers_of_threads() {
    let (pid, tid) = (getpid(), gettid());
    eq!(pid, tid);
    let other = ok!(thread::spawn(move || (getpid(), gettid())).join().map_err(|_| "panic"));
    eq!(other.0, pid);
    check!(other.1 != tid);
    // The number of a joined thread is free again.
    guest_programs::sync::until(|| call!(SYS_tgkill, pid, other.1, 0).is_err());
    // A thread's number is no process's number to wait for.
    err!(call!(SYS_wait4, other.1, 0, 0, 0), ECHILD);
}

fn threads_share_descriptors_and_directory() {
    guest_programs::fs::scratch();
    let fd =
        ok!(thread::spawn(|| ok!(guest_programs::sys::open(c".", libc::O_RDONLY, 0))).join().map_err(|_| ""));
    check!(call!(SYS_fcntl, fd, libc::F_GETFD).is_ok());
    check!(thread::spawn(|| ok!(call!(SYS_chdir, c"/"))).join().is_ok());
    eq!(std::env::current_dir().ok(), Some("/".into()));
    let pid = getpid();
    check!(
        thread::spawn(move || eq!(guest_programs::sys::getppid(), guest_programs::sys::getppid()))
            .join()
            .is_ok()
    );
    eq!(getpid(), pid);
}

fn thread_local_storage() {
    thread_local! { static MINE: Cell<usize> = const { Cell::new(7) }; }
    let threads: Vec<_> = (0..16usize)
        .map(|i| {
            thread::spawn(move || {
                eq!(MINE.get(), 7);
                for round in 0..200 {
                    MINE.set(i * 1000 + round);
                    thread::yield_now();
                    eq!(MINE.get(), i * 1000 + round);
                }
            })
        })
        .collect();
    MINE.set(1);
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
    eq!(MINE.get(), 1);
}

fn thread_local_destructors() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    thread_local! { static VALUE: Counted = const { Counted }; }
    let threads: Vec<_> = (0..8).map(|_| thread::spawn(|| VALUE.with(|_| ()))).collect();
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
    eq!(DROPPED.load(SeqCst), 8);
}

const THREAD: i32 = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;

fn raw_thread_clears_its_number() {
    extern "C" fn work(word: usize) -> i32 {
        mem::poke(word + 8, gettid());
        0
    }
    for _ in 0..100 {
        let page = mem::anon(mem::PAGE);
        let stack = mem::stack(16384);
        let word: &AtomicU32 = mem::at(page);
        let flags = THREAD | libc::CLONE_PARENT_SETTID | libc::CLONE_CHILD_CLEARTID;
        word.store(u32::MAX, SeqCst);
        let tid = ok!(clone_onto(flags, stack, work, page, page + 16, page, 0));
        eq!(mem::peek::<i32>(page + 16), tid);
        await_change(word, u32::MAX);
        eq!((word.load(SeqCst), mem::peek::<i32>(page + 8)), (0, tid));
        ok!(mem::munmap(stack - 16384 - mem::PAGE, 16384 + mem::PAGE));
        ok!(mem::munmap(page, mem::PAGE));
    }
    // set_tid_address gives the caller's number.
    extern "C" fn set(word: usize) -> i32 {
        let tid = call!(SYS_set_tid_address, word).map_or(0, |t| t as i32);
        mem::poke(word + 8, i32::from(tid == gettid()));
        0
    }
    let page = mem::anon(mem::PAGE);
    let word: &AtomicU32 = mem::at(page);
    word.store(5, SeqCst);
    ok!(clone_onto(THREAD, mem::stack(16384), set, page, 0, 0, 0));
    await_change(word, 5);
    eq!(mem::peek::<i32>(page + 8), 1);
}

fn thread_area_is_settable() {
    const ARCH_SET_GS: i32 = 0x1001;
    const ARCH_GET_FS: i32 = 0x1003;
    const ARCH_GET_GS: i32 = 0x1004;
    const ARCH_SET_FS: i32 = 0x1002;
    let page = mem::anon(mem::PAGE);
    mem::poke(page + 16, 0xabcdusize);
    eq!(call!(SYS_arch_prctl, ARCH_SET_GS, page), Ok(0));
    let read_gs = || {
        let value: usize;
        // SAFETY: GS points to the page mapped above.
        unsafe { std::arch::asm!("mov {}, gs:[16]", out(reg) value, options(nostack, readonly)) };
        value
    };
    for _ in 0..100 {
        eq!(read_gs(), 0xabcd);
        thread::yield_now();
        guest_programs::time::sleep(1000);
    }
    let mut base = 0usize;
    eq!(call!(SYS_arch_prctl, ARCH_GET_GS, &mut base), Ok(0));
    eq!(base, page);
    // Each thread has its own, starting with none.
    let other = thread::spawn(move || {
        let mut base = 1usize;
        ok!(call!(SYS_arch_prctl, ARCH_GET_GS, &mut base));
        base
    });
    check!(other.join().is_ok());
    eq!(call!(SYS_arch_prctl, ARCH_GET_FS, &mut base), Ok(0));
    let own: usize;
    // SAFETY: the C library keeps the thread area's address at its start.
    unsafe { std::arch::asm!("mov {}, fs:[0]", out(reg) own, options(nostack, readonly)) };
    eq!(base, own);
    guest_programs::process::in_child(|| eq!(read_gs(), 0xabcd));
    err!(call!(SYS_arch_prctl, ARCH_SET_GS, mem::NON_CANONICAL), EPERM);
    err!(call!(SYS_arch_prctl, ARCH_SET_FS, mem::KERNEL), EPERM);
    err!(call!(SYS_arch_prctl, 0x9999, 0), EINVAL);
    err!(call!(SYS_arch_prctl, ARCH_GET_FS, mem::KERNEL), EFAULT);
}

fn stacks_are_apart_and_guarded() {
    let end = guest_programs::process::end_of(|| {
        guest_programs::signal::dispose(libc::SIGSEGV, libc::SIG_DFL);
        #[allow(unconditional_recursion, reason = "runs into the guard page")]
        fn deep(n: u64) -> u64 {
            let frame = std::hint::black_box([n; 64]);
            deep(n + 1) + frame[5]
        }
        let _ = thread::spawn(|| deep(0)).join();
    });
    // The Rust runtime may turn the fault into an abort.
    check!(matches!(end, guest_programs::End::Signal(libc::SIGSEGV | libc::SIGABRT)), "{end:?}");
}

fn pthread_attributes() {
    extern "C" fn sum(arg: *mut libc::c_void) -> *mut libc::c_void {
        let big = std::hint::black_box([1u8; 300_000]);
        (arg as usize + big.iter().map(|b| usize::from(*b)).sum::<usize>()) as *mut libc::c_void
    }
    // SAFETY: the pthread interface with valid structures.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        eq!(libc::pthread_attr_init(&mut attributes), 0);
        eq!(libc::pthread_attr_setstacksize(&mut attributes, 1 << 20), 0);
        let mut thread: libc::pthread_t = 0;
        eq!(libc::pthread_create(&mut thread, &attributes, sum, 5 as *mut _), 0);
        let mut result = std::ptr::null_mut();
        eq!(libc::pthread_join(thread, &mut result), 0);
        eq!(result as usize, 300_005);
        // Detached: ends by itself.
        eq!(libc::pthread_attr_setdetachstate(&mut attributes, libc::PTHREAD_CREATE_DETACHED), 0);
        static DONE: AtomicU32 = AtomicU32::new(0);
        extern "C" fn done(_: *mut libc::c_void) -> *mut libc::c_void {
            DONE.store(1, SeqCst);
            std::ptr::null_mut()
        }
        eq!(libc::pthread_create(&mut thread, &attributes, done, std::ptr::null_mut()), 0);
        guest_programs::sync::until(|| DONE.load(SeqCst) == 1);
    }
}

fn barrier_rounds() {
    let barrier = std::sync::Arc::new(std::sync::Barrier::new(6));
    static SUM: AtomicUsize = AtomicUsize::new(0);
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let barrier = barrier.clone();
            thread::spawn(move || {
                for round in 1..=200 {
                    SUM.fetch_add(1, SeqCst);
                    barrier.wait();
                    eq!(SUM.load(SeqCst), 6 * round);
                    barrier.wait();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn threads_allocate_memory() {
    let threads: Vec<_> = (0..6usize)
        .map(|n| {
            thread::spawn(move || {
                for round in 0..60usize {
                    let blocks: Vec<Vec<u8>> =
                        (0..20).map(|i| vec![(n + i) as u8; 100 << ((round + i) % 8)]).collect();
                    check!(blocks.iter().enumerate().all(|(i, b)| b.iter().all(|v| *v == (n + i) as u8)));
                    let at = mem::anon(8 * mem::PAGE);
                    mem::bytes(at, 8 * mem::PAGE).fill(n as u8);
                    ok!(call!(SYS_mprotect, at, mem::PAGE, libc::PROT_READ));
                    check!(mem::bytes(at, 8 * mem::PAGE).iter().all(|b| *b == n as u8));
                    ok!(mem::munmap(at, 8 * mem::PAGE));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| check!(t.join().is_ok()));
}

fn per_thread_names() {
    let name = || {
        let mut name = [0u8; 16];
        ok!(call!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0));
        String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
    };
    let own = name();
    let other = ok!(thread::Builder::new().name("worker".into()).spawn(name));
    eq!(other.join().ok().as_deref(), Some("worker"));
    eq!(name(), own);
}
