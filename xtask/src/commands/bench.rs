//! `cargo xtask bench`: what the cut costs, in instructions.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::render::{self, Format};
use crate::bench::results::{Costs, Measured, Results, Section, VERSION};
use crate::bench::{compare, exits, measure, page};
use crate::images::{self, Item};
use crate::initramfs::Initramfs;
use crate::installer::{BUSYBOX, QEMU};
use crate::lguest::Hypervisor;
use crate::qemu::Machine;
use crate::race::course::{Below, Contender, Course};
use crate::race::operations::BENCH;
use crate::report::say;
use crate::rom::{self, Manner};
use crate::testing::programs::{self, Program};
use crate::variant::{Backend, Dispatch, Product, Profile, Variant};
use crate::workspace::Workspace;

/// Counts what hooks, operations and the boot cost in instructions, in each dispatch mode
///
/// The guest's clock counts instructions (QEMU's -icount), so the figures are the same in each run and do not depend on
/// how busy this machine is. Exit status: 0 when everything was measured, else 1.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure [default: all]
    #[arg(value_name = "WHAT")]
    parts: Vec<Part>,

    /// The backends [default: every one that is built]
    #[arg(long = "features", value_name = "BACKEND,…", value_delimiter = ',')]
    backends: Vec<Backend>,

    /// The dispatch modes
    #[arg(long, value_name = "MODE,…", value_delimiter = ',', default_value = "static,direct,table,patched")]
    dispatch: Vec<Dispatch>,

    /// Only operations that have this in their names; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,

    /// pc, q35 or microvm
    #[arg(long, default_value = "pc", value_name = "MACHINE")]
    machine: Machine,

    /// The CPU model, by QEMU's name for it
    #[arg(long, default_value = "max", value_name = "MODEL")]
    cpu: String,

    /// Seconds a guest may run
    #[arg(long, default_value = "300", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,

    /// How to print the results
    #[arg(long, default_value = "table")]
    format: Format,

    /// Keep the results in this file, for --compare
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,

    /// Print what changed since the results in this file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The contract's hooks, one by one
    Hooks,
    /// What user programs ask of the kernel
    Operations,
    /// The phases of the boot
    Boot,
    /// Hypercalls and faults of an lguest guest an operation, with the ring and without it
    Lguest,
}

impl Part {
    /// What runs above the cut.
    fn product(self) -> Product {
        if self == Self::Hooks { Product::Conformance } else { Product::Monoguest }
    }

    fn section(self) -> Section {
        match self {
            Self::Hooks => Section::Hooks,
            Self::Operations => Section::Operations,
            Self::Boot => Section::Boot,
            Self::Lguest => Section::Exits,
        }
    }
}

/// Whether the part is to be measured.
fn wants(args: &Args, part: Part) -> bool {
    args.parts.is_empty() || args.parts.contains(&part)
}

/// What is measured.
fn needed(backends: &[Backend], args: &Args) -> Vec<Item> {
    let mut items = Vec::new();
    let variant = |backend, dispatch| Variant { backend, dispatch, profile: Profile::Release };
    for &backend in backends {
        for part in PARTS.into_iter().filter(|&part| wants(args, part)) {
            let variants = args.dispatch.iter().map(|&dispatch| variant(backend, dispatch));
            items.extend(variants.map(|variant| Item::Image(part.product(), variant)));
        }
        if backend == Backend::Vmi {
            items.push(Item::Rom(Manner::Plain));
        }
        if backend == Backend::Lguest && wants(args, Part::Lguest) {
            items.extend([Backend::Native, backend].map(|of| Item::kernel(variant(of, Dispatch::Static))));
        }
    }
    items
}

/// The parts that are measured for each variant.
const PARTS: [Part; 3] = [Part::Hooks, Part::Operations, Part::Boot];

/// Memory of a guest in MiB.
const MEMORY: u32 = 128;

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    // A file that is of no use is told before minutes are spent.
    let before = args.compare.as_deref().map(Results::load).transpose()?;
    let workspace = Workspace::find()?;
    let bench = Bench::new(workspace, &args)?;
    let (results, complete) = bench.run(&args)?;
    if let Some(path) = &args.save {
        results.save(path)?;
    }
    let text = match (&before, args.format) {
        (Some(before), _) => compare::text(before, &results),
        (None, Format::Json) => results.to_json(),
        (None, Format::Html) => page::of(&results),
        (None, format) => render::text(&results, format),
    };
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the results")?;
    Ok(if complete { 0 } else { 1 })
}

struct Bench {
    workspace: Workspace,
    course: Course,
    initrd: PathBuf,
    bar: ProgressBar,
}

impl Bench {
    fn new(workspace: Workspace, args: &Args) -> Result<Self> {
        let course = Course {
            qemu: QEMU.require()?,
            scratch: workspace.scratch("bench")?,
            machine: args.machine.clone(),
            cpu: args.cpu.clone(),
            memory: MEMORY,
            limit: Duration::from_secs(args.limit),
            hypervisor: None,
        };
        let program = Program::Rust("bench".to_owned());
        programs::build(&workspace, &[program.clone()].into())?;
        let mut tree = Initramfs::with_busybox(&BUSYBOX.require()?)?;
        tree.host_file(&program.path(&workspace), BENCH)?;
        let initrd = course.pack("initramfs.cpio", &tree)?;
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        Ok(Self { workspace, course, initrd, bar })
    }

    /// Measures everything; whether nothing failed.
    fn run(&self, args: &Args) -> Result<(Results, bool)> {
        let backends = if args.backends.is_empty() { Backend::built() } else { args.backends.clone() };
        images::all(&self.workspace, &needed(&backends, args))?;
        let mut complete = true;
        let mut variants = Vec::new();
        for &backend in &backends {
            for &dispatch in &args.dispatch {
                let variant = Variant { backend, dispatch, profile: Profile::Release };
                let measured = self.variant(variant, args, &mut complete)?;
                variants.extend(measured);
            }
        }
        if backends.contains(&Backend::Lguest) && wants(args, Part::Lguest) {
            variants.extend(self.exits(args, &mut complete)?);
        }
        self.bar.finish_and_clear();
        let machine = format!("{}, -cpu {}, 1 CPU, {MEMORY} MiB, under QEMU TCG", args.machine, args.cpu);
        Ok((Results { version: VERSION, machine, variants }, complete))
    }

    fn variant(&self, variant: Variant, args: &Args, complete: &mut bool) -> Result<Option<Measured>> {
        let mut sections = BTreeMap::new();
        for part in PARTS.into_iter().filter(|&part| wants(args, part)) {
            let name = format!("{variant}, {}", part.section().title());
            self.bar.set_message(name.clone());
            self.bar.tick();
            match self.part(variant, part, &args.only) {
                Ok(costs) => {
                    sections.insert(part.section(), costs);
                }
                Err(error) => {
                    *complete = false;
                    self.bar.suspend(|| say!("{name}: {error:#}{}", self.course.said()));
                }
            }
        }
        let dispatch = variant.dispatch.to_string();
        let measured = Measured { backend: variant.backend_name(), dispatch, sections };
        Ok(Some(measured).filter(|measured| !measured.sections.is_empty()))
    }

    /// What operations cost below an lguest guest: on native, with every hypercall made at once, and with the ring.
    fn exits(&self, args: &Args, complete: &mut bool) -> Result<[Measured; 3]> {
        let contender = |backend, append: &str| {
            let variant = Variant { backend, dispatch: Dispatch::Static, profile: Profile::Release };
            let image = variant.image_path(&self.workspace, Product::Monoguest);
            Contender { name: variant.to_string(), image, append: append.to_owned(), rom: None }
        };
        let native = contender(Backend::Native, "");
        let [direct, ring] = [contender(Backend::Lguest, exits::RING_OFF), contender(Backend::Lguest, "")];
        let hypervisor = Hypervisor { hypervisor_append: "counters".to_owned(), ..Hypervisor::default() };
        let below = Course { hypervisor: Some(self.below(hypervisor)), ..self.course.clone() };
        let mut columns = [Costs::new(), Costs::new(), Costs::new()];
        let chosen = |name: &str| args.only.is_empty() || args.only.iter().any(|word| name.contains(word));
        for (operation, _) in exits::OPERATIONS.iter().filter(|(name, _)| chosen(name)) {
            self.bar.set_message(format!("lguest, {operation}"));
            self.bar.tick();
            let measured = [
                exits::native(&self.course, &native, &self.initrd, operation),
                exits::lguest(&below, &direct, &self.initrd, operation),
                exits::lguest(&below, &ring, &self.initrd, operation),
            ];
            for (column, costs) in columns.iter_mut().zip(measured) {
                match costs {
                    Ok(costs) => column.extend(costs),
                    Err(error) => {
                        *complete = false;
                        self.bar.suspend(|| say!("lguest, {operation}: {error:#}{}", self.course.said()));
                    }
                }
            }
        }
        if columns.iter().all(Costs::is_empty) {
            *complete = false;
            say!("no operation was measured below lguest: --only names none");
        }
        let [native, mut direct, mut ring] = columns;
        exits::align(&mut direct, &mut ring);
        let mode = |name: &str, costs| Measured {
            backend: "lguest".to_owned(),
            dispatch: name.to_owned(),
            sections: [(Section::Exits, costs)].into(),
        };
        Ok([mode("native", native), mode("no ring", direct), mode("ring", ring)])
    }

    fn below(&self, args: Hypervisor) -> Below {
        Below { workspace: self.workspace.clone(), args }
    }

    fn part(&self, variant: Variant, part: Part, only: &[String]) -> Result<Costs> {
        let image = variant.image_path(&self.workspace, part.product());
        let rom = rom::place(&self.workspace, &variant.rom(), &self.course.machine, &self.course.scratch)?;
        let contender = Contender { name: variant.to_string(), image, append: String::new(), rom };
        let initrd: &Path = &self.initrd;
        let hypervisor = (variant.backend == Backend::Lguest).then(|| self.below(Hypervisor::default()));
        let course = Course { hypervisor, ..self.course.clone() };
        match part {
            Part::Hooks => measure::hooks(&course, &contender),
            Part::Operations => measure::operations(&course, &contender, initrd, only),
            Part::Boot => measure::boot(&course, &contender, initrd),
            Part::Lguest => unreachable!("no part of a variant"),
        }
    }
}
