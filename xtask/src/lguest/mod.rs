//! The lguest hypervisor (`arch-lguest/host`): what QEMU must be given so that it runs a guest.
//!
//! A PVH loader hands over one module only, so the guests are packed into an archive: for each a folder with `image`,
//! `initramfs`, `cmdline`, `config` and its disks (`arch-lguest/host/src/archive.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lguest_host::archive::{MOST_DISKS, MOST_GUESTS};

mod devices;

pub use self::devices::{Disk, DiskContent, GuestDisk, Network};
use crate::cpio::{Node, Writer};
use crate::qemu::{Hardware, Launch};
use crate::report::Usage;
use crate::workspace::Workspace;

/// The hypervisor's package, and the executable in it.
pub const PACKAGE: &str = "lguest-host";

/// What the hypervisor is asked for.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Hypervisor {
    /// lguest: how many copies of the guest run at the same time, each with the memory asked for
    #[arg(long, default_value = "1", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MOST_GUESTS as i64))]
    pub guests: u8,

    /// lguest: a guest's part of the processor's time, relative to the others'; once for each guest, the first one first
    #[arg(long = "share", value_name = "SHARE", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub shares: Vec<u32>,

    /// lguest: a disk, from a raw image: /dev/vda, /dev/vdb, …. Each guest has its own copy of FILE, which is lost at the end.
    /// qemu:FILE is written to, and is the first guest's alone; with ,ro behind it, it is every guest's, and none can write.
    /// Up to four times
    #[arg(long = "disk", value_name = "[qemu:]FILE[,ro]")]
    pub disks: Vec<Disk>,

    /// lguest: what the guests' network reaches: none, guests, or user (QEMU's user network); QEMU's options for that may
    /// follow, as in user,hostfwd=tcp::8080-:80
    #[arg(long, value_name = "NETWORK", default_value = "none")]
    pub network: Network,

    /// lguest: words for the hypervisor: counters (print what each guest has cost at the end), restart=asked (a guest that asks
    /// for it starts again), restart=N (one that was killed too, N times), tables=N (shadow tables of each guest, 32 or more)
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    pub hypervisor_append: String,
}

impl Default for Hypervisor {
    fn default() -> Self {
        Self {
            guests: 1,
            shares: Vec::new(),
            disks: Vec::new(),
            network: Network::None,
            hypervisor_append: String::new(),
        }
    }
}

impl Hypervisor {
    /// What can be told before anything is built.
    ///
    /// # Errors
    /// [`Usage`], if there can be no such guests on such a machine.
    pub fn check(&self, hardware: &Hardware) -> Result<()> {
        if hardware.smp != 1 {
            return Err(Usage("an lguest guest has one CPU: leave --smp out".to_owned()).into());
        }
        if self.shares.len() > usize::from(self.guests) {
            return Err(Usage("there are more --share than guests".to_owned()).into());
        }
        if self.disks.len() > MOST_DISKS {
            return Err(Usage(format!("a guest has at most {MOST_DISKS} disks")).into());
        }
        Ok(())
    }
}

/// Where the hypervisor's image is kept.
pub fn hypervisor_path(workspace: &Workspace) -> PathBuf {
    workspace.target.join("images").join(PACKAGE).join(PACKAGE)
}

/// What every copy of a guest starts from.
#[derive(Clone, Debug)]
pub struct Guest {
    /// ELF file
    pub image: Vec<u8>,
    /// Initramfs, if there is one
    pub initramfs: Option<Vec<u8>>,
    /// Command line
    pub command_line: String,
    /// Memory in MiB
    pub memory: u32,
    /// Disks
    pub disks: Vec<GuestDisk>,
}

/// The guest that `launch` would start without a hypervisor, with the disks of `args`.
pub fn guest(launch: &Launch, args: &Hypervisor) -> Result<Guest> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(Guest {
        image: read(&launch.image)?,
        initramfs: launch.initrd.as_deref().map(read).transpose()?,
        command_line: launch.append.clone(),
        memory: launch.hardware.memory,
        disks: devices::for_guests(&args.disks)?,
    })
}

/// The module for so many copies of a guest.
pub fn archive(guest: &Guest, args: &Hypervisor) -> Vec<u8> {
    pack(&vec![guest; usize::from(args.guests)], args)
}

/// The same, but the last of them is another.
pub fn archive_beside(guest: &Guest, other: &Guest, args: &Hypervisor) -> Vec<u8> {
    let mut guests = vec![guest; usize::from(args.guests).saturating_sub(1)];
    guests.push(other);
    pack(&guests, args)
}

fn pack(guests: &[&Guest], args: &Hypervisor) -> Vec<u8> {
    let mut archive = Writer::default();
    for (number, guest) in guests.iter().enumerate() {
        let share = args.shares.get(number).map_or(String::new(), |share| format!("share={share}\n"));
        let disks = || guest.disks.iter().filter(|disk| number == 0 || disk.is_shared());
        let lines: String = disks().map(GuestDisk::line).collect();
        let config = format!("memory={}\n{share}{}{lines}", guest.memory, args.network.line());
        let mut file = |name: &str, bytes: &[u8]| {
            archive.entry(&format!("{number}/{name}"), &Node::File(bytes.to_vec()), 0o644);
        };
        file("config", config.as_bytes());
        file("cmdline", guest.command_line.as_bytes());
        file("image", &guest.image);
        if let Some(initramfs) = &guest.initramfs {
            file("initramfs", initramfs);
        }
        for (at, disk) in disks().enumerate() {
            if let Some(bytes) = disk.module() {
                file(&format!("disk{at}"), bytes);
            }
        }
    }
    archive.finish()
}

/// Makes of a launch of the guest itself one of the hypervisor with that guest; the hypervisor was built.
pub fn wrap(workspace: &Workspace, launch: Launch, args: &Hypervisor, directory: &Path) -> Result<Launch> {
    args.check(&launch.hardware)?;
    let memory = launch.hardware.memory;
    let guest = guest(&launch, args)?;
    let archive = archive(&guest, args);
    let own_bytes: usize = guest.disks.iter().map(GuestDisk::own_bytes).sum();
    let more_bytes = own_bytes * usize::from(args.guests) + devices::driver_bytes(&args.disks, &args.network);
    let path = directory.join("guests.cpio");
    fs::write(&path, &archive).with_context(|| format!("cannot write {}", path.display()))?;

    let mut launch = launch;
    launch.image = hypervisor_path(workspace);
    launch.initrd = Some(path);
    launch.append.clone_from(&args.hypervisor_append);
    launch.hardware.memory = machine_memory(memory, args.guests, archive.len() + more_bytes);
    devices::add(&mut launch.hardware, &args.disks, &args.network);
    Ok(launch)
}

/// MiB below the hole for devices that every machine model has at least.
const LOW_MEMORY: u32 = 2048;
/// MiB at which memory goes on.
const HOLE_END: u32 = 4096;

/// MiB for the machine: each guest's memory on a boundary of 2 MiB, a thirty-second of it for shadow tables (half a MiB at
/// least), the module with copies of the disks that can be written, and room for the hypervisor.
fn machine_memory(guest: u32, guests: u8, module_bytes: usize) -> u32 {
    let each = guest.next_multiple_of(2) + 2 + guest.div_ceil(32).max(1);
    let module = u32::try_from(module_bytes >> 20).unwrap_or(u32::MAX / 2) + 1;
    let sum = each * u32::from(guests) + module + 16;
    // A PC has a hole below 4 GiB, and a guest's memory is in one piece: what does not fit below goes above.
    if sum > LOW_MEMORY { sum + HOLE_END } else { sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_room_for_its_guests() {
        assert_eq!(machine_memory(64, 1, 3 << 20), 68 + 4 + 16);
        assert!(machine_memory(64, 3, 9 << 20) >= 3 * 64 + 9 + 16);
    }
}
