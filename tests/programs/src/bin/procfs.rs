//! The files of /proc that ps, top, free, mount and uptime read.

use guest_programs::fs::{cstr, get, lstat, names, need_proc, stat, text};
use guest_programs::process::{End, child, child_status, finish, kill, wait, wait_with};
use guest_programs::sync::Gate;
use guest_programs::sys::{getpid, getppid, open};
use guest_programs::{Case, call, cases, check, eq, err, fail, mem, ok, run};

const CASES: &[Case] = cases![
    self_is_this_process,
    stat_of_self,
    stat_shows_states,
    status_of_self,
    statm_of_self,
    maps_of_self,
    command_line_and_name,
    executable_link,
    descriptor_links,
    directory_and_root_links,
    processes_are_listed,
    gone_processes_are_gone,
    threads_are_listed,
    memory_information,
    uptime_and_load,
    cpu_statistics,
    cpu_information,
    mounts_are_listed,
    version_and_filesystems,
    files_can_be_read_in_pieces,
    nothing_can_be_made_there,
    environment_and_limits,
];

fn main() {
    run(&[CASES], &[])
}

fn link(path: &str) -> String {
    let mut buf = [0u8; 4096];
    let n = ok!(call!(SYS_readlink, cstr(path).as_c_str(), buf.as_mut_ptr(), buf.len()));
    String::from_utf8_lossy(&buf[..n]).into_owned()
}

fn self_is_this_process() {
    need_proc();
    eq!(link("/proc/self"), getpid().to_string());
    eq!(ok!(stat(c"/proc/self/stat")).st_ino, ok!(stat(&cstr(&format!("/proc/{}/stat", getpid())))).st_ino);
}

/// The fields of a stat file from the third on, and the name between the parentheses.
fn stat_fields(pid: &str) -> (String, Vec<String>) {
    let line = text(&cstr(&format!("/proc/{pid}/stat")));
    let (Some(open), Some(close)) = (line.find('('), line.rfind(')')) else { fail!("no name in {line:?}") };
    let fields = line[close + 2..].split_whitespace().map(str::to_owned).collect();
    (line[open + 1..close].to_owned(), fields)
}

fn number(text: &str) -> i64 {
    match text.parse::<i64>() {
        Ok(n) => n,
        Err(_) => text.parse::<u64>().map_or_else(|_| fail!("{text:?} is no number"), |n| n as i64),
    }
}

fn stat_of_self() {
    need_proc();
    ok!(call!(SYS_prctl, libc::PR_SET_NAME, c"odd) (name", 0, 0, 0));
    let (name, fields) = stat_fields("self");
    eq!(name, "odd) (name");
    check!(fields.len() >= 42, "{} fields", fields.len());
    eq!(fields[0], "R");
    let me = i64::from(getpid());
    let ids: Vec<i64> = fields[1..5].iter().map(|f| number(f)).collect();
    eq!(ids, [i64::from(getppid()), me, me, 0]);
    // Threads; start time; sizes.
    eq!(number(&fields[17]), 1);
    check!(number(&fields[20]) > 1 << 16 && number(&fields[21]) > 10);
    check!(number(&fields[36]) >= 0 && number(&fields[36]) < 64);
}

fn stat_shows_states() {
    need_proc();
    let state = |pid: i32| stat_fields(&pid.to_string()).1[0].clone();
    let pid = child(|| {
        loop {
            let _ = call!(SYS_pause);
        }
    });
    guest_programs::sync::until(|| state(pid) == "S");
    ok!(kill(pid, libc::SIGSTOP));
    ok!(wait_with(pid, libc::WUNTRACED));
    eq!(state(pid), "T");
    ok!(kill(pid, libc::SIGKILL));
    guest_programs::sync::until(|| state(pid) == "Z");
    check!(get(&cstr(&format!("/proc/{pid}/cmdline"))) == Ok(vec![]));
    wait(pid);
    err!(stat(&cstr(&format!("/proc/{pid}"))), ENOENT);
}

/// The value after `key:` in a file of such lines.
fn value(text: &str, key: &str) -> String {
    match text.lines().find_map(|l| l.strip_prefix(key).and_then(|r| r.trim_start().strip_prefix(':'))) {
        Some(value) => value.trim().to_owned(),
        None => fail!("no {key} in {text:?}"),
    }
}

fn status_of_self() {
    need_proc();
    ok!(call!(SYS_prctl, libc::PR_SET_NAME, c"statusname", 0, 0, 0));
    let status = text(c"/proc/self/status");
    eq!(value(&status, "Name"), "statusname");
    check!(value(&status, "State").starts_with('R'));
    eq!(value(&status, "Pid"), getpid().to_string());
    eq!(value(&status, "Tgid"), getpid().to_string());
    eq!(value(&status, "PPid"), getppid().to_string());
    eq!(value(&status, "Uid").split_whitespace().collect::<Vec<_>>(), ["0"; 4]);
    eq!(value(&status, "Threads"), "1");
    for key in ["VmSize", "VmRSS"] {
        check!(value(&status, key).ends_with(" kB"));
    }
}

fn statm_of_self() {
    need_proc();
    let pages: Vec<i64> = text(c"/proc/self/statm").split_whitespace().map(number).collect();
    check!(pages.len() == 7 && pages[0] >= pages[1] && pages[1] > 0, "{pages:?}");
    let at = mem::anon(200 * mem::PAGE);
    mem::bytes(at, 200 * mem::PAGE).fill(1);
    let more: Vec<i64> = text(c"/proc/self/statm").split_whitespace().map(number).collect();
    check!(more[0] >= pages[0] + 200, "{pages:?} {more:?}");
}

fn maps_of_self() {
    need_proc();
    let at = mem::anon(4 * mem::PAGE);
    ok!(mem::mprotect(at + mem::PAGE, mem::PAGE, libc::PROT_READ | libc::PROT_EXEC));
    let maps = text(c"/proc/self/maps");
    let mut last = 0;
    let mut rights = String::new();
    for line in maps.lines() {
        let Some((range, rest)) = line.split_once(' ') else { fail!("{line:?}") };
        let Some((from, to)) = range.split_once('-') else { fail!("{line:?}") };
        let hex = |t: &str| usize::from_str_radix(t, 16).unwrap_or(0);
        let (from, to) = (hex(from), hex(to));
        check!(from >= last && to > from && from % mem::PAGE == 0 && to % mem::PAGE == 0, "{line}");
        last = to;
        if (from..to).contains(&(at + mem::PAGE)) {
            rights = rest[..4].to_owned();
            eq!((from, to), (at + mem::PAGE, at + 2 * mem::PAGE));
        }
    }
    eq!(rights, "r-xp");
    check!(maps.contains("[stack]"), "{maps}");
}

fn command_line_and_name() {
    need_proc();
    let line = ok!(get(c"/proc/self/cmdline"));
    let args: Vec<&[u8]> = line.split(|b| *b == 0).collect();
    eq!(args.last().map(|l| l.len()), Some(0));
    let own: Vec<Vec<u8>> = std::env::args().map(String::into_bytes).collect();
    eq!(args[..args.len() - 1], own.iter().map(|a| &a[..]).collect::<Vec<_>>()[..]);
    ok!(call!(SYS_prctl, libc::PR_SET_NAME, c"new-name", 0, 0, 0));
    eq!(text(c"/proc/self/comm"), "new-name\n");
}

fn executable_link() {
    need_proc();
    let exe = std::fs::canonicalize(guest_programs::process::self_exe().to_string_lossy().as_ref());
    eq!(link("/proc/self/exe"), ok!(exe.map_err(|e| e.to_string())).to_string_lossy());
    // It can be executed through the link.
    eq!(&ok!(get(c"/proc/self/exe"))[..4], b"\x7fELF");
}

fn descriptor_links() {
    need_proc();
    let here = guest_programs::fs::scratch().to_string_lossy().into_owned();
    guest_programs::fs::put(c"f", b"through proc", 0o644);
    let fd = ok!(open(c"f", libc::O_RDONLY, 0));
    eq!(link(&format!("/proc/self/fd/{fd}")), format!("{here}/f"));
    eq!(get(&cstr(&format!("/proc/self/fd/{fd}"))), Ok(b"through proc".to_vec()));
    ok!(call!(SYS_unlink, c"f"));
    eq!(link(&format!("/proc/self/fd/{fd}")), format!("{here}/f (deleted)"));
    let (out, _inn) = ok!(guest_programs::sys::pipe(0));
    check!(link(&format!("/proc/self/fd/{out}")).starts_with("pipe:["));
    let listed = names(c"/proc/self/fd");
    check!([0, 1, 2, fd, out].iter().all(|fd| listed.contains(&fd.to_string())), "{listed:?}");
    err!(lstat(c"/proc/self/fd/999"), ENOENT);
}

fn directory_and_root_links() {
    need_proc();
    let here = guest_programs::fs::scratch();
    eq!(link("/proc/self/cwd"), here.to_string_lossy());
    eq!(link("/proc/self/root"), "/");
    check!(stat(c"/proc/self/cwd/..").is_ok());
}

fn processes_are_listed() {
    need_proc();
    let gate = Gate::new();
    let pids: Vec<i32> = (0..10).map(|_| child(|| gate.pass())).collect();
    let listed = names(c"/proc");
    check!(pids.iter().chain([&getpid(), &1]).all(|pid| listed.contains(&pid.to_string())), "{listed:?}");
    pids.iter().for_each(|_| gate.open());
    pids.into_iter().for_each(|pid| eq!(wait(pid), End::Exit(0)));
}

fn gone_processes_are_gone() {
    need_proc();
    let gate = Gate::new();
    let pid = child(|| gate.pass());
    let directory = ok!(open(&cstr(&format!("/proc/{pid}")), libc::O_RDONLY | libc::O_DIRECTORY, 0));
    let file = ok!(call!(SYS_openat, directory, c"stat", libc::O_RDONLY, 0)) as i32;
    gate.open();
    eq!(wait(pid), End::Exit(0));
    err!(guest_programs::sys::read(file, &mut [0; 10]), ESRCH);
    err!(call!(SYS_openat, directory, c"stat", libc::O_RDONLY, 0), ENOENT | ESRCH);
    check!(!names(c"/proc").contains(&pid.to_string()));
}

fn threads_are_listed() {
    need_proc();
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let (told, tell) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        check!(told.send(guest_programs::sys::gettid()).is_ok());
        let _ = receive.recv();
    });
    let tid = ok!(tell.recv());
    let mut listed: Vec<i32> = names(c"/proc/self/task").iter().map(|n| number(n) as i32).collect();
    listed.sort_unstable();
    let mut expected = [getpid(), tid];
    expected.sort_unstable();
    eq!(listed, expected);
    eq!(value(&text(c"/proc/self/status"), "Threads"), "2");
    drop(send);
    check!(thread.join().is_ok());
}

fn memory_information() {
    need_proc();
    let info = text(c"/proc/meminfo");
    let kib = |key: &str| number(value(&info, key).trim_end_matches(" kB"));
    let (total, free, available) = (kib("MemTotal"), kib("MemFree"), kib("MemAvailable"));
    check!(total > 4096 && free > 0 && free < total && available <= total, "{total} {free} {available}");
    for key in ["Buffers", "Cached", "SwapTotal", "SwapFree", "Shmem", "SReclaimable"] {
        check!(kib(key) >= 0);
    }
    let mut si: libc::sysinfo = guest_programs::sys::zeroed();
    ok!(call!(SYS_sysinfo, &mut si));
    eq!(si.totalram as i64 * i64::from(si.mem_unit) / 1024, total);
}

fn uptime_and_load() {
    need_proc();
    let uptime = text(c"/proc/uptime");
    let seconds: Vec<f64> = uptime.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    let boot = ok!(guest_programs::time::clock(libc::CLOCK_BOOTTIME)) as f64 / 1e9;
    check!(seconds.len() == 2 && (boot - seconds[0]).abs() < 5.0, "{uptime} {boot}");
    let load = text(c"/proc/loadavg");
    let fields: Vec<&str> = load.split_whitespace().collect();
    check!(
        fields.len() == 5 && fields[..3].iter().all(|f| f.parse::<f64>().is_ok()) && fields[3].contains('/'),
        "{load}"
    );
}

fn cpu_statistics() {
    need_proc();
    let all = text(c"/proc/stat");
    let row = |name: &str| -> Vec<i64> {
        match all.lines().find(|l| l.split_whitespace().next() == Some(name)) {
            Some(line) => line.split_whitespace().skip(1).map(number).collect(),
            None => fail!("no {name} in {all:?}"),
        }
    };
    check!(row("cpu").len() >= 8 && row("cpu0").len() >= 8);
    for key in ["ctxt", "btime", "processes", "procs_running"] {
        check!(row(key)[0] > 0, "{key}");
    }
    // Work is counted.
    let user = row("cpu")[0] + row("cpu")[2];
    let start = ok!(guest_programs::time::clock(libc::CLOCK_PROCESS_CPUTIME_ID));
    while ok!(guest_programs::time::clock(libc::CLOCK_PROCESS_CPUTIME_ID)) - start
        < 150 * guest_programs::time::MILLI
    {}
    let again = text(c"/proc/stat");
    let first: Vec<i64> =
        again.lines().next().unwrap_or_default().split_whitespace().skip(1).map(number).collect();
    check!(first[0] + first[2] >= user + 5, "{first:?} {user}");
}

fn cpu_information() {
    need_proc();
    let info = text(c"/proc/cpuinfo");
    let processors = info.lines().filter(|l| l.starts_with("processor")).count();
    check!(processors >= std::thread::available_parallelism().map_or(1, |n| n.get()));
    check!(value(&info, "flags").split_whitespace().any(|f| f == "sse2"));
    for key in ["vendor_id", "model name", "cpu MHz"] {
        check!(!value(&info, key).is_empty());
    }
}

fn mounts_are_listed() {
    need_proc();
    let here = guest_programs::fs::scratch().to_string_lossy().into_owned();
    ok!(call!(SYS_mkdir, c"m", 0o755));
    ok!(call!(SYS_mount, c"some-source", c"m", c"tmpfs", libc::MS_NOSUID, 0));
    for path in [c"/proc/mounts", c"/proc/self/mounts"] {
        let mounts = text(path);
        check!(mounts.lines().all(|l| l.split(' ').count() == 6), "{mounts}");
        let Some(line) = mounts.lines().find(|l| l.contains(&format!(" {here}/m "))) else {
            fail!("{mounts}")
        };
        check!(
            line.starts_with("some-source ") && line.contains(" tmpfs ") && line.contains("nosuid"),
            "{line}"
        );
        check!(mounts.lines().any(|l| l.split(' ').nth(2) == Some("proc")), "{mounts}");
    }
    ok!(call!(SYS_umount2, c"m", 0));
    check!(!text(c"/proc/mounts").contains(&format!("{here}/m ")));
}

fn version_and_filesystems() {
    need_proc();
    check!(text(c"/proc/version").starts_with("Linux version ") && text(c"/proc/version").ends_with('\n'));
    let kinds = text(c"/proc/filesystems");
    for kind in ["tmpfs", "proc"] {
        check!(kinds.lines().any(|l| l == format!("nodev\t{kind}")), "{kinds}");
    }
}

fn files_can_be_read_in_pieces() {
    need_proc();
    let fd = ok!(open(c"/proc/version", libc::O_RDONLY, 0));
    let mut all = vec![];
    let mut three = [0; 3];
    loop {
        match ok!(guest_programs::sys::read(fd, &mut three)) {
            0 => break,
            n => all.extend_from_slice(&three[..n]),
        }
    }
    eq!(all, ok!(get(c"/proc/version")));
    ok!(guest_programs::sys::lseek(fd, 0, libc::SEEK_SET));
    eq!(ok!(guest_programs::sys::read_all(fd)), all);
    eq!(call!(SYS_pread64, fd, three.as_mut_ptr(), 3, 6), Ok(3));
    eq!(&three, b"ver");
}

fn nothing_can_be_made_there() {
    need_proc();
    err!(open(c"/proc/new", libc::O_WRONLY | libc::O_CREAT, 0o644), ENOENT | EACCES | EPERM);
    err!(call!(SYS_mkdir, c"/proc/new", 0o755), ENOENT | EACCES | EPERM);
    err!(call!(SYS_unlink, c"/proc/version"), EPERM | EACCES);
    err!(stat(c"/proc/999999999"), ENOENT);
    err!(stat(c"/proc/no-such"), ENOENT);
}

fn environment_and_limits() {
    need_proc();
    let env = ok!(get(c"/proc/self/environ"));
    eq!(env.iter().filter(|b| **b == 0).count(), std::env::vars_os().count());
    check!(text(c"/proc/self/limits").lines().any(|l| l.starts_with("Max open files")));
    let pid = child_status(|| 0);
    finish(pid);
}
