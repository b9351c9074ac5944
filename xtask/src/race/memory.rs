//! How much memory a kernel needs: the least with which busybox's shell runs a command, and what is left of more.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::race::course::{Clock, Contender, Course, Running};

/// The most memory tried, MiB.
const MOST: u32 = 512;
/// The least memory tried, MiB.
const LEAST: u32 = 1;

/// How many times longer than with plenty of memory a guest may take until it counts as having too little.
const PATIENCE: u32 = 5;
/// A limit below this would say more about this machine than about the guest.
const SHORTEST_LIMIT: Duration = Duration::from_secs(10);

/// What is typed at the prompt: its echo is not its answer.
const COMMAND: &str = "true && echo pro''mpt-works\n";
const ANSWER: &str = "prompt-works";

/// The least memory, in MiB, with which process 1 is a busybox shell that answers on the console.
pub fn least(course: &Course, contender: &Contender, initrd: &Path) -> Result<u32> {
    let started = Instant::now();
    prompt(course, contender, initrd, MOST).with_context(|| format!("not even {MOST} MiB are enough"))?;
    // A guest with too little memory may hang, or be busy for ever with looking for some.
    let limit = (started.elapsed() * PATIENCE).clamp(SHORTEST_LIMIT, course.limit.max(SHORTEST_LIMIT));
    let course = Course { limit, ..course.clone() };
    Ok(first_that(LEAST, MOST, |mib| prompt(&course, contender, initrd, mib).is_ok()))
}

/// The first number that passes; all above a number that passes do too, and `enough` passes.
fn first_that(least: u32, enough: u32, mut passes: impl FnMut(u32) -> bool) -> u32 {
    let (mut low, mut high) = (least, enough);
    while low < high {
        let middle = low + (high - low) / 2;
        if passes(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    high
}

fn prompt(course: &Course, contender: &Contender, initrd: &Path, mib: u32) -> Result<()> {
    let mut launch = course.launch(contender, initrd, "/bin/sh", 1, Clock::Real);
    launch.hardware.memory = mib;
    let mut guest = Running::start(&launch, course)?;
    guest.wait_for("# ")?;
    guest.type_in(COMMAND)?;
    guest.wait_for(ANSWER)?;
    guest.stop()
}

/// What `/proc/meminfo` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// All the memory the kernel manages, KiB
    pub total: u64,
    /// What nothing uses, KiB
    pub free: u64,
}

/// Memory left with the course's own amount once the shell runs.
pub fn free(course: &Course, contender: &Contender, initrd: &Path) -> Result<Free> {
    let mut guest = Running::start(&course.launch(contender, initrd, "/bin/sh", 1, Clock::Real), course)?;
    guest.wait_for("# ")?;
    guest.type_in("mount -t proc proc /proc; cat /proc/meminfo; echo e''nd\n")?;
    guest.wait_for("end\r\n")?;
    let console = guest.console();
    guest.stop()?;
    let value = |name| field(&console, name).with_context(|| format!("/proc/meminfo has no {name}"));
    let found = Free { total: value("MemTotal")?, free: value("MemFree")? };
    if found.free > found.total {
        bail!("/proc/meminfo says that {} of {} KiB are free", found.free, found.total);
    }
    Ok(found)
}

fn field(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_passes_is_found() {
        for limit in 1..=64 {
            let mut tried = 0;
            let found = first_that(1, 64, |mib| {
                tried += 1;
                mib >= limit
            });
            assert_eq!(found, limit);
            assert!(tried <= 6, "{tried} tries");
        }
    }

    #[test]
    fn meminfo() {
        let text = "/ # cat /proc/meminfo\nMemTotal:         120540 kB\nMemFree:           9000 kB\n";
        assert_eq!(field(text, "MemTotal"), Some(120_540));
        assert_eq!(field(text, "MemFree"), Some(9000));
        assert_eq!(field(text, "Mem"), None);
    }
}
