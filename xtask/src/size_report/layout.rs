//! Documents as text: for a terminal of 80 columns, and as Markdown.

use std::fmt::Write;

use crate::size_report::document::{Block, Grid};

/// The columns of a terminal.
const WIDTH: usize = 80;

/// For a terminal.
pub fn terminal(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        match block {
            Block::Chapter(title) => {
                let _ = write!(text, "\n{title}\n{}\n", "=".repeat(title.chars().count()));
            }
            Block::Section(title) => {
                let _ = write!(text, "\n{}\n\n", wrapped(title));
            }
            Block::Text(sentence) => {
                let _ = write!(text, "\n{}\n", wrapped(sentence));
            }
            Block::Table(grid) => text.push_str(&columns(grid)),
        }
    }
    text.trim_start().to_owned()
}

/// For documents.
pub fn markdown(blocks: &[Block]) -> String {
    let mut text = String::new();
    for block in blocks {
        match block {
            Block::Chapter(title) => {
                let _ = write!(text, "\n## {title}\n");
            }
            Block::Section(title) => {
                let _ = write!(text, "\n### {title}\n\n");
            }
            Block::Text(sentence) => {
                let _ = write!(text, "\n{}\n", sentence.replace('<', "\\<"));
            }
            Block::Table(grid) => {
                let row = |cells: &[String]| {
                    let cells: Vec<_> =
                        cells.iter().map(|cell| cell.replace('|', "\\|").replace('<', "\\<")).collect();
                    format!("| {} |\n", cells.join(" | "))
                };
                text.push_str(&row(&grid.head));
                let lines = (0..grid.head.len()).map(|n| if n == grid.names { "---" } else { "--:" });
                let _ = writeln!(text, "| {} |", lines.collect::<Vec<_>>().join(" | "));
                grid.rows.iter().for_each(|cells| text.push_str(&row(cells)));
            }
        }
    }
    text.trim_start().to_owned()
}

/// Right-aligned columns, names left-aligned; a name that is too long is cut in its middle.
fn columns(grid: &Grid) -> String {
    let length = |text: &String| text.chars().count();
    let mut widths: Vec<_> = grid.head.iter().map(length).collect();
    for row in &grid.rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(length(cell));
        }
    }
    let others: usize = widths.iter().sum::<usize>() - widths[grid.names] + 2 * (widths.len() - 1);
    widths[grid.names] = widths[grid.names].min(WIDTH.saturating_sub(others).max(12));
    let mut text = String::new();
    for row in std::iter::once(&grid.head).chain(&grid.rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let width = widths[column];
            let _ = match column == grid.names {
                true => write!(line, "{:<width$}", shortened(cell, width)),
                false => write!(line, "{cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn shortened(text: &str, width: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= width {
        return text.to_owned();
    }
    let end = (width - 1) * 2 / 3;
    let start = width - 1 - end;
    all[..start].iter().chain(&['…']).chain(&all[all.len() - end..]).collect()
}

/// Text in lines of [`WIDTH`]; line feeds stay.
fn wrapped(text: &str) -> String {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() || word.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size_report::document;
    use crate::size_report::model::tests::sample;

    #[test]
    fn a_terminal_of_80_columns_is_wide_enough() {
        let mut report = sample();
        let long = "kernel::".repeat(20);
        for figures in &mut report.images {
            figures.functions[0].name = crate::evidence::names::Name::new(&long);
        }
        let text = terminal(&document::report(&report));
        for line in text.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        for expected in
            ["native-table-release", "+100", "+10.00", "6.44", "1463", "3×6x", "have the same code"]
        {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn markdown_has_the_same_figures() {
        let text = markdown(&document::report(&sample()));
        for expected in ["| text | data |", "| --: | --: |", "| table | +10 | +10.00 | +100 | +10.00 |"] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("abcdefghijkl", 12), "abcdefghijkl");
        assert_eq!(shortened("abcdefghijklm", 7), "ab…jklm");
    }
}
