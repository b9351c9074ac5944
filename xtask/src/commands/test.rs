//! `cargo xtask test`: the build machine's tests and the suite of guests.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};

use crate::images::{self, AtFailure, Item};
use crate::initramfs::Initramfs;
use crate::installer::{self, BUSYBOX, QEMU};
use crate::report::{self, say};
use crate::suite::{self, Extent};
use crate::testing::case::{Case, Mode};
use crate::testing::check::{CHECKS, Check};
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
    let mut chosen = select(suite::cases(&workspace, extent)?, args.filter.as_deref());
    if !args.backends.is_empty() {
        chosen.host = None;
        chosen.cases.retain(|case| args.backends.contains(&case.variant.backend));
        chosen.checks.retain(|check| args.backends.contains(&check.item.backend()));
    }
    if let Some(dispatch) = args.dispatch {
        put_into(dispatch, &mut chosen.cases);
    }
    if chosen.is_empty() {
        say!(
            "no test{} has `{}` in its name: cargo xtask test --list shows them",
            if args.backends.is_empty() { "" } else { " on these backends" },
            args.filter.as_deref().unwrap_or_default()
        );
    }
    if args.list {
        chosen.host.iter().for_each(|_| println!("{} (cargo test --workspace)", host::GROUP));
        chosen.checks.iter().for_each(|check| println!("{}", check.name));
        chosen.cases.iter().for_each(|case| println!("{}", case.name));
        return Ok(u8::from(chosen.is_empty()));
    }
    let mut results = Results::new();
    installer::require(ALL_TOOLS)?;
    // Errors in cargo's tests are told at once. The tests look into some of the images, so these come before they run.
    let host = match &chosen.host {
        Some(filter) if host::build(&workspace, &mut results)? => Some(filter),
        _ => None,
    };
    let images = build_images(&workspace, &chosen, &args, &mut results)?;
    if let Some(filter) = host {
        host::run(&workspace, filter, &mut results)?;
    }
    if !chosen.cases.is_empty() || !chosen.checks.is_empty() {
        run_guests(workspace, &chosen, &images, &args, &mut results)?;
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

/// What is to run.
#[derive(Debug, Default)]
struct Chosen {
    /// Cargo's own filter, if cargo's tests are to run
    host: Option<String>,
    checks: Vec<&'static Check>,
    cases: Vec<Case>,
}

impl Chosen {
    fn is_empty(&self) -> bool {
        self.host.is_none() && self.checks.is_empty() && self.cases.is_empty()
    }
}

/// What a filter asks for.
fn select(mut cases: Vec<Case>, filter: Option<&str>) -> Chosen {
    let mut checks: Vec<&Check> = CHECKS.iter().collect();
    let Some(filter) = filter else { return Chosen { host: Some(String::new()), checks, cases } };
    if let Some(rest) = filter.strip_prefix(host::GROUP) {
        match rest.strip_prefix('/') {
            Some(name) => return Chosen { host: Some(name.to_owned()), ..Chosen::default() },
            None if rest.is_empty() => return Chosen { host: Some(String::new()), ..Chosen::default() },
            None => {}
        }
    }
    let mut names = cases.iter().map(|case| case.name.as_str()).chain(checks.iter().map(|check| check.name));
    let exact = names.any(|name| name == filter);
    let chosen = |name: &str| if exact { name == filter } else { name.contains(filter) };
    checks.retain(|check| chosen(check.name));
    cases.retain(|case| chosen(&case.name));
    Chosen { host: None, checks, cases }
}

/// Something to run beside others.
#[derive(Clone, Copy, Debug)]
enum Job<'a> {
    Check(&'static Check),
    Case(&'a Case),
}

impl Job<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Check(check) => check.name,
            Self::Case(case) => &case.name,
        }
    }

    fn run(&self, bench: &Bench, images: &BTreeMap<String, PathBuf>) -> Result<Verdict> {
        let item = match self {
            Self::Check(check) => check.item,
            Self::Case(case) => Item::Image(case.product, case.variant),
        };
        let Some(image) = images.get(&item.to_string()) else { bail!("its image {item} was not built") };
        match self {
            Self::Check(check) => bench.check(check),
            Self::Case(case) => bench.run(case, image),
        }
    }
}

/// Runs the checks and cases, so many at a time.
fn run_guests(
    workspace: Workspace,
    chosen: &Chosen,
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

    // The checks take longest.
    let checks = chosen.checks.iter().map(|check| Job::Check(check));
    let jobs: VecDeque<Job<'_>> = checks.chain(chosen.cases.iter().map(Job::Case)).collect();
    results.start_bar(jobs.len());
    let queue = Mutex::new(jobs);
    let (sender, events) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            let (sender, queue, bench) = (sender.clone(), &queue, &bench);
            // A guest dies with the thread that started it, so each thread sees its guests to their end.
            scope.spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                while let Some(job) = next() {
                    let _ = sender.send(Event::Begun(job));
                    let _ = sender.send(Event::Done(job, job.run(bench, images)));
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

/// What a case needs besides programs.
fn needed(case: &Case) -> impl Iterator<Item = Item> {
    let images = case.images().map(|(product, variant)| Item::Image(product, variant));
    images.chain(case.rom().built().map(Item::Rom))
}

/// Builds what is needed; gives the images that could be built, by name.
fn build_images(
    workspace: &Workspace,
    chosen: &Chosen,
    args: &Args,
    results: &mut Results,
) -> Result<BTreeMap<String, PathBuf>> {
    let of_checks = chosen.checks.iter().map(|check| check.item);
    let items: Vec<Item> = of_checks.chain(chosen.cases.iter().flat_map(needed)).collect();
    if items.is_empty() {
        return Ok(BTreeMap::new());
    }
    let programs: BTreeSet<_> = chosen.cases.iter().flat_map(Case::programs).cloned().collect();
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
    Begun(Job<'a>),
    Done(Job<'a>, Result<Verdict>),
}

impl Event<'_> {
    fn tell(self, results: &mut Results) {
        match self {
            Self::Begun(job) => results.begin(job.name()),
            Self::Done(job, Ok(Verdict { failure: None, detail, took })) => {
                let detail = if detail.is_empty() { detail } else { format!("  {detail}") };
                results.pass(job.name(), 1, &format!("{}{detail}", seconds(took)));
            }
            Self::Done(job, Ok(Verdict { failure: Some(why), detail, took })) => {
                results.fail(job.name(), &format!("{why} ({})", seconds(took)), &detail);
            }
            Self::Done(job, Err(error)) => results.fail(job.name(), &format!("{error:#}"), ""),
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
        let Chosen { host, checks, cases } = select(cases, filter);
        let checks = checks.into_iter().map(|check| check.name.to_owned());
        (host, checks.chain(cases.into_iter().map(|case| case.name)).collect())
    }

    #[test]
    fn filters() {
        assert_eq!(chosen(None).1.len(), CHECKS.len() + 4);
        assert_eq!(chosen(None).0.as_deref(), Some(""));
        assert_eq!(chosen(Some("boot")), (None, vec!["boot/a".into(), "boot/a-b".into()]));
        assert_eq!(chosen(Some("boot/a")), (None, vec!["boot/a".into()]));
        assert_eq!(chosen(Some("host")), (Some(String::new()), vec![]));
        assert_eq!(chosen(Some("host/cpio")), (Some("cpio".into()), vec![]));
        assert_eq!(chosen(Some("hosted")), (None, vec!["hosted/x".into()]));
        assert_eq!(chosen(Some("build/")), (None, vec!["build/elsewhere".into()]));
        assert_eq!(chosen(Some("nothing")), (None, vec![]));
    }

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let cases = suite::cases(&Workspace::find().unwrap(), Extent::Everything).unwrap();
        let checks = CHECKS.iter().map(|check| check.name);
        let all: Vec<_> = cases.iter().map(|case| case.name.as_str()).chain(checks).collect();
        let names: BTreeSet<_> = all.iter().collect();
        assert_eq!(names.len(), all.len());
        for name in all {
            let parts = name.split('/').count();
            assert!((2..=3).contains(&parts) && !name.contains(' '), "{name}");
            assert_ne!(name.split('/').next(), Some(host::GROUP), "{name}");
        }
    }
}
