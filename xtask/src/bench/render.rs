//! Results for people: tables on a terminal, in documents and on a page.

use std::fmt::Write;

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};

use super::results::{Costs, Measured, Results, Section};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal
    Table,
    /// For programs; what --save writes
    Json,
    /// For documents
    Markdown,
    /// One page with charts, for a browser
    Html,
}

/// The results as text for a terminal or a document.
pub fn text(results: &Results, format: Format) -> String {
    let markdown = format == Format::Markdown;
    let heading = if markdown { "### " } else { "" };
    let mut text = format!("Instructions, on {}\n", results.machine);
    for backend in results.backends() {
        let variants = results.of(backend);
        for section in results.sections() {
            let Some(rows) = rows(&variants, section) else { continue };
            let _ = write!(text, "\n{heading}{backend}: {}\n\n", section.title());
            text.push_str(&table(&rows, markdown));
            text.push('\n');
            for (mode, mean) in rows.means() {
                let _ = writeln!(
                    text,
                    "{}geometric mean {mode}/{}: {mean:.3}",
                    if markdown { "\n" } else { "" },
                    rows.reference
                );
            }
        }
    }
    text
}

/// One table: a row each for what was done, a column each for a mode.
pub struct Rows {
    /// The mode the others are compared with
    pub reference: String,
    /// The other modes
    pub modes: Vec<String>,
    /// What they are
    section: Section,
    /// The name, the reference's figure and the others'
    pub rows: Vec<(String, Option<f64>, Vec<Option<f64>>)>,
}

impl Rows {
    /// A figure, or the word for none.
    pub fn figure(&self, value: Option<f64>) -> String {
        value.map_or(self.section.absent().to_owned(), figure)
    }

    /// Each mode's geometric mean of the ratios to the reference.
    pub fn means(&self) -> Vec<(&str, f64)> {
        let mean = |index: usize| {
            let ratios: Vec<f64> = self
                .rows
                .iter()
                .filter_map(|(_, reference, others)| ratio(*reference, others[index]))
                .collect();
            (!ratios.is_empty())
                .then(|| (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp())
        };
        let modes = if self.section.has_mean() { &*self.modes } else { &[] };
        modes.iter().enumerate().filter_map(|(index, mode)| Some((mode.as_str(), mean(index)?))).collect()
    }
}

/// A figure by the reference's, where both are there.
pub fn ratio(reference: Option<f64>, other: Option<f64>) -> Option<f64> {
    reference.zip(other).filter(|(reference, other)| *reference > 0.0 && *other > 0.0).map(|(a, b)| b / a)
}

/// The rows of one backend's section; the reference is `static`, or the first mode there is.
pub fn rows(variants: &[&Measured], section: Section) -> Option<Rows> {
    let measured: Vec<(&str, &Costs)> = variants
        .iter()
        .filter_map(|variant| Some((variant.dispatch.as_str(), variant.sections.get(&section)?)))
        .collect();
    let at = measured.iter().position(|(mode, _)| *mode == "static").unwrap_or(0);
    let &(reference, costs) = measured.get(at)?;
    let others: Vec<_> =
        measured.iter().enumerate().filter(|(index, _)| *index != at).map(|(_, it)| it).collect();
    let mut names: Vec<&String> = measured.iter().flat_map(|(_, costs)| costs.keys()).collect();
    names.sort();
    names.dedup();
    let rows = names.into_iter().map(|name| {
        let figures = others.iter().map(|(_, costs)| costs.get(name).copied()).collect();
        (name.clone(), costs.get(name).copied(), figures)
    });
    Some(Rows {
        reference: reference.to_owned(),
        modes: others.iter().map(|(mode, _)| (*mode).to_owned()).collect(),
        section,
        rows: rows.collect(),
    })
}

fn table(rows: &Rows, markdown: bool) -> String {
    let mut table = Table::new();
    table.load_preset(if markdown { presets::ASCII_MARKDOWN } else { presets::UTF8_BORDERS_ONLY });
    let mut header = vec![String::new(), rows.reference.clone()];
    for mode in &rows.modes {
        header.extend([mode.clone(), format!("/{}", rows.reference)]);
    }
    table.set_header(header);
    for (name, reference, others) in &rows.rows {
        let mut cells = vec![name.clone(), rows.figure(*reference)];
        for other in others {
            cells.push(rows.figure(*other));
            cells.push(ratio(*reference, *other).map_or("-".to_owned(), |ratio| format!("{ratio:.3}")));
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
        if !markdown {
            column.set_padding((0, 1));
        }
    }
    table.trim_fmt()
}

/// A count: small ones with tenths or, if they have them, hundredths.
pub fn figure(value: f64) -> String {
    let tenths = value * 10.0;
    if value >= 100.0 || value == value.trunc() {
        format!("{value:.0}")
    } else if (tenths - tenths.round()).abs() < 1e-6 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::example;

    #[test]
    fn modes_stand_beside_static() {
        let results = example();
        let rows = rows(&results.of("native"), Section::Hooks).unwrap();
        assert_eq!((rows.reference.as_str(), rows.modes.as_slice()), ("static", &["table".to_owned()][..]));
        assert_eq!(rows.rows[0], ("cpu::a".to_owned(), Some(10.0), vec![Some(15.0)]));
        assert_eq!(rows.rows[1], ("cpu::b".to_owned(), Some(4.0), vec![None]));
        let means = rows.means();
        assert!(means.len() == 1 && (means[0].1 - 1.5).abs() < 1e-9, "{means:?}");
    }

    #[test]
    fn text_has_figures_and_ratios() {
        let results = example();
        let table = text(&results, Format::Table);
        assert!(table.contains("1.500") && table.contains("failed"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        assert!(text(&results, Format::Markdown).contains("| cpu::a "));
    }
}
