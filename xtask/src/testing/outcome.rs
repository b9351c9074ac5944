//! Results as they come, and their count at the end.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Prints results and counts them. With a terminal, a bar under them shows what runs.
#[derive(Debug)]
pub struct Results {
    bar: ProgressBar,
    running: Vec<String>,
    passed: usize,
    failed: Vec<String>,
}

impl Results {
    /// Nothing has run yet.
    pub fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self { bar, running: Vec::new(), passed: 0, failed: Vec::new() }
    }

    /// Shows progress from now on, through so many cases.
    pub fn start_bar(&mut self, cases: usize) {
        if !std::io::stderr().is_terminal() || !std::io::stdout().is_terminal() {
            return;
        }
        let style = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {pos}/{len} {wide_msg}");
        self.bar =
            ProgressBar::new(cases as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.enable_steady_tick(Duration::from_secs(1));
    }

    /// A case runs now.
    pub fn begin(&mut self, name: &str) {
        self.running.push(name.to_owned());
        self.bar.set_message(self.running.join("  "));
    }

    /// So many tests passed, told in one line.
    pub fn pass(&mut self, name: &str, count: usize, detail: &dyn Display) {
        self.passed += count;
        self.line(&format!("ok    {name}  {detail}"));
        self.finish(name);
    }

    /// A test failed: its line, and what helps to find out why.
    pub fn fail(&mut self, name: &str, why: &dyn Display, detail: &str) {
        self.failed.push(name.to_owned());
        let mut text = format!("FAIL  {name}: {why}");
        for line in detail.lines() {
            text.push_str("\n      | ");
            text.push_str(line);
        }
        self.line(&text);
        self.finish(name);
    }

    /// So many tests that passed beside one that failed.
    pub fn count(&mut self, passed: usize) {
        self.passed += passed;
    }

    /// Says something between the results.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// Prints the count; true when something ran and all of it passed.
    pub fn end(self) -> bool {
        self.bar.finish_and_clear();
        if !self.failed.is_empty() {
            println!("failed:");
            for name in &self.failed {
                println!("  {name}");
            }
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        self.failed.is_empty() && self.passed > 0
    }

    fn finish(&mut self, name: &str) {
        if let Some(at) = self.running.iter().position(|running| running == name) {
            self.running.remove(at);
            self.bar.inc(1);
            self.bar.set_message(self.running.join("  "));
        }
    }
}

/// A duration for people.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
