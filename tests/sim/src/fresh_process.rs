//! One process a run.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Names the test that a process was started for.
const VARIABLE: &str = "SIM_FRESH_PROCESS";
/// How long one may take by the wall clock.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs `body` in a process of its own: the test binary is started again for just the test `name` (its full path as the
/// test runner prints it), and there, `body` runs. Everything that a test does with a [`crate::Machine`] goes in `body`.
///
/// # Panics
/// In the test's own process if the new one fails or takes longer than a minute, with its output; in the new process
/// when `body` does.
#[track_caller]
pub fn in_fresh_process(name: &str, body: impl FnOnce()) {
    in_fresh_process_within(LIMIT, name, body);
}

/// As [`in_fresh_process`], with another limit by the wall clock.
///
/// # Panics
/// As there.
#[track_caller]
pub fn in_fresh_process_within(limit: Duration, name: &str, body: impl FnOnce()) {
    let done = format!("sim: {name} has run");
    if std::env::var(VARIABLE).as_deref() == Ok(name) {
        let result = catch_unwind(AssertUnwindSafe(body));
        println!("\n{done}");
        // CPUs may still run, or hold locks that the ordinary end of a process wants.
        let _ = std::io::stdout().flush();
        // SAFETY: ends the process at once; nothing of it is needed any more.
        unsafe { libc::_exit(if result.is_ok() { 0 } else { 101 }) }
    }
    let program = std::env::current_exe().expect("a running program has a path");
    let mut child = Command::new(program)
        .args(["--exact", name, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(VARIABLE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: cannot start a process of its own: {error}"));

    let mut stdout = child.stdout.take().expect("standard output was asked for");
    let mut stderr = child.stderr.take().expect("standard error was asked for");
    let pid = child.id() as libc::pid_t;
    let (sender, ended) = mpsc::channel();
    let errors = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = stderr.read_to_end(&mut bytes);
        result.map(|_| bytes)
    });
    let output = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = stdout.read_to_end(&mut bytes);
        // The output ends when the process does: nothing else holds it.
        let _ = sender.send(());
        result.map(|_| bytes)
    });
    let in_time = ended.recv_timeout(limit).is_ok();
    if !in_time {
        // SAFETY: sends a signal to our own child, which has not been waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    let status = child.wait();
    let text = |reader: std::thread::JoinHandle<std::io::Result<Vec<u8>>>| match reader.join() {
        Ok(Ok(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        _ => "(not readable)".to_owned(),
    };
    let (output, errors) = (text(output), text(errors));
    let what = match status {
        _ if !in_time => format!("took longer than {limit:?} and was killed"),
        Ok(status) if !status.success() => format!("failed ({status})"),
        Ok(_) if !output.contains(&done) => "did not run: that is not the test's full name".to_owned(),
        Ok(_) => return,
        Err(error) => format!("was lost: {error}"),
    };
    panic!("{name}, in a process of its own, {what}\n--- its output\n{output}\n--- its errors\n{errors}");
}
