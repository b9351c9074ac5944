//! Whether the report's comparisons mean anything: the controls are real, and the product has what it claims.

use crate::evidence::equality::differences;
use crate::evidence::hooks::Reach;
use crate::size_report::model::{Figures, Report};

/// The dispatch controls that reach every hook indirectly.
const INDIRECT: [&str; 3] = ["table", "dyn", "patched"];
/// How many names a message lists.
const MOST_NAMES: usize = 12;

/// What is wrong with the images of a report, if anything.
pub fn faults(report: &Report) -> Vec<String> {
    let mut faults = Vec::new();
    for figures in &report.images {
        if INDIRECT.contains(&figures.dispatch.as_str()) {
            control_is_real(figures, report.baseline(figures), &mut faults);
        } else {
            product_is_direct(figures, &mut faults);
        }
        if figures.dispatch == "direct"
            && let Some(baseline) = report.baseline(figures)
            && let Some(text) = differing(baseline, figures)
        {
            faults.push(text);
        }
    }
    faults
}

fn control_is_real(figures: &Figures, baseline: Option<&Figures>, faults: &mut Vec<String>) {
    let name = &figures.name;
    if figures.of(Reach::Indirect).sites == 0 {
        faults.push(format!("{name} is no control: no indirect hook call was found in its code"));
        return;
    }
    if figures.dispatch == "patched" {
        sites_are_recorded(figures, faults);
    }
    for hook in &figures.sites {
        let elsewhere = [hook.inlined, hook.direct].iter().map(|count| count.sites).sum::<u64>();
        if elsewhere > 0 {
            let hook = &hook.hook;
            faults
                .push(format!("{name} is no control: {elsewhere} sites of {hook} do not go through a table"));
        }
    }
    // A method's place in its table is a number, so the compiler may make one call of two methods' of an object, which
    // leaves one hook without a site of its own. A slot of a table is an address: there such a call is found.
    let Some(baseline) = baseline.filter(|_| figures.dispatch != "dyn") else { return };
    for (hook, of_static) in figures.sites.iter().zip(&baseline.sites) {
        let shared = figures.merged.contains_key(&hook.hook.to_string());
        if hook.total().sites == 0 && of_static.total().sites > 0 && !shared {
            faults.push(format!(
                "{name} is no control: {} has {} sites in {} and none here, so the compiler has seen through its slot",
                hook.hook,
                of_static.total().sites,
                baseline.name
            ));
        }
    }
}

/// A site that is not recorded stays indirect at boot.
fn sites_are_recorded(figures: &Figures, faults: &mut Vec<String>) {
    let (found, recorded) = (figures.of(Reach::Indirect).sites, figures.recorded.unwrap_or_default().sites());
    if found != recorded {
        faults.push(format!(
            "{} is no control: {found} indirect hook calls were found in its code, {recorded} are recorded",
            figures.name
        ));
    }
}

fn product_is_direct(figures: &Figures, faults: &mut Vec<String>) {
    for hook in figures.sites.iter().filter(|hook| hook.indirect.sites > 0) {
        let sites = hook.indirect.sites;
        faults.push(format!("{} has {sites} indirect calls of {}", figures.name, hook.hook));
    }
}

/// How `direct` differs from `static`, if it does.
pub fn differing(baseline: &Figures, direct: &Figures) -> Option<String> {
    let different = differences(&baseline.functions, &direct.functions);
    if different.is_empty() && baseline.whole.text == direct.whole.text {
        return None;
    }
    let mut text = format!(
        "{} and {} differ: text {} and {} bytes, {} functions are not the same",
        baseline.name,
        direct.name,
        baseline.whole.text,
        direct.whole.text,
        different.len()
    );
    for (name, (here, there)) in different.iter().take(MOST_NAMES) {
        text.push_str(&format!("\n    {name}: {here:?} and {there:?} bytes"));
    }
    if different.len() > MOST_NAMES {
        text.push_str("\n    …");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::record::Recorded;
    use crate::size_report::model::Count;
    use crate::size_report::model::tests::sample;

    fn fault(change: impl FnOnce(&mut Report)) -> String {
        let mut report = sample();
        assert_eq!(faults(&report), Vec::<String>::new());
        change(&mut report);
        faults(&report).join("\n")
    }

    #[test]
    fn a_control_without_indirect_calls_is_a_fault() {
        let text = fault(|report| report.images[2].sites[0].indirect = Count::default());
        assert!(text.contains("native-table-release is no control: no indirect hook call"), "{text}");
    }

    #[test]
    fn a_slot_that_was_folded_away_is_a_fault() {
        let second = |count: Count| {
            let mut hook = sample().images[0].sites[0].clone();
            (hook.hook.name, hook.inlined, hook.indirect) = ("halt".into(), count, Count::default());
            hook
        };
        let text = fault(|report| {
            report.images[0].sites.push(second(Count { sites: 2, bytes: 2 }));
            report.images[2].sites.push(second(Count::default()));
        });
        assert!(text.contains("cpu::halt has 2 sites in native-static-release and none here"), "{text}");
        let text = fault(|report| report.images[2].sites[0].inlined.sites = 1);
        assert!(text.contains("1 sites of cpu::irq_disable do not go through a table"), "{text}");
    }

    #[test]
    fn a_site_that_is_not_recorded_is_a_fault() {
        let patched = |calls| {
            move |report: &mut Report| {
                report.images[2].dispatch = "patched".into();
                report.images[2].name = "native-patched-release".into();
                report.images[2].recorded = calls;
            }
        };
        assert_eq!(fault(patched(Some(Recorded { calls: 2, instructions: 1 }))), "");
        let text = fault(patched(Some(Recorded { calls: 1, instructions: 1 })));
        assert!(text.contains("native-patched-release is no control: 3 indirect"), "{text}");
        assert!(text.contains("2 are recorded"), "{text}");
        assert!(fault(patched(None)).contains("0 are recorded"));
    }

    #[test]
    fn an_indirect_call_in_static_is_a_fault() {
        let text = fault(|report| report.images[0].sites[0].indirect.sites = 1);
        assert!(text.contains("native-static-release has 1 indirect calls of cpu::irq_disable"), "{text}");
    }

    #[test]
    fn code_that_differs_is_named() {
        let text = fault(|report| report.images[1].functions[0].hash = 2);
        assert!(
            text.contains("1 functions are not the same\n    kernel::f: [1000] and [1000] bytes"),
            "{text}"
        );
    }
}
