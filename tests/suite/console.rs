//! The console: an interactive shell with job control, and a guest that rests when nobody types.

use std::time::Duration;

use crate::testing::case::{Case, case};

/// An interactive shell that owns the console, as `boot` starts it; the prompt is `# `.
fn shell(name: &str) -> Case {
    case(format!("console/{name}")).argv(["setsid", "-c", "/bin/sh", "-i"]).wait_for("# ")
}

/// The same, with a command that has the terminal. What is typed before that would go to the shell's line editor; the
/// word waited for is not in the command as typed.
fn running(name: &str, command: &str) -> Case {
    shell(name).type_in(&format!("sh -c 'echo run\"\"ning; exec {command}'\n")).wait_for("running")
}

/// The cases.
pub fn cases() -> Vec<Case> {
    vec![
        shell("commands")
            .type_in("echo $((6 * 7))\n")
            .wait_for("42")
            .wait_for("# ")
            .type_in("exit 3\n")
            .exits(3)
            .never_prints("job control turned off"),
        running("interrupt", "sleep 1000")
            .type_in("\x03")
            .wait_for("# ")
            .type_in("echo $?; exit 4\n")
            .wait_for("130")
            .exits(4),
        running("stop-and-continue", "cat")
            .type_in("first\n")
            // Once from the terminal, once from cat.
            .wait_for("first")
            .wait_for("first")
            .type_in("\x1a")
            .wait_for("Stopped")
            .wait_for("# ")
            .type_in("jobs\n")
            .wait_for("Stopped")
            .wait_for("# ")
            .type_in("fg\n")
            // fg prints the command once it has the terminal.
            .wait_for("exec cat")
            .type_in("second\n")
            .wait_for("second")
            .wait_for("second")
            .type_in("\x04")
            .wait_for("# ")
            .type_in("exit 5\n")
            .exits(5),
        shell("background")
            .type_in("sleep 1000 &\n")
            .wait_for("# ")
            .type_in("kill %1; wait; echo gone; exit 6\n")
            .wait_for("gone")
            .exits(6),
        shell("line-editing")
            .type_in("echo wrong\x15echo r\x7fright\n")
            .wait_for("\nright")
            .wait_for("# ")
            .type_in("exit 7\n")
            .exits(7),
        shell("end-of-input").type_in("\x04"),
        // Raw bytes, no line discipline between.
        case("console/raw-mode")
            .sh("stty raw -echo; echo ready; head -c 3 | od -An -c; stty sane; echo done")
            .wait_for("ready")
            .type_in("\x03\x1aq")
            .wait_for("003 032   q")
            .prints("done"),
        case("console/no-echo")
            .sh("stty -echo; echo ready; read line; echo got $line")
            .wait_for("ready")
            .type_in("secret\n")
            .wait_for("got secret")
            .never_prints("secret\ngot"),
        case("console/long-output").sh("seq 1 20000; echo end").prints("\n19999\n20000\nend\n"),
        shell("idle-at-the-prompt").idle(Duration::from_secs(4), 0.05).type_in("exit\n"),
        shell("idle-on-four-cpus").cpus(4).idle(Duration::from_secs(4), 0.05).type_in("exit\n"),
        shell("idle-on-microvm")
            .machine("microvm")
            .cpus(2)
            .idle(Duration::from_secs(4), 0.05)
            .type_in("exit\n"),
    ]
}
