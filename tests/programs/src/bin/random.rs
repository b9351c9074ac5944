//! Random numbers.

use guest_programs::process::in_child;
use guest_programs::sys::{open, read, write};
use guest_programs::{Case, call, cases, check, eq, err, fs, mem, ok, run};

const CASES: &[Case] =
    cases![getrandom_fills, getrandom_errors, devices_give_random, forks_differ, looks_random];

fn main() {
    run(&[CASES], &[])
}

fn random(n: usize, flags: u32) -> Vec<u8> {
    let mut buf = vec![0u8; n];
    eq!(call!(SYS_getrandom, buf.as_mut_ptr(), n, flags), Ok(n));
    buf
}

fn getrandom_fills() {
    for flags in [0, libc::GRND_NONBLOCK, libc::GRND_RANDOM, libc::GRND_INSECURE] {
        for n in [0, 1, 16, 255, 256] {
            random(n, flags);
        }
    }
    check!(random(32, 0) != random(32, 0));
    let large = random(100_000, 0);
    check!(large[99_000..].iter().any(|b| *b != 0));
}

fn getrandom_errors() {
    let mut buf = [0u8; 8];
    err!(call!(SYS_getrandom, buf.as_mut_ptr(), 8, 0x10), EINVAL);
    err!(call!(SYS_getrandom, buf.as_mut_ptr(), 8, libc::GRND_RANDOM | libc::GRND_INSECURE), EINVAL);
    err!(call!(SYS_getrandom, mem::KERNEL, 8, 0), EFAULT);
    err!(call!(SYS_getrandom, mem::unmapped(), 8, 0), EFAULT);
}

fn devices_give_random() {
    fs::need_dev();
    for path in [c"/dev/urandom", c"/dev/random"] {
        let fd = ok!(open(path, libc::O_RDWR, 0));
        let (mut a, mut b) = ([0u8; 64], [0u8; 64]);
        eq!((read(fd, &mut a), read(fd, &mut b)), (Ok(64), Ok(64)));
        check!(a != b);
        eq!(write(fd, b"seed"), Ok(4));
    }
}

fn forks_differ() {
    let shared = mem::shared(mem::PAGE);
    in_child(|| mem::bytes(shared, 32).copy_from_slice(&random(32, 0)));
    check!(mem::bytes(shared, 32) != random(32, 0));
}

fn looks_random() {
    // Every value occurs, and no bit is stuck or far from half.
    let data = random(1 << 16, 0);
    let mut seen = [0u32; 256];
    data.iter().for_each(|b| seen[usize::from(*b)] += 1);
    check!(seen.iter().all(|n| (128..=400).contains(n)), "{seen:?}");
    for bit in 0..8 {
        let ones = data.iter().filter(|b| **b >> bit & 1 == 1).count();
        check!((31_000..34_500).contains(&ones), "bit {bit}: {ones}");
    }
}
