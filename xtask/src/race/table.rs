//! The race's results, for people and for programs.

use std::fmt::Write;

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal
    Table,
    /// For programs
    Json,
    /// For documents
    Markdown,
}

/// What a row's figures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Nanoseconds
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Milliseconds
    #[serde(rename = "ms")]
    Milliseconds,
    /// Instructions (idle time counts too, one a nanosecond)
    #[serde(rename = "instructions")]
    Instructions,
    /// 1024 bytes
    #[serde(rename = "KiB")]
    Kibibytes,
    /// 1024 KiB
    #[serde(rename = "MiB")]
    Mebibytes,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Instructions => "instructions",
            Self::Kibibytes => "KiB",
            Self::Mebibytes => "MiB",
        }
    }
}

/// One thing measured on both kernels; what could not be measured is missing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What was measured
    pub name: String,
    /// The figures' unit
    pub unit: Unit,
    /// Linux's figure
    pub linux: Option<f64>,
    /// Monoguest's figure
    pub monoguest: Option<f64>,
    /// Monoguest's by Linux's: below 1 Monoguest needs less
    pub ratio: Option<f64>,
}

impl Row {
    /// A row with its ratio.
    pub fn new(name: impl Into<String>, unit: Unit, linux: Option<f64>, monoguest: Option<f64>) -> Self {
        let ratio = linux.zip(monoguest).filter(|(linux, _)| *linux > 0.0).map(|(linux, ours)| ours / linux);
        Self { name: name.into(), unit, linux, monoguest, ratio }
    }
}

/// Rows that were measured the same way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Section {
    /// What they have in common
    pub title: String,
    /// The rows
    pub rows: Vec<Row>,
}

/// The whole race.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Results {
    /// Linux's name and version
    pub linux: String,
    /// Monoguest's name and variant
    pub monoguest: String,
    /// The machine both ran on
    pub machine: String,
    /// The results
    pub sections: Vec<Section>,
}

impl Results {
    /// True when every row has both figures.
    pub fn complete(&self) -> bool {
        self.sections.iter().flat_map(|section| &section.rows).all(|row| row.ratio.is_some())
    }

    /// The results as text.
    pub fn render(&self, format: Format) -> String {
        if format == Format::Json {
            let text = serde_json::to_string_pretty(self).expect("plain data has a JSON form");
            return text + "\n";
        }
        let mut text = format!("{} and {} on {}\n", self.monoguest, self.linux, self.machine);
        for section in &self.sections {
            let heading = if format == Format::Markdown { "### " } else { "" };
            let _ = write!(text, "\n{heading}{}\n", section.title);
            if format == Format::Markdown {
                text.push('\n');
            }
            text.push_str(&self.table(section, format));
            text.push('\n');
            if let Some(summary) = summary(&section.rows) {
                let before = if format == Format::Markdown { "\n" } else { "" };
                let _ = writeln!(text, "{before}{summary}");
            }
        }
        text
    }

    fn table(&self, section: &Section, format: Format) -> String {
        let mut table = Table::new();
        table.load_preset(if format == Format::Markdown {
            presets::ASCII_MARKDOWN
        } else {
            presets::UTF8_BORDERS_ONLY
        });
        table.set_header(["", "unit", "Linux", "Monoguest", "ratio"]);
        for row in &section.rows {
            let cell = |value: Option<f64>| value.map_or("failed".to_owned(), figure);
            let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
            table.add_row([&row.name, row.unit.name(), &cell(row.linux), &cell(row.monoguest), &ratio]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }
}

/// A figure with three significant digits at least, and no more than one decimal place where it has them already.
fn figure(value: f64) -> String {
    match value.abs() {
        value if value == value.trunc() => format!("{value:.0}"),
        value if value < 10.0 => format!("{value:.3}"),
        value if value < 10_000.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// How many rows Monoguest wins, and the geometric mean of the ratios, where there are several.
fn summary(rows: &[Row]) -> Option<String> {
    let ratios: Vec<f64> = rows.iter().filter_map(|row| row.ratio).filter(|ratio| *ratio > 0.0).collect();
    if ratios.len() < 4 {
        return None;
    }
    let won = ratios.iter().filter(|ratio| **ratio < 1.0).count();
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    Some(format!("Monoguest needs less in {won} of {}; geometric mean of the ratios {mean:.3}", rows.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let row = |name: &str, ours| Row::new(name, Unit::Nanoseconds, Some(200.0), ours);
        Results {
            linux: "Linux 6.1".into(),
            monoguest: "Monoguest".into(),
            machine: "pc".into(),
            sections: vec![Section {
                title: "Operations".into(),
                rows: vec![
                    row("a", Some(100.0)),
                    row("b", Some(50.0)),
                    row("c", Some(400.0)),
                    row("d", None),
                ],
            }],
        }
    }

    #[test]
    fn ratios() {
        assert_eq!(Row::new("a", Unit::Kibibytes, Some(8.0), Some(2.0)).ratio, Some(0.25));
        assert_eq!(Row::new("a", Unit::Kibibytes, Some(0.0), Some(2.0)).ratio, None);
        assert_eq!(Row::new("a", Unit::Kibibytes, None, Some(2.0)).ratio, None);
        assert!(!results().complete());
    }

    #[test]
    fn every_format_has_the_figures() {
        let mut results = results();
        let table = results.render(Format::Table);
        assert!(table.contains("failed") && table.contains("0.250"), "{table}");
        let markdown = results.render(Format::Markdown);
        assert!(markdown.contains("### Operations\n\n|") && markdown.contains("| a"), "{markdown}");
        let json: serde_json::Value = serde_json::from_str(&results.render(Format::Json)).unwrap();
        let rows = &json["sections"][0]["rows"];
        assert_eq!(rows[1]["ratio"], 0.25);
        assert_eq!(rows[3]["monoguest"], serde_json::Value::Null);
        assert_eq!(rows[0]["unit"], "ns");
        results.sections[0].rows[3] = Row::new("d", Unit::Nanoseconds, Some(4.0), Some(4.0));
        assert!(results.complete());
        // 1/2 · 1/4 · 2 · 1 is 1/4; its fourth root is 0.7071.
        assert!(
            results
                .render(Format::Table)
                .contains("needs less in 2 of 4; geometric mean of the ratios 0.707")
        );
    }

    #[test]
    fn figures() {
        for (value, text) in [(16.0, "16"), (0.1234, "0.123"), (778.04, "778.0"), (24_423_090.3, "24423090")]
        {
            assert_eq!(figure(value), text);
        }
    }
}
