//! The runner itself: every outcome of a case is told, none hides another, nothing is left behind.

use std::process::{Command, Output};

fn outcomes(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outcomes")).args(args).output().expect("the program was built by cargo")
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn every_outcome_is_told() {
    let output = outcomes(&[]);
    let lines = lines(&output);
    let expected = [
        "ok passes",
        "FAIL fails_a_check: not so: 1 > 2 [outcomes.rs:",
        "FAIL fails_an_equality: 1 + 1 is 2, expected 3 [outcomes.rs:",
        "FAIL fails_a_call: call!(SYS_close, -1): EBADF [outcomes.rs:",
        "FAIL fails_an_error: call!(SYS_getpid) gave Ok(",
        "FAIL fails_in_child: deep down [outcomes.rs:",
        "FAIL fails_in_thread: in a thread [outcomes.rs:",
        // Unwound by one profile, aborted by another.
        "FAIL panics: e",
        "FAIL crashes: ended with Signal(11)",
        "FAIL exits_early: exited with status 5",
        "FAIL hangs: timed out after 1 s",
        "FAIL hangs_with_everything_blocked: timed out after 1 s",
        "ok leaves_processes_behind",
        "ok passes_after_all_that",
        "3 passed, 11 failed",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line:?} does not start with {expected:?}");
    }
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn cases_are_chosen_by_substring() {
    let output = outcomes(&["passes", "early"]);
    assert_eq!(
        lines(&output),
        [
            "ok passes",
            "FAIL exits_early: exited with status 5",
            "ok passes_after_all_that",
            "2 passed, 1 failed"
        ]
    );
    assert_eq!(output.status.code(), Some(1));
    let output = outcomes(&["passes"]);
    assert_eq!(lines(&output).last().map(String::as_str), Some("2 passed, 0 failed"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn nothing_chosen_is_a_failure() {
    let output = outcomes(&["no-such-case"]);
    assert_eq!((lines(&output), output.status.code()), (vec!["0 passed, 0 failed".into()], Some(1)));
}

#[test]
fn wrong_command_lines_are_told() {
    let output = outcomes(&["--bogus"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(lines(&output)[0].contains("--bogus"));
    assert_eq!(outcomes(&["@no-such-helper"]).status.code(), Some(2));
    assert_eq!(outcomes(&["@helper", "a", "b"]).status.code(), Some(42));
    assert_eq!(lines(&outcomes(&["--list"])).len(), 14);
}
