//! `cargo xtask debug`: a guest that waits for gdb before its first instruction.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};

use super::boot::{self, GuestArgs};
use crate::guest::{self, Qemu};
use crate::installer;
use crate::qemu::{Console, Launch, shell_quote};
use crate::report::say;

/// How long QEMU may take until it listens for gdb.
const SOCKET_LIMIT: Duration = Duration::from_secs(60);

/// Starts a guest stopped before its first instruction, for gdb with the kernel's symbols
///
/// The guest's console is on this terminal, and the gdb command for another terminal is printed. With --gdb, gdb runs
/// on this terminal and the console goes to a file.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    guest: GuestArgs,

    /// Run gdb here
    #[arg(long)]
    gdb: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<u8> {
    // A socket's path is short by its ABI, and a target directory's may not be.
    let socket = env::temp_dir().join(format!("monoguest-{}.gdb", std::process::id()));
    let launch = boot::prepare(&args.guest, Some(socket.clone()))?;
    let gdb = gdb_arguments(&launch, &socket);
    say!("{}", launch.shell_line());
    if args.gdb {
        return under_gdb(launch, &socket, &gdb);
    }
    let words: Vec<String> = gdb.iter().map(|word| shell_quote(word)).collect();
    say!("the guest waits; in another terminal: gdb {}", words.join(" "));
    let (_, outcome) = guest::run_here(&launch, None)?;
    if let Some(explanation) = outcome.explanation() {
        say!("{explanation}");
    }
    Ok(outcome.exit_status())
}

fn gdb_arguments(launch: &Launch, socket: &Path) -> Vec<OsString> {
    let mut connect = OsString::from("target remote ");
    connect.push(socket);
    vec!["-q".into(), "-ex".into(), connect, launch.image.clone().into()]
}

fn under_gdb(mut launch: Launch, socket: &Path, arguments: &[OsString]) -> Result<u8> {
    let Some(gdb) = installer::in_path("gdb") else {
        bail!("gdb is missing: sudo apt-get install -y gdb");
    };
    launch.console = Console::Plain;
    let console: PathBuf = launch.status.with_file_name("console.log");
    let log = File::create(&console).with_context(|| format!("cannot create {}", console.display()))?;
    say!("the guest's console goes to {}", console.display());

    // Ctrl-C is for gdb alone.
    let mut keyboard = SigSet::empty();
    keyboard.add(Signal::SIGINT);
    keyboard.add(Signal::SIGQUIT);
    keyboard.thread_block().context("cannot block signals")?;
    let mut qemu = Qemu::start_apart(&launch, Stdio::null(), log.into(), Stdio::inherit())?;
    qemu.wait_for_socket(socket, Instant::now() + SOCKET_LIMIT)?;
    let mut command = Command::new(gdb);
    command.args(arguments);
    // SAFETY: the closure makes one system call and allocates nothing, as is required between fork and exec.
    unsafe {
        command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(Into::into));
    }
    let status = command.status().context("cannot run gdb")?;
    qemu.stop()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
