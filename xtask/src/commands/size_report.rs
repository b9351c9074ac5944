//! `cargo xtask size-report`: what each way of reaching the backend costs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::evidence::hooks;
use crate::images::{self, Item};
use crate::report::{Usage, say};
use crate::size_report::measure::{self, Label};
use crate::size_report::model::{Figures, Report};
use crate::size_report::{check, compare, document, html, layout};
use crate::variant::{Backend, Dispatch, Product, Profile, Variant};
use crate::workspace::Workspace;

/// Shows what each way of reaching the backend costs, and proves that the product's costs nothing
///
/// Builds an image for each backend and dispatch mode, takes its code apart, and prints sizes, hook call sites and
/// what differs. Exit status: 1 when the comparison means nothing (a control without indirect calls) or the product is
/// not what it claims to be (an indirect hook call in static, or code that differs from direct's).
#[derive(clap::Args)]
pub struct Args {
    /// The backends [default: every one that is built]
    #[arg(long = "features", value_name = "BACKEND,…", value_delimiter = ',')]
    backends: Vec<Backend>,

    /// The dispatch modes; `static` is always among them, to compare with [default: static,direct,table]
    #[arg(long, value_name = "MODE,…", value_delimiter = ',')]
    dispatch: Vec<Dispatch>,

    /// Every way of reaching it, with link-time optimization and (but for patched, which needs it) without
    #[arg(long, conflicts_with = "dispatch")]
    all: bool,

    /// Look into this file instead of building images; may be given again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["backends", "dispatch", "all"])]
    image: Vec<PathBuf>,

    /// How the report is printed
    #[arg(long, default_value = "table")]
    format: Format,

    /// Also keep the figures in this file, for --compare
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    /// Also show what changed since this file was saved, by symbol
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a terminal of 80 columns
    Table,
    /// For programs; what --save keeps
    Json,
    /// For documents
    Markdown,
    /// For a browser: one file with charts
    Html,
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    let started = Instant::now();
    let workspace = Workspace::find()?;
    // A file that is no report is told before the images are built.
    let earlier = args.compare.as_deref().map(Report::load).transpose()?;
    let images = if args.image.is_empty() { built(&workspace, &args)? } else { given(&args.image)? };
    let report = Report::new(compiler()?, hooks::all(), images);
    if let Some(path) = &args.save {
        report.save(path)?;
    }
    let changes = earlier.map(|earlier| compare::changes(&earlier, &report)).unwrap_or_default();
    let mut blocks = document::report(&report);
    blocks.extend(changes.iter().cloned());
    let text = match args.format {
        Format::Table => layout::terminal(&blocks),
        Format::Markdown => layout::markdown(&blocks),
        Format::Json => report.to_json(),
        Format::Html => html::page(&report, &changes),
    };
    print!("{text}");
    let faults = check::faults(&report);
    faults.iter().for_each(|fault| say!("FAULT: {fault}"));
    say!(
        "report of {} images, in {:.1} s with their building",
        report.images.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(if faults.is_empty() { 0 } else { 1 })
}

/// The images that are asked for.
fn variants(args: &Args) -> Vec<Variant> {
    let backends = if args.backends.is_empty() { Backend::built() } else { args.backends.clone() };
    let mut dispatches = match (args.all, args.dispatch.is_empty()) {
        (true, _) => Dispatch::value_variants().to_vec(),
        (false, true) => vec![Dispatch::Static, Dispatch::Direct, Dispatch::Table],
        (false, false) => args.dispatch.clone(),
    };
    if !dispatches.contains(&Dispatch::Static) {
        dispatches.insert(0, Dispatch::Static);
    }
    let profiles: &[Profile] =
        if args.all { &[Profile::Release, Profile::ReleaseNolto] } else { &[Profile::Release] };
    let mut variants: Vec<Variant> = Vec::new();
    for backend in backends {
        for &profile in profiles {
            for &dispatch in &dispatches {
                let variant = Variant { backend, dispatch, profile };
                if !variant.can_be_built() {
                    say!("{variant} is left out: without link-time optimization no call site can be patched");
                } else if !variants.contains(&variant) {
                    variants.push(variant);
                }
            }
        }
    }
    variants
}

fn built(workspace: &Workspace, args: &Args) -> Result<Vec<Figures>> {
    let variants = variants(args);
    let items: Vec<_> = variants.iter().copied().map(Item::kernel).collect();
    images::all(workspace, &items)?;
    let look = |variant: Variant| {
        let label = Label {
            name: variant.to_string(),
            dispatch: Some(variant.dispatch.to_string()),
            optimization: variant.profile.optimization().to_owned(),
        };
        measure::image(&variant.image_path(workspace, Product::Monoguest), label)
    };
    variants.into_iter().map(look).collect()
}

fn given(paths: &[PathBuf]) -> Result<Vec<Figures>> {
    let label = |path: &PathBuf| Label {
        name: path.display().to_string(),
        dispatch: None,
        optimization: "as given".to_owned(),
    };
    let image = |path: &PathBuf| {
        measure::image(path, label(path)).map_err(|error| match error.downcast_ref() {
            Some(unfit) => {
                let unfit: &crate::evidence::image::Unfit = unfit;
                Usage(format!("{}: {unfit}", path.display())).into()
            }
            None => error,
        })
    };
    paths.iter().map(image).collect()
}

/// The compiler's own line about itself.
fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("cannot run rustc")?;
    if !output.status.success() {
        bail!("`rustc --version` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
