//! The lguest hypervisor (`arch-lguest/host`): what QEMU must be given so that it runs a guest.
//!
//! A PVH loader hands over one module only, so the guests are packed into an archive: for each a folder with `image`,
//! `initramfs`, `cmdline`, `config` and its disks (`arch-lguest/host/src/archive.rs`).

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::cpio::{Node, Writer};
use crate::qemu::Launch;
use crate::report::Usage;
use crate::workspace::Workspace;

/// The hypervisor's package, and the executable in it.
pub const PACKAGE: &str = "lguest-host";

/// What the hypervisor is asked for.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Hypervisor {
    /// lguest: how many copies of the guest run at the same time, each with the memory asked for
    #[arg(long, default_value = "1", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub guests: u8,

    /// lguest: a guest's part of the processor's time, relative to the others'; once for each guest, the first one first
    #[arg(long = "share", value_name = "SHARE", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub shares: Vec<u32>,

    /// lguest: a disk for each guest, from a raw image: /dev/vda, /dev/vdb, …. What is written is lost at the end; with ,ro
    /// behind it the guest cannot write. Up to four times
    #[arg(long = "disk", value_name = "FILE[,ro]")]
    pub disks: Vec<Disk>,

    /// lguest: what the guests' network reaches
    #[arg(long, value_enum, default_value_t = Network::None)]
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

/// A disk, each guest's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What is on it
    pub content: DiskContent,
    /// Guests cannot write
    pub read_only: bool,
}

/// What is on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskContent {
    /// This file
    File(PathBuf),
    /// These bytes
    Bytes(Arc<[u8]>),
}

impl FromStr for Disk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, read_only) = text.strip_suffix(",ro").map_or((text, false), |path| (path, true));
        if path.is_empty() {
            return Err("a disk needs a file".to_owned());
        }
        Ok(Self { content: DiskContent::File(path.into()), read_only })
    }
}

impl Disk {
    /// Its bytes: whole sectors, at least one.
    fn bytes(&self) -> Result<Arc<[u8]>> {
        let (bytes, name) = match &self.content {
            DiskContent::File(path) => {
                let bytes =
                    fs::read(path).with_context(|| format!("cannot read the disk {}", path.display()))?;
                (bytes.into(), path.display().to_string())
            }
            DiskContent::Bytes(bytes) => (Arc::clone(bytes), "given".to_owned()),
        };
        if bytes.is_empty() || !bytes.len().is_multiple_of(SECTOR) {
            let length = bytes.len();
            bail!(
                "the disk {name} has {length} bytes, not whole sectors of {SECTOR}: `truncate -s %{SECTOR}` pads it"
            );
        }
        Ok(bytes)
    }
}

/// Bytes of a sector.
const SECTOR: usize = 512;
/// The most disks of a guest.
const MOST_DISKS: usize = 4;

/// What a guest's network reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    /// There is none
    None,
    /// The other guests
    Guests,
}

impl Network {
    /// The line of a guest's config.
    fn line(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Guests => "network=guests\n",
        }
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
    /// Disks: what is on them, and whether they cannot be written
    pub disks: Vec<(Arc<[u8]>, bool)>,
}

/// The guest that `launch` would start without a hypervisor, with the disks of `args`.
pub fn guest(launch: &Launch, args: &Hypervisor) -> Result<Guest> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    Ok(Guest {
        image: read(&launch.image)?,
        initramfs: launch.initrd.as_deref().map(read).transpose()?,
        command_line: launch.append.clone(),
        memory: launch.hardware.memory,
        disks: args.disks.iter().map(|disk| Ok((disk.bytes()?, disk.read_only))).collect::<Result<_>>()?,
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
        let disks = guest.disks.iter().map(|(_, read_only)| match read_only {
            true => "disk=module,ro\n",
            false => "disk=module\n",
        });
        let disks: String = disks.collect();
        let config = format!("memory={}\n{share}{}{disks}", guest.memory, args.network.line());
        let mut file = |name: &str, bytes: &[u8]| {
            archive.entry(&format!("{number}/{name}"), &Node::File(bytes.to_vec()), 0o644);
        };
        file("config", config.as_bytes());
        file("cmdline", guest.command_line.as_bytes());
        file("image", &guest.image);
        if let Some(initramfs) = &guest.initramfs {
            file("initramfs", initramfs);
        }
        for (at, (bytes, _)) in guest.disks.iter().enumerate() {
            file(&format!("disk{at}"), bytes);
        }
    }
    archive.finish()
}

/// Makes of a launch of the guest itself one of the hypervisor with that guest; the hypervisor was built.
pub fn wrap(workspace: &Workspace, launch: Launch, args: &Hypervisor, directory: &Path) -> Result<Launch> {
    if launch.hardware.smp != 1 {
        return Err(Usage("an lguest guest has one CPU: leave --smp out".to_owned()).into());
    }
    if args.shares.len() > usize::from(args.guests) {
        return Err(Usage("there are more --share than guests".to_owned()).into());
    }
    if args.disks.len() > MOST_DISKS {
        return Err(Usage(format!("a guest has at most {MOST_DISKS} disks")).into());
    }
    let memory = launch.hardware.memory;
    let guest = guest(&launch, args)?;
    let archive = archive(&guest, args);
    let own_disks = guest.disks.iter().filter(|(_, read_only)| !read_only);
    let own_bytes = own_disks.map(|(bytes, _)| bytes.len()).sum::<usize>() * usize::from(args.guests);
    let path = directory.join("guests.cpio");
    fs::write(&path, &archive).with_context(|| format!("cannot write {}", path.display()))?;

    let mut launch = launch;
    launch.image = hypervisor_path(workspace);
    launch.initrd = Some(path);
    launch.append.clone_from(&args.hypervisor_append);
    launch.hardware.memory = machine_memory(memory, args.guests, archive.len() + own_bytes);
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
    fn a_disk_is_a_file_of_whole_sectors() {
        let disk: Disk = "a,b.img,ro".parse().unwrap();
        assert_eq!(disk, Disk { content: DiskContent::File("a,b.img".into()), read_only: true });
        assert!(",ro".parse::<Disk>().is_err());
        let of = |bytes: &[u8]| Disk { content: DiskContent::Bytes(bytes.into()), read_only: false }.bytes();
        assert!(of(&[0; 1024]).is_ok());
        for bad in [&[][..], &[0; 511], &[0; 513]] {
            assert!(of(bad).unwrap_err().to_string().contains("whole sectors"));
        }
    }

    #[test]
    fn the_machine_has_room_for_its_guests() {
        assert_eq!(machine_memory(64, 1, 3 << 20), 68 + 4 + 16);
        assert!(machine_memory(64, 3, 9 << 20) >= 3 * 64 + 9 + 16);
    }
}
