//! Copy-on-write after fork.

use guest_programs::mem::{PAGE, RW, anon, bytes, mprotect, munmap, peek, poke};
use guest_programs::process::{End, child, in_child, wait};
use guest_programs::sync::Gate;
use guest_programs::{Case, call, cases, check, eq, ok, sys};

pub const CASES: &[Case] = cases![
    many_pages_both_sides_write: 60,
    child_writes_parent_reads_and_back,
    generations_keep_their_own,
    siblings_do_not_see_each_other: 60,
    kernel_writes_break_sharing,
    parent_exits_first,
    protection_change_after_fork,
    read_only_stays_read_only,
    zero_page_is_not_shared_for_writing,
    threads_writing_while_forking: 60,
];

const PAGES: usize = 1024;

fn fill(at: usize, tag: usize) {
    (0..PAGES).for_each(|i| poke(at + i * PAGE + 8, tag + i));
}

fn all_are(at: usize, tag: usize) -> bool {
    (0..PAGES).all(|i| peek::<usize>(at + i * PAGE + 8) == tag + i)
}

fn many_pages_both_sides_write() {
    let at = anon(PAGES * PAGE);
    fill(at, 1_000_000);
    let pid = child(|| {
        check!(all_are(at, 1_000_000));
        fill(at, 2_000_000);
        check!(all_are(at, 2_000_000));
    });
    fill(at, 3_000_000);
    eq!(wait(pid), End::Exit(0));
    check!(all_are(at, 3_000_000));
}

fn child_writes_parent_reads_and_back() {
    let at = anon(PAGES * PAGE);
    fill(at, 0);
    let (go, done) = (Gate::new(), Gate::new());
    let pid = child(|| {
        fill(at, 5);
        done.open();
        go.pass();
        check!(all_are(at, 5));
    });
    done.pass();
    check!(all_are(at, 0));
    fill(at, 9);
    go.open();
    eq!(wait(pid), End::Exit(0));
    check!(all_are(at, 9));
}

fn generations_keep_their_own() {
    let at = anon(64 * PAGE);
    fn down(at: usize, depth: usize) {
        (0..64).for_each(|i| poke(at + i * PAGE, depth));
        if depth < 8 {
            in_child(|| {
                (0..64).for_each(|i| eq!(peek::<usize>(at + i * PAGE), depth));
                down(at, depth + 1);
            });
        }
        (0..64).for_each(|i| eq!(peek::<usize>(at + i * PAGE), depth));
    }
    down(at, 1);
}

fn siblings_do_not_see_each_other() {
    let at = anon(64 * PAGE);
    bytes(at, 64 * PAGE).fill(1);
    let ready = Gate::new();
    let go = Gate::new();
    let pids: Vec<i32> = (0..8usize)
        .map(|n| {
            child(|| {
                (0..64).for_each(|i| poke(at + i * PAGE, n));
                ready.open();
                go.pass();
                (0..64).for_each(|i| eq!(peek::<usize>(at + i * PAGE), n));
            })
        })
        .collect();
    pids.iter().for_each(|_| ready.pass());
    check!(bytes(at, 64 * PAGE).iter().all(|b| *b == 1));
    pids.iter().for_each(|_| go.open());
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn kernel_writes_break_sharing() {
    let at = anon(2 * PAGE);
    bytes(at, 2 * PAGE).fill(b'p');
    let (out, inn) = ok!(sys::pipe(0));
    eq!(sys::write(inn, &[b'c'; 100]), Ok(100));
    in_child(|| {
        // Across the border of the two pages.
        eq!(sys::read(out, bytes(at + PAGE - 50, 100)), Ok(100));
        check!(bytes(at + PAGE - 50, 100).iter().all(|b| *b == b'c'));
    });
    check!(bytes(at, 2 * PAGE).iter().all(|b| *b == b'p'));
}

fn parent_exits_first() {
    let at = anon(PAGES * PAGE);
    fill(at, 77);
    let verdict = Gate::new();
    in_child(|| {
        let middle = sys::getpid();
        child(|| {
            guest_programs::sync::until(|| sys::getppid() != middle);
            let fine = all_are(at, 77);
            fill(at, 78);
            verdict.send(if fine && all_are(at, 78) { b'y' } else { b'n' });
        });
    });
    eq!(verdict.receive(), b'y');
    check!(all_are(at, 77));
}

fn protection_change_after_fork() {
    let at = anon(2 * PAGE);
    poke(at, 1u64);
    let pid = child(|| {
        ok!(mprotect(at, PAGE, libc::PROT_READ));
        ok!(mprotect(at, PAGE, RW));
        poke(at, 2u64);
        eq!(peek::<u64>(at), 2);
        ok!(munmap(at, 2 * PAGE));
    });
    eq!(wait(pid), End::Exit(0));
    eq!(peek::<u64>(at), 1);
    poke(at, 3u64);
    eq!(peek::<u64>(at), 3);
}

fn read_only_stays_read_only() {
    let at = anon(PAGE);
    poke(at, 1u64);
    ok!(mprotect(at, PAGE, libc::PROT_READ));
    in_child(|| {
        check!(guest_programs::signal::write_faults(at).is_some());
        eq!(peek::<u64>(at), 1);
    });
    check!(guest_programs::signal::write_faults(at).is_some());
}

fn zero_page_is_not_shared_for_writing() {
    let at = anon(100 * PAGE);
    let other = anon(100 * PAGE);
    // Read first, so that a shared zero page may be mapped, then write.
    check!(bytes(at, 100 * PAGE).iter().all(|b| *b == 0));
    in_child(|| bytes(at, 100 * PAGE).fill(1));
    check!(bytes(at, 100 * PAGE).iter().all(|b| *b == 0));
    bytes(at, 100 * PAGE).fill(2);
    check!(bytes(other, 100 * PAGE).iter().all(|b| *b == 0));
}

fn threads_writing_while_forking() {
    // Writers go on while the address space is made copy-on-write; no write of theirs may be lost or reach a child.
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
    static STOP: AtomicBool = AtomicBool::new(false);
    static AT: AtomicUsize = AtomicUsize::new(0);
    AT.store(anon(16 * PAGE), SeqCst);
    let writers: Vec<_> = (0..3usize)
        .map(|n| {
            std::thread::spawn(move || {
                let mine = AT.load(SeqCst) + 64 * n;
                let mut count = 0usize;
                while !STOP.load(SeqCst) {
                    count += 1;
                    for page in 0..16 {
                        let word = mine + page * PAGE;
                        let before: usize = peek(word);
                        if before != count - 1 {
                            guest_programs::fail!("lost a write: {before} after {}", count - 1);
                        }
                        poke(word, count);
                    }
                }
            })
        })
        .collect();
    for _ in 0..60 {
        let pid = ok!(call!(SYS_fork)) as i32;
        if pid == 0 {
            // Only this thread lives here: nothing may change under it.
            let at = AT.load(SeqCst);
            let sum = || (0..48).map(|i| peek::<usize>(at + 64 * (i % 3) + (i / 3) * PAGE)).sum::<usize>();
            let first = sum();
            let stable = (0..50).all(|_| sum() == first);
            sys::exit_group(i32::from(!stable));
        }
        eq!(wait(pid), End::Exit(0));
    }
    STOP.store(true, SeqCst);
    writers.into_iter().for_each(|w| check!(w.join().is_ok()));
}
