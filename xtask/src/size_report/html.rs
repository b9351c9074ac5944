//! The report as one file for a browser: charts first, then the tables.

use std::fmt::Write;

use crate::evidence::hooks::Reach;
use crate::page::{escaped, sentence};
use crate::size_report::document::{self, Block, Grid};
use crate::size_report::model::{Figures, Report};
use crate::size_report::reference::{ARCHITECTURE, percent};

const STYLE: &str = include_str!("report.css");
/// The longest bar's part of a chart's width in percent; a figure stands behind it.
const BARS: f64 = 62.0;

/// The whole page.
pub fn page(report: &Report, changes: &[Block]) -> String {
    let mut body = String::new();
    for (title, images) in report.groups() {
        let _ = write!(body, "<h2>{}</h2>{}", escaped(&title), tiles(report, &images));
        body.push_str(&figure(
            "What hooks add to the architecture's text",
            "Percent over the same kernel without hooks; for Monoguest over static, which equals the backend's \
             functions called with no trait in the path. Less is better.",
            &growth(report, &images),
            "",
        ));
        let legend = [Reach::Inlined, Reach::Direct, Reach::Indirect]
            .map(|reach| format!("<span class=\"key {reach}\"></span>{reach}"))
            .join(" ");
        body.push_str(&figure(
            "Hook call sites in the code",
            "Found by disassembly, by how they reach the backend. An indirect site looks its target up while it runs.",
            &sites(&images),
            &legend,
        ));
        body.push_str(&figure(
            "Bytes that hooks take",
            "The sites together, and the backend's own functions that they call.",
            &bytes(&images),
            "<span class=\"key inlined\"></span>sites <span class=\"key own\"></span>the backend's functions",
        ));
    }
    body.push_str("<h2 id=\"figures\">All figures</h2>");
    for block in changes.iter().chain(&document::report(report)) {
        body.push_str(&html(block));
    }
    let lead = "<h1>Monoguest: what hooks cost</h1>\n<p class=\"lead\">One kernel source, built with each way of reaching \
                its backend. <a href=\"#figures\">All figures</a> are below the charts.</p>\n";
    crate::page::page("Monoguest: what hooks cost", STYLE, &(lead.to_owned() + &body))
}

/// The few numbers that answer the question.
fn tiles(report: &Report, images: &[&Figures]) -> String {
    let mut tiles = Vec::new();
    let of = |dispatch: &str| images.iter().find(|figures| figures.dispatch == dispatch);
    if let Some(product) = of("static") {
        tiles.push((
            product.of(Reach::Indirect).sites.to_string(),
            "indirect hook calls in static".to_owned(),
        ));
    }
    if let (Some(product), Some(direct)) = (of("static"), of("direct")) {
        let differ = crate::evidence::equality::differences(&product.functions, &direct.functions).len();
        let label = format!("of {} functions differ without the trait", product.functions.len());
        tiles.push((differ.to_string(), label));
    }
    if let (Some(product), Some(table)) = (of("static"), of("table")) {
        let growth = table.architecture.text.cast_signed() - product.architecture.text.cast_signed();
        tiles.push((table.of(Reach::Indirect).sites.to_string(), "indirect sites with a table".to_owned()));
        tiles.push((format!("{growth:+} B"), "architecture's text with a table".to_owned()));
    }
    tiles.push((report.hooks.len().to_string(), "hooks in the contract, of at most 100".to_owned()));
    let mut text = "<div class=\"tiles\">".to_owned();
    for (number, label) in tiles {
        let _ = write!(text, "<div><b>{}</b><span>{}</span></div>", escaped(&number), escaped(&label));
    }
    text + "</div>"
}

/// A bar of one or more parts.
struct Bar {
    name: String,
    /// Class and length of each part
    parts: Vec<(&'static str, f64)>,
    figure: String,
}

fn growth(report: &Report, images: &[&Figures]) -> Vec<Bar> {
    let bar = |name: &str, class, value: f64, bytes: i64| Bar {
        name: name.to_owned(),
        parts: vec![(class, value)],
        figure: format!("{value:+.2} % ({bytes:+} B)"),
    };
    let mut bars: Vec<_> = ARCHITECTURE
        .iter()
        .map(|r| bar(r.name, "reference", percent(r.without, r.with), r.growth()))
        .collect();
    for figures in images {
        let Some(baseline) = report.baseline(figures) else { continue };
        let (before, after) = (baseline.architecture.text, figures.architecture.text);
        let bytes = after.cast_signed() - before.cast_signed();
        bars.push(bar(&format!("Monoguest, {}", figures.dispatch), "own", percent(before, after), bytes));
    }
    bars
}

fn sites(images: &[&Figures]) -> Vec<Bar> {
    let mut bars: Vec<_> = ARCHITECTURE
        .iter()
        .filter_map(|reference| {
            let sites = reference.sites?;
            let figure = sites.to_string();
            Some(Bar { name: reference.name.into(), parts: vec![("indirect", sites as f64)], figure })
        })
        .collect();
    bars.extend(images.iter().map(|figures| {
        let count = |reach| figures.of(reach).sites as f64;
        let parts = vec![
            ("inlined", count(Reach::Inlined)),
            ("direct", count(Reach::Direct)),
            ("indirect", count(Reach::Indirect)),
        ];
        let after = if figures.recorded.is_some() { " until the boot" } else { "" };
        let indirect = figures.of(Reach::Indirect).sites;
        let figure = format!("{}, {indirect} indirect{after}", figures.total().sites);
        Bar { name: format!("Monoguest, {}", figures.dispatch), parts, figure }
    }));
    bars
}

fn bytes(images: &[&Figures]) -> Vec<Bar> {
    let bar = |figures: &&Figures| {
        let sites = figures.total().bytes;
        let own: u64 = figures.sites.iter().map(|hook| hook.own_code).sum();
        Bar {
            name: format!("Monoguest, {}", figures.dispatch),
            parts: vec![("inlined", sites as f64), ("own", own as f64)],
            figure: format!("{sites} + {own} B"),
        }
    };
    images.iter().map(bar).collect()
}

/// A chart with its title, explanation and legend.
fn figure(title: &str, explanation: &str, bars: &[Bar], legend: &str) -> String {
    let mut text = format!("<figure><figcaption><b>{title}</b><p>{explanation}</p>");
    if !legend.is_empty() {
        let _ = write!(text, "<p class=\"legend\">{legend}</p>");
    }
    text.push_str("</figcaption>");
    let total = |bar: &Bar| bar.parts.iter().map(|(_, length)| length).sum::<f64>();
    let most = bars.iter().map(total).fold(0.0, f64::max);
    let least = bars.iter().map(total).fold(0.0, f64::min);
    let scale = if most > least { BARS / (most - least) } else { 0.0 };
    let zero = -least * scale;
    text.push_str("<div class=\"chart\">");
    for bar in bars {
        // A bar below zero ends where the others start.
        let before = zero + total(bar).min(0.0) * scale;
        let _ = write!(
            text,
            "<div class=\"row\"><span class=\"name\">{}</span><span class=\"bars\">\
             <i class=\"axis\" style=\"left:{zero:.2}%\"></i><i style=\"width:{before:.2}%\"></i>",
            escaped(&bar.name)
        );
        for (class, length) in bar.parts.iter().filter(|(_, length)| *length != 0.0) {
            let _ = write!(text, "<i class=\"{class}\" style=\"width:{:.2}%\"></i>", length.abs() * scale);
        }
        let _ = writeln!(text, "<span class=\"figure\">{}</span></span></div>", escaped(&bar.figure));
    }
    text + "</div></figure>"
}

fn html(block: &Block) -> String {
    match block {
        Block::Chapter(title) => format!("<h2>{}</h2>\n", escaped(title)),
        Block::Section(title) => format!("<h3>{}</h3>\n", escaped(title)),
        Block::Text(text) => format!("<p>{}</p>\n", sentence(text)),
        Block::Table(grid) => table(grid),
    }
}

fn table(grid: &Grid) -> String {
    let row = |cells: &[String], tag: &str| {
        let mut text = "<tr>".to_owned();
        for (column, cell) in cells.iter().enumerate() {
            let class = if column == grid.names { " class=\"name\"" } else { "" };
            let _ = write!(text, "<{tag}{class}>{}</{tag}>", escaped(cell));
        }
        text + "</tr>\n"
    };
    let rows: String = grid.rows.iter().map(|cells| row(cells, "td")).collect();
    format!(
        "<div class=\"wide\"><table><thead>{}</thead><tbody>{rows}</tbody></table></div>\n",
        row(&grid.head, "th")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size_report::model::tests::sample;

    #[test]
    fn bars_start_at_zero() {
        let bar = |value| Bar { name: String::new(), parts: vec![("own", value)], figure: String::new() };
        let chart = figure("", "", &[bar(30.0), bar(-1.0), bar(0.0)], "");
        let bars = chart.split("class=\"bars\"").skip(1).collect::<Vec<_>>();
        assert!(bars.iter().all(|bar| bar.contains("left:2.00%")), "{chart}");
        assert!(
            bars[0].contains("<i style=\"width:2.00%\"></i><i class=\"own\" style=\"width:60.00%\">"),
            "{chart}"
        );
        assert!(
            bars[1].contains("<i style=\"width:0.00%\"></i><i class=\"own\" style=\"width:2.00%\">"),
            "{chart}"
        );
        assert!(!bars[2].contains("class=\"own\""), "{chart}");
    }

    #[test]
    fn a_page_needs_nothing_else() {
        let mut report = sample();
        report.images[0].functions[0].name = crate::evidence::names::Name::new("<a as b>::c");
        let page = page(&report, &[]);
        for foreign in ["http", "src=", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
        assert!(page.contains("&lt;a as b&gt;::c") && !page.contains("<a as b>"));
        assert_eq!(page.matches("class=\"chart\"").count(), 3);
        assert_eq!(page.matches("<div").count(), page.matches("</div>").count());
        assert_eq!(page.matches("<span").count(), page.matches("</span>").count());
        assert!(page.contains("+10.00 % (+10 B)"), "{page}");
    }
}
