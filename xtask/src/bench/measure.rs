//! Measuring one variant: under a clock that counts instructions, so that two runs give the same.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::results::Costs;
use crate::race::course::{Clock, Contender, Course, Running};
use crate::race::operations;
use crate::status::Status;

/// What the conformance kernel prints when it has measured every hook.
const HOOKS_DONE: &str = "costs: done";

/// What each hook costs; `conformance` is the small kernel that calls them.
pub fn hooks(course: &Course, conformance: &Contender) -> Result<Costs> {
    let mut launch = course.launch(conformance, Path::new(""), "costs", 1, Clock::Instructions);
    launch.initrd = None;
    launch.append = "console=ttyS0 costs".to_owned();
    let mut guest = Running::start(&launch, course)?;
    let done = guest.wait_for(HOOKS_DONE);
    let console = guest.console();
    guest.stop()?;
    done?;
    let costs = parse_hooks(&console);
    if costs.is_empty() {
        bail!("the conformance kernel measured no hook; its console has\n{console}");
    }
    Ok(costs)
}

/// `PART::HOOK COST` lines.
fn parse_hooks(console: &str) -> Costs {
    console
        .lines()
        .filter_map(|line| line.trim().rsplit_once(' '))
        .filter(|(name, _)| name.contains("::") && !name.contains(' '))
        .filter_map(|(name, cost)| Some((name.to_owned(), tenths(cost.parse().ok()?))))
        .collect()
}

/// What each operation costs; `words` choose among them.
pub fn operations(course: &Course, kernel: &Contender, initrd: &Path, words: &[String]) -> Result<Costs> {
    let run = operations::run(course, kernel, initrd, (1, Clock::Instructions), words)?;
    if let Some(failure) = run.failures.into_iter().next() {
        return Err(failure);
    }
    if run.costs.is_empty() {
        bail!("no operation was measured: --only names none");
    }
    Ok(run.costs.into_iter().map(|(name, cost)| (name, tenths(cost))).collect())
}

/// What each phase of the boot costs.
pub fn boot(course: &Course, kernel: &Contender, initrd: &Path) -> Result<Costs> {
    let launch = course.launch(kernel, initrd, "/bin/true", 1, Clock::Instructions);
    let guest = Running::start(&launch, course)?;
    guest.wait_for_end()?;
    let bytes =
        std::fs::read(&launch.status).with_context(|| format!("cannot read {}", launch.status.display()))?;
    let status = Status::parse(&bytes)?;
    if status.phases.is_empty() {
        bail!("the kernel told no phase of its boot");
    }
    let mut last = std::time::Duration::ZERO;
    let mut costs = Costs::new();
    for (index, phase) in (1..).zip(&status.phases) {
        // By the order of the phases, whatever their names.
        let name = format!("{index:02} {}", phase.name);
        costs.insert(name, phase.at.saturating_sub(last).as_nanos() as f64);
        last = phase.at;
    }
    costs.insert("all".to_owned(), last.as_nanos() as f64);
    Ok(costs)
}

/// Rounded to tenths: what is finer is the measurement's own.
fn tenths(cost: f64) -> f64 {
    (cost * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_read_between_other_lines() {
        let costs = parse_hooks(
            "conformance on native\r\n1 CPUs, QEMU TCG\ncpu::irq_disable 1.002\r\npaging::map+unmap,64 2253.96\n\
             note: a::b 3\ncpu::x y\ncosts: done\n",
        );
        let expected = [("cpu::irq_disable".to_owned(), 1.0), ("paging::map+unmap,64".to_owned(), 2254.0)];
        assert_eq!(costs, Costs::from(expected));
    }
}
