//! Whether an image depends on its source alone: it is built anew from a copy, with everything that cargo reads and writes
//! at other paths, and compared with the one that is kept.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::evidence::image::{Image, Section, Symbol, Use};
use crate::images;
use crate::size_report::measure::{self, Label};
use crate::size_report::model::Figures;
use crate::testing::check::Check;
use crate::testing::runner::Bench;
use crate::workspace::Workspace;

/// Builds the check's image elsewhere, and compares it with the one that is kept.
///
/// # Errors
/// They differ: the message says first where.
pub fn the_same_image_is_built(bench: &Bench, check: &Check, directory: &Path) -> Result<String> {
    let here = &bench.workspace;
    let there = elsewhere(here, directory)?;
    let built = images::make(&there, check.item, |cargo| {
        let output = cargo.arg("--quiet").output().context("cannot run cargo")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    })?;
    ensure!(built.anew, "the image was not built anew");
    let (here, there) = (check.item.path(here), built.path);
    let images = [Image::read(&here)?, Image::read(&there)?];
    if let Some(difference) = first_difference(&images[0], &images[1]) {
        bail!("built at another place, the image is another: {difference}");
    }
    let [here, there] = [figures(&here)?, figures(&there)?];
    if let Some(difference) = first_different_figure(&here, &there)? {
        bail!("built at another place, the image has other figures: {difference}");
    }
    Ok(format!("{} sections, {} bytes in memory, the same", images[0].sections.len(), here.whole.total()))
}

/// A copy of the sources, other target directories, and another name for where cargo keeps its crates.
fn elsewhere(here: &Workspace, directory: &Path) -> Result<Workspace> {
    let root = directory.join("a-copy-of-the-sources");
    copy(&here.root, &root, &here.target)?;
    let cargo_home = directory.join("another-home-of-cargo");
    fs::create_dir(&cargo_home).with_context(|| format!("cannot create {}", cargo_home.display()))?;
    for entry in entries(&here.cargo_home)? {
        // The locks are on files, which are the same by whatever path.
        let link = cargo_home.join(entry.file_name().context("an entry has a name")?);
        symlink(&entry, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(Workspace { root, target: directory.join("objects"), cargo_home })
}

/// Copies sources: what is hidden is cargo's configuration or of no interest, and what was built is left out.
fn copy(from: &Path, to: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in entries(from)? {
        let name = entry.file_name().context("an entry has a name")?;
        let copied = to.join(name);
        if entry.is_dir() {
            let hidden = name.as_encoded_bytes().starts_with(b".") && name != ".cargo";
            if !hidden && entry != target && !entry.join("CACHEDIR.TAG").exists() {
                copy(&entry, &copied, target)?;
            }
        } else {
            fs::copy(&entry, &copied).with_context(|| format!("cannot copy {}", entry.display()))?;
        }
    }
    Ok(())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    paths.with_context(|| format!("cannot read {}", directory.display()))
}

fn figures(path: &Path) -> Result<Figures> {
    let label = Label { name: "image".to_owned(), dispatch: None, optimization: String::new() };
    measure::image(path, label)
}

/// Where what takes memory differs first, and then in each further section: what has grown moves what is behind it, so the
/// cause may be in a later one.
fn first_difference(here: &Image, there: &Image) -> Option<String> {
    let pairs = here.sections.iter().zip(&there.sections);
    let mut texts: Vec<String> = pairs
        .filter(|(ours, theirs)| !same(ours, theirs))
        .map(|(ours, theirs)| of_section(here, ours, theirs))
        .collect();
    let [ours, theirs] = [here, there].map(|image| image.sections.len());
    if ours != theirs {
        texts.push(format!("it has {theirs} sections in memory in place of {ours}"));
    }
    if let Some(symbol) = first_different_symbol(here, there) {
        texts.push(format!("the first symbol that differs in place or size is {symbol}"));
    }
    (!texts.is_empty()).then(|| texts.join(";\n      "))
}

/// How many bytes a message shows, and how many of them lie before the first that differs.
const SHOWN: usize = 64;
const BEFORE: usize = 16;

fn of_section(here: &Image, ours: &Section, theirs: &Section) -> String {
    let mut text = format!("section {}", ours.name);
    if (&ours.name, &ours.range) != (&theirs.name, &theirs.range) {
        text = format!(
            "section {} at {:x?} in place of {} at {:x?}",
            theirs.name, theirs.range, ours.name, ours.range
        );
    }
    let Some(at) = ours.bytes.iter().zip(&theirs.bytes).position(|(a, b)| a != b) else { return text };
    let address = ours.range.start + at as u64;
    text.push_str(&format!(", first at {address:#x}"));
    if let Some(symbol) = symbols(here).find(|symbol| symbol.range.contains(&address)) {
        text.push_str(&format!(", {:#x} bytes into {}", address - symbol.range.start, symbol.name.as_str()));
    }
    let shown = |section: &Section| {
        let bytes = section.bytes[at.saturating_sub(BEFORE)..].iter().take(SHOWN);
        bytes.copied().collect::<Vec<_>>().escape_ascii().to_string()
    };
    if ours.purpose != Use::Code {
        text.push_str(&format!(": \"{}\" in place of \"{}\"", shown(theirs), shown(ours)));
    }
    text
}

fn same(ours: &Section, theirs: &Section) -> bool {
    (&ours.name, &ours.range, &ours.bytes) == (&theirs.name, &theirs.range, &theirs.bytes)
}

fn symbols(image: &Image) -> impl DoubleEndedIterator<Item = &Symbol> {
    image.functions.iter().chain(&image.objects)
}

fn first_different_symbol<'a>(here: &'a Image, there: &Image) -> Option<&'a str> {
    let theirs: BTreeMap<_, _> =
        symbols(there).map(|symbol| ((symbol.range.start, symbol.range.end), symbol)).collect();
    let differing = symbols(here).filter(|ours| {
        theirs.get(&(ours.range.start, ours.range.end)).is_none_or(|theirs| theirs.name != ours.name)
    });
    differing.min_by_key(|symbol| symbol.range.start).map(|symbol| symbol.name.as_str())
}

/// The first figure of the report that differs, and both.
fn first_different_figure(here: &Figures, there: &Figures) -> Result<Option<String>> {
    let value = |figures| serde_json::to_value(figures).context("figures have a JSON form");
    Ok(differing("", &value(here)?, &value(there)?))
}

fn differing(name: &str, here: &serde_json::Value, there: &serde_json::Value) -> Option<String> {
    use serde_json::Value::{Array, Object};
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match (here, there) {
        _ if here == there => None,
        (Object(ours), Object(theirs)) if ours.len() == theirs.len() => ours
            .iter()
            .find_map(|(key, value)| differing(&inner(key), value, theirs.get(key).unwrap_or_default())),
        (Array(ours), Array(theirs)) if ours.len() == theirs.len() => {
            let pairs = ours.iter().zip(theirs).enumerate();
            pairs.into_iter().find_map(|(index, (a, b))| differing(&inner(&index.to_string()), a, b))
        }
        _ => Some(format!("{name} is {there} in place of {here}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::names::Name;
    use crate::size_report::model::tests::sample;

    fn image() -> Image {
        let section = |name: &str, start, bytes: &[u8], purpose| Section {
            name: name.to_owned(),
            range: start..start + bytes.len() as u64,
            purpose,
            bytes: bytes.to_vec(),
        };
        let symbol = |name, range, purpose| Symbol { name: Name::new(name), range, purpose };
        Image {
            sections: vec![
                section(".text", 0x1000, &[0x90; 32], Use::Code),
                section(".rodata", 0x2000, b"/home/a", Use::ReadOnly),
            ],
            functions: vec![
                symbol("a::f", 0x1000..0x1010, Use::Code),
                symbol("a::g", 0x1010..0x1020, Use::Code),
            ],
            objects: vec![symbol("a::PATH", 0x2000..0x2007, Use::ReadOnly)],
            ..Image::default()
        }
    }

    fn difference(change: impl FnOnce(&mut Image)) -> String {
        let mut there = image();
        assert_eq!(first_difference(&image(), &there), None);
        change(&mut there);
        first_difference(&image(), &there).unwrap()
    }

    #[test]
    fn the_place_of_a_different_byte_is_named() {
        let text = difference(|there| there.sections[0].bytes[0x13] = 0xc3);
        assert_eq!(text, "section .text, first at 0x1013, 0x3 bytes into a::g");
        let text = difference(|there| there.sections[1].bytes[6] = b'b');
        let bytes = "\"/home/b\" in place of \"/home/a\"";
        assert_eq!(text, format!("section .rodata, first at 0x2006, 0x6 bytes into a::PATH: {bytes}"));
    }

    #[test]
    fn what_has_grown_or_moved_is_named() {
        let text = difference(|there| {
            there.sections[1].range.end += 1;
            there.sections[1].bytes.push(b'a');
            there.objects[0].range.end += 1;
        });
        assert!(text.contains("section .rodata at 2000..2008 in place of .rodata at 2000..2007"), "{text}");
        assert!(text.ends_with("in place or size is a::PATH"), "{text}");
        let text = difference(|there| {
            there.sections.pop();
        });
        assert!(text.contains("1 sections in memory in place of 2"), "{text}");
    }

    #[test]
    fn a_different_figure_is_named() {
        let here = sample().images.remove(0);
        assert_eq!(first_different_figure(&here, &here.clone()).unwrap(), None);
        let mut there = here.clone();
        there.sites[0].inlined.bytes += 1;
        let text = first_different_figure(&here, &there).unwrap().unwrap();
        assert_eq!(text, "sites.0.inlined.bytes is 4 in place of 3");
    }
}
