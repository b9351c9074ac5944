//! What operations cost: the guest program `bench` as process 1.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Error, Result};

use crate::race::course::{Clock, Contender, Course, Running, median};

/// Where the program is in the initramfs.
pub const BENCH: &str = "/bench";
/// What it prints when it has run everything.
const DONE: &str = "bench: done";

/// Nanoseconds an operation takes, by its name. Under a clock that counts instructions these are instructions.
pub type Costs = BTreeMap<String, f64>;

/// What one run gave: the costs of what was measured, and what went wrong, if anything did.
#[derive(Debug)]
pub struct Run {
    /// What was measured
    pub costs: Costs,
    /// Why some operations are missing
    pub failures: Vec<Error>,
}

/// Runs `bench` once; `words` choose among its operations.
pub fn run(
    course: &Course,
    contender: &Contender,
    initrd: &Path,
    (smp, clock): (u16, Clock),
    words: &[String],
) -> Result<Run> {
    let mut init = vec![BENCH];
    if clock == Clock::Instructions {
        init.push("--fixed");
    }
    init.extend(words.iter().map(String::as_str));
    let launch = course.launch(contender, initrd, &init.join(" "), smp, clock);
    let mut guest = Running::start(&launch, course)?;
    let done = guest.wait_for(DONE);
    let (costs, failed) = parse(&guest.console());
    guest.stop()?;
    let failures = failed.into_iter().map(Error::msg).chain(done.err()).collect();
    Ok(Run { costs, failures })
}

/// `NAME NANOSECONDS` lines, and `FAIL` lines.
pub fn parse(console: &str) -> (Costs, Vec<String>) {
    let cost = |line: &str| {
        let (name, value) = line.trim().split_once(' ')?;
        let plain =
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        let value = value.parse::<f64>().ok().filter(|value| value.is_finite() && plain)?;
        Some((name.to_owned(), value))
    };
    let failed = console.lines().filter(|line| line.trim_start().starts_with("FAIL "));
    (console.lines().filter_map(cost).collect(), failed.map(|line| line.trim().to_owned()).collect())
}

/// Each operation's median over several runs.
pub fn medians(runs: &[Costs]) -> Costs {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, cost) in runs.iter().flatten() {
        values.entry(name).or_default().push(*cost);
    }
    values.into_iter().filter_map(|(name, mut costs)| Some((name.to_owned(), median(&mut costs)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_between_other_lines() {
        let (costs, failed) = parse(
            "[    1.0] kernel 12\nopen_close 1234.5\r\nFAIL stat: Exit(1)\npipe_64k 7\nA 5\nwhat ever\n",
        );
        assert_eq!(costs, Costs::from([("open_close".to_owned(), 1234.5), ("pipe_64k".to_owned(), 7.0)]));
        assert_eq!(failed, ["FAIL stat: Exit(1)"]);
    }

    #[test]
    fn an_operation_missing_from_a_run_has_the_others_median() {
        let run = |costs: &[(&str, f64)]| costs.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect::<Costs>();
        let all = medians(&[run(&[("a", 1.0), ("b", 2.0)]), run(&[("a", 3.0)]), run(&[("a", 2.0)])]);
        assert_eq!(all, run(&[("a", 2.0), ("b", 2.0)]));
    }
}
