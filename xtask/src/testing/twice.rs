//! Whether a measurement in instructions gives the same figures again, whatever else this machine does.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::bench::measure;
use crate::bench::results::Costs;
use crate::qemu::Hardware;
use crate::race::course::{Contender, Course};
use crate::testing::check::Check;
use crate::testing::runner::Bench;

/// How long a measurement may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Counts what each hook costs two times, as `cargo xtask bench hooks` does.
///
/// # Errors
/// A count is not the same: the message names it.
pub fn the_same_figures_are_measured(bench: &Bench, check: &Check, directory: &Path) -> Result<String> {
    let usual = Hardware::default();
    let course = Course {
        qemu: bench.qemu.clone(),
        scratch: directory.to_owned(),
        machine: usual.machine,
        cpu: usual.cpu,
        memory: 128,
        limit: LIMIT,
        hypervisor: None,
    };
    let image = check.item.path(&bench.workspace);
    let kernel = Contender { name: check.item.to_string(), image, append: String::new(), rom: None };
    let first = measure::hooks(&course, &kernel)?;
    let second = measure::hooks(&course, &kernel)?;
    match difference(&first, &second) {
        Some(text) => bail!("two runs do not count the same: {text}"),
        None => Ok(format!("{} counts, the same", first.len())),
    }
}

/// The first count that differs, and both.
fn difference(first: &Costs, second: &Costs) -> Option<String> {
    let names = first.keys().chain(second.keys().filter(|name| !first.contains_key(*name)));
    let figure = |costs: &Costs, name| costs.get(name).map_or("none".to_owned(), ToString::to_string);
    let mut pairs = names.map(|name| (name, figure(first, name), figure(second, name)));
    let (name, first, second) = pairs.find(|(_, first, second)| first != second)?;
    Some(format!("{name} is {first}, then {second}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_different_count_is_named() {
        let costs =
            |pairs: &[(&str, f64)]| pairs.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect();
        let first: Costs = costs(&[("cpu::a", 1.0), ("cpu::b", 2.0)]);
        assert_eq!(difference(&first, &first.clone()), None);
        let second = costs(&[("cpu::a", 1.0), ("cpu::b", 2.1)]);
        assert_eq!(difference(&first, &second).unwrap(), "cpu::b is 2, then 2.1");
        assert_eq!(difference(&costs(&[("cpu::a", 1.0)]), &first).unwrap(), "cpu::b is none, then 2");
    }
}
