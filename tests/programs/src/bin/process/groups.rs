//! Process groups, sessions, and what prctl keeps for a process.

use guest_programs::process::{End, child, execve, in_child, kill, self_exe, wait};
use guest_programs::sync::Gate;
use guest_programs::sys::{self, getpid, getppid};
use guest_programs::{Case, call, cases, check, eq, err, ok, signal};

pub const CASES: &[Case] = cases![
    group_inherited_and_set,
    group_errors,
    group_of_child_after_exec,
    session_of_own,
    session_leader_cannot_do_it_again,
    name_set_and_read,
    death_signal_of_parent,
    prctl_bad_options,
    identity_of_root,
];

fn getpgid(pid: i32) -> i32 {
    ok!(call!(SYS_getpgid, pid)) as i32
}

fn group_inherited_and_set() {
    let group = getpgid(0);
    eq!(ok!(call!(SYS_getpgrp)) as i32, group);
    let gate = Gate::new();
    let back = Gate::new();
    let pid = child(|| {
        eq!(getpgid(0), group);
        back.open();
        gate.pass();
        eq!(getpgid(0), getpid());
        // And back into the parent's group.
        ok!(call!(SYS_setpgid, 0, group));
        eq!(getpgid(0), group);
    });
    back.pass();
    ok!(call!(SYS_setpgid, pid, pid));
    eq!(getpgid(pid), pid);
    gate.open();
    eq!(wait(pid), End::Exit(0));
}

fn group_errors() {
    err!(call!(SYS_setpgid, 0x3fff_ffff, 0), ESRCH);
    err!(call!(SYS_setpgid, 0, -1), EINVAL);
    err!(call!(SYS_setpgid, getppid(), 0), ESRCH);
    err!(call!(SYS_getpgid, -1), ESRCH);
    err!(call!(SYS_getsid, -1), ESRCH);
    err!(call!(SYS_getpgid, 0x3fff_ffff), ESRCH);
    in_child(|| {
        // No such group in this session.
        err!(call!(SYS_setpgid, 0, 0x3fff_ffff), EPERM);
        // Another session's group.
        err!(call!(SYS_setpgid, 0, getpgid(ok!(call!(SYS_getppid)) as i32) + 1_000_000), EPERM);
    });
    // A session leader cannot leave its group.
    err!(call!(SYS_setpgid, 0, 0), EPERM);
    // A child in another session is out of reach.
    let gate = Gate::new();
    let stay = Gate::new();
    let pid = child(|| {
        ok!(call!(SYS_setsid));
        gate.open();
        stay.pass();
    });
    gate.pass();
    err!(call!(SYS_setpgid, pid, getpid()), EPERM);
    stay.open();
    eq!(wait(pid), End::Exit(0));
}

fn group_of_child_after_exec() {
    let (out, inn) = ok!(sys::pipe(0));
    let (closed, marker) = ok!(sys::pipe(libc::O_CLOEXEC));
    let fd = guest_programs::fs::cstr(&out.to_string());
    let pid = child(|| {
        execve(self_exe(), &[c"x", c"@wait-for-byte", &fd], &[]);
    });
    ok!(sys::close(marker));
    // End of file on the marker: the exec has happened.
    eq!(sys::read(closed, &mut [0]), Ok(0));
    err!(call!(SYS_setpgid, pid, pid), EACCES);
    eq!(sys::write(inn, b"a"), Ok(1));
    eq!(wait(pid), End::Exit(i32::from(b'a')));
}

fn session_of_own() {
    in_child(|| {
        let old = ok!(call!(SYS_getsid, 0));
        let new = ok!(call!(SYS_setsid));
        eq!(new as i32, getpid());
        check!(new != old);
        eq!(ok!(call!(SYS_getsid, 0)), new);
        eq!(getpgid(0), getpid());
        in_child(|| eq!(ok!(call!(SYS_getsid, 0)), new));
    });
}

fn session_leader_cannot_do_it_again() {
    in_child(|| {
        ok!(call!(SYS_setsid));
        err!(call!(SYS_setsid), EPERM);
    });
    in_child(|| {
        ok!(call!(SYS_setpgid, 0, 0));
        err!(call!(SYS_setsid), EPERM);
    });
}

fn name_set_and_read() {
    let mut name = [0xffu8; 20];
    ok!(call!(SYS_prctl, libc::PR_SET_NAME, c"a-name-of-more-than-fifteen", 0, 0, 0));
    ok!(call!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0));
    eq!(&name, b"a-name-of-more-\0\xff\xff\xff\xff");
    in_child(|| {
        let mut name = [0u8; 16];
        ok!(call!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0));
        eq!(&name, b"a-name-of-more-\0");
        ok!(call!(SYS_prctl, libc::PR_SET_NAME, c"", 0, 0, 0));
    });
    ok!(call!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0));
    eq!(&name[..16], b"a-name-of-more-\0");
    err!(call!(SYS_prctl, libc::PR_SET_NAME, 0, 0, 0, 0), EFAULT);
    err!(call!(SYS_prctl, libc::PR_GET_NAME, 0, 0, 0, 0), EFAULT);
}

fn death_signal_of_parent() {
    let mut number = 99i32;
    ok!(call!(SYS_prctl, libc::PR_GET_PDEATHSIG, &mut number, 0, 0, 0));
    eq!(number, 0);
    err!(call!(SYS_prctl, libc::PR_SET_PDEATHSIG, 65, 0, 0, 0), EINVAL);
    let (told, gate, ready) = (Gate::new(), Gate::new(), Gate::new());
    let middle = child(|| {
        child(|| {
            signal::block(&[libc::SIGUSR1]);
            ok!(call!(SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGUSR1, 0, 0, 0));
            // Not inherited.
            in_child(|| {
                let mut number = 99i32;
                ok!(call!(SYS_prctl, libc::PR_GET_PDEATHSIG, &mut number, 0, 0, 0));
                eq!(number, 0);
            });
            ready.open();
            let info = signal::take(&[libc::SIGUSR1]);
            eq!(info.si_signo, libc::SIGUSR1);
            told.open();
        });
        gate.pass();
    });
    ready.pass();
    check!(!told.is_open());
    gate.open();
    eq!(wait(middle), End::Exit(0));
    told.pass();
}

fn prctl_bad_options() {
    err!(call!(SYS_prctl, 0x7fff_0000, 0, 0, 0, 0), EINVAL);
    err!(call!(SYS_prctl, -1, 0, 0, 0, 0), EINVAL);
}

fn identity_of_root() {
    for nr in [libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid] {
        eq!(guest_programs::sys::syscall(nr, &[]), Ok(0));
    }
    let mut ids = [9u32; 3];
    ok!(call!(SYS_getresuid, &mut ids[0] as *mut u32, &mut ids[1] as *mut u32, &mut ids[2] as *mut u32));
    eq!(ids, [0; 3]);
    in_child(|| {
        ok!(call!(SYS_setgroups, 1, [7u32].as_ptr()));
        let mut groups = [0u32; 4];
        eq!(call!(SYS_getgroups, 4, groups.as_mut_ptr()), Ok(1));
        eq!(groups[0], 7);
        ok!(call!(SYS_setresgid, 1000, 1000, 1000));
        ok!(call!(SYS_setresuid, 1000, 1000, 1000));
        eq!(call!(SYS_getuid), Ok(1000));
        eq!(call!(SYS_getegid), Ok(1000));
        err!(call!(SYS_setuid, 0), EPERM);
        err!(call!(SYS_setgroups, 0, 0), EPERM);
        err!(kill(getppid(), 0), EPERM);
    });
}
