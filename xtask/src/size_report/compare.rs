//! What changed since a saved report, by symbol.

use std::collections::BTreeMap;

use crate::evidence::names::Name;
use crate::size_report::document::{Block, Grid};
use crate::size_report::model::{Figures, Report};

/// How many functions are listed.
const MOST: usize = 25;

/// The difference between an earlier report and this one.
pub fn changes(before: &Report, now: &Report) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut notes = Vec::new();
    if before.compiler != now.compiler {
        notes.push(format!("The compiler was {}.", before.compiler));
    }
    if before.contract != now.contract {
        notes.push(format!("The contract's version was {}.", before.contract));
    }
    if before.hooks != now.hooks {
        notes.push(format!("The contract had {} hooks and has {}.", before.hooks.len(), now.hooks.len()));
    }
    for figures in &now.images {
        match before.images.iter().find(|other| other.name == figures.name) {
            Some(earlier) => blocks.extend(image(earlier, figures)),
            None => notes.push(format!("{} is new.", figures.name)),
        }
    }
    for gone in before.images.iter().filter(|old| now.images.iter().all(|new| new.name != old.name)) {
        notes.push(format!("{} was not measured this time.", gone.name));
    }
    let mut all = vec![Block::Chapter("Changes since the saved report".into())];
    all.extend(notes.into_iter().map(Block::Text));
    all.append(&mut blocks);
    all
}

fn image(before: &Figures, now: &Figures) -> Vec<Block> {
    let changed = functions(before, now);
    if before == now {
        return vec![Block::Text(format!("{}: nothing changed.", now.name))];
    }
    let mut totals = grid(0, &["", "before", "now", "change"]);
    for (name, part) in [
        ("text", (|f: &Figures| f.whole.text) as fn(&Figures) -> u64),
        ("data", |f| f.whole.data),
        ("bss", |f| f.whole.bss),
        ("architecture text", |f| f.architecture.text),
        ("hook call sites", |f| f.total().sites),
        ("indirect hook calls", |f| f.indirect.hooks),
    ] {
        let (before, now) = (part(before), part(now));
        let change = now.cast_signed() - before.cast_signed();
        totals.rows.push(vec![name.to_owned(), before.to_string(), now.to_string(), format!("{change:+}")]);
    }
    let mut symbols = grid(2, &["change", "now", "function"]);
    for (name, before, now) in changed.iter().take(MOST) {
        let change = now.cast_signed() - before.cast_signed();
        let text = match (before, now) {
            (0, _) => format!("{name} (new)"),
            (_, 0) => format!("{name} (gone)"),
            (before, now) if before == now => format!("{name} (other code)"),
            _ => name.to_string(),
        };
        symbols.rows.push(vec![format!("{change:+}"), now.to_string(), text]);
    }
    let mut blocks = vec![Block::Section(now.name.clone()), Block::Table(totals)];
    if !changed.is_empty() {
        let more = changed.len().saturating_sub(MOST);
        let more = if more > 0 { format!(", {more} more are not shown") } else { String::new() };
        blocks.push(Block::Section(format!("{} functions changed{more}", changed.len())));
        blocks.push(Block::Table(symbols));
    }
    blocks
}

fn grid(names: usize, head: &[&str]) -> Grid {
    Grid { names, head: head.iter().map(|text| (*text).to_owned()).collect(), rows: Vec::new() }
}

/// Functions that are not the same, with their bytes before and now, the largest change first.
fn functions(before: &Figures, now: &Figures) -> Vec<(Name, u64, u64)> {
    let bytes = |figures: &Figures| {
        let mut map: BTreeMap<Name, (u64, Vec<u64>)> = BTreeMap::new();
        for function in &figures.functions {
            let entry = map.entry(function.name.clone()).or_default();
            entry.0 += function.bytes;
            entry.1.push(function.hash);
        }
        map
    };
    let (before, now) = (bytes(before), bytes(now));
    let mut changed = Vec::new();
    for name in before.keys().chain(now.keys().filter(|name| !before.contains_key(*name))) {
        let (old, new) = (before.get(name), now.get(name));
        if old != new {
            let length = |entry: Option<&(u64, Vec<u64>)>| entry.map_or(0, |(bytes, _)| *bytes);
            changed.push((name.clone(), length(old), length(new)));
        }
    }
    changed.sort_by_key(|(name, old, new)| (std::cmp::Reverse(old.abs_diff(*new)), name.clone()));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::equality::Code;
    use crate::size_report::layout::terminal;
    use crate::size_report::model::tests::sample;

    #[test]
    fn changes_are_listed_by_symbol() {
        let before = sample();
        let text = terminal(&changes(&before, &before));
        assert_eq!(text.matches("nothing changed").count(), 3, "{text}");
        let mut now = sample();
        now.images[0].whole.text += 24;
        now.images[0].functions[0].bytes += 16;
        now.images[0].functions[0].hash = 7;
        now.images[0].functions.push(Code { name: Name::new("kernel::g"), bytes: 8, hash: 1 });
        now.images.pop();
        let text = terminal(&changes(&before, &now));
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(lines.contains(&vec!["text", "1000", "1024", "+24"]), "{text}");
        assert!(lines.contains(&vec!["+16", "1016", "kernel::f"]), "{text}");
        assert!(lines.contains(&vec!["+8", "8", "kernel::g", "(new)"]), "{text}");
        assert!(text.contains("2 functions changed"), "{text}");
        assert!(text.contains("native-table-release was not measured this time."), "{text}");
    }
}
