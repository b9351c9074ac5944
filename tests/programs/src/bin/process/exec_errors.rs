//! execve that fails: the documented error, and a caller that goes on as if nothing had happened.

use guest_programs::elf::{self, Segment};
use guest_programs::process::{End, child, execve, self_exe, wait};
use guest_programs::sys::{self, close, open};
use guest_programs::{Case, Errno, call, cases, check, eq, err, fs, mem, ok};
use std::ffi::{CStr, CString};

pub const CASES: &[Case] = cases![
    exec_missing,
    exec_not_executable,
    exec_not_a_program,
    exec_damaged_elf,
    exec_truncated_elf,
    exec_hostile_segments,
    exec_too_much,
    exec_path_trouble,
    exec_bad_vectors,
    exec_missing_interpreters,
    exec_script_loop,
    exec_file_open_for_writing,
    exec_running_file_cannot_be_written,
    execveat_errors,
    exec_failure_leaves_caller_whole,
];

fn exec(path: &CStr) -> Result<usize, Errno> {
    Err(execve(path, &[path], &[]))
}

fn exec_missing() {
    fs::scratch();
    err!(exec(c"missing"), ENOENT);
    err!(exec(c"/no/such/directory/x"), ENOENT);
    err!(exec(c""), ENOENT);
    ok!(call!(SYS_symlinkat, c"nowhere", libc::AT_FDCWD, c"dangling"));
    err!(exec(c"dangling"), ENOENT);
}

fn exec_not_executable() {
    fs::scratch();
    fs::put(c"plain", &elf::tiny(&elf::exit_code(0)), 0o644);
    err!(exec(c"plain"), EACCES);
    err!(exec(c"."), EACCES);
    err!(exec(c"/"), EACCES);
    ok!(call!(SYS_mknodat, libc::AT_FDCWD, c"fifo", libc::S_IFIFO | 0o777, 0));
    err!(exec(c"fifo"), EACCES);
    ok!(call!(SYS_mknodat, libc::AT_FDCWD, c"null", libc::S_IFCHR | 0o777, libc::makedev(1, 3)));
    err!(exec(c"null"), EACCES);
}

fn exec_not_a_program() {
    fs::scratch();
    for contents in
        [&b""[..], b"x", b"echo hi\n", b"\x7fEL", b"\x7fELF", b"#", b"#!\n", b"#!   \nx", &[0; 64]]
    {
        fs::put(c"f", contents, 0o755);
        err!(exec(c"f"), ENOEXEC);
    }
    fs::put(c"f", b"#!", 0o755);
    err!(exec(c"f"), ENOEXEC | ENOENT | EACCES);
    // A page of nothing but the interpreter's path, with no end in sight.
    let mut endless = b"#!/".to_vec();
    endless.resize(4096, b'x');
    fs::put(c"f", &endless, 0o755);
    err!(exec(c"f"), ENOEXEC);
}

/// `tiny` with bytes replaced at an offset.
fn patched(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = elf::tiny(&elf::exit_code(0));
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
    image
}

fn exec_damaged_elf() {
    fs::scratch();
    let damage: [(&str, usize, &[u8]); 8] = [
        ("magic", 0, b"\x7fELG"),
        ("type: object", 16, &[1, 0]),
        ("type: core", 16, &[4, 0]),
        ("machine: AArch64", 18, &[183, 0]),
        ("machine: none", 18, &[0, 0]),
        ("size of program headers", 54, &[32, 0]),
        ("no program headers", 56, &[0, 0]),
        ("too many program headers", 56, &[0xff, 0xff]),
    ];
    for (what, offset, bytes) in damage {
        fs::put(c"f", &patched(offset, bytes), 0o755);
        let result = exec(c"f");
        check!(result == Err(Errno(libc::ENOEXEC)), "{what}: {result:?}");
    }
    fs::put(c"f", &patched(32, &u64::MAX.to_le_bytes()), 0o755);
    err!(exec(c"f"), ENOEXEC | EINVAL | EIO);
}

/// Runs it in a child, where it must either be refused or be killed by a signal; nothing else.
fn never_runs(what: &str, image: &[u8]) {
    fs::put(c"f", image, 0o755);
    let pid = child(|| {
        let why = execve(c"f", &[c"f"], &[]);
        check!(why != Errno(libc::ENOSYS), "{what}: {why:?}");
    });
    let end = wait(pid);
    check!(matches!(end, End::Exit(0) | End::Signal(_)), "{what}: {end:?}");
}

fn exec_truncated_elf() {
    fs::scratch();
    let whole = elf::tiny(&elf::exit_code(9));
    for length in 0..elf::EHDR + elf::PHDR {
        fs::put(c"f", &whole[..length], 0o755);
        let result = exec(c"f");
        check!(matches!(result, Err(Errno(libc::ENOEXEC | libc::EIO))), "{length} bytes: {result:?}");
    }
    // The headers are whole, the segments are not: a real program cut at various places.
    let program = ok!(fs::get(self_exe()));
    for length in [4096, 8192, 65536, program.len() / 2] {
        never_runs(&format!("first {length} bytes"), &program[..length]);
    }
}

fn exec_hostile_segments() {
    fs::scratch();
    let code = elf::exit_code(9);
    let entry = elf::BASE + (elf::EHDR + elf::PHDR) as u64;
    let good = Segment { kind: 1, flags: 5, offset: 0, addr: elf::BASE, file_size: 200, mem_size: 200 };
    let kernel = mem::KERNEL as u64;
    let cases = [
        ("kernel address", Segment { addr: kernel, ..good }, entry),
        ("non-canonical address", Segment { addr: mem::NON_CANONICAL as u64 & !4095, ..good }, entry),
        (
            "end of user space",
            Segment { addr: mem::USER_END as u64 - 4096, mem_size: 1 << 20, ..good },
            entry,
        ),
        ("wraps", Segment { addr: !4095, mem_size: 1 << 30, ..good }, entry),
        ("huge", Segment { mem_size: 1 << 46, ..good }, entry),
        ("huger", Segment { mem_size: u64::MAX, ..good }, entry),
        ("file larger than memory", Segment { file_size: 8192, mem_size: 4096, ..good }, entry),
        ("file size huge", Segment { file_size: u64::MAX - 4096, mem_size: u64::MAX, ..good }, entry),
        ("offset beyond the file", Segment { offset: 1 << 40, ..good }, entry),
        ("offset negative", Segment { offset: !4095, ..good }, entry),
        ("misaligned", Segment { offset: 1, ..good }, entry),
        ("entry at null", good, 0),
        ("entry in the kernel", good, kernel),
        ("entry non-canonical", good, mem::NON_CANONICAL as u64),
        ("not executable", Segment { flags: 4, ..good }, entry),
        ("no segment to load", Segment { kind: 0, ..good }, entry),
    ];
    for (what, segment, entry) in cases {
        let mut image = elf::with_segments(2, entry, &[segment], &code);
        image.resize(4096, 0);
        never_runs(what, &image);
    }
}

fn exec_too_much() {
    // One string of 128 KiB is one byte too many with its NUL.
    let long = CString::new(vec![b'x'; 131_072]).unwrap_or_default();
    err!(Err::<usize, _>(execve(self_exe(), &[c"x", &long], &[])), E2BIG);
    err!(Err::<usize, _>(execve(self_exe(), &[c"x"], &[&long])), E2BIG);
    // All together may have a quarter of the stack limit, and never more than 6 MiB.
    let long = CString::new(vec![b'x'; 130_000]).unwrap_or_default();
    let many = [&*long; 60];
    err!(Err::<usize, _>(execve(self_exe(), &many, &[])), E2BIG);
    let stack = libc::rlimit { rlim_cur: 8 << 20, rlim_max: libc::RLIM_INFINITY };
    ok!(call!(SYS_prlimit64, 0, libc::RLIMIT_STACK, &stack, 0));
    let many = vec![c""; 300_000];
    err!(Err::<usize, _>(execve(self_exe(), &many, &[])), E2BIG);
}

fn exec_path_trouble() {
    fs::scratch();
    fs::put(c"file", &elf::tiny(&elf::exit_code(0)), 0o755);
    err!(exec(c"file/x"), ENOTDIR);
    err!(exec(c"file/"), ENOTDIR);
    ok!(call!(SYS_symlinkat, c"loop2", libc::AT_FDCWD, c"loop1"));
    ok!(call!(SYS_symlinkat, c"loop1", libc::AT_FDCWD, c"loop2"));
    err!(exec(c"loop1"), ELOOP);
    let name = CString::new(vec![b'n'; 256]).unwrap_or_default();
    err!(exec(&name), ENAMETOOLONG);
    let path = CString::new(b"./".repeat(2048)).unwrap_or_default();
    err!(exec(&path), ENAMETOOLONG);
}

fn exec_bad_vectors() {
    let bad = mem::unmapped();
    let good = [c"x".as_ptr() as usize, 0];
    for wild in [bad, mem::KERNEL, mem::NON_CANONICAL, 8] {
        err!(call!(SYS_execve, wild, good.as_ptr(), 0), EFAULT);
        err!(call!(SYS_execve, self_exe(), wild, 0), EFAULT);
        err!(call!(SYS_execve, self_exe(), good.as_ptr(), wild), EFAULT);
        let strings = [c"x".as_ptr() as usize, wild, 0];
        err!(call!(SYS_execve, self_exe(), strings.as_ptr(), 0), EFAULT);
        err!(call!(SYS_execve, self_exe(), good.as_ptr(), strings.as_ptr()), EFAULT);
    }
    err!(call!(SYS_execve, 0, good.as_ptr(), 0), EFAULT);
}

fn exec_missing_interpreters() {
    fs::scratch();
    fs::put(c"script", b"#!/no/such/interpreter\n", 0o755);
    err!(exec(c"./script"), ENOENT);
    fs::put(c"plain", b"x", 0o644);
    fs::put(c"script", b"#!./plain\n", 0o755);
    err!(exec(c"./script"), EACCES);
    fs::put(c"script", b"#!/tmp\n", 0o755);
    err!(exec(c"./script"), EACCES);
    // An ELF file that asks for a loader which is not there.
    let start = (elf::EHDR + 2 * elf::PHDR) as u64;
    let mut code = elf::exit_code(0);
    let name = b"/no/such/loader\0";
    let at = start + code.len() as u64;
    code.extend(name);
    let size = start + code.len() as u64;
    let length = name.len() as u64;
    let interpreter =
        Segment { kind: 3, flags: 4, offset: at, addr: elf::BASE + at, file_size: length, mem_size: length };
    let text = Segment { kind: 1, flags: 5, offset: 0, addr: elf::BASE, file_size: size, mem_size: size };
    fs::put(c"dynamic", &elf::with_segments(2, elf::BASE + start, &[interpreter, text], &code), 0o755);
    err!(exec(c"./dynamic"), ENOENT);
}

fn exec_script_loop() {
    fs::scratch();
    fs::put(c"self", b"#!./self\n", 0o755);
    err!(exec(c"./self"), ELOOP);
}

fn exec_file_open_for_writing() {
    fs::scratch();
    fs::put(c"f", &elf::tiny(&elf::exit_code(5)), 0o755);
    let fd = ok!(open(c"f", libc::O_WRONLY, 0));
    err!(exec(c"f"), ETXTBSY);
    ok!(close(fd));
    let pid = child(|| {
        let _ = exec(c"f");
    });
    eq!(wait(pid), End::Exit(5));
}

fn exec_running_file_cannot_be_written() {
    err!(open(self_exe(), libc::O_WRONLY, 0), ETXTBSY);
    err!(open(self_exe(), libc::O_RDWR, 0), ETXTBSY);
    err!(call!(SYS_truncate, self_exe(), ok!(fs::stat(self_exe())).st_size), ETXTBSY);
}

fn execveat_errors() {
    fs::scratch();
    let args = [c"x".as_ptr(), std::ptr::null()];
    let at = |fd: i32, path: &CStr, flags: i32| call!(SYS_execveat, fd, path, args.as_ptr(), 0, flags);
    err!(at(libc::AT_FDCWD, self_exe(), 0x4000_0000), EINVAL);
    err!(at(-1, c"x", 0), EBADF);
    err!(at(libc::AT_FDCWD, c"", 0), ENOENT);
    fs::put(c"plain", b"", 0o644);
    let fd = ok!(open(c"plain", libc::O_RDONLY, 0));
    err!(at(fd, c"x", 0), ENOTDIR);
    err!(at(fd, c"", libc::AT_EMPTY_PATH), EACCES);
    ok!(call!(SYS_symlinkat, self_exe(), libc::AT_FDCWD, c"link"));
    err!(at(libc::AT_FDCWD, c"link", libc::AT_SYMLINK_NOFOLLOW), ELOOP);
}

fn exec_failure_leaves_caller_whole() {
    fs::scratch();
    let (out, inn) = ok!(sys::pipe(libc::O_CLOEXEC));
    let page = mem::anon(mem::PAGE);
    mem::poke(page, 7u64);
    guest_programs::signal::handle(libc::SIGUSR1, 0, guest_programs::signal::count);
    fs::put(c"f", b"not a program", 0o755);
    for path in [c"f", c"missing", c"."] {
        let _ = exec(path);
    }
    eq!(mem::peek::<u64>(page), 7);
    guest_programs::signal::raise(libc::SIGUSR1);
    eq!(guest_programs::signal::counted(), 1);
    eq!(sys::write(inn, b"x"), Ok(1));
    eq!(sys::read(out, &mut [0]), Ok(1));
}
