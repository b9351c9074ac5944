//! `cargo xtask race`: Monoguest against Debian's Linux on the same virtual machine.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use crate::images;
use crate::initramfs::Initramfs;
use crate::installer::{BUSYBOX, QEMU};
use crate::qemu::Machine;
use crate::race::course::{Clock, Contender, Course, median};
use crate::race::linux::Linux;
use crate::race::operations::{Costs, Run};
use crate::race::table::{Format, Results, Row, Section, Unit};
use crate::race::{boot, memory, operations, probe};
use crate::report::say;
use crate::rom;
use crate::testing::programs::{self, Program};
use crate::variant::{Backend, Dispatch, Profile, Variant};
use crate::workspace::Workspace;

/// Measures Monoguest against Debian's Linux in the same QEMU, with the same initramfs and programs
///
/// The ratios are Monoguest's figure by Linux's: below 1 Monoguest needs less. Linux comes from Debian's package
/// linux-image-cloud-amd64, fetched once. Exit status: 0 when everything was measured on both, else 1.
#[derive(clap::Args)]
pub struct Args {
    /// What to measure [default: all]
    #[arg(value_name = "WHAT")]
    parts: Vec<Part>,

    /// Monoguest's backend
    #[arg(long = "features", value_name = "BACKEND", default_value = "native")]
    backend: Backend,

    /// How Monoguest reaches it
    #[arg(long, default_value = "static")]
    dispatch: Dispatch,

    /// Measure this image, and build none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["backend", "dispatch"])]
    image: Option<PathBuf>,

    /// pc, q35 or microvm; QEMU's options for the machine may follow, as in microvm,pit=off
    #[arg(long, default_value = "pc", value_name = "MACHINE")]
    machine: Machine,

    /// The CPU model, by QEMU's name for it
    #[arg(long, default_value = "max", value_name = "MODEL")]
    cpu: String,

    /// Memory in MiB
    #[arg(long, default_value = "128", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    memory: u32,

    /// The numbers of CPUs to measure operations with
    #[arg(long, default_value = "1,2", value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    smp: Vec<u16>,

    /// How often each kernel is measured in real time, turn about; the medians count
    #[arg(long, default_value = "3", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,

    /// Only operations that have this in their names; may be given several times
    #[arg(long, value_name = "TEXT", value_parser = word)]
    only: Vec<String>,

    /// More for Linux's command line, such as mitigations=off
    #[arg(
        long,
        value_name = "PARAMETERS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    linux_append: String,

    /// Seconds a guest may run
    #[arg(long, default_value = "300", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,

    /// How to print the results
    #[arg(long, default_value = "table")]
    format: Format,
}

/// A part of the race.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// From the first kernel instruction to the first user instruction
    Boot,
    /// What system calls and the like cost
    Operations,
    /// The least memory with a busybox prompt, and what is free of more
    Memory,
}

/// A word that goes through a kernel command line whole.
fn word(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty() || !text.chars().all(plain) {
        return Err("operations' names have letters, digits and _ only".to_owned());
    }
    Ok(text.to_owned())
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    let qemu = QEMU.require()?;
    let linux = Linux::require(&workspace)?;
    let scratch = workspace.scratch("race")?;
    let monoguest = monoguest(&workspace, &args, &scratch)?;
    let mut race = Race {
        course: Course {
            qemu,
            scratch,
            machine: args.machine.clone(),
            cpu: args.cpu.clone(),
            memory: args.memory,
            limit: Duration::from_secs(args.limit),
            hypervisor: None,
        },
        linux: Contender {
            name: format!("Linux (Debian {})", linux.version),
            image: linux.image,
            // A panic ends QEMU instead of leaving the guest there.
            append: format!("panic=-1 {}", args.linux_append).trim().to_owned(),
            rom: None,
        },
        monoguest,
        tree: tree(&workspace)?,
        bar: ProgressBar::hidden(),
        args,
    };
    let results = race.run()?;
    let text = results.render(race.args.format);
    std::io::stdout().write_all(text.as_bytes()).context("cannot write the results")?;
    Ok(if results.complete() { 0 } else { 1 })
}

fn monoguest(workspace: &Workspace, args: &Args, scratch: &Path) -> Result<Contender> {
    let (name, image, rom) = match &args.image {
        Some(image) => (image.display().to_string(), image.clone(), None),
        None => {
            let variant =
                Variant { backend: args.backend, dispatch: args.dispatch, profile: Profile::Release };
            let rom = rom::place(workspace, &variant.rom(), &args.machine, scratch)?;
            (variant.to_string(), images::image(workspace, variant)?, rom)
        }
    };
    Ok(Contender { name: format!("Monoguest ({name})"), image, append: String::new(), rom })
}

/// busybox, the probe and `bench`.
fn tree(workspace: &Workspace) -> Result<Initramfs> {
    let bench = Program::Rust("bench".to_owned());
    programs::build(workspace, &[bench.clone()].into())?;
    let mut tree = Initramfs::with_busybox(&BUSYBOX.require()?)?;
    tree.file(boot::PROBE, probe::program(), 0o755);
    tree.host_file(&bench.path(workspace), operations::BENCH)?;
    Ok(tree)
}

struct Race {
    course: Course,
    linux: Contender,
    monoguest: Contender,
    tree: Initramfs,
    bar: ProgressBar,
    args: Args,
}

/// Both kernels' figures, Linux's first.
type Pair<T> = [T; 2];

impl Race {
    fn run(&mut self) -> Result<Results> {
        let initrd = self.course.pack("initramfs.cpio", &self.tree)?;
        let wanted = |part| self.args.parts.is_empty() || self.args.parts.contains(&part);
        let mut sections = Vec::new();
        self.bar = ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner());
        if wanted(Part::Boot) {
            sections.push(self.boot(&initrd));
        }
        if wanted(Part::Operations) {
            sections.extend(self.operations(&initrd));
        }
        if wanted(Part::Memory) {
            sections.push(self.memory(&initrd));
        }
        self.bar.finish_and_clear();
        Ok(Results {
            linux: self.linux.name.clone(),
            monoguest: self.monoguest.name.clone(),
            machine: format!(
                "{}, -cpu {}, {} MiB, under QEMU TCG",
                self.course.machine, self.course.cpu, self.course.memory
            ),
            sections,
        })
    }

    fn boot(&self, initrd: &Path) -> Section {
        let milliseconds = |took: Duration| took.as_secs_f64() * 1e3;
        let [linux, ours] = self
            .in_turn("boot", |contender| Ok(milliseconds(boot::real_time(&self.course, contender, initrd)?)));
        let real = Row::new("kernel entry to process 1, real time", Unit::Milliseconds, linux, ours);
        let [linux, ours] = self.both("boot, instructions", |contender| {
            Ok(boot::instructions(&self.course, contender, initrd)? as f64)
        });
        let counted = Row::new("kernel entry to process 1", Unit::Instructions, linux, ours);
        let [linux, ours] = self.in_turn("boot from QEMU's start", |contender| {
            Ok(milliseconds(boot::to_greeting(&self.course, contender, initrd)?))
        });
        let whole = Row::new("QEMU's start to process 1's first word", Unit::Milliseconds, linux, ours);
        Section { title: "Boot, 1 CPU".to_owned(), rows: vec![real, counted, whole] }
    }

    fn operations(&self, initrd: &Path) -> Vec<Section> {
        let mut sections = Vec::new();
        for &smp in &self.args.smp {
            let mut runs: Pair<Vec<Costs>> = Default::default();
            for turn in 0..self.args.runs {
                let what = format!("operations, {smp} CPUs, run {}", turn + 1);
                for (costs, found) in runs.iter_mut().zip(self.bench(&what, initrd, (smp, Clock::Real))) {
                    costs.push(found);
                }
            }
            let title = match smp {
                1 => "Operations, 1 CPU, real time".to_owned(),
                _ => format!("Operations, {smp} CPUs, real time"),
            };
            sections.push(operations_section(
                title,
                Unit::Nanoseconds,
                runs.map(|runs| operations::medians(&runs)),
            ));
        }
        let counted = self.bench("operations, instructions", initrd, (1, Clock::Instructions));
        let title = "Operations, 1 CPU, instructions executed in the guest".to_owned();
        sections.push(operations_section(title, Unit::Instructions, counted));
        sections
    }

    fn bench(&self, what: &str, initrd: &Path, (smp, clock): (u16, Clock)) -> Pair<Costs> {
        self.both(what, |contender| {
            let Run { costs, failures } =
                operations::run(&self.course, contender, initrd, (smp, clock), &self.args.only)?;
            failures.iter().for_each(|failure| self.tell(what, contender, failure));
            Ok(costs)
        })
        .map(Option::unwrap_or_default)
    }

    fn memory(&self, initrd: &Path) -> Section {
        let [linux, ours] =
            self.both("least memory", |contender| Ok(memory::least(&self.course, contender, initrd)?.into()));
        let least = Row::new("least with a busybox prompt", Unit::Mebibytes, linux, ours);
        let [linux, ours] =
            self.both("free memory", |contender| memory::free(&self.course, contender, initrd));
        let all = f64::from(self.course.memory) * 1024.0;
        let used = |free: &Option<memory::Free>| free.map(|free| all - free.free as f64);
        let reserved = |free: &Option<memory::Free>| free.map(|free| all - free.total as f64);
        let mib = self.course.memory;
        Section {
            title: "Memory, 1 CPU".to_owned(),
            rows: vec![
                least,
                Row::new(
                    format!("not MemFree at the prompt, of {mib} MiB"),
                    Unit::Kibibytes,
                    used(&linux),
                    used(&ours),
                ),
                Row::new(
                    format!("not in MemTotal, of {mib} MiB"),
                    Unit::Kibibytes,
                    reserved(&linux),
                    reserved(&ours),
                ),
            ],
        }
    }

    /// Measures both kernels turn about, and gives the medians.
    fn in_turn(&self, what: &str, measure: impl Fn(&Contender) -> Result<f64>) -> Pair<Option<f64>> {
        let mut found: Pair<Vec<f64>> = Default::default();
        for turn in 0..self.args.runs {
            let pair = self.both(&format!("{what}, run {}", turn + 1), &measure);
            for (found, value) in found.iter_mut().zip(pair) {
                found.extend(value);
            }
        }
        found.map(|mut values| median(&mut values))
    }

    /// Measures each kernel once. What cannot be measured is told, and missing.
    fn both<T>(&self, what: &str, measure: impl Fn(&Contender) -> Result<T>) -> Pair<Option<T>> {
        [&self.linux, &self.monoguest].map(|contender| {
            self.bar.set_message(format!("{what}: {}", contender.name));
            self.bar.tick();
            measure(contender)
                .map_err(|error| self.tell(what, contender, format!("{error:#}{}", self.course.said())))
                .ok()
        })
    }

    fn tell(&self, what: &str, contender: &Contender, text: impl Display) {
        self.bar.suspend(|| say!("{what}: {}: {text}", contender.name));
    }
}

/// A row for each operation that was measured on either kernel.
fn operations_section(title: String, unit: Unit, [linux, ours]: Pair<Costs>) -> Section {
    let mut names: Vec<&String> = linux.keys().chain(ours.keys()).collect();
    names.sort();
    names.dedup();
    let cost = |costs: &Costs, name: &String| costs.get(name).copied();
    let rows = names.into_iter().map(|name| Row::new(name, unit, cost(&linux, name), cost(&ours, name)));
    Section { title, rows: rows.collect() }
}
