//! The build machine's own tests: `cargo test`, with each test binary's result told in one line.

use std::io::{BufRead, BufReader, pipe};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::process::kill_tree;
use crate::testing::outcome::Results;
use crate::workspace::Workspace;

/// The group these results are in.
pub const GROUP: &str = "host";
/// More than this and a test hangs.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Builds the tests; whether that could be done.
pub fn build(workspace: &Workspace, results: &mut Results) -> Result<bool> {
    let mut cargo = cargo(workspace, &["--no-run"]);
    let built = cargo.stdout(std::io::stderr()).status().context("cannot run cargo test")?.success();
    if !built {
        results.fail(&format!("{GROUP}/build"), &"the tests do not compile: see cargo's messages above", "");
    }
    Ok(built)
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut cargo = workspace.cargo("test", &workspace.target);
    // The guest programs have no tests here: they are the tests, in a guest.
    cargo.args(["--workspace", "--exclude", "guest-programs"]).args(arguments).stdin(Stdio::null());
    cargo
}

/// Runs the tests whose names contain `filter`.
pub fn run(workspace: &Workspace, filter: &str, results: &mut Results) -> Result<()> {
    let (output, input) = pipe().context("cannot make a pipe")?;
    let mut command = cargo(workspace, &["--no-fail-fast", "--", filter]);
    command.stdout(input.try_clone().context("cannot share a pipe")?).stderr(input);
    let mut child = command.spawn().context("cannot run cargo test")?;
    // The command holds the pipe's writing end, which would keep it from ending.
    drop(command);

    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + LIMIT;
    let mut sections = Sections::default();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => sections.line(&line, results),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                kill_tree(Pid::from_raw(child.id().cast_signed()));
                let limit = LIMIT.as_secs();
                results.fail(&format!("{GROUP}/{}", sections.name), &format!("hangs (after {limit} s)"), "");
                break;
            }
        }
    }
    let _ = reader.join();
    let status = child.wait().context("cannot wait for cargo test")?;
    sections.end(status.success(), results);
    Ok(())
}

/// One test binary's output after the other.
#[derive(Default)]
struct Sections {
    name: String,
    output: String,
    open: bool,
    failures: usize,
}

impl Sections {
    fn line(&mut self, line: &str, results: &mut Results) {
        if let Some(name) = section_name(line) {
            self.close(results);
            (self.name, self.open) = (name, true);
            self.output.clear();
            results.begin(&format!("{GROUP}/{}", self.name));
            return;
        }
        if let Some(tally) = Tally::parse(line) {
            self.open = false;
            let name = format!("{GROUP}/{}", self.name);
            if tally.failed > 0 {
                self.failures += 1;
                results.count(tally.passed);
                let failed = failed_tests(&self.output);
                for (index, test) in failed.iter().enumerate() {
                    // All tests of a binary share its output: it is shown with the last one.
                    let output = if index + 1 == failed.len() { self.output.as_str() } else { "" };
                    let rerun = format!("rerun: cargo xtask test {GROUP}/{test}\n");
                    results.fail(&format!("{name}/{test}"), &"failed", &(rerun + output));
                }
            } else if tally.passed > 0 {
                results.pass(&name, tally.passed, &tally.detail());
            }
            return;
        }
        self.output.push_str(line);
        self.output.push('\n');
    }

    /// A binary that ended without a result line crashed.
    fn close(&mut self, results: &mut Results) {
        if std::mem::take(&mut self.open) {
            self.failures += 1;
            results.fail(&format!("{GROUP}/{}", self.name), &"ended without a result", &self.output);
        }
    }

    fn end(mut self, success: bool, results: &mut Results) {
        self.close(results);
        if !success && self.failures == 0 {
            results.fail(&format!("{GROUP}/cargo"), &"cargo test failed", &self.output);
        }
    }
}

/// The name in the line cargo prints before a test binary runs.
fn section_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package}-doc"));
    }
    let rest = line.strip_prefix("Running ")?;
    let (what, path) = rest.split_once(" (")?;
    let binary = path.strip_suffix(')')?.rsplit('/').next()?;
    let (binary, _hash) = binary.rsplit_once('-')?;
    Some(match what.strip_prefix("tests/") {
        Some(_) => format!("{binary}-integration"),
        None => binary.to_owned(),
    })
}

/// A `test result:` line.
#[derive(Debug, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Tally {
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            counts.split(';').find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<usize>().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }

    fn detail(&self) -> String {
        match self.ignored {
            0 => format!("{} tests", self.passed),
            ignored => format!("{} tests, {ignored} ignored", self.passed),
        }
    }
}

fn failed_tests(output: &str) -> Vec<&str> {
    output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines() {
        assert_eq!(
            Tally::parse(
                "test result: ok. 15 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.02s"
            ),
            Some(Tally { passed: 15, failed: 0, ignored: 2 })
        );
        assert_eq!(
            Tally::parse(
                "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1s"
            ),
            Some(Tally { passed: 1, failed: 3, ignored: 0 })
        );
        assert_eq!(Tally::parse("test result: who knows"), None);
        assert_eq!(Tally::parse("test a ... ok"), None);
    }

    #[test]
    fn section_lines() {
        let name = |line| section_name(line);
        assert_eq!(
            name("     Running unittests src/lib.rs (target/debug/deps/kernel-0a1b)").unwrap(),
            "kernel"
        );
        assert_eq!(
            name("     Running tests/model.rs (/t/debug/deps/model-0a1b)").unwrap(),
            "model-integration"
        );
        assert_eq!(name("   Doc-tests platform_macros").unwrap(), "platform_macros-doc");
        assert_eq!(name("running 15 tests"), None);
    }

    #[test]
    fn a_section_without_a_result_is_a_failure() {
        let mut results = Results::new();
        let mut sections = Sections::default();
        for line in [
            "   Running unittests src/lib.rs (d/a-1)",
            "running 1 test",
            "   Running unittests src/lib.rs (d/b-1)",
        ] {
            sections.line(line, &mut results);
        }
        sections.line("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured", &mut results);
        sections.end(false, &mut results);
        assert!(!results.end());
    }
}
