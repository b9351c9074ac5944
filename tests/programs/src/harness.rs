//! The runner: every case in a process and session of its own, with a time limit kept by the parent.

use crate::check::{CASE, FAILED};
use crate::process::{End, kill};
use crate::sys::{getpid, zeroed};
use crate::{Errno, call, signal};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;

/// One case of an area.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name, unique in its program.
    pub name: &'static str,
    /// What to do; fails by the checks of `check`.
    pub run: fn(),
    /// Time limit, seconds.
    pub limit: u32,
}

/// A role this program can be re-executed in: `program @name args…`; gives the exit status.
pub type Helper = (&'static str, fn(&[OsString]) -> i32);

/// Lists cases: `cases![name, other_name: 60]`, the number being a time limit in seconds.
#[macro_export]
macro_rules! cases {
    (@limit) => { 30 };
    (@limit $limit:literal) => { $limit };
    ($($name:ident $(: $limit:literal)?),* $(,)?) => {
        &[$($crate::Case {
            name: stringify!($name), run: $name, limit: $crate::cases!(@limit $($limit)?)
        }),*]
    };
}

/// Absolute path of this program.
pub(crate) static SELF: OnceLock<CString> = OnceLock::new();

/// Notes the path of this program, while relative paths still lead to it. `run` does this by itself.
pub fn locate() {
    SELF.get_or_init(own_path);
}

/// Prints to standard output in as few writes as the kernel allows (one, normally).
pub fn print(text: &str) {
    let _ = crate::sys::write_all(1, text.as_bytes());
}

/// Runs the cases chosen on the command line (all if none) and ends the process: 0 if all passed, 1 if one failed or
/// none was chosen, 2 for a wrong command line.
pub fn run(groups: &[&'static [Case]], helpers: &[Helper]) -> ! {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    locate();
    if let Some(role) = args.first().and_then(|a| a.to_str()).and_then(|a| a.strip_prefix('@')) {
        match helpers.iter().find(|(name, _)| *name == role) {
            Some((_, helper)) => std::process::exit(helper(&args[1..])),
            None => std::process::exit(2),
        }
    }
    let cases: Vec<&'static Case> = groups.iter().flat_map(|group| group.iter()).collect();
    if args.first().is_some_and(|a| a == "--list") {
        cases.iter().for_each(|case| print(&format!("{}\n", case.name)));
        std::process::exit(0);
    }
    if let Some(option) = args.iter().filter_map(|a| a.to_str()).find(|a| a.starts_with('-')) {
        print(&format!("unknown option {option}; usage: PROGRAM [--list | SUBSTRING…]\n"));
        std::process::exit(2);
    }
    let chosen = |case: &&'static Case| {
        args.is_empty() || args.iter().any(|a| a.to_str().is_some_and(|a| case.name.contains(a)))
    };
    prepare();
    let (mut passed, mut failed) = (0u32, 0u32);
    for case in cases.into_iter().filter(chosen) {
        if run_case(case) {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    print(&format!("{passed} passed, {failed} failed\n"));
    std::process::exit(i32::from(failed > 0 || passed == 0))
}

/// The path the kernel says it executed, made absolute.
fn own_path() -> CString {
    let execfn = crate::sys::auxv(libc::AT_EXECFN) as *const libc::c_char;
    let path = if execfn.is_null() {
        std::env::args_os().next().unwrap_or_default()
    } else {
        // SAFETY: AT_EXECFN points to a string that the kernel put on the stack for the life of the process.
        OsString::from_vec(unsafe { std::ffi::CStr::from_ptr(execfn) }.to_bytes().to_vec())
    };
    let path = std::env::current_dir().unwrap_or_default().join(path);
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn prepare() {
    extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    // No SA_RESTART: the signal is to interrupt the wait for a case.
    signal::handle(libc::SIGALRM, 0, nothing);
    let _ = call!(SYS_mkdir, c"/tmp", 0o1777);
    // Descriptors that came from outside would show in cases about descriptor numbers.
    (3..64).for_each(|fd| _ = crate::sys::close(fd));
    if getpid() != 1 {
        // So that what cases orphan comes here, as it does when this is process 1.
        let _ = call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
}

/// Seconds until the limit, then again every second in case the first signal came too early to interrupt anything.
fn set_limit(seconds: u32) {
    let mut timer: libc::itimerval = zeroed();
    timer.it_value.tv_sec = seconds.into();
    timer.it_interval.tv_sec = i64::from(seconds > 0);
    let _ = call!(SYS_setitimer, libc::ITIMER_REAL, &timer, 0);
}

fn run_case(case: &'static Case) -> bool {
    // SAFETY: the child runs the case and leaves by exit_group.
    let pid = match unsafe { libc::fork() } {
        -1 => {
            print(&format!("FAIL {}: cannot fork: {:?}\n", case.name, signal::last()));
            return false;
        }
        0 => {
            let _ = call!(SYS_setsid);
            for signal in [libc::SIGALRM, libc::SIGPIPE] {
                signal::dispose(signal, libc::SIG_DFL);
            }
            CASE.get_or_init(|| case.name);
            (case.run)();
            crate::sys::exit_group(0)
        }
        pid => pid,
    };
    set_limit(case.limit);
    let mut timed_out = false;
    let end = loop {
        let mut status = 0i32;
        match call!(SYS_wait4, -1, &mut status, libc::__WALL, 0) {
            Ok(reaped) if reaped as i32 == pid => break Ok(End::from_status(status)),
            Ok(_) => {}
            Err(Errno(libc::EINTR)) => {
                timed_out = true;
                let _ = kill(pid, libc::SIGKILL);
                let _ = kill(-pid, libc::SIGKILL);
            }
            Err(e) => break Err(e),
        }
    };
    set_limit(0);
    let _ = kill(-pid, libc::SIGKILL);
    while matches!(call!(SYS_wait4, -1, 0, libc::WNOHANG | libc::__WALL, 0), Ok(n) if n > 0) {}
    let _ = std::fs::remove_dir_all(crate::fs::scratch_path(pid));
    let why = match end {
        _ if timed_out => format!("timed out after {} s", case.limit),
        Ok(End::Exit(0)) => {
            print(&format!("ok {}\n", case.name));
            return true;
        }
        Ok(End::Exit(FAILED)) => return false,
        Ok(End::Exit(status)) => format!("exited with status {status}"),
        Ok(end) => format!("ended with {end:?}"),
        Err(e) => format!("cannot be waited for: {e:?}"),
    };
    print(&format!("FAIL {}: {why}\n", case.name));
    false
}
