//! A report's parts, before they are laid out: headings, sentences and tables.

use crate::evidence::hooks::Reach;
use crate::evidence::image::Size;
use crate::size_report::check;
use crate::size_report::model::{Count, Figures, HookSites, Report};
use crate::size_report::reference::{ARCHITECTURE, WHOLE, percent};

/// How many crates and functions are listed.
const LARGEST: usize = 12;
/// How many images the table of hooks shows side by side.
const SIDE_BY_SIDE: usize = 3;

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// A chapter
    Chapter(String),
    /// A section
    Section(String),
    /// A sentence
    Text(String),
    /// A table
    Table(Grid),
}

/// A table: all columns but one are right-aligned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The column of names
    pub names: usize,
    /// The heads of the columns
    pub head: Vec<String>,
    /// The rows
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    fn new(names: usize, head: &[&str]) -> Self {
        Self { names, head: head.iter().map(|text| (*text).to_owned()).collect(), rows: Vec::new() }
    }
}

/// The whole report.
pub fn report(report: &Report) -> Vec<Block> {
    let mut blocks = vec![Block::Text(format!(
        "{} hooks in the contract (version {}), compiled by {}.",
        report.hooks.len(),
        report.contract,
        report.compiler
    ))];
    for (title, images) in report.groups() {
        blocks.push(Block::Chapter(title));
        group(report, &images, &mut blocks);
    }
    blocks.push(Block::Chapter("Sources".into()));
    let mut sources: Vec<_> = ARCHITECTURE.iter().chain(&WHOLE).map(|reference| reference.source).collect();
    sources.dedup();
    sources.truncate(2);
    blocks.extend(sources.into_iter().map(|source| Block::Text(format!("{source}."))));
    blocks
}

fn group(report: &Report, images: &[&Figures], blocks: &mut Vec<Block>) {
    blocks.push(Block::Section(
        "Architecture part: functions, named data and assembly of the backend, and the hook call sites \
         wherever they are"
            .into(),
    ));
    blocks.push(sizes(images, |figures| figures.architecture));
    blocks.push(Block::Section("Whole image, as binutils' size counts".into()));
    blocks.push(sizes(images, |figures| figures.whole));
    blocks.push(Block::Section("Growth of text over static".into()));
    blocks.push(growth(report, images));
    blocks.push(Block::Text(
        "Where hooks are reached indirectly the compiler cannot put a backend's function into the kernel's; where it \
         can, it does so if it thinks that worth the space. So less text with a table means that a function stands at \
         several sites in static, and costs instructions at each: `cargo xtask bench` counts those."
            .into(),
    ));
    blocks.push(Block::Section("Hook call sites, found by disassembly".into()));
    blocks.push(sites(images));
    for figures in images {
        if let Some(recorded) = figures.recorded {
            blocks.push(Block::Text(format!(
                "{}: {} call sites are recorded. At boot {} become direct calls and {} the backend's own instructions; \
                 the text stays as long as it is.",
                figures.name,
                recorded.sites(),
                recorded.calls,
                recorded.instructions
            )));
        }
        if !figures.merged.is_empty() {
            let merged: Vec<_> =
                figures.merged.iter().map(|(hook, function)| format!("{hook} in {function}")).collect();
            blocks.push(Block::Text(format!(
                "{}: the compiler made one call of several hooks' here: {}.",
                figures.name,
                merged.join(", ")
            )));
        }
    }
    for figures in images.iter().filter(|figures| figures.dispatch == "direct") {
        blocks.extend(report.baseline(figures).map(|baseline| equality(baseline, figures)));
    }
    for some in images.chunks(SIDE_BY_SIDE) {
        blocks.push(Block::Section(
            "Hook by hook: sites × mean bytes; the backend's own function in bytes".into(),
        ));
        blocks.push(hooks(some));
    }
    blocks.push(Block::Section("All indirect calls and jumps of the image".into()));
    blocks.push(indirect(images));
    blocks.push(Block::Section("Text by crate".into()));
    blocks.push(crates(images));
    if let Some(first) = images.first() {
        blocks.push(Block::Section(format!("Largest functions of {}", first.name)));
        blocks.push(functions(first));
    }
}

fn sizes(images: &[&Figures], part: impl Fn(&Figures) -> Size) -> Block {
    let mut grid = Grid::new(5, &["text", "data", "bss", "dec", "hex", "filename"]);
    for figures in images {
        let size = part(figures);
        let total = size.total();
        let mut row: Vec<_> = [size.text, size.data, size.bss, total].iter().map(u64::to_string).collect();
        row.extend([format!("{total:x}"), figures.name.clone()]);
        grid.rows.push(row);
    }
    Block::Table(grid)
}

fn growth(report: &Report, images: &[&Figures]) -> Block {
    let mut grid = Grid::new(0, &["", "architecture", "%", "whole", "%"]);
    for figures in images {
        let Some(baseline) = report.baseline(figures).filter(|baseline| baseline.name != figures.name) else {
            continue;
        };
        let mut row = vec![figures.dispatch.clone()];
        for part in [|figures: &Figures| figures.architecture.text, |figures: &Figures| figures.whole.text] {
            let (before, after) = (part(baseline), part(figures));
            row.push(format!("{:+}", after.cast_signed() - before.cast_signed()));
            row.push(format!("{:+.2}", percent(before, after)));
        }
        grid.rows.push(row);
    }
    for reference in ARCHITECTURE {
        let mut row = vec![reference.name.to_owned()];
        row.push(format!("{:+}", reference.growth()));
        row.push(format!("{:+.2}", percent(reference.without, reference.with)));
        match WHOLE.iter().find(|whole| whole.name == reference.name) {
            Some(whole) => {
                row.push(format!("{:+}", whole.growth()));
                row.push(format!("{:+.2}", percent(whole.without, whole.with)));
            }
            None => row.extend(["-".into(), "-".into()]),
        }
        grid.rows.push(row);
    }
    Block::Table(grid)
}

fn sites(images: &[&Figures]) -> Block {
    let mut grid = Grid::new(0, &["", "sites", "lines", "hooks", "indirect", "direct", "inlined", "a site"]);
    for figures in images {
        let total = figures.total();
        let mut row = vec![figures.dispatch.clone()];
        row.extend([total.sites, figures.places, figures.hooks_in_use()].iter().map(u64::to_string));
        for reach in [Reach::Indirect, Reach::Direct, Reach::Inlined] {
            row.push(figures.of(reach).sites.to_string());
        }
        row.push(mean(total));
        grid.rows.push(row);
    }
    for reference in ARCHITECTURE {
        let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        let sites = number(reference.sites);
        let none = || "-".to_owned();
        grid.rows.push(vec![
            reference.name.to_owned(),
            sites.clone(),
            none(),
            number(reference.slots),
            sites,
            "0".into(),
            "0".into(),
            none(),
        ]);
    }
    Block::Table(grid)
}

fn mean(count: Count) -> String {
    match count.sites {
        0 => "-".into(),
        sites => format!("{:.1}", count.bytes as f64 / sites as f64),
    }
}

fn equality(baseline: &Figures, direct: &Figures) -> Block {
    Block::Text(check::differing(baseline, direct).unwrap_or_else(|| {
        format!(
            "{} and {} have the same code: {} functions, {} bytes of text. (The linker's order and the compiler's \
             numbers for types differ; they depend on how cargo is called.)",
            baseline.name,
            direct.name,
            direct.functions.len(),
            direct.whole.text
        )
    }))
}

fn hooks(images: &[&Figures]) -> Block {
    let mut grid = Grid::new(0, &["hook"]);
    for figures in images {
        grid.head.extend([figures.dispatch.clone(), "own".into()]);
    }
    let Some(first) = images.first() else { return Block::Table(grid) };
    for (index, hook) in first.sites.iter().enumerate() {
        let mut row = vec![hook.hook.to_string()];
        for figures in images {
            let hook = &figures.sites[index];
            row.push(of_hook(hook));
            row.push(if hook.own_code == 0 { "-".into() } else { hook.own_code.to_string() });
        }
        grid.rows.push(row);
    }
    Block::Table(grid)
}

fn of_hook(hook: &HookSites) -> String {
    let kinds = [(hook.inlined, "i"), (hook.direct, "d"), (hook.indirect, "x")];
    let texts: Vec<_> = kinds
        .iter()
        .filter(|(count, _)| count.sites > 0)
        .map(|(count, letter)| format!("{}×{}{letter}", count.sites, count.bytes / count.sites))
        .collect();
    if texts.is_empty() { "-".into() } else { texts.join(" ") }
}

fn indirect(images: &[&Figures]) -> Block {
    let mut grid = Grid::new(0, &["", "hooks", "linker", "pointers", "objects", "switches", "registers"]);
    for figures in images {
        let counts = &figures.indirect;
        let mut row = vec![figures.dispatch.clone()];
        let all =
            [counts.hooks, counts.linker, counts.pointers, counts.objects, counts.switches, counts.registers];
        row.extend(all.iter().map(u64::to_string));
        grid.rows.push(row);
    }
    Block::Table(grid)
}

fn crates(images: &[&Figures]) -> Block {
    let mut grid = Grid::new(0, &["crate"]);
    grid.head.extend(images.iter().map(|figures| figures.dispatch.clone()));
    let Some(first) = images.first() else { return Block::Table(grid) };
    let mut names: Vec<_> = first.crates.iter().collect();
    names.sort_by_key(|(name, bytes)| (std::cmp::Reverse(**bytes), (*name).clone()));
    for (name, _) in names.into_iter().take(LARGEST) {
        let mut row = vec![name.clone()];
        row.extend(images.iter().map(|f| f.crates.get(name).copied().unwrap_or_default().to_string()));
        grid.rows.push(row);
    }
    Block::Table(grid)
}

fn functions(figures: &Figures) -> Block {
    let mut grid = Grid::new(1, &["bytes", "function"]);
    let mut functions: Vec<_> = figures.functions.iter().collect();
    functions.sort_by_key(|function| (std::cmp::Reverse(function.bytes), function.name.clone()));
    for function in functions.into_iter().take(LARGEST) {
        grid.rows.push(vec![function.bytes.to_string(), function.name.to_string()]);
    }
    Block::Table(grid)
}
