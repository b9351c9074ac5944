//! How long a boot takes: from the kernel's first instruction until the first one of process 1 has run, and from QEMU's
//! start to the first thing process 1 says.
//!
//! Both kernels are ELF files that QEMU starts at their PVH entry, and both run the same process 1 ([`probe`]). QEMU's
//! gdb server stops the guest at the entry and again after the first user instruction: breakpoints by the emulated CPU,
//! nothing is written to the guest. The time in between is taken on this machine's clock. In a second guest, whose clock
//! counts instructions, the difference of its time stamp counter between the same two stops is their exact number (idle
//! time included, one nanosecond each).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::Qemu;
use crate::qemu::Launch;
use crate::race::course::{Clock, Contender, Course, Running};
use crate::race::gdb::Gdb;
use crate::race::{kernel_file, probe};

/// Where the probe is in the initramfs.
pub const PROBE: &str = "/probe";

/// From the first kernel instruction to the end of the first user instruction, on this machine's clock.
pub fn real_time(course: &Course, contender: &Contender, initrd: &Path) -> Result<Duration> {
    let launch = course.launch(contender, initrd, PROBE, 1, Clock::Real);
    let entry = pvh_entry(contender)?;
    under_gdb(course, launch, |gdb| {
        gdb.run_to(entry)?;
        let (started, stopped) = gdb.run_to(probe::SECOND)?;
        Ok(stopped - started)
    })
}

/// From the first kernel instruction to the end of the first user instruction, in instructions.
pub fn instructions(course: &Course, contender: &Contender, initrd: &Path) -> Result<u64> {
    let launch = course.launch(contender, initrd, PROBE, 1, Clock::Instructions);
    let entry = pvh_entry(contender)?;
    under_gdb(course, launch, |gdb| {
        gdb.run_to(entry)?;
        let first = gdb.ticks_by_patching()?;
        gdb.run_to(probe::SECOND)?;
        let last = gdb.ticks_read()?;
        last.0.checked_sub(first.0).context("the guest's time stamp counter went back")
    })
}

/// From QEMU's start to the first thing process 1 says.
pub fn to_greeting(course: &Course, contender: &Contender, initrd: &Path) -> Result<Duration> {
    let launch = course.launch(contender, initrd, PROBE, 1, Clock::Real);
    let mut guest = Running::start(&launch, course)?;
    let seen = guest.wait_for(probe::GREETING.trim_end())?;
    let took = seen - guest.started;
    guest.stop()?;
    Ok(took)
}

fn pvh_entry(contender: &Contender) -> Result<u64> {
    let path = &contender.image;
    let image = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let entry =
        kernel_file::pvh_entry(&image).with_context(|| format!("{} cannot be started", path.display()))?;
    Ok(entry.into())
}

/// Removes a socket's name when dropped.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // QEMU may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

fn under_gdb<T>(
    course: &Course,
    mut launch: Launch,
    measure: impl FnOnce(&mut Gdb) -> Result<T>,
) -> Result<T> {
    // A socket's path is short by its ABI, and a target directory's may not be.
    let socket = Socket(std::env::temp_dir().join(format!("monoguest-{}.race", std::process::id())));
    launch.gdb = Some(socket.0.clone());
    let mut qemu = Qemu::start(&launch, Stdio::null(), Stdio::null(), course.log()?)?;
    let mut gdb = Gdb::connect(&mut qemu, &socket.0, course.limit)?;
    let measured = measure(&mut gdb)?;
    qemu.stop()?;
    Ok(measured)
}
