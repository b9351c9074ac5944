//! mremap.

use guest_programs::mem::{ANON, KERNEL, PAGE, RW, anon, bytes, mmap, munmap, peek, poke, unmapped};
use guest_programs::signal::read_faults;
use guest_programs::{Case, Sys, call, cases, check, eq, err, fs, ok, sys};

pub const CASES: &[Case] = cases![
    remap_shrinks,
    remap_grows_in_place,
    remap_moves_when_allowed,
    remap_to_fixed_place,
    remap_moves_file_mapping,
    remap_errors,
    remap_many_times,
];

fn mremap(at: usize, old: usize, new: usize, flags: i32, to: usize) -> Sys {
    call!(SYS_mremap, at, old, new, flags, to)
}

fn remap_shrinks() {
    let at = anon(4 * PAGE);
    bytes(at, 4 * PAGE).fill(1);
    eq!(mremap(at, 4 * PAGE, 2 * PAGE, 0, 0), Ok(at));
    eq!(peek::<u8>(at + 2 * PAGE - 1), 1);
    check!(read_faults(at + 2 * PAGE).is_some());
    eq!(mremap(at, 2 * PAGE, 2 * PAGE, 0, 0), Ok(at));
}

fn remap_grows_in_place() {
    let at = anon(8 * PAGE);
    ok!(munmap(at + 2 * PAGE, 6 * PAGE));
    bytes(at, 2 * PAGE).fill(2);
    eq!(mremap(at, 2 * PAGE, 6 * PAGE, 0, 0), Ok(at));
    check!(bytes(at, 2 * PAGE).iter().all(|b| *b == 2));
    check!(bytes(at + 2 * PAGE, 4 * PAGE).iter().all(|b| *b == 0));
}

fn remap_moves_when_allowed() {
    let at = anon(5 * PAGE);
    (0..2).for_each(|i| poke(at + i * PAGE, i + 70));
    // Two pages with something right behind them.
    err!(mremap(at, 2 * PAGE, 4 * PAGE, 0, 0), ENOMEM);
    eq!(peek::<usize>(at), 70);
    let moved = ok!(mremap(at, 2 * PAGE, 1000 * PAGE, libc::MREMAP_MAYMOVE, 0));
    check!(moved != at);
    eq!((peek::<usize>(moved), peek::<usize>(moved + PAGE)), (70, 71));
    check!(bytes(moved + 2 * PAGE, 998 * PAGE).iter().all(|b| *b == 0));
    check!(read_faults(at).is_some() && read_faults(at + 2 * PAGE).is_none());
}

fn remap_to_fixed_place() {
    let at = anon(2 * PAGE);
    let to = anon(2 * PAGE);
    poke(at, 1u64);
    poke(to, 2u64);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    eq!(mremap(at, 2 * PAGE, 2 * PAGE, flags, to), Ok(to));
    eq!(peek::<u64>(to), 1);
    check!(read_faults(at).is_some());
    err!(mremap(to, PAGE, PAGE, libc::MREMAP_FIXED, at), EINVAL);
    err!(mremap(to, 2 * PAGE, 2 * PAGE, flags, to + PAGE), EINVAL);
    err!(mremap(to, PAGE, PAGE, flags, at + 1), EINVAL);
    err!(mremap(to, PAGE, PAGE, flags, KERNEL), EINVAL | ENOMEM);
}

fn remap_moves_file_mapping() {
    fs::scratch();
    let contents: Vec<u8> = (0..4 * PAGE).map(|i| (i / PAGE) as u8 + 1).collect();
    fs::put(c"f", &contents, 0o644);
    let fd = ok!(sys::open(c"f", libc::O_RDWR, 0));
    let at = ok!(mmap(0, 2 * PAGE, RW, libc::MAP_SHARED, fd, PAGE as i64));
    ok!(mmap(at + PAGE, PAGE, RW, ANON | libc::MAP_FIXED, -1, 0));
    let moved = ok!(mremap(at, PAGE, 3 * PAGE, libc::MREMAP_MAYMOVE, 0));
    eq!([0, 1, 2].map(|i| peek::<u8>(moved + i * PAGE)), [2, 3, 4]);
    poke(moved, 0x55u8);
    eq!(ok!(fs::get(c"f"))[PAGE], 0x55);
}

fn remap_errors() {
    let at = anon(2 * PAGE);
    err!(mremap(at + 1, PAGE, PAGE, 0, 0), EINVAL);
    err!(mremap(at, PAGE, 0, 0, 0), EINVAL);
    err!(mremap(at, PAGE, PAGE, 0x80, 0), EINVAL);
    err!(mremap(unmapped(), PAGE, 2 * PAGE, libc::MREMAP_MAYMOVE, 0), EFAULT);
    ok!(munmap(at + PAGE, PAGE));
    err!(mremap(at, 2 * PAGE, 4 * PAGE, libc::MREMAP_MAYMOVE, 0), EFAULT);
    err!(mremap(at, PAGE, 1 << 47, libc::MREMAP_MAYMOVE, 0), ENOMEM | EINVAL);
}

fn remap_many_times() {
    let mut at = anon(PAGE);
    poke(at, 0xfeedu64);
    for pages in 1..400 {
        at = ok!(mremap(at, pages * PAGE, (pages + 1) * PAGE, libc::MREMAP_MAYMOVE, 0));
        poke(at + pages * PAGE, pages);
    }
    eq!(peek::<u64>(at), 0xfeed);
    (1..400).for_each(|i| eq!(peek::<usize>(at + i * PAGE), i));
}
