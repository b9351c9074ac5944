//! mmap and munmap, brk, the stack.

use guest_programs::mem::{
    ANON, KERNEL, NON_CANONICAL, PAGE, RW, USER_END, anon, bytes, mmap, munmap, peek, poke,
};
use guest_programs::process::{End, end_of, in_child};
use guest_programs::signal::{read_faults, write_faults};
use guest_programs::sys::{close, open, write};
use guest_programs::{Case, call, cases, check, eq, err, fs, ok};

pub const CASES: &[Case] = cases![
    anonymous_memory_is_zero,
    mappings_do_not_overlap,
    unmap_whole_and_split,
    unmap_nothing_and_badly,
    map_bad_arguments,
    map_hint_is_honoured_when_free,
    map_fixed_replaces,
    map_fixed_noreplace,
    map_fixed_bad_addresses,
    map_many_small,
    map_large_is_lazy,
    map_too_large,
    file_private,
    file_offset_and_tail,
    file_beyond_end_is_sigbus,
    file_mapping_outlives_descriptor_and_name,
    file_protection_needs_open_mode,
    brk_grows_and_shrinks,
    brk_bad,
    stack_grows_on_demand,
    stack_overflow_kills,
    mincore_tells_residence,
    null_page_is_not_mapped,
];

const FIXED: i32 = libc::MAP_FIXED;

fn anonymous_memory_is_zero() {
    for pages in [1, 2, 7, 600] {
        let at = anon(pages * PAGE);
        eq!(at % PAGE, 0);
        check!(bytes(at, pages * PAGE).iter().all(|b| *b == 0));
        bytes(at, pages * PAGE).fill(0xa5);
        ok!(munmap(at, pages * PAGE));
        check!(bytes(anon(pages * PAGE), pages * PAGE).iter().all(|b| *b == 0), "a page was given out dirty");
    }
    // A length that is not whole pages maps whole pages.
    let at = anon(1);
    poke(at + PAGE - 1, 1u8);
    eq!(peek::<u8>(at + PAGE - 1), 1);
}

fn mappings_do_not_overlap() {
    let mut all: Vec<usize> = (0..200).map(|_| anon(3 * PAGE)).collect();
    for (i, at) in all.iter().enumerate() {
        (0..3).for_each(|page| poke(at + page * PAGE, i));
    }
    for (i, at) in all.iter().enumerate() {
        (0..3).for_each(|page| eq!(peek::<usize>(at + page * PAGE), i));
    }
    all.sort_unstable();
    check!(all.windows(2).all(|w| w[1] - w[0] >= 3 * PAGE));
}

fn unmap_whole_and_split() {
    let at = anon(8 * PAGE);
    (0..8).for_each(|i| poke(at + i * PAGE, i as u8 + 1));
    let mapped = |expected: [bool; 8]| {
        for (i, there) in expected.into_iter().enumerate() {
            eq!(read_faults(at + i * PAGE).is_none(), there);
            if there {
                eq!(peek::<u8>(at + i * PAGE), i as u8 + 1);
            }
        }
    };
    ok!(munmap(at + 3 * PAGE, 2 * PAGE));
    mapped([true, true, true, false, false, true, true, true]);
    ok!(munmap(at, PAGE));
    mapped([false, true, true, false, false, true, true, true]);
    ok!(munmap(at + 7 * PAGE, 1));
    mapped([false, true, true, false, false, true, true, false]);
    // One call over what is left and the holes between.
    ok!(munmap(at, 8 * PAGE));
    mapped([false; 8]);
}

fn unmap_nothing_and_badly() {
    let at = guest_programs::mem::unmapped();
    eq!(munmap(at, PAGE), Ok(0));
    err!(munmap(at + 1, PAGE), EINVAL);
    err!(munmap(at, 0), EINVAL);
    err!(munmap(at, usize::MAX), EINVAL);
    err!(munmap(KERNEL, PAGE), EINVAL);
    err!(munmap(NON_CANONICAL, PAGE), EINVAL);
    err!(munmap(USER_END - PAGE, 2 * PAGE), EINVAL);
}

fn map_bad_arguments() {
    err!(mmap(0, 0, RW, ANON, -1, 0), EINVAL);
    err!(mmap(0, PAGE, RW, libc::MAP_ANONYMOUS, -1, 0), EINVAL);
    err!(mmap(0, PAGE, RW, libc::MAP_PRIVATE, -1, 0), EBADF);
    err!(mmap(0, PAGE, RW, libc::MAP_PRIVATE, 999, 0), EBADF);
    fs::scratch();
    fs::put(c"f", b"x", 0o644);
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    err!(mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, fd, 1), EINVAL);
    err!(mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, fd, i64::MAX & !4095), EOVERFLOW);
    err!(mmap(0, 0, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0), EINVAL);
    let directory = ok!(open(c".", libc::O_RDONLY, 0));
    err!(mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, directory, 0), ENODEV);
    let (out, _) = ok!(guest_programs::sys::pipe(0));
    err!(mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, out, 0), ENODEV);
}

fn map_hint_is_honoured_when_free() {
    let at = anon(4 * PAGE);
    ok!(munmap(at, 4 * PAGE));
    eq!(mmap(at, PAGE, RW, ANON, -1, 0), Ok(at));
    poke(at, 5u8);
    // Taken: somewhere else, and what is there stays.
    check!(ok!(mmap(at, PAGE, RW, ANON, -1, 0)) != at);
    eq!(peek::<u8>(at), 5);
    // A hint inside a page counts as the page, or as none.
    let got = ok!(mmap(at + 2 * PAGE + 5, PAGE, RW, ANON, -1, 0));
    eq!(got % PAGE, 0);
    check!(mmap(KERNEL, PAGE, RW, ANON, -1, 0).is_ok());
}

fn map_fixed_replaces() {
    let at = anon(4 * PAGE);
    bytes(at, 4 * PAGE).fill(7);
    eq!(mmap(at + PAGE, 2 * PAGE, RW, ANON | FIXED, -1, 0), Ok(at + PAGE));
    check!(bytes(at + PAGE, 2 * PAGE).iter().all(|b| *b == 0));
    eq!((peek::<u8>(at), peek::<u8>(at + 3 * PAGE)), (7, 7));
    eq!(mmap(at, 4 * PAGE, libc::PROT_NONE, ANON | FIXED, -1, 0), Ok(at));
    check!(read_faults(at).is_some() && read_faults(at + 3 * PAGE).is_some());
}

fn map_fixed_noreplace() {
    let at = anon(3 * PAGE);
    let flags = ANON | libc::MAP_FIXED_NOREPLACE;
    err!(mmap(at, PAGE, RW, flags, -1, 0), EEXIST);
    ok!(munmap(at + PAGE, PAGE));
    eq!(mmap(at + PAGE, PAGE, RW, flags, -1, 0), Ok(at + PAGE));
    ok!(munmap(at + PAGE, PAGE));
    err!(mmap(at + PAGE, 2 * PAGE, RW, flags, -1, 0), EEXIST);
    err!(mmap(at, 2 * PAGE, RW, flags, -1, 0), EEXIST);
}

fn map_fixed_bad_addresses() {
    err!(mmap(4096 * 20 + 1, PAGE, RW, ANON | FIXED, -1, 0), EINVAL);
    err!(mmap(KERNEL, PAGE, RW, ANON | FIXED, -1, 0), ENOMEM | EINVAL);
    err!(mmap(NON_CANONICAL & !4095, PAGE, RW, ANON | FIXED, -1, 0), ENOMEM | EINVAL);
    err!(mmap(USER_END - PAGE, 2 * PAGE, RW, ANON | FIXED, -1, 0), ENOMEM | EINVAL);
    err!(mmap(usize::MAX & !4095, PAGE, RW, ANON | FIXED, -1, 0), ENOMEM | EINVAL);
}

fn map_many_small() {
    // Alternating protections, so that no two neighbours can be merged.
    let at = anon(2000 * PAGE);
    for i in (0..2000).step_by(2) {
        ok!(call!(SYS_mprotect, at + i * PAGE, PAGE, libc::PROT_READ));
    }
    (1..2000).step_by(2).for_each(|i| poke(at + i * PAGE, i));
    for i in (1..2000).step_by(2) {
        eq!(peek::<usize>(at + i * PAGE), i);
    }
    check!(write_faults(at + 1000 * PAGE).is_some());
    ok!(munmap(at, 2000 * PAGE));
    check!(read_faults(at + 999 * PAGE).is_some());
}

fn map_large_is_lazy() {
    // Far more than a small machine has: only what is touched costs memory.
    let size = 1 << 34;
    let at = ok!(mmap(0, size, RW, ANON | libc::MAP_NORESERVE, -1, 0));
    for i in 0..64 {
        poke(at + i * (size / 64), i);
    }
    for i in 0..64 {
        eq!(peek::<usize>(at + i * (size / 64)), i);
    }
    eq!(peek::<u64>(at + size - 8), 0);
    ok!(munmap(at, size));
}

fn map_too_large() {
    err!(mmap(0, 1 << 47, RW, ANON, -1, 0), ENOMEM);
    err!(mmap(0, usize::MAX & !4095, RW, ANON, -1, 0), ENOMEM);
    err!(mmap(0, usize::MAX, RW, ANON, -1, 0), ENOMEM);
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i / 7) ^ i) as u8).collect()
}

fn file_private() {
    fs::scratch();
    let contents = pattern(3 * PAGE);
    fs::put(c"f", &contents, 0o644);
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    let at = ok!(mmap(0, 3 * PAGE, RW, libc::MAP_PRIVATE, fd, 0));
    eq!(bytes(at, 3 * PAGE), &contents[..]);
    poke(at + PAGE, 0xffu8);
    eq!(ok!(fs::get(c"f")), contents);
    in_child(|| {
        eq!(peek::<u8>(at + PAGE), 0xff);
        poke(at + 2 * PAGE, 0xeeu8);
    });
    eq!(bytes(at + 2 * PAGE, PAGE), &contents[2 * PAGE..]);
}

fn file_offset_and_tail() {
    fs::scratch();
    let contents = pattern(2 * PAGE + 100);
    fs::put(c"f", &contents, 0o644);
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    let at = ok!(mmap(0, 2 * PAGE, libc::PROT_READ, libc::MAP_PRIVATE, fd, PAGE as i64));
    eq!(bytes(at, PAGE + 100), &contents[PAGE..]);
    // The rest of the last page reads as zero.
    check!(bytes(at + PAGE + 100, PAGE - 100).iter().all(|b| *b == 0));
}

fn file_beyond_end_is_sigbus() {
    fs::scratch();
    fs::put(c"f", b"short", 0o644);
    let fd = ok!(open(c"f", libc::O_RDWR, 0));
    for kind in [libc::MAP_PRIVATE, libc::MAP_SHARED] {
        let at = ok!(mmap(0, 3 * PAGE, RW, kind, fd, 0));
        check!(read_faults(at).is_none());
        for fault in [read_faults(at + PAGE), write_faults(at + 2 * PAGE + 9)] {
            let Some(fault) = fault else { guest_programs::fail!("no fault beyond the end of the file") };
            eq!((fault.signal, fault.code), (libc::SIGBUS, libc::BUS_ADRERR));
        }
        // A system call gets EFAULT instead.
        err!(write(fd, bytes(at + PAGE, 1)), EFAULT);
    }
    // Cut short under a mapping, then grown again.
    let at = ok!(mmap(0, PAGE, RW, libc::MAP_SHARED, fd, 0));
    eq!(peek::<u8>(at), b's');
    ok!(call!(SYS_ftruncate, fd, 0));
    check!(read_faults(at).is_some_and(|f| f.signal == libc::SIGBUS));
    ok!(call!(SYS_ftruncate, fd, 10));
    eq!(peek::<u8>(at), 0);
}

fn file_mapping_outlives_descriptor_and_name() {
    fs::scratch();
    let contents = pattern(2 * PAGE);
    fs::put(c"f", &contents, 0o644);
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    let at = ok!(mmap(0, 2 * PAGE, libc::PROT_READ, libc::MAP_SHARED, fd, 0));
    ok!(close(fd));
    ok!(call!(SYS_unlinkat, libc::AT_FDCWD, c"f", 0));
    eq!(bytes(at, 2 * PAGE), &contents[..]);
}

fn file_protection_needs_open_mode() {
    fs::scratch();
    fs::put(c"f", &pattern(PAGE), 0o644);
    let read_only = ok!(open(c"f", libc::O_RDONLY, 0));
    let write_only = ok!(open(c"f", libc::O_WRONLY, 0));
    err!(mmap(0, PAGE, RW, libc::MAP_SHARED, read_only, 0), EACCES);
    err!(mmap(0, PAGE, libc::PROT_READ, libc::MAP_PRIVATE, write_only, 0), EACCES);
    err!(mmap(0, PAGE, libc::PROT_WRITE, libc::MAP_SHARED, write_only, 0), EACCES);
    let at = ok!(mmap(0, PAGE, libc::PROT_READ, libc::MAP_SHARED, read_only, 0));
    err!(call!(SYS_mprotect, at, PAGE, RW), EACCES);
}

fn brk_grows_and_shrinks() {
    let start = ok!(call!(SYS_brk, 0));
    let base = (start + PAGE - 1) & !(PAGE - 1);
    eq!(call!(SYS_brk, base + 10 * PAGE), Ok(base + 10 * PAGE));
    check!(bytes(base, 10 * PAGE).iter().all(|b| *b == 0));
    bytes(base, 10 * PAGE).fill(1);
    eq!(call!(SYS_brk, base + 4 * PAGE + 1), Ok(base + 4 * PAGE + 1));
    eq!(peek::<u8>(base + 4 * PAGE), 1);
    check!(read_faults(base + 5 * PAGE).is_some());
    eq!(call!(SYS_brk, base + 10 * PAGE), Ok(base + 10 * PAGE));
    // What was given back comes again as zeros.
    check!(bytes(base + 5 * PAGE, 5 * PAGE).iter().all(|b| *b == 0));
    in_child(|| {
        eq!(call!(SYS_brk, 0), Ok(base + 10 * PAGE));
        ok!(call!(SYS_brk, base));
        check!(read_faults(base).is_some());
    });
    eq!(peek::<u8>(base), 1);
    eq!(call!(SYS_brk, start), Ok(start));
}

fn brk_bad() {
    let now = ok!(call!(SYS_brk, 0));
    // Failure gives the break unchanged.
    for wild in [1, PAGE, USER_END, KERNEL, NON_CANONICAL, usize::MAX] {
        eq!(sys_brk_raw(wild), now);
    }
}

fn sys_brk_raw(to: usize) -> usize {
    match call!(SYS_brk, to) {
        Ok(at) => at,
        Err(e) => guest_programs::fail!("brk never fails with an error number: {e:?}"),
    }
}

#[inline(never)]
fn recurse(depth: usize) -> usize {
    let mut frame = [0u8; 1024];
    std::hint::black_box(&mut frame)[depth % 1024] = depth as u8;
    if depth == 0 { 0 } else { recurse(depth - 1) + usize::from(frame[depth % 1024] == depth as u8) }
}

fn stack_grows_on_demand() {
    // About 6 MiB of the usual 8.
    eq!(recurse(5000), 5000);
    in_child(|| eq!(recurse(5000), 5000));
}

fn stack_overflow_kills() {
    let end = end_of(|| {
        guest_programs::signal::dispose(libc::SIGSEGV, libc::SIG_DFL);
        recurse(1 << 30);
    });
    eq!(end, End::Signal(libc::SIGSEGV));
    // A smaller limit is kept to.
    let end = end_of(|| {
        guest_programs::signal::dispose(libc::SIGSEGV, libc::SIG_DFL);
        let limit = libc::rlimit { rlim_cur: 512 * 1024, rlim_max: 512 * 1024 };
        ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_STACK, &limit, 0));
        recurse(1000);
    });
    eq!(end, End::Signal(libc::SIGSEGV));
}

fn mincore_tells_residence() {
    let at = anon(4 * PAGE);
    poke(at + 2 * PAGE, 1u8);
    let mut resident = [0xffu8; 4];
    ok!(call!(SYS_mincore, at, 4 * PAGE, resident.as_mut_ptr()));
    eq!(resident.map(|r| r & 1)[2], 1);
    eq!(resident[0] & 1, 0);
    err!(call!(SYS_mincore, at + 1, PAGE, resident.as_mut_ptr()), EINVAL);
    err!(call!(SYS_mincore, guest_programs::mem::unmapped(), PAGE, resident.as_mut_ptr()), ENOMEM);
}

fn null_page_is_not_mapped() {
    for at in [0, 8, PAGE - 1] {
        check!(read_faults(at).is_some() && write_faults(at).is_some());
    }
    check!(ok!(mmap(0, PAGE, RW, ANON, -1, 0)) != 0);
    check!(ok!(mmap(1, PAGE, RW, ANON, -1, 0)) >= 65536);
}
