//! The Rust standard library as ordinary programs use it.

use guest_programs::{Case, Helper, cases, check, eq, fail, fs, ok, run};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};
use std::{env, panic, thread};

const CASES: &[Case] = cases![
    threads_and_results,
    channels_and_timeouts,
    instants_and_durations,
    panics_are_caught,
    panicking_thread_is_told,
    poisoned_mutex,
    panic_in_destructor_free_program,
    thread_locals_run_destructors,
    park_and_unpark,
    command_output_and_status,
    command_with_piped_input,
    command_pipeline,
    command_not_found_and_killed,
    command_environment_and_directory,
    command_many: 60,
    command_group_and_exec,
    files_read_and_written,
    files_buffered_lines,
    files_metadata_and_directories,
    files_temporary_and_renamed,
    copying_files,
    standard_input_of_child,
    unix_sockets,
    environment_of_program,
    collections_and_formatting: 60,
    sleeping_threads_in_order,
    io_errors_have_kinds,
    async_style_event_loop,
];

const HELPERS: &[Helper] = &[
    ("echo", echo),
    ("upper", upper),
    ("status", status),
    ("show", show),
    ("forever", forever),
    ("panic", panics),
];

fn main() {
    run(&[CASES], HELPERS)
}

fn helper(role: &str) -> Command {
    let mut command = Command::new(guest_programs::process::self_exe().to_string_lossy().as_ref());
    command.arg(format!("@{role}"));
    command
}

fn echo(args: &[OsString]) -> i32 {
    let words: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
    println!("{}", words.join(" "));
    eprintln!("to error");
    0
}

fn upper(_: &[OsString]) -> i32 {
    for line in std::io::stdin().lines() {
        match line {
            Ok(line) => println!("{}", line.to_uppercase()),
            Err(_) => return 1,
        }
    }
    0
}

fn status(args: &[OsString]) -> i32 {
    args.first().and_then(|a| a.to_str()).and_then(|a| a.parse().ok()).unwrap_or(99)
}

fn show(_: &[OsString]) -> i32 {
    println!("{}", env::current_dir().map(|d| d.display().to_string()).unwrap_or_default());
    println!("{:?}", env::var("GUEST_VARIABLE"));
    println!("{}", env::vars_os().count());
    0
}

fn forever(_: &[OsString]) -> i32 {
    loop {
        thread::park();
    }
}

fn panics(_: &[OsString]) -> i32 {
    panic!("as asked");
}

fn threads_and_results() {
    let handles: Vec<_> = (0..10u64).map(|i| thread::spawn(move || (0..=i * 1000).sum::<u64>())).collect();
    for (i, handle) in handles.into_iter().enumerate() {
        let n = i as u64 * 1000;
        eq!(handle.join().ok(), Some(n * (n + 1) / 2));
    }
    check!(thread::available_parallelism().is_ok());
    let named = ok!(thread::Builder::new()
        .name("a name".into())
        .spawn(|| thread::current().name().map(str::to_owned)));
    eq!(named.join().ok().flatten().as_deref(), Some("a name"));
}

fn channels_and_timeouts() {
    let (send, receive) = mpsc::channel();
    let start = Instant::now();
    check!(receive.recv_timeout(Duration::from_millis(50)) == Err::<u32, _>(mpsc::RecvTimeoutError::Timeout));
    check!(start.elapsed() >= Duration::from_millis(50));
    let worker = thread::spawn(move || (0..1000).for_each(|i| check!(send.send(i).is_ok())));
    eq!(receive.iter().collect::<Vec<u32>>(), (0..1000).collect::<Vec<u32>>());
    check!(worker.join().is_ok() && receive.recv().is_err());
}

fn instants_and_durations() {
    let start = Instant::now();
    thread::sleep(Duration::from_millis(30));
    let took = start.elapsed();
    check!(took >= Duration::from_millis(30) && took < Duration::from_secs(10), "{took:?}");
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    check!(ok!(since.map_err(|e| e.to_string())) > Duration::from_secs(946_684_800));
    check!(Instant::now() >= start);
}

fn quiet_panics() {
    if cfg!(panic = "abort") {
        fail!("built with panic=abort; use the profile `guest`");
    }
    panic::set_hook(Box::new(|_| {}));
}

fn panics_are_caught() {
    quiet_panics();
    for i in 0..50 {
        let caught = panic::catch_unwind(|| {
            let values = [1, 2, 3];
            if values.get(i + 3).is_none() {
                panic!("number {i}");
            }
        });
        let Err(payload) = caught else { fail!("no panic") };
        eq!(payload.downcast_ref::<String>().map(String::as_str), Some(format!("number {i}").as_str()));
    }
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counted;
    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    fn deep(n: u32) {
        let _guard = Counted;
        if n == 0 {
            panic!("at the bottom");
        }
        deep(n - 1);
    }
    check!(panic::catch_unwind(|| deep(99)).is_err());
    eq!(DROPPED.load(SeqCst), 100);
}

fn panicking_thread_is_told() {
    quiet_panics();
    let handles: Vec<_> = (0..8)
        .map(|i| {
            thread::spawn(move || {
                if i % 2 == 0 {
                    panic!("even")
                }
            })
        })
        .collect();
    for (i, handle) in handles.into_iter().enumerate() {
        eq!(handle.join().is_err(), i % 2 == 0);
    }
}

fn poisoned_mutex() {
    quiet_panics();
    let shared = Arc::new(Mutex::new(5));
    let other = shared.clone();
    let died = thread::spawn(move || {
        let _guard = other.lock();
        panic!("holding it");
    });
    check!(died.join().is_err() && shared.is_poisoned());
    eq!(*shared.lock().unwrap_or_else(|e| e.into_inner()), 5);
}

fn panic_in_destructor_free_program() {
    let output = ok!(helper("panic").output().map_err(|e| e.to_string()));
    eq!(output.status.code(), Some(101));
    check!(String::from_utf8_lossy(&output.stderr).contains("as asked"));
}

fn thread_locals_run_destructors() {
    let (send, receive) = mpsc::channel();
    struct Tell(mpsc::Sender<u32>, u32);
    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    thread_local! { static SLOT: std::cell::RefCell<Option<Tell>> = const { std::cell::RefCell::new(None) }; }
    let handles: Vec<_> = (0..5)
        .map(|i| {
            let send = send.clone();
            thread::spawn(move || SLOT.with(|slot| *slot.borrow_mut() = Some(Tell(send, i))))
        })
        .collect();
    drop(send);
    handles.into_iter().for_each(|h| check!(h.join().is_ok()));
    let mut told: Vec<u32> = receive.iter().collect();
    told.sort_unstable();
    eq!(told, [0, 1, 2, 3, 4]);
}

fn park_and_unpark() {
    let flag = Arc::new(AtomicUsize::new(0));
    let theirs = flag.clone();
    let parked = thread::spawn(move || {
        while theirs.load(SeqCst) == 0 {
            thread::park();
        }
    });
    flag.store(1, SeqCst);
    parked.thread().unpark();
    check!(parked.join().is_ok());
    let start = Instant::now();
    thread::park_timeout(Duration::from_millis(20));
    check!(start.elapsed() < Duration::from_secs(10));
}

fn command_output_and_status() {
    let output = ok!(helper("echo").args(["one", "two three", ""]).output().map_err(|e| e.to_string()));
    eq!(
        (output.status.code(), &*output.stdout, &*output.stderr),
        (Some(0), &b"one two three \n"[..], &b"to error\n"[..])
    );
    for code in [0, 1, 42, 255] {
        let status = ok!(helper("status").arg(code.to_string()).status().map_err(|e| e.to_string()));
        eq!((status.code(), status.success()), (Some(code), code == 0));
    }
    let mut child = ok!(helper("status").arg("7").spawn().map_err(|e| e.to_string()));
    guest_programs::sync::until(|| matches!(child.try_wait(), Ok(Some(_))));
    eq!(child.wait().ok().and_then(|s| s.code()), Some(7));
}

fn piped(command: &mut Command) -> std::process::Child {
    ok!(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string()))
}

fn command_with_piped_input() {
    let mut child = piped(&mut helper("upper"));
    let Some(mut stdin) = child.stdin.take() else { fail!("no stdin") };
    // More than a pipe holds, so both directions must move.
    let writer = thread::spawn(move || (0..20_000).for_each(|i| check!(writeln!(stdin, "line {i}").is_ok())));
    let output = ok!(child.wait_with_output().map_err(|e| e.to_string()));
    check!(writer.join().is_ok() && output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    eq!((text.lines().count(), text.lines().last()), (20_000, Some("LINE 19999")));
}

fn command_pipeline() {
    let mut first = ok!(helper("echo")
        .arg("through")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string()));
    let Some(out) = first.stdout.take() else { fail!("no stdout") };
    let second = ok!(helper("upper").stdin(out).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string()));
    let output = ok!(second.wait_with_output().map_err(|e| e.to_string()));
    eq!(&*output.stdout, b"THROUGH\n");
    check!(first.wait().is_ok_and(|s| s.success()));
}

fn command_not_found_and_killed() {
    let error = match Command::new("/no/such/program").spawn() {
        Err(e) => e,
        Ok(_) => fail!("spawned what is not there"),
    };
    eq!(error.kind(), std::io::ErrorKind::NotFound);
    let denied = Command::new("/").spawn().map(|_| ()).map_err(|e| e.kind());
    eq!(denied, Err(std::io::ErrorKind::PermissionDenied));
    let mut child = ok!(helper("forever").spawn().map_err(|e| e.to_string()));
    check!(child.try_wait().is_ok_and(|s| s.is_none()));
    ok!(child.kill().map_err(|e| e.to_string()));
    let status = ok!(child.wait().map_err(|e| e.to_string()));
    eq!((status.code(), status.signal()), (None, Some(libc::SIGKILL)));
}

fn command_environment_and_directory() {
    let here = fs::scratch().to_string_lossy().into_owned();
    ok!(std::fs::create_dir("inside").map_err(|e| e.to_string()));
    let output = helper("show").env_clear().env("GUEST_VARIABLE", "set").current_dir("inside").output();
    let text = String::from_utf8_lossy(&ok!(output.map_err(|e| e.to_string())).stdout).into_owned();
    eq!(text, format!("{here}/inside\nOk(\"set\")\n1\n"));
    // A program is looked for along PATH.
    let exe = guest_programs::process::self_exe().to_string_lossy();
    ok!(std::os::unix::fs::symlink(&*exe, "inside/found-by-path").map_err(|e| e.to_string()));
    let status = Command::new("found-by-path")
        .env("PATH", format!("/nowhere:{here}/inside"))
        .args(["@status", "3"])
        .status();
    eq!(status.ok().and_then(|s| s.code()), Some(3));
}

fn command_many() {
    for round in 0..5 {
        let children: Vec<_> = (0..8).map(|i| (i, helper("status").arg(i.to_string()).spawn())).collect();
        for (i, child) in children {
            let status = child.and_then(|mut c| c.wait());
            eq!(status.ok().and_then(|s| s.code()), Some(i));
        }
        // From several threads at once.
        let threads: Vec<_> = (0..4)
            .map(|i| {
                thread::spawn(move || {
                    helper("status").arg((i + round).to_string()).status().ok().and_then(|s| s.code())
                })
            })
            .collect();
        for (i, t) in threads.into_iter().enumerate() {
            eq!(t.join().ok().flatten(), Some(i as i32 + round));
        }
    }
}

fn command_group_and_exec() {
    let mut child = ok!(helper("forever").process_group(0).spawn().map_err(|e| e.to_string()));
    let pid = child.id() as i32;
    eq!(guest_programs::call!(SYS_getpgid, pid), Ok(pid as usize));
    ok!(guest_programs::process::kill(-pid, libc::SIGTERM));
    eq!(child.wait().ok().and_then(|s| s.signal()), Some(libc::SIGTERM));
    let pid = guest_programs::process::child(|| {
        let error = helper("status").arg("66").exec();
        fail!("exec: {error}");
    });
    eq!(guest_programs::process::wait(pid), guest_programs::End::Exit(66));
}

fn files_read_and_written() {
    fs::scratch();
    ok!(std::fs::write("f", "hello\n").map_err(|e| e.to_string()));
    let mut file =
        ok!(std::fs::OpenOptions::new().read(true).append(true).open("f").map_err(|e| e.to_string()));
    ok!(file.write_all(b"world\n").map_err(|e| e.to_string()));
    ok!(file.seek(SeekFrom::Start(3)).map_err(|e| e.to_string()));
    let mut rest = String::new();
    ok!(file.read_to_string(&mut rest).map_err(|e| e.to_string()));
    eq!(rest, "lo\nworld\n");
    ok!(file.set_len(4).map_err(|e| e.to_string()));
    ok!(file.sync_all().map_err(|e| e.to_string()));
    eq!(std::fs::read("f").ok(), Some(b"hell".to_vec()));
    let mut two = ok!(file.try_clone().map_err(|e| e.to_string()));
    eq!(two.stream_position().ok(), file.stream_position().ok());
}

fn files_buffered_lines() {
    fs::scratch();
    let file = ok!(std::fs::File::create("f").map_err(|e| e.to_string()));
    let mut out = std::io::BufWriter::new(file);
    (0..5000).for_each(|i| check!(writeln!(out, "{i}:{}", "x".repeat(i % 50)).is_ok()));
    ok!(out.flush().map_err(|e| e.to_string()));
    let file = ok!(std::fs::File::open("f").map_err(|e| e.to_string()));
    let mut count = 0;
    for (i, line) in BufReader::new(file).lines().enumerate() {
        eq!(line.ok(), Some(format!("{i}:{}", "x".repeat(i % 50))));
        count += 1;
    }
    eq!(count, 5000);
}

fn files_metadata_and_directories() {
    fs::scratch();
    ok!(std::fs::create_dir_all("a/b/c").map_err(|e| e.to_string()));
    (0..20).for_each(|i| check!(std::fs::write(format!("a/b/f{i}"), vec![0; i * 10]).is_ok()));
    let mut found: Vec<(String, u64)> = ok!(std::fs::read_dir("a/b").map_err(|e| e.to_string()))
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_ok_and(|t| t.is_file()))
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.metadata().map_or(0, |m| m.len())))
        .collect();
    found.sort();
    eq!(found.len(), 20);
    check!(found.iter().all(|(name, length)| *length == name[1..].parse().unwrap_or(99u64) * 10));
    let metadata = ok!(std::fs::metadata("a").map_err(|e| e.to_string()));
    check!(metadata.is_dir() && metadata.modified().is_ok());
    ok!(std::fs::remove_dir_all("a").map_err(|e| e.to_string()));
    check!(!std::path::Path::new("a").exists());
}

fn files_temporary_and_renamed() {
    fs::scratch();
    ok!(std::fs::write("new", "new").map_err(|e| e.to_string()));
    ok!(std::fs::write("old", "old").map_err(|e| e.to_string()));
    ok!(std::fs::rename("new", "old").map_err(|e| e.to_string()));
    eq!(std::fs::read_to_string("old").ok().as_deref(), Some("new"));
    ok!(std::os::unix::fs::symlink("old", "link").map_err(|e| e.to_string()));
    eq!(std::fs::read_link("link").ok().as_deref(), Some(std::path::Path::new("old")));
    eq!(std::fs::canonicalize("link").ok(), env::current_dir().ok().map(|d| d.join("old")));
    ok!(std::fs::remove_file("link").map_err(|e| e.to_string()));
}

fn copying_files() {
    // fs::copy tries copy_file_range, sendfile and splice before it reads and writes.
    fs::scratch();
    let data: Vec<u8> = (0..300_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
    ok!(std::fs::write("from", &data).map_err(|e| e.to_string()));
    eq!(std::fs::copy("from", "to").ok(), Some(300_000));
    check!(std::fs::read("to").ok() == Some(data.clone()));
    let mut from = ok!(std::fs::File::open("from").map_err(|e| e.to_string()));
    let (mut reader, mut writer) = ok!(std::io::pipe().map_err(|e| e.to_string()));
    let copier = thread::spawn(move || std::io::copy(&mut from, &mut writer).ok());
    let mut got = Vec::new();
    ok!(reader.read_to_end(&mut got).map_err(|e| e.to_string()));
    check!(got == data && copier.join().ok().flatten() == Some(300_000));
}

fn standard_input_of_child() {
    let mut child = piped(&mut helper("upper"));
    drop(child.stdin.take());
    let output = ok!(child.wait_with_output().map_err(|e| e.to_string()));
    check!(output.stdout.is_empty() && output.status.success());
    fs::scratch();
    ok!(std::fs::write("f", "from a file").map_err(|e| e.to_string()));
    let file = ok!(std::fs::File::open("f").map_err(|e| e.to_string()));
    eq!(helper("upper").stdin(file).output().ok().map(|o| o.stdout), Some(b"FROM A FILE\n".to_vec()));
}

fn unix_sockets() {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    fs::scratch();
    let listener = ok!(UnixListener::bind("sock").map_err(|e| e.to_string()));
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(5).filter_map(Result::ok) {
            let mut line = String::new();
            let mut reader = BufReader::new(stream);
            check!(reader.read_line(&mut line).is_ok());
            check!(reader.get_mut().write_all(line.to_uppercase().as_bytes()).is_ok());
        }
    });
    for i in 0..5 {
        let mut stream = ok!(UnixStream::connect("sock").map_err(|e| e.to_string()));
        check!(writeln!(stream, "request {i}").is_ok());
        let mut reply = String::new();
        ok!(stream.read_to_string(&mut reply).map_err(|e| e.to_string()));
        eq!(reply, format!("REQUEST {i}\n"));
    }
    check!(server.join().is_ok());
    let (a, b) = ok!(UnixDatagram::pair().map_err(|e| e.to_string()));
    check!(a.send(b"datagram").is_ok_and(|n| n == 8) && b.recv(&mut [0; 20]).is_ok_and(|n| n == 8));
}

fn environment_of_program() {
    check!(env::args().count() >= 1);
    check!(env::current_dir().is_ok());
    check!(env::current_exe().is_ok() || fs::stat(c"/proc/self/exe").is_err());
    check!(env::temp_dir() == std::path::Path::new("/tmp") || env::var_os("TMPDIR").is_some());
    eq!(std::process::id() as i32, guest_programs::sys::getpid());
}

fn collections_and_formatting() {
    // Hash maps draw their seed from the kernel's randomness.
    let mut map = std::collections::HashMap::new();
    for i in 0..50_000u32 {
        map.entry(format!("key {}", i % 5000)).or_insert_with(Vec::new).push(i);
    }
    eq!((map.len(), map.values().map(Vec::len).sum::<usize>()), (5000, 50_000));
    let mut sorted: Vec<&String> = map.keys().collect();
    sorted.sort();
    eq!(sorted[0], "key 0");
    let tree: std::collections::BTreeMap<u32, String> =
        (0..20_000).map(|i| (i * 7919 % 20_011, format!("{i:#010x}"))).collect();
    check!(tree.keys().zip(tree.keys().skip(1)).all(|(a, b)| a < b));
    eq!(
        format!("{:>8.3}|{:<5}|{:^7}|{:e}", 2.71458, "ab", 'x', 12345.678),
        "   2.715|ab   |   x   |1.2345678e4"
    );
    eq!("0.1".parse::<f64>().map(|x| x + 0.2).ok(), Some(0.300_000_000_000_000_04));
}

fn sleeping_threads_in_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let handles: Vec<_> = [90u64, 10, 50, 130]
        .into_iter()
        .map(|delay| {
            let order = order.clone();
            thread::spawn(move || {
                let end = start + Duration::from_millis(delay);
                thread::sleep(end.saturating_duration_since(Instant::now()));
                check!(Instant::now() >= end);
                order.lock().unwrap_or_else(|e| e.into_inner()).push(delay);
            })
        })
        .collect();
    handles.into_iter().for_each(|h| check!(h.join().is_ok()));
    let mut seen = order.lock().unwrap_or_else(|e| e.into_inner()).clone();
    seen.sort_unstable();
    eq!(seen, [10, 50, 90, 130]);
}

fn io_errors_have_kinds() {
    use std::io::ErrorKind;
    fs::scratch();
    let kind = |r: std::io::Result<()>| r.err().map(|e| e.kind());
    eq!(kind(std::fs::File::open("missing").map(|_| ())), Some(ErrorKind::NotFound));
    ok!(std::fs::create_dir("d").map_err(|e| e.to_string()));
    eq!(kind(std::fs::create_dir("d")), Some(ErrorKind::AlreadyExists));
    eq!(kind(std::fs::read("d").map(|_| ())), Some(ErrorKind::IsADirectory));
    ok!(std::fs::write("d/f", "").map_err(|e| e.to_string()));
    eq!(kind(std::fs::remove_dir("d")), Some(ErrorKind::DirectoryNotEmpty));
    eq!(kind(std::fs::read("d/f/x").map(|_| ())), Some(ErrorKind::NotADirectory));
    let (reader, mut writer) = ok!(std::io::pipe().map_err(|e| e.to_string()));
    drop(reader);
    // As the runtime does for every Rust program.
    guest_programs::signal::dispose(libc::SIGPIPE, libc::SIG_IGN);
    eq!(kind(writer.write_all(b"x")), Some(ErrorKind::BrokenPipe));
}

fn async_style_event_loop() {
    // Hundreds of small tasks over a thread pool with a shared queue, as runtimes do it.
    let (send, receive) = mpsc::channel::<Box<dyn FnOnce() -> u64 + Send>>();
    let receive = Arc::new(Mutex::new(receive));
    let (done, results) = mpsc::channel();
    let pool: Vec<_> = (0..4)
        .map(|_| {
            let (receive, done) = (receive.clone(), done.clone());
            thread::spawn(move || {
                loop {
                    let task = receive.lock().unwrap_or_else(|e| e.into_inner()).recv();
                    match task {
                        Ok(task) => check!(done.send(task()).is_ok()),
                        Err(_) => break,
                    }
                }
            })
        })
        .collect();
    for i in 0..500u64 {
        check!(send.send(Box::new(move || (0..i).sum())).is_ok());
    }
    drop((send, done));
    eq!(results.iter().sum::<u64>(), (0..500u64).map(|i| (0..i).sum::<u64>()).sum());
    pool.into_iter().for_each(|t| check!(t.join().is_ok()));
}
