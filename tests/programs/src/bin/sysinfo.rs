//! uname, sysinfo, resource limits, host name, identities.

use guest_programs::process::{End, end_of, in_child};
use guest_programs::sys::zeroed;
use guest_programs::{Case, Sys, call, cases, check, eq, err, mem, ok, run};

const CASES: &[Case] = cases![
    uname_fields,
    hostname_can_be_set,
    sysinfo_fields,
    sysinfo_follows_use: 120,
    limits_get_and_set,
    limits_errors,
    limits_are_inherited_and_kept,
    memory_limit_stops_growth,
    cpu_limit_kills,
    identity_calls,
    capability_calls,
    personality_is_linux,
    membarrier_and_rseq_or_refused,
    reboot_is_guarded,
];

fn main() {
    run(&[CASES], &[])
}

fn text(field: &[libc::c_char]) -> String {
    field.iter().take_while(|c| **c != 0).map(|c| *c as u8 as char).collect()
}

fn uname_fields() {
    let mut name: libc::utsname = zeroed();
    ok!(call!(SYS_uname, &mut name));
    eq!((text(&name.sysname), text(&name.machine)), ("Linux".into(), "x86_64".into()));
    let release = text(&name.release);
    let major: u32 = release.split('.').next().and_then(|m| m.parse().ok()).unwrap_or(0);
    // glibc refuses to run on anything that says it is older than 3.2.
    check!(major >= 4, "{release}");
    check!(!text(&name.nodename).is_empty() && !text(&name.version).is_empty());
    err!(call!(SYS_uname, mem::KERNEL), EFAULT);
}

fn hostname_can_be_set() {
    let mut name: libc::utsname = zeroed();
    ok!(call!(SYS_uname, &mut name));
    let old = text(&name.nodename);
    ok!(call!(SYS_sethostname, b"guest-programs".as_ptr(), 14));
    ok!(call!(SYS_uname, &mut name));
    eq!(text(&name.nodename), "guest-programs");
    ok!(call!(SYS_sethostname, old.as_ptr(), old.len()));
    err!(call!(SYS_sethostname, old.as_ptr(), 65), EINVAL);
    err!(call!(SYS_sethostname, old.as_ptr(), -1), EINVAL);
    err!(call!(SYS_sethostname, mem::KERNEL, 5), EFAULT);
    in_child(|| {
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        err!(call!(SYS_sethostname, b"x".as_ptr(), 1), EPERM);
    });
}

fn sysinfo() -> libc::sysinfo {
    let mut si: libc::sysinfo = zeroed();
    ok!(call!(SYS_sysinfo, &mut si));
    si
}

fn sysinfo_fields() {
    let si = sysinfo();
    check!(si.mem_unit >= 1 && si.totalram > si.freeram && si.freeram > 0 && si.procs > 0);
    let boot = ok!(guest_programs::time::clock(libc::CLOCK_BOOTTIME)) / guest_programs::time::SECOND;
    check!((si.uptime - boot).abs() <= 2, "{} {boot}", si.uptime);
    err!(call!(SYS_sysinfo, mem::KERNEL), EFAULT);
}

fn sysinfo_follows_use() {
    // Free memory goes down when some is used and up when it is given back. Others may use and free memory at the same
    // time, and a kernel may collect its counts only now and then, so it is tried until it is seen.
    const SIZE: usize = 4 << 20;
    let free = || {
        let si = sysinfo();
        si.freeram as usize * si.mem_unit as usize
    };
    let seen = |so: &dyn Fn() -> bool| {
        (0..40).any(|_| {
            guest_programs::time::sleep(50 * guest_programs::time::MILLI);
            so()
        })
    };
    guest_programs::sync::until(|| {
        let before = free();
        let at = mem::anon(SIZE);
        mem::bytes(at, SIZE).fill(1);
        let down = seen(&|| free() + SIZE / 2 < before);
        let during = free();
        ok!(mem::munmap(at, SIZE));
        down && seen(&|| free() > during + SIZE / 2)
    });
}

fn limit(which: u32, new: Option<(u64, u64)>) -> Sys<(u64, u64)> {
    let new = new.map(|(rlim_cur, rlim_max)| libc::rlimit { rlim_cur, rlim_max });
    let mut old: libc::rlimit = zeroed();
    let at = new.as_ref().map_or(0, |n| n as *const _ as usize);
    call!(SYS_prlimit64, 0, which, at, &mut old)?;
    Ok((old.rlim_cur, old.rlim_max))
}

fn limits_get_and_set() {
    for which in 0..16 {
        let (soft, hard) = ok!(limit(which, None));
        check!(soft <= hard, "limit {which}: {soft} {hard}");
    }
    eq!(ok!(limit(libc::RLIMIT_STACK, None)).0 % 4096, 0);
    ok!(limit(libc::RLIMIT_NOFILE, Some((100, 200))));
    eq!(limit(libc::RLIMIT_NOFILE, None), Ok((100, 200)));
    let mut pair: libc::rlimit = zeroed();
    ok!(call!(SYS_getrlimit, libc::RLIMIT_NOFILE, &mut pair));
    eq!((pair.rlim_cur, pair.rlim_max), (100, 200));
    // Root may raise it again, unless somebody took that capability (24, CAP_SYS_RESOURCE) from it.
    let mut data = [[0u32; 3]; 2];
    ok!(call!(SYS_capget, [0x2008_0522u32, 0].as_ptr(), data.as_mut_ptr()));
    if data[0][0] >> 24 & 1 == 1 {
        ok!(limit(libc::RLIMIT_NOFILE, Some((300, 400))));
    } else {
        err!(limit(libc::RLIMIT_NOFILE, Some((300, 400))), EPERM);
    }
    ok!(limit(libc::RLIMIT_NOFILE, Some((100, 200))));
    ok!(call!(SYS_setrlimit, libc::RLIMIT_NOFILE, &pair));
    in_child(|| {
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        ok!(limit(libc::RLIMIT_NOFILE, Some((200, 200))));
        err!(limit(libc::RLIMIT_NOFILE, Some((200, 201))), EPERM);
    });
}

fn limits_errors() {
    err!(limit(16, None), EINVAL);
    err!(limit(u32::MAX, None), EINVAL);
    err!(limit(libc::RLIMIT_NOFILE, Some((10, 5))), EINVAL);
    err!(call!(SYS_prlimit64, 0x3fff_ffff, 0, 0, 0), ESRCH);
    err!(call!(SYS_prlimit64, 0, 0, mem::KERNEL, 0), EFAULT);
    err!(call!(SYS_prlimit64, 0, 0, 0, mem::KERNEL), EFAULT);
    err!(call!(SYS_getrlimit, 99, mem::anon(4096)), EINVAL);
}

fn limits_are_inherited_and_kept() {
    ok!(limit(libc::RLIMIT_CORE, Some((11, 22))));
    in_child(|| {
        eq!(limit(libc::RLIMIT_CORE, None), Ok((11, 22)));
        ok!(limit(libc::RLIMIT_CORE, Some((1, 2))));
    });
    eq!(limit(libc::RLIMIT_CORE, None), Ok((11, 22)));
    // Another process's, by number.
    let gate = guest_programs::sync::Gate::new();
    let pid = guest_programs::process::child(|| gate.pass());
    let mut old: libc::rlimit = zeroed();
    ok!(call!(SYS_prlimit64, pid, libc::RLIMIT_CORE, 0, &mut old));
    eq!(old.rlim_cur, 11);
    gate.open();
    eq!(guest_programs::process::wait(pid), End::Exit(0));
}

fn memory_limit_stops_growth() {
    in_child(|| {
        ok!(limit(libc::RLIMIT_AS, Some((256 << 20, 256 << 20))));
        err!(mem::mmap(0, 512 << 20, mem::RW, mem::ANON, -1, 0), ENOMEM);
        ok!(mem::mmap(0, 16 << 20, mem::RW, mem::ANON, -1, 0));
    });
    in_child(|| {
        let now = ok!(call!(SYS_brk, 0));
        ok!(limit(libc::RLIMIT_DATA, Some((0, 0))));
        eq!(call!(SYS_brk, now + (1 << 20)), Ok(now));
    });
}

fn cpu_limit_kills() {
    let end = end_of(|| {
        ok!(limit(libc::RLIMIT_CPU, Some((1, 2))));
        loop {
            std::hint::spin_loop();
        }
    });
    eq!(end, End::Signal(libc::SIGXCPU));
}

fn identity_calls() {
    in_child(|| {
        ok!(call!(SYS_setresuid, 0, 1000, 0));
        eq!((call!(SYS_getuid), call!(SYS_geteuid)), (Ok(0), Ok(1000)));
        // Back by the saved number.
        ok!(call!(SYS_setresuid, -1, 0, -1));
        ok!(call!(SYS_setreuid, 5, 6));
        eq!((call!(SYS_getuid), call!(SYS_geteuid)), (Ok(5), Ok(6)));
        err!(call!(SYS_setresuid, 9, 9, 9), EPERM);
    });
    in_child(|| {
        ok!(call!(SYS_setgid, 7));
        ok!(call!(SYS_setuid, 8));
        let mut ids = [0u32; 3];
        ok!(call!(SYS_getresuid, &mut ids[0] as *mut u32, &mut ids[1] as *mut u32, &mut ids[2] as *mut u32));
        eq!(ids, [8; 3]);
        eq!(call!(SYS_getgid), Ok(7));
        err!(call!(SYS_setgid, 0), EPERM);
    });
    err!(call!(SYS_setgroups, 70_000, mem::anon(4096)), EINVAL);
    err!(call!(SYS_getgroups, -1, 0), EINVAL);
}

fn capability_calls() {
    // Root has them all; what it gives up is gone.
    let mut header = [0x2008_0522u32, 0];
    let mut data = [[0u32; 3]; 2];
    ok!(call!(SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()));
    check!(data[0][0] != 0);
    header[0] = 1;
    err!(call!(SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()), EINVAL);
    // The kernel says which version it prefers.
    eq!(header[0], 0x2008_0522);
    err!(call!(SYS_capget, mem::KERNEL, 0), EFAULT);
}

fn personality_is_linux() {
    eq!(call!(SYS_personality, u32::MAX), Ok(0));
}

fn membarrier_and_rseq_or_refused() {
    // Optional calls: a program asks and goes without if it must.
    match call!(SYS_membarrier, 0, 0, 0) {
        Ok(_) => {}
        Err(e) => err!(Err::<usize, _>(e), ENOSYS),
    }
    match call!(SYS_rseq, 1, 1, 1, 1) {
        Ok(_) => guest_programs::fail!("rseq took nonsense"),
        Err(e) => err!(Err::<usize, _>(e), ENOSYS | EINVAL | EFAULT | EBUSY | EPERM),
    }
}

fn reboot_is_guarded() {
    err!(call!(SYS_reboot, 1, 2, 3, 0), EINVAL);
    in_child(|| {
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        err!(call!(SYS_reboot, 0xfee1_deadu32, 672_274_793, 0x4321_fedc, 0), EPERM);
    });
}
