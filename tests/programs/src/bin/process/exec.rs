//! execve and execveat that succeed: what the new program gets.

use guest_programs::process::{End, child, execve, self_exe, wait};
use guest_programs::sys::{self, auxv, close, getpid, open, zeroed};
use guest_programs::{Case, Helper, call, cases, check, elf, eq, fs, mem, ok, signal};
use std::ffi::{CStr, CString, OsString};
use std::os::unix::ffi::OsStrExt;

pub const CASES: &[Case] = cases![
    exec_passes_arguments_and_environment,
    exec_passes_many_and_long_arguments,
    exec_without_arguments_gets_an_empty_one,
    exec_keeps_identity,
    exec_closes_marked_descriptors_only,
    exec_resets_handlers_keeps_ignored_and_mask,
    exec_keeps_pending_signals_and_alarm,
    exec_sets_comm,
    exec_auxiliary_vector,
    exec_replaces_memory,
    exec_chain,
    exec_tiny_elf,
    exec_bss_is_zero,
    exec_script_with_one_argument,
    exec_script_nested,
    exec_script_relative_interpreter_argument,
    execveat_by_descriptor,
    execveat_by_directory,
];

pub const HELPERS: &[Helper] = &[
    ("dump", dump),
    ("wait-for-byte", wait_for_byte),
    ("state", state),
    ("auxv", print_auxv),
    ("count-down", count_down),
];

/// Runs `@helper` of this program with descriptor 1 into a pipe; gives what it printed and how it ended.
fn helper(args: &[&CStr], env: &[&CStr], before: impl FnOnce()) -> (String, End) {
    run(self_exe(), args, env, before)
}

fn run(path: &CStr, args: &[&CStr], env: &[&CStr], before: impl FnOnce()) -> (String, End) {
    let (out, inn) = ok!(sys::pipe(libc::O_CLOEXEC));
    let pid = child(|| {
        before();
        ok!(call!(SYS_dup2, inn, 1));
        let why = execve(path, args, env);
        guest_programs::fail!("execve({path:?}): {why:?}");
    });
    ok!(close(inn));
    let text = String::from_utf8_lossy(&ok!(sys::read_all(out))).into_owned();
    ok!(close(out));
    (text, wait(pid))
}

fn dump(_: &[OsString]) -> i32 {
    for arg in std::env::args_os() {
        println!("arg [{}]", arg.to_string_lossy());
    }
    for (key, value) in std::env::vars_os() {
        println!("env [{}={}]", key.to_string_lossy(), value.to_string_lossy());
    }
    0
}

fn wait_for_byte(args: &[OsString]) -> i32 {
    let fd = args.first().and_then(|a| a.to_str()).and_then(|a| a.parse().ok()).unwrap_or(-1);
    let mut byte = [0];
    match sys::read(fd, &mut byte) {
        Ok(1) => i32::from(byte[0]),
        _ => 98,
    }
}

fn exec_passes_arguments_and_environment() {
    let args = [c"zero", c"@dump", c"", c"a b", c"quote\"'\\", c"new\nline", c"\xc3\xa9"];
    let env = [c"A=1", c"EMPTY=", c"B=x=y"];
    let (text, end) = helper(&args, &env, || {});
    eq!(end, End::Exit(0));
    let mut expected = String::new();
    args.iter().for_each(|a| expected += &format!("arg [{}]\n", a.to_string_lossy()));
    env.iter().for_each(|e| expected += &format!("env [{}]\n", e.to_string_lossy()));
    eq!(text, expected);
}

fn exec_passes_many_and_long_arguments() {
    // About 1 MiB in all, well under a quarter of the default stack limit; each below 128 KiB.
    let long = CString::new(vec![b'x'; 100_000]).unwrap_or_default();
    let mut args: Vec<&CStr> = vec![c"zero", c"@dump"];
    args.extend([&*long; 8]);
    args.extend([c"y"; 2000]);
    let (text, end) = helper(&args, &[], || {});
    eq!(end, End::Exit(0));
    eq!(text.lines().count(), 2010);
    eq!(text.lines().filter(|l| l.len() == 100_006).count(), 8);
    eq!(text.lines().filter(|l| *l == "arg [y]").count(), 2000);
}

fn exec_without_arguments_gets_an_empty_one() {
    fs::scratch();
    // Exits with argc.
    let code = [0x8b, 0x3c, 0x24, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
    fs::put(c"argc", &elf::tiny(&code), 0o755);
    eq!(run(c"argc", &[], &[], || {}).1, End::Exit(1));
    let pid = child(|| {
        let _ = call!(SYS_execve, c"argc", 0, 0);
        guest_programs::fail!("exec with null vectors");
    });
    eq!(wait(pid), End::Exit(1));
    eq!(run(c"argc", &[c"a", c"b"], &[], || {}).1, End::Exit(2));
}

fn state(args: &[OsString]) -> i32 {
    let mut cwd = [0u8; 256];
    let length = call!(SYS_getcwd, cwd.as_mut_ptr(), cwd.len()).unwrap_or(1);
    let umask = call!(SYS_umask, 0).unwrap_or(0o7777);
    let mut name = [0u8; 16];
    let _ = call!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0);
    let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
    println!("pid {} ppid {}", getpid(), sys::getppid());
    println!("pgid {} sid {}", call!(SYS_getpgid, 0).unwrap_or(0), call!(SYS_getsid, 0).unwrap_or(0));
    println!("cwd {}", String::from_utf8_lossy(&cwd[..length - 1]));
    println!("umask {umask:o}");
    println!("mask {:x}", signal::current_mask());
    println!("pending {:x}", signal::pending());
    for number in [libc::SIGUSR1, libc::SIGUSR2] {
        let mut action = [0usize; 4];
        let _ = call!(SYS_rt_sigaction, number, 0, action.as_mut_ptr(), 8);
        println!("action {number} {}", action[0]);
    }
    let mut stack: libc::stack_t = zeroed();
    let _ = call!(SYS_sigaltstack, 0, &mut stack);
    println!("altstack {}", if stack.ss_flags & libc::SS_DISABLE != 0 { "disabled" } else { "set" });
    println!("alarm {}", i32::from(call!(SYS_alarm, 0).unwrap_or(0) > 0));
    println!("comm {}", name.to_string_lossy());
    for arg in args {
        let fd: i32 = arg.to_str().and_then(|a| a.parse().ok()).unwrap_or(-1);
        println!("fd {fd} {}", if call!(SYS_fcntl, fd, libc::F_GETFD).is_ok() { "open" } else { "closed" });
    }
    0
}

fn has(text: &str, line: &str) {
    check!(text.lines().any(|l| l == line), "no line {line:?} in {text:?}");
}

fn exec_keeps_identity() {
    let directory = fs::scratch();
    ok!(call!(SYS_umask, 0o027));
    let me = getpid();
    let (out, inn) = ok!(sys::pipe(libc::O_CLOEXEC));
    let pid = child(|| {
        ok!(call!(SYS_dup2, inn, 1));
        execve(self_exe(), &[c"x", c"@state"], &[]);
    });
    ok!(close(inn));
    let text = String::from_utf8_lossy(&ok!(sys::read_all(out))).into_owned();
    eq!(wait(pid), End::Exit(0));
    has(&text, &format!("pid {pid} ppid {me}"));
    has(&text, &format!("pgid {me} sid {me}"));
    has(&text, &format!("cwd {}", directory.to_string_lossy()));
    has(&text, "umask 27");
}

fn exec_closes_marked_descriptors_only() {
    let (a, b) = ok!(sys::pipe(0));
    let (c, d) = ok!(sys::pipe(libc::O_CLOEXEC));
    ok!(call!(SYS_fcntl, b, libc::F_SETFD, libc::FD_CLOEXEC));
    ok!(call!(SYS_fcntl, d, libc::F_SETFD, 0));
    let e = ok!(call!(SYS_fcntl, a, libc::F_DUPFD_CLOEXEC, 0)) as i32;
    let f = ok!(call!(SYS_dup, c)) as i32;
    let fds = [a, b, c, d, e, f];
    let strings: Vec<CString> = fds.iter().map(|fd| fs::cstr(&fd.to_string())).collect();
    let mut args = vec![c"x", c"@state"];
    args.extend(strings.iter().map(|s| &**s));
    let (text, end) = helper(&args, &[], || {});
    eq!(end, End::Exit(0));
    for (fd, state) in fds.iter().zip(["open", "closed", "closed", "open", "closed", "open"]) {
        has(&text, &format!("fd {fd} {state}"));
    }
}

fn exec_resets_handlers_keeps_ignored_and_mask() {
    let (text, end) = helper(&[c"x", c"@state"], &[], || {
        signal::handle(libc::SIGUSR1, 0, signal::count);
        signal::dispose(libc::SIGUSR2, libc::SIG_IGN);
        signal::block(&[libc::SIGHUP, libc::SIGTERM]);
        signal::alternate_stack(16384);
    });
    eq!(end, End::Exit(0));
    has(&text, "action 10 0");
    has(&text, "action 12 1");
    has(&text, &format!("mask {:x}", signal::set(&[libc::SIGHUP, libc::SIGTERM])));
    // Rust's runtime installs a stack of its own for its main thread, so "disabled" cannot be seen from inside.
    check!(text.contains("altstack"));
}

fn exec_keeps_pending_signals_and_alarm() {
    let (text, end) = helper(&[c"x", c"@state"], &[], || {
        signal::block(&[libc::SIGUSR1]);
        signal::raise(libc::SIGUSR1);
        ok!(call!(SYS_alarm, 1000));
    });
    eq!(end, End::Exit(0));
    has(&text, &format!("pending {:x}", signal::set(&[libc::SIGUSR1])));
    has(&text, "alarm 1");
}

fn exec_sets_comm() {
    let directory = fs::scratch();
    let image = ok!(fs::get(self_exe()));
    fs::put(c"a-name-longer-than-fifteen", &image, 0o755);
    let (text, end) = run(c"a-name-longer-than-fifteen", &[c"other", c"@state"], &[], || {});
    eq!(end, End::Exit(0));
    has(&text, "comm a-name-longer-t");
    let path = fs::cstr(&format!("{}/a-name-longer-than-fifteen", directory.to_string_lossy()));
    has(&run(&path, &[c"other", c"@state"], &[], || {}).0, "comm a-name-longer-t");
}

fn print_auxv(_: &[OsString]) -> i32 {
    // FPU, TSC, CX8, CMOV, FXSR, SSE, SSE2: what every x86-64 has; a hypervisor may filter the rest.
    let features = 1 | 1 << 4 | 1 << 8 | 1 << 15 | 0b111 << 24;
    let bad = |what: &str| {
        println!("bad {what}");
        1
    };
    let string = |kind| {
        let at = auxv(kind) as *const libc::c_char;
        // SAFETY: a string the kernel put on the stack, if there.
        if at.is_null() { c"" } else { unsafe { CStr::from_ptr(at) } }
    };
    if auxv(libc::AT_PAGESZ) != 4096 {
        return bad("AT_PAGESZ");
    }
    if auxv(libc::AT_CLKTCK) != 100 {
        return bad("AT_CLKTCK");
    }
    if auxv(libc::AT_PHENT) != 56 || auxv(libc::AT_PHNUM) == 0 || auxv(libc::AT_PHDR) == 0 {
        return bad("AT_PHDR");
    }
    // The program headers are where the vector says: the first words of this image are an ELF header in front of them.
    let header = auxv(libc::AT_PHDR) as usize & !(mem::PAGE - 1);
    if mem::bytes(header, 4) != b"\x7fELF" {
        return bad("AT_PHDR contents");
    }
    if auxv(libc::AT_ENTRY) == 0 || auxv(libc::AT_BASE) != 0 {
        return bad("AT_ENTRY or AT_BASE");
    }
    let ids = [libc::AT_UID, libc::AT_EUID, libc::AT_GID, libc::AT_EGID, libc::AT_SECURE].map(auxv);
    if ids != [0; 5] {
        return bad("ids");
    }
    if auxv(libc::AT_RANDOM) == 0 || mem::bytes(auxv(libc::AT_RANDOM) as usize, 16) == [0; 16] {
        return bad("AT_RANDOM");
    }
    if string(libc::AT_PLATFORM) != c"x86_64" {
        return bad("AT_PLATFORM");
    }
    if auxv(libc::AT_HWCAP) & features != features {
        return bad("AT_HWCAP");
    }
    println!("execfn {}", string(libc::AT_EXECFN).to_string_lossy());
    println!("random {:x}", mem::peek::<u64>(auxv(libc::AT_RANDOM) as usize));
    0
}

fn exec_auxiliary_vector() {
    let (text, end) = helper(&[c"x", c"@auxv"], &[], || {});
    check!(end == End::Exit(0), "{text}");
    has(&text, &format!("execfn {}", self_exe().to_string_lossy()));
    let again = helper(&[c"x", c"@auxv"], &[], || {}).0;
    check!(text != again, "AT_RANDOM repeats: {text}");
}

fn exec_replaces_memory() {
    // A mapping of the old program is gone in the new one: the new one reads it and dies.
    fs::scratch();
    let at = mem::anon(mem::PAGE);
    let mut code = vec![0x48, 0xb8];
    code.extend((at as u64).to_le_bytes());
    code.extend([0x8a, 0x00]); // mov al, [rax]
    code.extend(elf::exit_code(1));
    fs::put(c"peek", &elf::tiny(&code), 0o755);
    eq!(run(c"peek", &[c"peek"], &[], || mem::poke(at, 1u8)).1, End::Signal(libc::SIGSEGV));
}

fn count_down(args: &[OsString]) -> i32 {
    let n: u32 = args.first().and_then(|a| a.to_str()).and_then(|a| a.parse().ok()).unwrap_or(0);
    if n == 0 {
        return 42;
    }
    let next = CString::new((n - 1).to_string()).unwrap_or_default();
    execve(self_exe(), &[c"x", c"@count-down", &next], &[]);
    1
}

fn exec_chain() {
    eq!(helper(&[c"x", c"@count-down", c"30"], &[], || {}).1, End::Exit(42));
}

fn exec_tiny_elf() {
    fs::scratch();
    fs::put(c"tiny", &elf::tiny(&elf::exit_code(33)), 0o755);
    eq!(run(c"tiny", &[c"tiny"], &[], || {}).1, End::Exit(33));
    eq!(run(c"./tiny", &[c"tiny"], &[], || {}).1, End::Exit(33));
    // Executable for others only by mode 0111: enough.
    ok!(call!(SYS_fchmodat, libc::AT_FDCWD, c"tiny", 0o111));
    eq!(run(c"tiny", &[c"tiny"], &[], || {}).1, End::Exit(33));
}

fn exec_bss_is_zero() {
    // A data segment with a tail beyond the file's bytes: exits with the sum of the tail, which must be zero, though
    // the file goes on with non-zero bytes.
    fs::scratch();
    let start = elf::EHDR + 2 * elf::PHDR;
    let mut code = vec![0x31, 0xff, 0xbe]; // xor edi, edi; mov esi, tail
    let tail = elf::BASE + 0x20_0000 + 0x800;
    code.extend((tail as u32).to_le_bytes());
    code.extend([0xb9, 0x00, 0x28, 0x00, 0x00]); // mov ecx, 0x2800
    code.extend([0x0f, 0xb6, 0x06, 0x09, 0xc7, 0xff, 0xc6, 0xe2, 0xf7]); // or edi, byte [rsi]; inc esi; loop
    code.extend([0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    let text_size = (start + code.len()) as u64;
    let text = elf::Segment {
        kind: 1,
        flags: 5,
        offset: 0,
        addr: elf::BASE,
        file_size: text_size,
        mem_size: text_size,
    };
    let data = elf::Segment {
        kind: 1,
        flags: 6,
        offset: 0x1000,
        addr: elf::BASE + 0x20_0000,
        file_size: 0x800,
        mem_size: 0x3000,
    };
    let mut image = elf::with_segments(2, elf::BASE + start as u64, &[text, data], &code);
    image.resize(0x1000, 0);
    image.resize(0x3000, 0xff);
    fs::put(c"bss", &image, 0o755);
    eq!(run(c"bss", &[c"bss"], &[], || {}).1, End::Exit(0));
}

fn exec_script_with_one_argument() {
    fs::scratch();
    let exe = self_exe().to_string_lossy();
    fs::put(c"script", format!("#! {exe} @dump \nrest\n").as_bytes(), 0o755);
    let (text, end) = run(c"./script", &[c"ignored", c"one", c"two"], &[c"E=1"], || {});
    eq!(end, End::Exit(0));
    eq!(text, format!("arg [{exe}]\narg [@dump]\narg [./script]\narg [one]\narg [two]\nenv [E=1]\n"));
    // Without a newline, and with an argument holding a blank: one argument still.
    fs::put(c"script", format!("#!{exe}\t@dump").as_bytes(), 0o755);
    let text = run(c"./script", &[c"ignored"], &[], || {}).0;
    eq!(text, format!("arg [{exe}]\narg [@dump]\narg [./script]\n"));
    fs::put(c"script", format!("#!{exe} @dump x\n").as_bytes(), 0o755);
    eq!(run(c"./script", &[c"ignored"], &[], || {}).1, End::Exit(2));
}

fn exec_script_nested() {
    fs::scratch();
    let exe = self_exe().to_string_lossy();
    fs::put(c"inner", format!("#!{exe} @dump\n").as_bytes(), 0o755);
    fs::put(c"outer", b"#!./inner between\n", 0o755);
    let (text, end) = run(c"./outer", &[c"0", c"last"], &[], || {});
    eq!(end, End::Exit(0));
    eq!(text, format!("arg [{exe}]\narg [@dump]\narg [./inner]\narg [between]\narg [./outer]\narg [last]\n"));
}

fn exec_script_relative_interpreter_argument() {
    fs::scratch();
    let exe = self_exe().to_string_lossy();
    ok!(call!(SYS_symlinkat, fs::cstr(&exe).as_c_str(), libc::AT_FDCWD, c"link"));
    fs::put(c"script", b"#!link @dump\n", 0o755);
    eq!(run(c"script", &[c"0"], &[], || {}).0, "arg [link]\narg [@dump]\narg [script]\n");
}

fn execveat_by_descriptor() {
    let fd = ok!(open(self_exe(), libc::O_RDONLY | libc::O_CLOEXEC, 0));
    let args = [c"x".as_ptr(), c"@count-down".as_ptr(), c"0".as_ptr(), std::ptr::null()];
    let pid = child(|| {
        let _ = call!(SYS_execveat, fd, c"", args.as_ptr(), 0, libc::AT_EMPTY_PATH);
    });
    eq!(wait(pid), End::Exit(42));
}

fn execveat_by_directory() {
    let path = self_exe().to_bytes();
    let cut = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    let directory = CString::new(if cut == 0 { b"/" } else { &path[..cut] }).unwrap_or_default();
    let name =
        CString::new(OsString::from(String::from_utf8_lossy(&path[cut + 1..]).into_owned()).as_bytes());
    let name = name.unwrap_or_default();
    let fd = ok!(open(&directory, libc::O_RDONLY | libc::O_DIRECTORY, 0));
    let args = [c"x".as_ptr(), c"@count-down".as_ptr(), c"0".as_ptr(), std::ptr::null()];
    let pid = child(|| {
        let _ = call!(SYS_execveat, fd, &*name, args.as_ptr(), 0, 0);
    });
    eq!(wait(pid), End::Exit(42));
}
