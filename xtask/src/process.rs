//! Processes that must not outlive this one, and ending those that would.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getpid, getppid};

/// Has the command's process asked to end when the thread that starts it is gone. It takes every signal, whatever this
/// thread has blocked.
pub fn tie(command: &mut Command) -> &mut Command {
    let parent = getpid();
    // SAFETY: the closure makes three system calls and allocates nothing, as is required between fork and exec.
    unsafe {
        command.pre_exec(move || {
            SigSet::empty().thread_set_mask()?;
            set_pdeathsig(Signal::SIGTERM)?;
            // The parent may have gone before the line above.
            if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        })
    }
}

/// Ends a process that is not waited for yet, and all below it.
pub fn kill_tree(root: Pid) {
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        // It starts nothing more while what it has started is read.
        let _ = kill(pid, Signal::SIGSTOP);
        waiting.extend(children(pid));
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// What the threads of a process have started.
fn children(pid: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(as_pid).collect::<Vec<_>>()).collect()
}

fn as_pid(text: &str) -> Option<Pid> {
    text.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn nothing_below_a_process_is_left() {
        // Each shell has this test's pipe, which is at its end when the last of them is gone.
        let script = "sh -c 'sh -c \"echo up; exec sleep 1000\" & wait' & wait";
        let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        kill_tree(Pid::from_raw(shell.id().cast_signed()));
        assert_eq!(output.read_to_string(&mut line).unwrap(), 0);
        assert!(!shell.wait().unwrap().success());
    }

    #[test]
    fn what_another_thread_has_started_is_found() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let starter = std::thread::spawn(move || {
            let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
            sender.send(child.id()).unwrap();
            child.wait().unwrap()
        });
        let started = Pid::from_raw(receiver.recv().unwrap().cast_signed());
        assert!(children(getpid()).contains(&started));
        kill_tree(started);
        assert!(!starter.join().unwrap().success());
    }
}
