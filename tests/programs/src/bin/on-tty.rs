//! `on-tty PROGRAM [ARGUMENT…]`: runs a program on a pseudo-terminal of its own, which is its controlling terminal, and
//! copies what it prints to standard output. The exit status is the program's; 128 plus the signal if one killed it;
//! 126 if it cannot be run; 125 if there are no pseudo-terminals.

use guest_programs::harness::print;
use guest_programs::process::{End, execve, wait_with};
use guest_programs::sys::{close, exit_group, open, read, write_all};
use guest_programs::{Errno, call, fs};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;

fn main() {
    let args: Vec<CString> =
        std::env::args_os().skip(1).filter_map(|a| CString::new(a.into_vec()).ok()).collect();
    if args.is_empty() {
        print("usage: on-tty PROGRAM [ARGUMENT…]\n");
        exit_group(2);
    }
    let (master, slave) = match pair() {
        Ok(pair) => pair,
        Err(e) => {
            print(&format!("on-tty: no pseudo-terminal: {e:?}\n"));
            exit_group(125);
        }
    };
    let pid = guest_programs::process::child_status(|| run(slave, &args));
    let _ = close(slave);
    let mut buf = [0; 4096];
    loop {
        match read(master, &mut buf) {
            // The terminal ends its lines with a carriage return and a newline.
            Ok(n) if n > 0 => {
                let text: Vec<u8> = buf[..n].iter().copied().filter(|b| *b != b'\r').collect();
                let _ = write_all(1, &text);
            }
            Err(Errno(libc::EINTR)) => {}
            _ => break,
        }
    }
    loop {
        match wait_with(-1, 0) {
            Ok((reaped, End::Exit(status))) if reaped == pid => exit_group(status),
            Ok((reaped, End::Signal(signal))) if reaped == pid => exit_group(128 + signal),
            Ok(_) => {}
            Err(_) => exit_group(1),
        }
    }
}

fn pair() -> Result<(i32, i32), Errno> {
    fs::need_dev();
    let path = if fs::stat(c"/dev/ptmx").is_ok() { c"/dev/ptmx" } else { c"/dev/pts/ptmx" };
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let master = open(path, flags, 0)?;
    call!(SYS_ioctl, master, libc::TIOCSPTLCK, &0i32)?;
    let mut number = 0i32;
    call!(SYS_ioctl, master, libc::TIOCGPTN, &mut number)?;
    Ok((master, open(&fs::cstr(&format!("/dev/pts/{number}")), flags, 0)?))
}

/// In the child: takes the terminal and becomes the program. Gives an exit status only if that fails.
fn run(slave: i32, args: &[CString]) -> i32 {
    let ready = call!(SYS_setsid)
        .and_then(|_| call!(SYS_ioctl, slave, libc::TIOCSCTTY, 0))
        .and_then(|_| (0..3).try_fold(0, |_, fd| call!(SYS_dup2, slave, fd)));
    if let Err(e) = ready {
        print(&format!("on-tty: cannot take the terminal: {e:?}\n"));
        return 125;
    }
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(key, value)| CString::new([key.into_vec(), value.into_vec()].join(&b'=')).ok())
        .collect();
    let argv: Vec<&CStr> = args.iter().map(|a| a.as_c_str()).collect();
    let envp: Vec<&CStr> = env.iter().map(|e| e.as_c_str()).collect();
    let mut why = Errno(libc::ENOENT);
    for path in candidates(&args[0]) {
        why = execve(&path, &argv, &envp);
    }
    print(&format!("on-tty: {}: {why:?}\n", args[0].to_string_lossy()));
    126
}

/// The program itself if its name has a slash, otherwise where PATH may have it.
fn candidates(name: &CStr) -> Vec<CString> {
    let name = name.to_string_lossy();
    if name.contains('/') {
        return vec![fs::cstr(&name)];
    }
    let path = std::env::var("PATH").unwrap_or_else(|_| "/bin:/sbin:/usr/bin:/usr/sbin".into());
    path.split(':').map(|directory| fs::cstr(&format!("{directory}/{name}"))).collect()
}
