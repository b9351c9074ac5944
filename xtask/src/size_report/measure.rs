//! From an image to its figures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use crate::evidence::equality;
use crate::evidence::hooks::{self, Hooks, Reach};
use crate::evidence::image::Image;
use crate::evidence::names::Name;
use crate::evidence::parts;
use crate::evidence::record;
use crate::size_report::model::{Count, Figures, HookSites};

/// What an image is called in the report.
#[derive(Clone, Debug)]
pub struct Label {
    /// Backend, dispatch and profile in one
    pub name: String,
    /// How hooks are reached; found out from the image if it is not known
    pub dispatch: Option<String>,
    /// What optimizes across crates
    pub optimization: String,
}

/// Measures the image in a file.
pub fn image(path: &Path, label: Label) -> Result<Figures> {
    let image = Image::read(path)?;
    let (branches, found) =
        hooks::look_into(&image).with_context(|| format!("cannot look into {}", path.display()))?;
    let places: BTreeSet<_> = found.sites.iter().map(|site| &site.place).collect();
    Ok(Figures {
        name: label.name,
        backend: image.platform.clone(),
        dispatch: label.dispatch.unwrap_or_else(|| dispatch(&image).to_owned()),
        optimization: label.optimization,
        whole: image.size(),
        architecture: parts::architecture(&image, &found),
        sites: by_hook(&found),
        places: places.len() as u64,
        merged: merged(&found),
        recorded: record::recorded(&image),
        indirect: parts::indirect(&image, &branches, &found),
        crates: parts::text_by_crate(&image),
        functions: equality::functions(&image),
    })
}

/// Hooks with no site of their own whose slot's address is taken.
fn merged(found: &Hooks) -> BTreeMap<String, Name> {
    let shared = found.merged.iter().filter(|(hook, _)| found.sites.iter().all(|site| site.hook != **hook));
    shared.map(|(hook, function)| (hook.to_string(), function.clone())).collect()
}

/// The dispatch of an image that was not built here.
fn dispatch(image: &Image) -> &'static str {
    let has = |name: &str| {
        image.objects.iter().any(|object| hooks::is_table(object) && object.name.as_str().ends_with(name))
    };
    if record::recorded(image).is_some() {
        "patched"
    } else if has("::TABLE") {
        "table"
    } else if has("::OBJECT") {
        "dyn"
    } else {
        "static"
    }
}

fn by_hook(found: &Hooks) -> Vec<HookSites> {
    let count = |hook: &_, reach: Reach| {
        let sites = found.sites.iter().filter(|site| site.hook == *hook && site.reach == reach);
        sites.fold(Count::default(), |count, site| Count {
            sites: count.sites + 1,
            bytes: count.bytes + site.bytes,
        })
    };
    hooks::all()
        .into_iter()
        .map(|hook| HookSites {
            inlined: count(&hook, Reach::Inlined),
            direct: count(&hook, Reach::Direct),
            indirect: count(&hook, Reach::Indirect),
            own_code: found.own_code.get(&hook).copied().unwrap_or_default(),
            hook,
        })
        .collect()
}
