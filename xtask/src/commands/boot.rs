//! `cargo xtask boot`: a program in a guest, on this terminal.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::images;
use crate::initramfs::{ARGV_FILE, Initramfs};
use crate::installer::{BUSYBOX, QEMU};
use crate::qemu::{Console, Hardware, Launch};
use crate::report::{Usage, say};
use crate::rom::{self, Choice};
use crate::variant::{Backend, Variant};
use crate::workspace::Workspace;
use crate::{chart, elf, guest, lguest, limits};

/// What runs when nothing is asked for: a login shell that owns the console, so that it has job control.
const DEFAULT_ARGV: [&str; 5] = ["setsid", "-c", "/bin/sh", "-l", "-i"];

/// Builds an image and runs a program in a guest, with its console on this terminal
///
/// The program is process 1 and the machine goes off when it exits. Ctrl-C goes to the guest; Ctrl-A x ends QEMU.
/// Exit status: the program's own; 101 kernel panic; 102 the boot could not go on; 124 timed out; 1 xtask's own failure.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub guest: GuestArgs,

    /// Stop QEMU after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,

    /// Print what each phase of the boot took
    #[arg(long)]
    chart: bool,
}

/// A guest: its image, its machine and what it runs.
#[derive(clap::Args)]
pub struct GuestArgs {
    #[command(flatten)]
    pub variant: Variant,

    #[command(flatten)]
    hardware: Hardware,

    #[command(flatten)]
    hypervisor: lguest::Hypervisor,

    /// Use this initramfs as it is, not one made here
    #[arg(long, value_name = "FILE", conflicts_with = "programs")]
    initrd: Option<PathBuf>,

    /// Put a static program at /<its name>; the first one runs if no ARGV is given. May be given several times
    #[arg(long = "program", value_name = "FILE")]
    programs: Vec<PathBuf>,

    /// The VMI ROM: plain, strict (it tests its guest), none, bad:DEFECT, or a file
    #[arg(long, value_name = "ROM")]
    rom: Option<Choice>,

    /// More for the kernel command line
    #[arg(
        long,
        value_name = "PARAMETERS",
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    append: String,

    /// Process 1 and its arguments; a name without a slash is looked up in the guest's /bin, /sbin, …
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    let launch = prepare(&args.guest, None)?;
    say!("{}", launch.shell_line());
    let (status, outcome) = guest::run_here(&launch, args.timeout.map(Duration::from_secs))?;
    if let Some(explanation) = outcome.explanation() {
        say!("{explanation}");
    }
    if args.chart {
        if status.phases.is_empty() {
            say!("no boot chart: the kernel named no phase");
        } else {
            say!(
                "the boot, from the kernel's first instruction\n{}",
                chart::render(&status.phases).trim_end()
            );
        }
    }
    Ok(outcome.exit_status())
}

/// Builds the image and the initramfs and makes the QEMU command for them.
pub fn prepare(args: &GuestArgs, gdb: Option<PathBuf>) -> Result<Launch> {
    let is_lguest = args.variant.backend == Backend::Lguest;
    if is_lguest {
        args.hypervisor.check(&args.hardware)?;
    } else if args.hypervisor != lguest::Hypervisor::default() {
        return Err(Usage(
            "--guests, --share, --disk, --network and --hypervisor-append need --features lguest".to_owned(),
        )
        .into());
    }
    let workspace = Workspace::find()?;
    let qemu = QEMU.require()?;
    let scratch = workspace.scratch("boot")?;
    let (initrd, init) = match &args.initrd {
        Some(initrd) => {
            fs::metadata(initrd).with_context(|| format!("cannot use {}", initrd.display()))?;
            (initrd.clone(), init_parameters(&args.argv)?)
        }
        None => {
            let (tree, argv) = tree(args)?;
            let path = scratch.join("initramfs.cpio");
            fs::write(&path, pack(tree, &argv)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            (path, InitParameters { own: format!("monoguest.argv={ARGV_FILE}"), rest: String::new() })
        }
    };
    let rom = args.rom.clone().unwrap_or_else(|| args.variant.rom());
    let rom = rom::place(&workspace, &rom, &args.hardware.machine, &scratch)?;
    // Behind what the user may have got wrong, for it takes its time.
    let image = images::image(&workspace, args.variant)?;
    let append = ["console=ttyS0", &init.own, args.append.trim(), &init.rest];
    let append: Vec<&str> = append.into_iter().filter(|part| !part.is_empty()).collect();
    let terminal = std::io::stdin().is_terminal();
    let launch = Launch {
        qemu,
        hardware: args.hardware.clone(),
        image,
        initrd: Some(initrd),
        append: append.join(" "),
        status: scratch.join("status"),
        console: if terminal { Console::Terminal } else { Console::Plain },
        gdb,
        rom,
    };
    if is_lguest {
        return lguest::wrap(&workspace, launch, &args.hypervisor, &scratch);
    }
    limits::check(&launch)?;
    Ok(launch)
}

fn tree(args: &GuestArgs) -> Result<(Initramfs, Vec<String>)> {
    let mut tree = Initramfs::with_busybox(&BUSYBOX.require()?)?;
    let mut first = None;
    for program in &args.programs {
        warn_if_not_static(program)?;
        let path = tree.program(program)?;
        first.get_or_insert(path);
    }
    let mut argv = match first {
        _ if !args.argv.is_empty() => args.argv.clone(),
        Some(path) => vec![path],
        None => DEFAULT_ARGV.map(str::to_owned).to_vec(),
    };
    argv[0] = tree.resolve(&argv[0])?;
    Ok((tree, argv))
}

fn pack(mut tree: Initramfs, argv: &[String]) -> Result<Vec<u8>> {
    tree.set_argv(argv)?;
    Ok(tree.pack())
}

/// The kernel parameters that name process 1 where no file can.
#[derive(Debug, PartialEq, Eq)]
struct InitParameters {
    own: String,
    rest: String,
}

/// Process 1 on the kernel command line, as Linux takes it.
fn init_parameters(argv: &[String]) -> Result<InitParameters> {
    let Some((program, arguments)) = argv.split_first() else {
        return Ok(InitParameters { own: String::new(), rest: String::new() });
    };
    let words: Vec<String> = arguments.iter().map(|word| parameter(word)).collect::<Result<_>>()?;
    let rest = if words.is_empty() { String::new() } else { format!("-- {}", words.join(" ")) };
    if !program.starts_with('/') {
        return Err(Usage(format!("with --initrd, process 1 needs its full path, not `{program}`")).into());
    }
    Ok(InitParameters { own: format!("init={}", parameter(program)?), rest })
}

fn parameter(word: &str) -> Result<String> {
    if word.is_empty() || word.contains(['"', '\n', '\0']) {
        bail!(
            "the argument {word:?} cannot be on a kernel command line (empty, or with a quote or a newline in it), and \
             with --initrd there is no other place for it"
        );
    }
    Ok(if word.contains(char::is_whitespace) { format!("\"{word}\"") } else { word.to_owned() })
}

/// A program that asks for a dynamic loader will not start: say so before the guest does.
fn warn_if_not_static(program: &Path) -> Result<()> {
    let bytes =
        fs::read(program).with_context(|| format!("cannot read the program {}", program.display()))?;
    if elf::has_interpreter(&bytes) {
        say!(
            "warning: {} is dynamically linked, and there is no loader in the guest. Link it statically: `gcc -static`, \
             or RUSTFLAGS=-Ctarget-feature=+crt-static",
            program.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn process_1_on_the_command_line() {
        let init = init_parameters(&words(&["/bin/sh", "-c", "echo a  b"])).unwrap();
        assert_eq!(init.own, "init=/bin/sh");
        assert_eq!(init.rest, "-- -c \"echo a  b\"");
        assert_eq!(init_parameters(&[]).unwrap().own, "");
        assert_eq!(init_parameters(&words(&["/x"])).unwrap().rest, "");
        for bad in [&["sh"][..], &["/x", ""], &["/x", "a\"b"], &["/x", "a\nb"]] {
            assert!(init_parameters(&words(bad)).is_err(), "{bad:?}");
        }
    }
}
