//! Faults and mappings.

use crate::timed;
use guest_programs::process::{End, child, wait};
use guest_programs::sys::{close, open};
use guest_programs::time::now;
use guest_programs::{call, check, mem, ok};
use std::hint::black_box;

/// Pages mapped at a time: little memory is enough, and mapping is not what is measured.
const CHUNK: u32 = 512;

/// Maps a chunk of pages as `map` does, lets `each` at `n` pages in all, and gives how long that took.
fn in_chunks(n: u32, map: impl Fn() -> usize, mut each: impl FnMut(usize)) -> i64 {
    let mut took = 0;
    let mut left = n;
    while left > 0 {
        let pages = left.min(CHUNK);
        let mut next = map();
        took += timed(pages, || {
            each(next);
            next += mem::PAGE;
        });
        ok!(mem::munmap(next - pages as usize * mem::PAGE, CHUNK as usize * mem::PAGE));
        left -= pages;
    }
    took
}

const LENGTH: usize = CHUNK as usize * mem::PAGE;

/// One page each, whatever a kernel would like to do with large ones.
fn anonymous() -> usize {
    let at = mem::anon(LENGTH);
    let _ = call!(SYS_madvise, at, LENGTH, libc::MADV_NOHUGEPAGE);
    at
}

pub fn fault_anonymous(n: u32) -> i64 {
    in_chunks(n, anonymous, |page| mem::poke(page, 1u8))
}

pub fn fault_cow(n: u32) -> i64 {
    let at = anonymous();
    (0..CHUNK as usize).for_each(|i| mem::poke(at + i * mem::PAGE, 1u8));
    let result = mem::shared(mem::PAGE);
    mem::poke(result, 0i64);
    let mut left = n;
    while left > 0 {
        let pages = left.min(CHUNK);
        let pid = child(|| {
            let mut next = at;
            let took = timed(pages, || {
                mem::poke(next, 2u8);
                next += mem::PAGE;
            });
            mem::poke(result, mem::peek::<i64>(result) + took);
        });
        check!(wait(pid) == End::Exit(0));
        left -= pages;
    }
    let took = mem::peek(result);
    ok!(mem::munmap(at, LENGTH));
    ok!(mem::munmap(result, mem::PAGE));
    took
}

/// A file of one chunk whose pages are all in memory.
fn with_file(body: impl FnOnce(i32) -> i64) -> i64 {
    let fd = ok!(open(c"/tmp/bench-pages", libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC, 0o600));
    let page = [7u8; mem::PAGE];
    (0..CHUNK as usize)
        .for_each(|i| _ = ok!(call!(SYS_pwrite64, fd, page.as_ptr(), mem::PAGE, i * mem::PAGE)));
    let took = body(fd);
    ok!(close(fd));
    ok!(call!(SYS_unlink, c"/tmp/bench-pages"));
    took
}

fn private(fd: i32) -> usize {
    ok!(mem::mmap(0, LENGTH, mem::RW, libc::MAP_PRIVATE, fd, 0))
}

pub fn fault_file(n: u32) -> i64 {
    with_file(|fd| in_chunks(n, || private(fd), |page| _ = black_box(mem::peek::<u8>(page))))
}

pub fn fault_file_write(n: u32) -> i64 {
    with_file(|fd| in_chunks(n, || private(fd), |page| mem::poke(page, 1u8)))
}

pub fn map_touch_unmap(n: u32) -> i64 {
    timed(n, || {
        let at = mem::anon(mem::PAGE);
        mem::poke(at, 1u8);
        ok!(mem::munmap(at, mem::PAGE));
    })
}

pub fn protect(n: u32) -> i64 {
    let at = mem::anon(mem::PAGE);
    mem::poke(at, 1u8);
    let took = timed(n / 2, || {
        ok!(mem::mprotect(at, mem::PAGE, libc::PROT_READ));
        ok!(mem::mprotect(at, mem::PAGE, mem::RW));
    });
    ok!(mem::munmap(at, mem::PAGE));
    took
}

/// Grows and shrinks the heap by a page. Nothing here allocates in between.
pub fn brk(n: u32) -> i64 {
    let end = ok!(call!(SYS_brk, 0));
    let start = now();
    for _ in 0..n / 2 {
        check!(ok!(call!(SYS_brk, end + mem::PAGE)) == end + mem::PAGE);
        check!(ok!(call!(SYS_brk, end)) == end);
    }
    now() - start
}
