//! The boot chart: what each phase of a boot took.

use std::fmt::Write;
use std::time::Duration;

use crate::status::Phase;

/// A table of the phases: name, what it took, and when it was done.
pub fn render(phases: &[Phase]) -> String {
    let width =
        phases.iter().map(|phase| phase.name.chars().count()).chain(["phase".len()]).max().unwrap_or(0);
    let mut table = format!("{:width$}  {:>12}  {:>12}\n", "phase", "took", "done at");
    let mut last = Duration::ZERO;
    for phase in phases {
        // The clock never goes back; if a guest's does, its chart shows zero and the times beside it.
        let took = phase.at.saturating_sub(last);
        last = phase.at;
        let _ = writeln!(table, "{:width$}  {:>12}  {:>12}", phase.name, micros(took), micros(phase.at));
    }
    table
}

fn micros(time: Duration) -> String {
    let nanoseconds = time.as_nanos();
    format!("{}.{:03} µs", nanoseconds / 1000, nanoseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_each_phase_took_and_when_it_was_done() {
        let phase = |at, name: &str| Phase { at: Duration::from_nanos(at), name: name.into() };
        let table = render(&[phase(1_500, "entry"), phase(2_000_250, "first process")]);
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["phase", "took", "done", "at"]);
        assert_eq!(lines[1], ["entry", "1.500", "µs", "1.500", "µs"]);
        assert_eq!(lines[2], ["first", "process", "1998.750", "µs", "2000.250", "µs"]);
    }
}
