//! Images: what has no operating system below it. Cargo builds it, and each is kept at a place of its own.

mod item;
mod lanes;
mod make;

use std::path::PathBuf;

use anyhow::Result;

pub use self::item::Item;
pub use self::lanes::{AtFailure, Counts, build};
pub use self::make::{make, one};
use crate::variant::{Product, Variant};
use crate::workspace::Workspace;

/// Builds one variant of the kernel, and for lguest the hypervisor that runs it.
pub fn image(workspace: &Workspace, variant: Variant) -> Result<PathBuf> {
    product(workspace, Product::Monoguest, variant)
}

/// Builds one variant of what runs above the cut, and for lguest the hypervisor that runs it.
pub fn product(workspace: &Workspace, product: Product, variant: Variant) -> Result<PathBuf> {
    let item = Item::Image(product, variant);
    if let Some(below) = item.below() {
        one(workspace, below)?;
    }
    Ok(one(workspace, item)?.path)
}

/// Builds all of these and what runs them, or ends with the first that cannot be built.
pub fn all(workspace: &Workspace, items: &[Item]) -> Result<Counts> {
    let results = build(workspace, items, None, AtFailure::Stop)?;
    let mut counts = Counts::default();
    for (_, result) in results {
        counts.count(&result?);
    }
    Ok(counts)
}
