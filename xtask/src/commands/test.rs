//! `cargo xtask test`: the build machine's tests and the suite of guests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::images::{self, AtFailure, Item};
use crate::initramfs::Initramfs;
use crate::installer::{self, BUSYBOX, QEMU};
use crate::report::{self, say};
use crate::suite::{self, Extent};
use crate::testing::case::{Case, Mode};
use crate::testing::host;
use crate::testing::outcome::{Results, seconds};
use crate::testing::programs;
use crate::testing::runner::{Bench, Verdict};
use crate::testing::text_size;
use crate::variant::{Backend, Dispatch, Variant};
use crate::workspace::Workspace;

use super::setup::ALL_TOOLS;

/// Runs cargo's tests and the suite of guests
///
/// Every line but the last is about one test; the last has the counts. Exit status: 0 when something ran and all of
/// it passed, else 1.
#[derive(clap::Args)]
pub struct Args {
    /// Only what has this in its name (a whole name means that one alone); `host/NAME` is for cargo's tests
    filter: Option<String>,

    /// Print the names and run nothing
    #[arg(long)]
    list: bool,

    /// Every case under VMI and lguest too, unless it is about what they have not; not only enough of them
    #[arg(long)]
    all: bool,

    /// Only guests on these backends, and none of cargo's tests
    #[arg(long = "features", value_name = "BACKEND,…", value_delimiter = ',')]
    backends: Vec<Backend>,

    /// How all kernels reach their backend, whatever the cases say [default: static, and some of the others]; images of
    /// profile dev keep theirs where this is patched, which they cannot be
    #[arg(long, value_name = "MODE")]
    dispatch: Option<Dispatch>,

    /// How many guests run at a time; no more images than that are built at a time
    #[arg(long, default_value = "2", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let extent = if args.all { Extent::Everything } else { Extent::Enough };
    let (mut host, mut cases) = select(suite::cases(&workspace, extent)?, args.filter.as_deref());
    if !args.backends.is_empty() {
        host = None;
        cases.retain(|case| args.backends.contains(&case.variant.backend));
    }
    if let Some(dispatch) = args.dispatch {
        put_into(dispatch, &mut cases);
    }
    if host.is_none() && cases.is_empty() {
        say!(
            "no test{} has `{}` in its name: cargo xtask test --list shows them",
            if args.backends.is_empty() { "" } else { " on these backends" },
            args.filter.as_deref().unwrap_or_default()
        );
    }
    if args.list {
        host.iter().for_each(|_| println!("{} (cargo test --workspace)", host::GROUP));
        cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(if host.is_none() && cases.is_empty() { 1 } else { 0 });
    }
    let mut results = Results::new();
    installer::require(ALL_TOOLS)?;
    // Errors in cargo's tests are told at once. The tests look into some of the images, so these come before they run.
    let host = match host {
        Some(filter) if host::build(&workspace, &mut results)? => Some(filter),
        _ => None,
    };
    let images = build_images(&workspace, &cases, &args, &mut results)?;
    if let Some(filter) = host {
        host::run(&workspace, &filter, &mut results)?;
    }
    if !cases.is_empty() {
        run_guests(workspace, &cases, &images, &args, &mut results)?;
    }
    Ok(if results.end() { 0 } else { 1 })
}

/// Has all cases run in this mode but those that are about their own, and those that cannot.
fn put_into(dispatch: Dispatch, cases: &mut [Case]) {
    for case in cases {
        let variant = Variant { dispatch, ..case.variant };
        if case.mode == Mode::Any && case.product.has_dispatch() && variant.can_be_built() {
            case.variant = variant;
        }
    }
}

/// What a filter asks for: cargo's own filter if cargo's tests are to run, and the cases.
fn select(cases: Vec<Case>, filter: Option<&str>) -> (Option<String>, Vec<Case>) {
    let Some(filter) = filter else { return (Some(String::new()), cases) };
    if let Some(rest) = filter.strip_prefix(host::GROUP) {
        match rest.strip_prefix('/') {
            Some(name) => return (Some(name.to_owned()), Vec::new()),
            None if rest.is_empty() => return (Some(String::new()), Vec::new()),
            None => {}
        }
    }
    let exact = cases.iter().any(|case| case.name == filter);
    let chosen = |case: &Case| if exact { case.name == filter } else { case.name.contains(filter) };
    (None, cases.into_iter().filter(chosen).collect())
}

/// Runs the cases, so many at a time.
fn run_guests(
    workspace: Workspace,
    cases: &[Case],
    images: &BTreeMap<String, PathBuf>,
    args: &Args,
    results: &mut Results,
) -> Result<()> {
    let busybox = BUSYBOX.require()?;
    let bench = Bench {
        qemu: QEMU.require()?,
        standard: Initramfs::with_busybox(&busybox)?,
        busybox,
        scratch: workspace.scratch("test")?,
        dispatch: args.dispatch,
        workspace,
    };

    results.start_bar(cases.len());
    let queue = Mutex::new(cases.iter().collect::<VecDeque<_>>());
    let (sender, events) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            let (sender, queue, bench) = (sender.clone(), &queue, &bench);
            // A guest dies with the thread that started it, so each thread sees its guests to their end.
            scope.spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(case) = next() {
                    let _ = sender.send(Event::Begun(case));
                    let verdict = match images.get(&image_name(case)) {
                        Some(image) => bench.run(case, image),
                        None => Err(anyhow::anyhow!("its image {} was not built", image_name(case))),
                    };
                    let _ = sender.send(Event::Done(case, verdict));
                }
            });
        }
        drop(sender);
        for event in events {
            event.tell(results);
        }
    });
    Ok(())
}

/// The name of the image a case runs.
fn image_name(case: &Case) -> String {
    Item::Image(case.product, case.variant).to_string()
}

/// What a case needs besides programs.
fn needed(case: &Case) -> impl Iterator<Item = Item> {
    let images = case.products().map(|product| Item::Image(product, case.variant));
    images.chain(case.rom().built().map(Item::Rom))
}

/// Builds what is needed; gives the images that could be built, by name.
fn build_images(
    workspace: &Workspace,
    cases: &[Case],
    args: &Args,
    results: &mut Results,
) -> Result<BTreeMap<String, PathBuf>> {
    let items: Vec<Item> = cases.iter().flat_map(needed).collect();
    if items.is_empty() {
        return Ok(BTreeMap::new());
    }
    let programs: BTreeSet<_> = cases.iter().flat_map(Case::programs).cloned().collect();
    if let Err(error) = programs::build(workspace, &programs) {
        report::error(&error);
        results.fail("build/programs", &error, "");
    }
    let built = images::build(workspace, &items, Some(usize::from(args.jobs)), AtFailure::GoOn)?;
    let failed: Vec<Item> =
        built.iter().filter(|(_, result)| result.is_err()).map(|(item, _)| *item).collect();
    let mut images = BTreeMap::new();
    for (item, result) in built {
        match result {
            Err(error) => results.fail(&format!("build/{item}"), &format!("{error:#}"), ""),
            // An older hypervisor is not to run it.
            Ok(_) if item.below().is_some_and(|below| failed.contains(&below)) => {}
            Ok(built) => {
                if text_size::applies(item) {
                    match text_size::check(&built.path) {
                        Ok(size) => results.pass(text_size::NAME, 1, &format!("{size} bytes")),
                        Err(error) => results.fail(text_size::NAME, &format!("{error:#}"), ""),
                    }
                }
                images.insert(item.to_string(), built.path);
            }
        }
    }
    Ok(images)
}

enum Event<'a> {
    Begun(&'a Case),
    Done(&'a Case, Result<Verdict>),
}

impl Event<'_> {
    fn tell(self, results: &mut Results) {
        match self {
            Self::Begun(case) => results.begin(&case.name),
            Self::Done(case, Ok(Verdict { failure: None, took, .. })) => {
                results.pass(&case.name, 1, &seconds(took));
            }
            Self::Done(case, Ok(Verdict { failure: Some(why), detail, took })) => {
                results.fail(&case.name, &format!("{why} ({})", seconds(took)), &detail);
            }
            Self::Done(case, Err(error)) => results.fail(&case.name, &format!("{error:#}"), ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case::case;

    #[test]
    fn a_case_about_its_mode_keeps_it() {
        let mut cases = [case("a/open"), case("a/own").about_dispatch(Dispatch::Patched)];
        put_into(Dispatch::Dyn, &mut cases);
        assert_eq!(cases.map(|case| case.variant.dispatch), [Dispatch::Dyn, Dispatch::Patched]);
    }

    fn chosen(filter: Option<&str>) -> (Option<String>, Vec<String>) {
        let cases = ["boot/a", "boot/a-b", "shell/pipes", "hosted/x"].map(case).into_iter().collect();
        let (host, cases) = select(cases, filter);
        (host, cases.into_iter().map(|case| case.name).collect())
    }

    #[test]
    fn filters() {
        assert_eq!(chosen(None).1.len(), 4);
        assert_eq!(chosen(None).0.as_deref(), Some(""));
        assert_eq!(chosen(Some("boot")), (None, vec!["boot/a".into(), "boot/a-b".into()]));
        assert_eq!(chosen(Some("boot/a")), (None, vec!["boot/a".into()]));
        assert_eq!(chosen(Some("host")), (Some(String::new()), vec![]));
        assert_eq!(chosen(Some("host/cpio")), (Some("cpio".into()), vec![]));
        assert_eq!(chosen(Some("hosted")), (None, vec!["hosted/x".into()]));
        assert_eq!(chosen(Some("nothing")), (None, vec![]));
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let cases = suite::cases(&Workspace::find().unwrap(), Extent::Everything).unwrap();
        let names: BTreeSet<_> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            let parts = case.name.split('/').count();
            assert!((2..=3).contains(&parts) && !case.name.contains(' '), "{}", case.name);
            assert_ne!(case.name.split('/').next(), Some(host::GROUP), "{}", case.name);
        }
    }
}
