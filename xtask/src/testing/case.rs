//! A case of the suite: a guest, what it runs, and what must come of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::initramfs::Initramfs;
use crate::lguest;
use crate::qemu::Hardware;
use crate::rom::Choice;
use crate::testing::programs::Program;
use crate::variant::{Backend, Dispatch, Product, Profile, Variant};

/// Bytes made when the case runs, from the busybox at that path.
pub type Fixture = Arc<dyn Fn(&Path) -> Result<Vec<u8>> + Send + Sync>;

/// Changes the bytes of an image's file.
pub type ImageChange = fn(&mut [u8]) -> Result<()>;

/// What the guest starts with.
#[derive(Clone)]
pub enum Files {
    /// busybox and the standard tree
    Busybox,
    /// The standard tree alone
    Bare,
    /// No initramfs at all
    None,
    /// These bytes
    Raw(Fixture),
}

/// A file added to the tree.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file of this machine
    Host(PathBuf),
    /// A program of the suite, built first
    Program(Program),
    /// These bytes
    Bytes(Vec<u8>),
}

/// A step on the guest's console, taken in order.
#[derive(Clone, Debug)]
pub enum Step {
    /// Wait for this text in what came since the last step
    Await(String),
    /// Type this
    Type(String),
    /// For so long, QEMU may use no more than this share of a CPU
    Idle(Duration, f64),
}

/// How the guest must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Process 1 ends with this status
    Exit(u8),
    /// The boot cannot go on, and the reason has all of these words
    Unusable(Vec<String>),
    /// A reboot is asked for
    Reboot,
    /// The kernel panics, or the hypervisor kills the only guest
    Panic,
}

/// A case.
#[derive(Clone)]
pub struct Case {
    /// Its group and its own name, `group/name`
    pub name: String,
    /// What runs above the cut
    pub product: Product,
    /// Which of its images
    pub variant: Variant,
    /// Whether the suite may be asked to run it in another dispatch mode
    pub mode: Mode,
    /// The machine
    pub hardware: Hardware,
    /// The VMI ROM; what the backend needs if nothing is said
    pub rom: Option<Choice>,
    /// Where there is a hypervisor: what it is asked for
    pub hypervisor: lguest::Hypervisor,
    /// And what it is given
    pub module: Module,
    /// What is done to a copy of the image before it is booted
    pub image_change: Option<ImageChange>,
    /// Images of QEMU's disks for it, one for each of the hypervisor's that has no content: what is in them at first
    pub images: Vec<Vec<u8>>,
    /// How often it is run, one after the other, with the same images; all must end in the same way
    pub boots: u32,
    /// What the tree starts from
    pub files: Files,
    /// What is added: path, source, permissions
    pub added: Vec<(String, Source, u32)>,
    /// Process 1 with its arguments; none leaves the choice to the kernel and `append`
    pub argv: Vec<String>,
    /// More for the kernel command line
    pub append: String,
    /// What happens on the console
    pub steps: Vec<Step>,
    /// How it ends
    pub expected: Expected,
    /// Texts that must be on the console
    pub present: Vec<String>,
    /// Texts that must not be
    pub absent: Vec<String>,
    /// What else is asked of it
    pub judges: Vec<Judge>,
    /// How long it may take
    pub limit: Duration,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether a case is about its dispatch mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is not: another does as well
    Any,
    /// It is
    Its,
}

/// Judges a console; an error says what is wrong.
pub type Judge = fn(&str) -> Result<()>;

/// What the lguest hypervisor is given.
#[derive(Clone)]
pub enum Module {
    /// The guests, as they are
    Guests,
    /// The guests, and as the last one another image with its own command line
    Beside(Product, String),
    /// Nothing
    Missing,
    /// What this makes of them
    Changed(fn(lguest::Guest, &lguest::Hypervisor) -> Vec<u8>),
}

/// A case with the usual machine: pc, one CPU, 64 MiB, the static release image, busybox; it must exit with 0.
pub fn case(name: impl Into<String>) -> Case {
    Case {
        name: name.into(),
        product: Product::Monoguest,
        variant: Variant { backend: Backend::Native, dispatch: Dispatch::Static, profile: Profile::Release },
        mode: Mode::Any,
        hardware: Hardware { memory: 64, ..Hardware::default() },
        rom: None,
        hypervisor: lguest::Hypervisor::default(),
        module: Module::Guests,
        image_change: None,
        images: Vec::new(),
        boots: 1,
        files: Files::Busybox,
        added: Vec::new(),
        argv: Vec::new(),
        append: String::new(),
        steps: Vec::new(),
        expected: Expected::Exit(0),
        present: Vec::new(),
        absent: vec!["monoguest: panic".to_owned()],
        judges: Vec::new(),
        limit: Duration::from_secs(60),
    }
}

impl Case {
    /// A further word in its name.
    pub fn named(mut self, word: &str) -> Self {
        self.name = format!("{}-{word}", self.name);
        self
    }

    /// QEMU's machine, as `boot --machine` takes it.
    pub fn machine(mut self, machine: &str) -> Self {
        self.hardware.machine = machine.parse().expect("the suite names a machine that exists");
        self
    }

    /// The CPU model.
    pub fn cpu(mut self, model: &str) -> Self {
        self.hardware.cpu = model.to_owned();
        self
    }

    /// The number of CPUs.
    pub fn cpus(mut self, count: u16) -> Self {
        self.hardware.smp = count;
        self
    }

    /// Memory in MiB.
    pub fn memory(mut self, mib: u32) -> Self {
        self.hardware.memory = mib;
        self
    }

    /// Copies of the guest, under a hypervisor, and words for that.
    pub fn guests(mut self, count: u8, words: &str) -> Self {
        self.hypervisor.guests = count;
        words.clone_into(&mut self.hypervisor.hypervisor_append);
        self
    }

    /// A disk of each guest, under a hypervisor; with `read_only` they cannot write to it.
    pub fn disk(mut self, bytes: &[u8], read_only: bool) -> Self {
        let content = lguest::DiskContent::Bytes(bytes.into());
        self.hypervisor.disks.push(lguest::Disk { content, read_only });
        self
    }

    /// A disk of QEMU's below a hypervisor, the first guest's, or with `read_only` every guest's.
    pub fn image(mut self, bytes: &[u8], read_only: bool) -> Self {
        let content = lguest::DiskContent::Qemu(PathBuf::new());
        self.hypervisor.disks.push(lguest::Disk { content, read_only });
        self.images.push(bytes.to_vec());
        self
    }

    /// Runs it so often with the same images; the console of the last one counts.
    pub fn boots(mut self, boots: u32) -> Self {
        self.boots = boots;
        self
    }

    /// What the guests' network reaches, under a hypervisor.
    pub fn network(mut self, network: lguest::Network) -> Self {
        self.hypervisor.network = network;
        self
    }

    /// Each guest's part of the processor, under a hypervisor.
    pub fn shares<const N: usize>(mut self, shares: [u32; N]) -> Self {
        self.hypervisor.shares = shares.to_vec();
        self
    }

    /// One more guest, under a hypervisor: another image with its own command line.
    pub fn beside(mut self, product: Product, parameters: &str) -> Self {
        self.module = Module::Beside(product, parameters.to_owned());
        self
    }

    /// The machine's clock goes on by a nanosecond with each instruction, and idle time passes at once: what happens does not
    /// depend on how busy this machine is. The date is 2026-01-01.
    pub fn by_instructions(mut self) -> Self {
        self.hardware.icount = true;
        let words = ["-icount", "sleep=off", "-rtc", "base=2026-01-01,clock=vm"];
        self.hardware.qemu_args.extend(words.map(Into::into));
        self
    }

    /// What the hypervisor is given in place of its guests.
    pub fn module(mut self, module: Module) -> Self {
        self.module = module;
        self
    }

    /// What is done to a copy of the image before it is booted.
    pub fn change_image(mut self, change: ImageChange) -> Self {
        self.image_change = Some(change);
        self
    }

    /// What runs above the cut.
    pub fn product(mut self, product: Product) -> Self {
        self.product = product;
        self
    }

    /// What is below it.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.variant.backend = backend;
        self
    }

    /// How the kernel reaches its backend.
    pub fn dispatch(mut self, dispatch: Dispatch) -> Self {
        self.variant.dispatch = dispatch;
        self
    }

    /// In this dispatch mode whatever the suite is asked to run in.
    pub fn about_dispatch(mut self, dispatch: Dispatch) -> Self {
        self.mode = Mode::Its;
        self.dispatch(dispatch)
    }

    /// The VMI ROM.
    pub fn with_rom(mut self, rom: Choice) -> Self {
        self.rom = Some(rom);
        self
    }

    /// The VMI ROM of its machine.
    pub fn rom(&self) -> Choice {
        self.rom.clone().unwrap_or_else(|| self.variant.rom())
    }

    /// The image's profile.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.variant.profile = profile;
        self
    }

    /// What the tree starts from.
    pub fn files(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// An initramfs made of these bytes.
    pub fn raw(self, fixture: impl Fn(&Path) -> Result<Vec<u8>> + Send + Sync + 'static) -> Self {
        self.files(Files::Raw(Arc::new(fixture)))
    }

    /// Adds an executable file.
    pub fn with(self, path: &str, source: Source) -> Self {
        self.with_mode(path, source, 0o755)
    }

    /// Adds a file with these permissions.
    pub fn with_mode(mut self, path: &str, source: Source, permissions: u32) -> Self {
        self.added.push((path.to_owned(), source, permissions));
        self
    }

    /// Process 1 and its arguments.
    pub fn argv<const N: usize>(mut self, argv: [&str; N]) -> Self {
        self.argv = argv.map(str::to_owned).to_vec();
        self
    }

    /// Process 1 is busybox's shell with this script.
    pub fn sh(self, script: &str) -> Self {
        self.argv(["sh", "-c", script])
    }

    /// More for the kernel command line.
    pub fn append(mut self, parameters: &str) -> Self {
        self.append = parameters.to_owned();
        self
    }

    /// Waits for a text on the console.
    pub fn wait_for(mut self, text: &str) -> Self {
        self.steps.push(Step::Await(text.to_owned()));
        self
    }

    /// Types on the console.
    pub fn type_in(mut self, text: &str) -> Self {
        self.steps.push(Step::Type(text.to_owned()));
        self
    }

    /// QEMU must stay idle for so long.
    pub fn idle(mut self, time: Duration, share_of_a_cpu: f64) -> Self {
        self.steps.push(Step::Idle(time, share_of_a_cpu));
        self
    }

    /// Process 1 must end with this status.
    pub fn exits(mut self, status: u8) -> Self {
        self.expected = Expected::Exit(status);
        self
    }

    /// The boot must be given up with one line that has these words.
    pub fn unusable<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.expected = Expected::Unusable(words.map(str::to_owned).to_vec());
        self
    }

    /// The guest must ask for a reboot.
    pub fn reboots(mut self) -> Self {
        self.expected = Expected::Reboot;
        self
    }

    /// The kernel must panic, or the hypervisor kill the only guest.
    pub fn panics(mut self) -> Self {
        self.expected = Expected::Panic;
        self
    }

    /// This must be on the console.
    pub fn prints(mut self, text: &str) -> Self {
        self.present.push(text.to_owned());
        self
    }

    /// This must not be on the console.
    pub fn never_prints(mut self, text: &str) -> Self {
        self.absent.push(text.to_owned());
        self
    }

    /// The console must please this.
    pub fn judged(mut self, judge: Judge) -> Self {
        self.judges.push(judge);
        self
    }

    /// The time limit in seconds.
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// The programs that must be built before it runs.
    pub fn programs(&self) -> impl Iterator<Item = &Program> {
        self.added.iter().filter_map(|(_, source, _)| match source {
            Source::Program(program) => Some(program),
            _ => None,
        })
    }

    /// What runs above the cut in one of its guests, and as which image.
    pub fn images(&self) -> impl Iterator<Item = (Product, Variant)> {
        let other = match self.module {
            Module::Beside(product, _) => Some((product, self.variant.of(product))),
            _ => None,
        };
        std::iter::once((self.product, self.variant)).chain(other)
    }

    /// The tree with what this case adds; `None` where it brings no tree.
    pub fn tree(&self, standard: &Initramfs) -> Option<Initramfs> {
        match self.files {
            Files::Busybox => Some(standard.clone()),
            Files::Bare => Some(Initramfs::minimal()),
            Files::None | Files::Raw(_) => None,
        }
    }
}
