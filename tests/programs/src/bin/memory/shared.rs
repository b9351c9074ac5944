//! Memory shared between processes: anonymous, of files, of memfd.

use guest_programs::mem::{PAGE, RW, at, bytes, mmap, mprotect, peek, poke, shared};
use guest_programs::process::{End, child, in_child, wait};
use guest_programs::{Case, call, cases, check, eq, err, fs, ok, sys};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const CASES: &[Case] = cases![
    shared_anonymous_both_ways,
    shared_touched_first_by_child,
    shared_counter_of_many_processes: 60,
    shared_across_generations,
    file_shared_is_the_file,
    file_shared_between_unrelated_mappings,
    file_mapping_sees_writes_and_truncation,
    memfd_shared,
    private_and_shared_of_one_file,
    shared_protection_is_per_process,
];

fn shared_anonymous_both_ways() {
    let area = shared(4 * PAGE);
    poke(area, 1u64);
    in_child(|| {
        eq!(peek::<u64>(area), 1);
        poke(area + 2 * PAGE, 2u64);
    });
    eq!(peek::<u64>(area + 2 * PAGE), 2);
}

fn shared_touched_first_by_child() {
    let area = shared(64 * PAGE);
    in_child(|| (0..64).for_each(|i| poke(area + i * PAGE, i)));
    (0..64).for_each(|i| eq!(peek::<usize>(area + i * PAGE), i));
    // Discarding the mapping's pages does not discard what is shared.
    ok!(call!(SYS_madvise, area, 64 * PAGE, libc::MADV_DONTNEED));
    (0..64).for_each(|i| eq!(peek::<usize>(area + i * PAGE), i));
}

fn shared_counter_of_many_processes() {
    let counter: &AtomicU64 = at(shared(PAGE));
    let pids: Vec<i32> = (0..8)
        .map(|_| {
            child(|| {
                (0..20_000).for_each(|_| {
                    counter.fetch_add(1, SeqCst);
                })
            })
        })
        .collect();
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
    eq!(counter.load(SeqCst), 160_000);
}

fn shared_across_generations() {
    let area = shared(PAGE);
    in_child(|| in_child(|| in_child(|| poke(area, 3u64))));
    eq!(peek::<u64>(area), 3);
}

fn file_shared_is_the_file() {
    fs::scratch();
    fs::put(c"f", &[1; 2 * PAGE], 0o644);
    let fd = ok!(sys::open(c"f", libc::O_RDWR, 0));
    let area = ok!(mmap(0, 2 * PAGE, RW, libc::MAP_SHARED, fd, 0));
    poke(area + PAGE, 9u8);
    eq!(ok!(fs::get(c"f"))[PAGE], 9);
    in_child(|| poke(area + 1, 8u8));
    eq!(ok!(fs::get(c"f"))[1], 8);
    eq!(call!(SYS_pwrite64, fd, [7u8].as_ptr(), 1, 2), Ok(1));
    eq!(peek::<u8>(area + 2), 7);
    ok!(call!(SYS_msync, area, 2 * PAGE, libc::MS_SYNC));
}

fn file_shared_between_unrelated_mappings() {
    fs::scratch();
    fs::put(c"f", &[0; PAGE], 0o644);
    let map = || {
        let fd = ok!(sys::open(c"f", libc::O_RDWR, 0));
        ok!(mmap(0, PAGE, RW, libc::MAP_SHARED, fd, 0))
    };
    let area = map();
    in_child(|| {
        let other = map();
        check!(other != area);
        poke(other + 100, 5u8);
        eq!(peek::<u8>(area + 100), 5);
    });
    eq!(peek::<u8>(area + 100), 5);
}

fn file_mapping_sees_writes_and_truncation() {
    fs::scratch();
    fs::put(c"f", &[1; PAGE], 0o644);
    let fd = ok!(sys::open(c"f", libc::O_RDWR, 0));
    let area = ok!(mmap(0, 2 * PAGE, libc::PROT_READ, libc::MAP_SHARED, fd, 0));
    ok!(call!(SYS_ftruncate, fd, 100));
    eq!((peek::<u8>(area + 99), peek::<u8>(area + 100)), (1, 0));
    ok!(call!(SYS_ftruncate, fd, 2 * PAGE));
    eq!((peek::<u8>(area + 100), peek::<u8>(area + PAGE + 5)), (0, 0));
    eq!(call!(SYS_pwrite64, fd, [6u8].as_ptr(), 1, PAGE + 5), Ok(1));
    eq!(peek::<u8>(area + PAGE + 5), 6);
}

fn memfd_shared() {
    let fd = ok!(call!(SYS_memfd_create, c"name", libc::MFD_CLOEXEC)) as i32;
    eq!(call!(SYS_fcntl, fd, libc::F_GETFD), Ok(libc::FD_CLOEXEC as usize));
    ok!(call!(SYS_ftruncate, fd, 3 * PAGE));
    let area = ok!(mmap(0, 3 * PAGE, RW, libc::MAP_SHARED, fd, 0));
    bytes(area, 3 * PAGE).fill(4);
    in_child(|| {
        eq!(peek::<u8>(area + 2 * PAGE), 4);
        eq!(call!(SYS_pwrite64, fd, b"hello".as_ptr(), 5, 0), Ok(5));
    });
    eq!(bytes(area, 5), b"hello");
    err!(call!(SYS_memfd_create, c"name", 0x8000), EINVAL);
}

fn private_and_shared_of_one_file() {
    fs::scratch();
    fs::put(c"f", &[1; PAGE], 0o644);
    let fd = ok!(sys::open(c"f", libc::O_RDWR, 0));
    let private = ok!(mmap(0, PAGE, RW, libc::MAP_PRIVATE, fd, 0));
    let public = ok!(mmap(0, PAGE, RW, libc::MAP_SHARED, fd, 0));
    // Once the private page has been written it is its own.
    poke(private, 2u8);
    poke(public, 3u8);
    eq!((peek::<u8>(private), peek::<u8>(public)), (2, 3));
    eq!(ok!(fs::get(c"f"))[0], 3);
}

fn shared_protection_is_per_process() {
    let area = shared(PAGE);
    in_child(|| {
        ok!(mprotect(area, PAGE, libc::PROT_READ));
        check!(guest_programs::signal::write_faults(area).is_some());
    });
    poke(area, 1u8);
}
