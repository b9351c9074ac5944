//! What changed between two runs.

use std::fmt::Write;

use super::render::figure;
use super::results::{Results, Section};

/// Differences below this share of the older figure are left out, and so are those below half an instruction: where the
/// linker puts code changes that much.
const LEAST_SHARE: f64 = 0.005;

/// Lines about everything that differs; one line if nothing does.
pub fn text(before: &Results, after: &Results) -> String {
    let mut text = String::new();
    if before.machine != after.machine {
        let _ = writeln!(text, "not on the same machine: {} before, {} now", before.machine, after.machine);
    }
    let mut compared = 0;
    for variant in &after.variants {
        let of_before = before
            .variants
            .iter()
            .find(|other| (&other.backend, &other.dispatch) == (&variant.backend, &variant.dispatch));
        let Some(of_before) = of_before else {
            let _ = writeln!(text, "{}-{}: not measured before", variant.backend, variant.dispatch);
            continue;
        };
        for (section, costs) in &variant.sections {
            let old_costs = of_before.sections.get(section);
            for (name, new) in costs {
                let old = old_costs.and_then(|costs| costs.get(name));
                compared += usize::from(old.is_some());
                let line = match old {
                    None => format!("new, {}", figure(*new)),
                    Some(old) if is_same(*section, *old, *new) => continue,
                    Some(old) => format!(
                        "{} -> {} ({:+.1} %)",
                        figure(*old),
                        figure(*new),
                        (new - old) / old.max(f64::MIN_POSITIVE) * 100.0
                    ),
                };
                let _ = writeln!(text, "{}-{} {name}: {line}", variant.backend, variant.dispatch);
            }
            for name in old_costs.into_iter().flatten().map(|(name, _)| name) {
                if !costs.contains_key(name) {
                    let _ = writeln!(text, "{}-{} {name}: gone", variant.backend, variant.dispatch);
                }
            }
        }
    }
    if text.is_empty() {
        let _ = writeln!(text, "nothing changed in {compared} figures");
    }
    text
}

fn is_same(section: Section, old: f64, new: f64) -> bool {
    let difference = (new - old).abs();
    // Hypercalls and faults are few, and the linker does not change them.
    let least = if section == Section::Exits { 0.005 } else { 0.5 };
    difference < least || difference < old * LEAST_SHARE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::example;

    #[test]
    fn only_what_changed_is_told() {
        let before = example();
        assert_eq!(text(&before, &before), "nothing changed in 3 figures\n");
        let mut after = before.clone();
        for (_, costs) in after.variants[0].sections.iter_mut() {
            costs.insert("cpu::a".into(), 12.0);
            costs.remove("cpu::b");
            costs.insert("cpu::c".into(), 1.0);
        }
        let told = text(&before, &after);
        assert!(told.contains("native-static cpu::a: 10 -> 12 (+20.0 %)"), "{told}");
        assert!(told.contains("cpu::b: gone") && told.contains("cpu::c: new, 1"), "{told}");
        assert!(!told.contains("table"), "{told}");
        after.variants[1].dispatch = "dyn".into();
        assert!(text(&before, &after).contains("native-dyn: not measured before"));
    }
}
