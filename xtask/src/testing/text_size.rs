//! The limit on the kernel's text: what a guest's caches hold, and what its memory loses, before any program runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::images::Item;
use crate::variant::{Backend, Dispatch, Profile, Variant};

/// The result's name.
pub const NAME: &str = "build/text-size";

/// Most bytes of `.text` in the product: the native image with static dispatch, optimized.
pub const LIMIT: u64 = 512 << 10;

/// How many symbols are named when the limit is passed.
const NAMED: usize = 20;

/// Whether the limit is for this image.
pub fn applies(item: Item) -> bool {
    let limited = Variant { backend: Backend::Native, dispatch: Dispatch::Static, profile: Profile::Release };
    item == Item::kernel(limited)
}

/// The size of an image's text in bytes.
///
/// # Errors
/// It is larger than [`LIMIT`]: the message names the largest symbols. Or the file is none that has text.
pub fn check(image: &Path) -> Result<u64> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    check_bytes(&bytes, LIMIT).with_context(|| image.display().to_string())
}

fn check_bytes(bytes: &[u8], limit: u64) -> Result<u64> {
    let file = object::File::parse(bytes).context("not an object file")?;
    let text = file.section_by_name(".text").context("there is no section .text")?;
    let size = text.size();
    ensure!(
        size <= limit,
        ".text has {size} bytes, {} more than the limit of {limit}; its largest symbols:\n{}",
        size - limit,
        largest(&file, &text)
    );
    Ok(size)
}

/// A line for each of the largest functions.
fn largest(file: &object::File<'_>, text: &object::Section<'_, '_>) -> String {
    let mut functions: Vec<(u64, &str)> = file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(text.index()))
        .map(|symbol| (symbol.size(), symbol.name().unwrap_or("?")))
        .collect();
    functions.sort_unstable_by(|a, b| b.cmp(a));
    let line = |(size, name): &(u64, &str)| format!("{size:>8}  {:#}", rustc_demangle::demangle(name));
    functions.iter().take(NAMED).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variant::Product;

    #[test]
    fn what_is_too_large_is_named() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        let size = check_bytes(&this, u64::MAX).unwrap();
        assert!(size > 0);
        assert_eq!(check_bytes(&this, size).unwrap(), size);
        let message = check_bytes(&this, size - 1).unwrap_err().to_string();
        assert!(message.contains(&format!(".text has {size} bytes, 1 more than the limit")), "{message}");
        assert_eq!(message.lines().count(), 1 + NAMED, "{message}");
        assert!(message.lines().nth(1).is_some_and(|line| line.contains("::")), "{message}");
    }

    #[test]
    fn what_has_no_text_is_an_error() {
        for bytes in [&b""[..], b"\x7fELF", &[0; 4096]] {
            assert!(check_bytes(bytes, LIMIT).is_err());
        }
    }

    #[test]
    fn one_image_is_limited() {
        let product =
            Variant { backend: Backend::Native, dispatch: Dispatch::Static, profile: Profile::Release };
        assert!(applies(Item::kernel(product)));
        assert!(!applies(Item::Image(Product::Conformance, product)));
        for other in [
            Variant { dispatch: Dispatch::Table, ..product },
            Variant { profile: Profile::Dev, ..product },
            Variant { backend: Backend::Lguest, ..product },
        ] {
            assert!(!applies(Item::kernel(other)));
        }
    }
}
