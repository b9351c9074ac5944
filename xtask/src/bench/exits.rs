//! What an operation costs below an lguest guest: hypercalls by number, shadow faults, the guest's own page faults, and
//! instructions, with the ring and without it; and instructions on native, where there is nothing below.
//!
//! The hypervisor counts from the guest's first instruction to its last. So each operation is run in two guests, in one of them
//! more often, and the difference is what those more operations cost: the boot, and what prepares an operation, is in both.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::results::Costs;
use crate::race::course::{Clock, Contender, Course, Running};
use crate::race::operations::{self, BENCH};

/// Operations, and how often each is done in the two guests.
pub const OPERATIONS: &[(&str, [u32; 2])] = &[
    ("syscall_getppid", [1000, 3000]),
    ("switch_pipe_one_cpu", [500, 1500]),
    ("page_fault_anonymous", [512, 1536]),
    ("page_fault_cow", [512, 1536]),
    ("page_fault_file", [512, 1536]),
    ("mmap_touch_munmap", [100, 300]),
    ("mprotect", [100, 300]),
    ("fork_exit_wait", [10, 30]),
    ("fork_exec_wait", [10, 30]),
];

/// The kernel parameter with which no call waits in the ring.
pub const RING_OFF: &str = "lguest.ring=off";

/// Counts by their names, as the hypervisor prints them.
pub type Counters = BTreeMap<String, u64>;

/// The counters of guest `number` among what the hypervisor prints at the end.
pub fn counters(console: &str, number: usize) -> Result<Counters> {
    let heading = format!("guest {number} counters");
    let lines = console.lines().map(|line| line.trim_end_matches('\r'));
    let mut lines = lines.skip_while(|line| !line.ends_with(&heading)).skip(1);
    let counters: Counters = lines
        .by_ref()
        .map_while(|line| line.rsplit_once(' '))
        .map_while(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect();
    if counters.is_empty() {
        bail!("the hypervisor printed no counters of guest {number}");
    }
    Ok(counters)
}

/// Costs of an operation on native.
pub fn native(course: &Course, kernel: &Contender, initrd: &Path, operation: &str) -> Result<Costs> {
    let (_, [_, times]) = named(operation)?;
    let (instructions, _) = once(course, kernel, initrd, operation, times)?;
    Ok([row(operation, "instructions", instructions)].into())
}

/// Costs of an operation below the hypervisor.
pub fn lguest(course: &Course, kernel: &Contender, initrd: &Path, operation: &str) -> Result<Costs> {
    let (_, [few, many]) = named(operation)?;
    let (_, before) = once(course, kernel, initrd, operation, few)?;
    let (instructions, after) = once(course, kernel, initrd, operation, many)?;
    let mut costs: Costs = per_operation(&counters(&before, 0)?, &counters(&after, 0)?, many - few)
        .into_iter()
        .map(|(name, count)| row(operation, &name, count))
        .collect();
    costs.extend([row(operation, "instructions", instructions)]);
    Ok(costs)
}

fn named(operation: &str) -> Result<(&'static str, [u32; 2])> {
    let found = OPERATIONS.iter().find(|(name, _)| *name == operation);
    found.copied().with_context(|| format!("{operation} is not among the operations"))
}

fn row(operation: &str, what: &str, value: f64) -> (String, f64) {
    (format!("{operation}: {what}"), (value * 100.0).round() / 100.0)
}

/// Runs an operation so often; gives the instructions of one, and the console.
fn once(
    course: &Course,
    kernel: &Contender,
    initrd: &Path,
    operation: &str,
    times: u32,
) -> Result<(f64, String)> {
    let init = format!("{BENCH} --times {times} {operation}");
    let launch = course.launch(kernel, initrd, &init, 1, Clock::Instructions);
    let console = Running::start(&launch, course)?.wait_for_end()?;
    let (costs, failed) = operations::parse(&console);
    if let Some(failed) = failed.first() {
        bail!("{failed}");
    }
    let cost = costs.get(operation).with_context(|| format!("{operation} was not measured:\n{console}"))?;
    Ok((*cost, console))
}

/// What each of `operations` operations cost, if `before` has what everything else did.
fn per_operation(before: &Counters, after: &Counters, operations: u32) -> BTreeMap<String, f64> {
    let names = before.keys().chain(after.keys());
    let each = |name: &String| {
        let count = |counters: &Counters| counters.get(name).copied().unwrap_or(0) as f64;
        (count(after) - count(before)) / f64::from(operations)
    };
    let mut costs = BTreeMap::new();
    let (mut direct, mut queued) = (0.0, 0.0);
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let cost = each(name);
        if let Some(call) = name.strip_prefix("hypercall ") {
            let name = match call.strip_suffix(" ring") {
                Some(call) => {
                    queued += cost;
                    format!("in the ring, {call}")
                }
                None => {
                    direct += cost;
                    format!("hypercalls, {call}")
                }
            };
            // What has happened by chance, or as the boot's end moved, is no part of an operation.
            if cost.abs() >= LEAST {
                costs.insert(name, cost);
            }
        } else if let Some((_, name)) = FAULTS.iter().find(|(counter, _)| counter == name) {
            costs.insert((*name).to_owned(), cost);
        }
    }
    costs.extend([("hypercalls".to_owned(), direct), ("in the ring".to_owned(), queued)]);
    costs
}

/// Calls by number that come less often than once in so many operations are left out.
const LEAST: f64 = 0.005;

/// Counters and what they are called here.
const FAULTS: [(&str, &str); 3] = [
    ("shadow_fills", "shadow faults"),
    ("fills_ahead", "shadows filled ahead"),
    ("page_faults", "guest page faults"),
];

/// Gives each of the two the rows of both.
pub fn align(one: &mut Costs, other: &mut Costs) {
    for name in one.keys().chain(other.keys()).cloned().collect::<Vec<_>>() {
        one.entry(name.clone()).or_insert(0.0);
        other.entry(name).or_insert(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "done\nlguest-host: guest 0 counters\r\nhypercall IRET 40\r\nhypercall SET_RANGE ring 9\r\n\
                       hypercalls 49\r\nshadow_fills 3\r\nlguest-host: guest 1 counters\r\nhypercall IRET 7\r\n";

    #[test]
    fn counters_are_those_of_the_guest() {
        let first = counters(END, 0).unwrap();
        assert_eq!(first["hypercall IRET"], 40);
        assert_eq!(first["shadow_fills"], 3);
        assert_eq!(counters(END, 1).unwrap(), Counters::from([("hypercall IRET".to_owned(), 7)]));
        assert!(counters(END, 2).unwrap_err().to_string().contains("no counters of guest 2"));
    }

    #[test]
    fn an_operation_costs_what_more_of_them_cost_more() {
        let counts =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect::<Counters>();
        let before = counts(&[("hypercall IRET", 30), ("hypercall CPUID", 3), ("shadow_fills", 12)]);
        let after = counts(&[
            ("hypercall IRET", 70),
            ("hypercall CPUID", 3),
            ("hypercall SET_RANGE ring", 20),
            ("shadow_fills", 15),
            ("page_faults", 0),
        ]);
        let costs = per_operation(&before, &after, 20);
        let of = |name: &str| costs.get(name).copied();
        assert_eq!(
            (of("hypercalls"), of("hypercalls, IRET"), of("hypercalls, CPUID")),
            (Some(2.0), Some(2.0), None)
        );
        assert_eq!((of("in the ring"), of("in the ring, SET_RANGE")), (Some(1.0), Some(1.0)));
        assert_eq!((of("shadow faults"), of("guest page faults")), (Some(0.15), Some(0.0)));
    }

    #[test]
    fn both_modes_have_the_same_rows() {
        let (mut one, mut other) = (Costs::from([("a".into(), 1.0)]), Costs::from([("b".into(), 2.0)]));
        align(&mut one, &mut other);
        assert_eq!(one, Costs::from([("a".into(), 1.0), ("b".into(), 0.0)]));
        assert_eq!(other, Costs::from([("a".into(), 0.0), ("b".into(), 2.0)]));
    }
}
