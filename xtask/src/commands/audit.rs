//! `cargo xtask audit`: the gates that keep the cut what it is.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::audit::lock::{self, Lock};
use crate::audit::{Violation, arrows, calls, contract, image, sensitive, size, source, words};
use crate::evidence::hooks;
use crate::evidence::image::Image;
use crate::evidence::record;
use crate::images::{self, Item};
use crate::report::say;
use crate::variant::{Backend, Dispatch, Product, Profile, Variant};
use crate::workspace::Workspace;

/// Checks that hooks cost nothing, stay few and stay sealed; names each place that breaks a rule
///
/// Exit status: 0 when every gate holds, else 1.
#[derive(clap::Args)]
pub struct Args {
    /// Keep the contract as it is now in platform/contract.lock; refused unless its version was raised
    #[arg(long)]
    accept: bool,

    /// The backends whose images are checked [default: every one that is built]
    #[arg(long = "features", value_name = "BACKEND,…", value_delimiter = ',')]
    backends: Vec<Backend>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    let workspace = Workspace::find()?;
    if args.accept {
        return accept(&workspace);
    }
    let mut gates = Gates::default();
    source_gates(&workspace, &mut gates)?;
    let backends = if args.backends.is_empty() { Backend::built() } else { args.backends };
    let modes = [Dispatch::Static, Dispatch::Patched];
    let images = backends.iter().flat_map(|&backend| modes.map(|dispatch| optimized(backend, dispatch)));
    images::all(&workspace, &images.map(Item::kernel).collect::<Vec<_>>())?;
    for backend in backends {
        image_gates(&workspace, backend, &mut gates)?;
        patched_gates(&workspace, backend, &mut gates)?;
    }
    Ok(gates.end())
}

/// Results, one line a gate.
#[derive(Default)]
struct Gates {
    passed: usize,
    failed: usize,
}

impl Gates {
    fn gate(&mut self, name: &str, figure: &str, violations: &[Violation]) {
        if violations.is_empty() {
            self.passed += 1;
            println!("ok    {name}{}{figure}", if figure.is_empty() { "" } else { ": " });
            return;
        }
        self.failed += 1;
        println!("FAIL  {name}: {} violations", violations.len());
        violations.iter().for_each(|violation| println!("        {violation}"));
    }

    fn end(self) -> u8 {
        println!("{} gates hold, {} do not", self.passed, self.failed);
        u8::from(self.failed > 0)
    }
}

/// The gates of what is written.
fn source_gates(workspace: &Workspace, gates: &mut Gates) -> Result<()> {
    let count = hooks::all().len();
    let most = calls::MOST_HOOKS;
    gates.gate("hooks in the contract", &format!("{count} of {most}"), &calls::too_many_hooks(count, most));

    let kernel = source::of_crate(&workspace.root, "kernel/src/lib.rs")?;
    let places = calls::places(&kernel);
    let most = calls::MOST_PLACES;
    let figure = format!("{} of {most}", places.len());
    gates.gate("places in the kernel that call one", &figure, &calls::too_many_places(&places, most));

    gates.gate("dependencies between crates", "", &arrows::forbidden(&metadata(workspace)?)?);

    let platform = source::of_crate(&workspace.root, "platform/src/lib.rs")?;
    gates.gate("words in the contract", "", &words::forbidden(&platform));

    let now = Lock { version: platform::CONTRACT_VERSION, items: contract::items(&platform) };
    let kept = kept(workspace)?
        .with_context(|| format!("{} is missing: `cargo xtask audit --accept` writes it", lock::PATH))?;
    gates.gate("version of the contract", &now.version.to_string(), &lock::check(&kept, &now));

    let host = source::of_crate(&workspace.root, "arch-lguest/host/src/lib.rs")?;
    let most = size::MOST_LINES;
    let figure = format!("{} of {most} lines of code", size::lines(&host));
    gates.gate("size of the lguest hypervisor", &figure, &size::too_large(&host, most));
    Ok(())
}

/// The gates of a backend's `patched` control, which is none if a call stays indirect.
fn patched_gates(workspace: &Workspace, backend: Backend, gates: &mut Gates) -> Result<()> {
    let variant = optimized(backend, Dispatch::Patched);
    let image = Image::read(&variant.image_path(workspace, Product::Monoguest))?;
    let figure = record::recorded(&image).unwrap_or_default().sites().to_string();
    let name = |gate: &str| format!("{variant}: {gate}");
    gates.gate(&name("hook call sites are recorded"), &figure, &image::unrecorded_hooks(&image)?);
    gates.gate(&name("nothing writable and executable"), "", &image::writable_code(&image));
    sensitive_gate(&image, variant, gates);
    Ok(())
}

/// The gate of an image that runs at CPL 3, or may.
fn sensitive_gate(image: &Image, variant: Variant, gates: &mut Gates) {
    if !sensitive::RUNS_AT_CPL_3.contains(&image.platform.as_str()) {
        return;
    }
    let listed = sensitive::ALLOWED.iter().filter(|entry| entry.backend == image.platform);
    let mut reasons: Vec<_> = listed.map(|entry| entry.why).collect();
    reasons.dedup();
    let figure = format!("but where {}", reasons.join("; or "));
    let found = sensitive::instructions_of(image, sensitive::ALLOWED);
    gates.gate(&format!("{variant}: no sensitive instruction"), &figure, &found);
}

/// An image that gates look into.
fn optimized(backend: Backend, dispatch: Dispatch) -> Variant {
    Variant { backend, dispatch, profile: Profile::Release }
}

/// The gates of a backend's image.
fn image_gates(workspace: &Workspace, backend: Backend, gates: &mut Gates) -> Result<()> {
    let variant = optimized(backend, Dispatch::Static);
    let image = Image::read(&variant.image_path(workspace, Product::Monoguest))?;
    if image.contract != platform::CONTRACT_VERSION {
        bail!("{variant} says it follows version {} of the contract", image.contract);
    }
    let name = |gate: &str| format!("{variant}: {gate}");
    gates.gate(&name("no indirect hook call"), "", &image::indirect_hooks(&image)?);
    gates.gate(&name("nothing writable and executable"), "", &image::writable_code(&image));
    gates.gate(&name("no relocation left"), "", &image::relocations(&image));
    let drivers = if backend.has_devices() { "drivers for its devices" } else { "no driver, for no devices" };
    gates.gate(&name(drivers), "", &image::misplaced_drivers(&image, backend.has_devices())?);
    sensitive_gate(&image, variant, gates);
    Ok(())
}

fn metadata(workspace: &Workspace) -> Result<String> {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&workspace.root).args(["metadata", "--format-version", "1", "--no-deps"]);
    let output =
        cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("`cargo metadata` failed: see its message above");
    }
    String::from_utf8(output.stdout).context("`cargo metadata` does not write UTF-8")
}

fn kept(workspace: &Workspace) -> Result<Option<Lock>> {
    match fs::read_to_string(workspace.root.join(lock::PATH)) {
        Ok(text) => Lock::parse(&text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", lock::PATH)),
    }
}

fn accept(workspace: &Workspace) -> Result<u8> {
    let platform = source::of_crate(&workspace.root, "platform/src/lib.rs")?;
    let now = Lock { version: platform::CONTRACT_VERSION, items: contract::items(&platform) };
    let text = lock::accept(kept(workspace)?.as_ref(), &now)?;
    fs::write(workspace.root.join(lock::PATH), text)
        .with_context(|| format!("cannot write {}", lock::PATH))?;
    say!("{} keeps version {} of the contract: {} items", lock::PATH, now.version, now.items.len());
    Ok(0)
}
