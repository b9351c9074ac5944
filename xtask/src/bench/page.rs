//! The results as one page for a browser: for each row a bar a mode, as a share of the dearest.

use std::fmt::Write;

use super::render::{ratio, rows};
use super::results::Results;
use crate::page::{escaped, page};

const STYLE: &str = include_str!("page.css");

/// A whole file of HTML, with nothing outside of it.
pub fn of(results: &Results) -> String {
    let mut body = String::new();
    for backend in results.backends() {
        let variants = results.of(backend);
        for section in results.sections() {
            let Some(rows) = rows(&variants, section) else { continue };
            let _ = write!(body, "<h2>{}: {}</h2>", escaped(backend), section.title());
            let mut summary = Vec::new();
            for (mode, mean) in rows.means() {
                summary.push(format!("{} by {}: {mean:.3}", escaped(mode), escaped(&rows.reference)));
            }
            if !summary.is_empty() {
                let _ = write!(body, "<p>Geometric mean of the ratios, {}.</p>", summary.join("; "));
            }
            body.push_str("<table><tr><th></th><th>mode</th><th class=\"number\">instructions</th><th class=\"number\">ratio</th>\
                 <th class=\"wide\"></th></tr>");
            for (name, reference, others) in &rows.rows {
                let modes =
                    std::iter::once((&rows.reference, reference)).chain(rows.modes.iter().zip(others));
                let most = modes.clone().filter_map(|(_, value)| *value).fold(0.0, f64::max);
                for (index, (mode, value)) in modes.enumerate() {
                    let (row, shown) =
                        if index == 0 { (" class=\"first\"", escaped(name)) } else { ("", String::new()) };
                    let width =
                        value.map_or(0.0, |value| if most > 0.0 { value / most * 100.0 } else { 0.0 });
                    let ratio =
                        ratio(*reference, *value).map_or(String::new(), |ratio| format!("{ratio:.3}"));
                    let _ = write!(
                        body,
                        "<tr{row}><th>{shown}</th><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{ratio}</td>\
                         <td><div class=\"bar mode{index}\" style=\"width:{width:.1}%\"></div></td></tr>",
                        escaped(mode),
                        rows.figure(*value),
                    );
                }
            }
            body.push_str("</table>");
        }
    }
    let lead = format!(
        "<h1>What the cut costs, in instructions</h1>\n<p>On {}. The clock counts instructions, so two runs give the \
         same.</p>\n",
        escaped(&results.machine)
    );
    page("Monoguest: instructions", STYLE, &(lead + &body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::tests::example;

    #[test]
    fn the_page_has_every_row_and_stands_alone() {
        let mut results = example();
        results.machine = "<pc>".into();
        let page = of(&results);
        assert!(page.contains("cpu::a") && page.contains("1.500") && page.contains("failed"), "{page}");
        assert!(page.contains("&lt;pc&gt;") && !page.contains("<pc>"));
        assert!(!page.contains("http") && !page.contains("<script") && page.matches("<h2>").count() == 1);
    }
}
