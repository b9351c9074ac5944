//! Disks and network of lguest guests: in the archive, and as devices of the machine for the hypervisor to drive.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lguest_host::devices::port::{CARD_BYTES, DRIVE_BYTES, SECTOR};

use crate::qemu::{Hardware, option_with_path};

/// A disk.
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
    /// A copy of this file
    File(PathBuf),
    /// These bytes
    Bytes(Arc<[u8]>),
    /// This file itself, by way of a disk of QEMU's
    Qemu(PathBuf),
}

impl FromStr for Disk {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, read_only) = text.strip_suffix(",ro").map_or((text, false), |text| (text, true));
        let (path, of_qemu) = text.strip_prefix("qemu:").map_or((text, false), |path| (path, true));
        if path.is_empty() {
            return Err("a disk needs a file".to_owned());
        }
        let content = if of_qemu { DiskContent::Qemu(path.into()) } else { DiskContent::File(path.into()) };
        Ok(Self { content, read_only })
    }
}

/// A disk as the archive tells of it.
#[derive(Clone, Debug)]
pub struct GuestDisk {
    source: Source,
    read_only: bool,
}

#[derive(Clone, Debug)]
enum Source {
    /// In the archive
    Module(Arc<[u8]>),
    /// QEMU's disk of this number
    Qemu(usize),
}

/// The disks for guests, with what is in the archive of them read, and the others looked at.
pub fn for_guests(disks: &[Disk]) -> Result<Vec<GuestDisk>> {
    let mut of_qemu = 0;
    let mut guest_disk = |disk: &Disk| {
        let source = match &disk.content {
            DiskContent::File(path) => {
                let bytes =
                    fs::read(path).with_context(|| format!("cannot read the disk {}", path.display()))?;
                check_size(bytes.len() as u64, &path.display().to_string())?;
                Source::Module(bytes.into())
            }
            DiskContent::Bytes(bytes) => {
                check_size(bytes.len() as u64, "given")?;
                Source::Module(Arc::clone(bytes))
            }
            DiskContent::Qemu(path) => {
                check_file(path, disk.read_only)?;
                of_qemu += 1;
                Source::Qemu(of_qemu - 1)
            }
        };
        Ok(GuestDisk { source, read_only: disk.read_only })
    };
    disks.iter().map(&mut guest_disk).collect()
}

/// A disk has whole sectors, at least one.
fn check_size(bytes: u64, name: &str) -> Result<()> {
    if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
        bail!(
            "the disk {name} has {bytes} bytes, not whole sectors of {SECTOR}: `truncate -s %{SECTOR}` pads it"
        );
    }
    Ok(())
}

/// QEMU must be able to open it; that no other QEMU writes to it, it sees to itself.
fn check_file(path: &Path, read_only: bool) -> Result<()> {
    let opened =
        if read_only { File::open(path) } else { OpenOptions::new().read(true).write(true).open(path) };
    let access = if read_only { "read" } else { "write to" };
    let metadata = opened.and_then(|file| file.metadata());
    let metadata = metadata.with_context(|| format!("cannot {access} the disk {}", path.display()))?;
    if metadata.is_file() { check_size(metadata.len(), &path.display().to_string()) } else { Ok(()) }
}

impl GuestDisk {
    /// One with these bytes, however many there are.
    pub fn of_bytes(bytes: Vec<u8>, read_only: bool) -> Self {
        Self { source: Source::Module(bytes.into()), read_only }
    }

    /// QEMU's disk of this number, should there be one.
    pub fn of_qemu(number: usize, read_only: bool) -> Self {
        Self { source: Source::Qemu(number), read_only }
    }

    /// Every guest has it, not the first one alone.
    pub fn is_shared(&self) -> bool {
        self.read_only || matches!(self.source, Source::Module(_))
    }

    /// Its line of a guest's config.
    pub fn line(&self) -> String {
        let read_only = if self.read_only { ",ro" } else { "" };
        match self.source {
            Source::Module(_) => format!("disk=module{read_only}\n"),
            Source::Qemu(number) => format!("disk=drive:{number}{read_only}\n"),
        }
    }

    /// What of it is in the archive.
    pub fn module(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Module(bytes) => Some(bytes),
            Source::Qemu(_) => None,
        }
    }

    /// Memory of the machine that a guest's own copy takes.
    pub fn own_bytes(&self) -> usize {
        if self.read_only { 0 } else { self.module().map_or(0, <[u8]>::len) }
    }
}

/// What a guest's network reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// There is none
    None,
    /// The other guests
    Guests,
    /// QEMU's user network too, with these options of QEMU's for it
    User(String),
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, options) = text.split_once(',').unwrap_or((text, ""));
        match kind {
            "user" => Ok(Self::User(options.to_owned())),
            "none" if options.is_empty() => Ok(Self::None),
            "guests" if options.is_empty() => Ok(Self::Guests),
            _ => Err(format!(
                "`{text}` is not one of none, guests, user (QEMU's options for the last may follow a comma)"
            )),
        }
    }
}

impl Network {
    /// Its line of a guest's config.
    pub fn line(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Guests => "network=guests\n",
            Self::User(_) => "network=user\n",
        }
    }
}

/// Memory of the machine that the hypervisor's drivers take.
pub fn driver_bytes(disks: &[Disk], network: &Network) -> usize {
    let of_qemu = disks.iter().filter(|disk| matches!(disk.content, DiskContent::Qemu(_))).count();
    of_qemu * DRIVE_BYTES as usize + if matches!(network, Network::User(_)) { CARD_BYTES as usize } else { 0 }
}

/// Gives the machine the devices that are QEMU's.
pub fn add(hardware: &mut Hardware, disks: &[Disk], network: &Network) {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut devices = 0;
    // On PCI, of virtio's version 1; without PCI, behind registers of which QEMU tells the hypervisor.
    let pci = hardware.machine.has_pci();
    let mut device = |arguments: &mut Vec<OsString>, kind: &str, on_pci: &str, options: String| {
        let device = if pci {
            format!("virtio-{kind}-pci,disable-legacy=on{on_pci},{options}")
        } else {
            format!("virtio-{kind}-device,{options}")
        };
        arguments.extend(["-device".into(), device.into()]);
        devices += 1;
    };
    let of_qemu = disks.iter().filter_map(|disk| match &disk.content {
        DiskContent::Qemu(path) => Some((path, disk.read_only)),
        _ => None,
    });
    for (number, (path, read_only)) in of_qemu.enumerate() {
        let access = if read_only { ",readonly=on" } else { "" };
        let drive = format!(",if=none,format=raw,id=disk{number}{access}");
        arguments.extend(["-drive".into(), option_with_path("file=", path, &drive).into()]);
        device(&mut arguments, "blk", "", format!("drive=disk{number}"));
    }
    if let Network::User(options) = network {
        let comma = if options.is_empty() { "" } else { "," };
        arguments.extend(["-netdev".into(), format!("user,id=network{comma}{options}").into()]);
        // Nobody boots from it: no ROM for that.
        device(&mut arguments, "net", ",romfile=", "netdev=network".to_owned());
    }
    if devices > 0 && !pci {
        hardware.machine = hardware.machine.telling_of_devices();
        arguments.extend(["-global".into(), "virtio-mmio.force-legacy=false".into()]);
    }
    arguments.append(&mut hardware.qemu_args);
    hardware.qemu_args = arguments;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &str, disks: &[&str], network: &str) -> (String, String) {
        let mut hardware = Hardware { machine: machine.parse().unwrap(), ..Hardware::default() };
        let disks: Vec<Disk> = disks.iter().map(|disk| disk.parse().unwrap()).collect();
        add(&mut hardware, &disks, &network.parse().unwrap());
        let words = hardware.qemu_args.iter().map(|word| word.to_string_lossy().into_owned());
        (hardware.machine.to_string(), words.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_disk_is_a_file_of_whole_sectors() {
        let disk: Disk = "a,b.img,ro".parse().unwrap();
        assert_eq!(disk, Disk { content: DiskContent::File("a,b.img".into()), read_only: true });
        let disk: Disk = "qemu:a.img".parse().unwrap();
        assert_eq!(disk, Disk { content: DiskContent::Qemu("a.img".into()), read_only: false });
        for bad in [",ro", "qemu:", "qemu:,ro"] {
            assert!(bad.parse::<Disk>().is_err(), "{bad}");
        }
        let of = |bytes: &[u8]| {
            for_guests(&[Disk { content: DiskContent::Bytes(bytes.into()), read_only: false }]).map(|_| ())
        };
        assert!(of(&[0; 1024]).is_ok());
        for bad in [&[][..], &[0; 511], &[0; 513]] {
            assert!(of(bad).unwrap_err().to_string().contains("whole sectors"));
        }
        let missing: Disk = "qemu:/nowhere/at/all".parse().unwrap();
        assert!(
            for_guests(&[missing]).unwrap_err().to_string().contains("cannot write to the disk /nowhere")
        );
    }

    #[test]
    fn devices_are_on_pci_where_there_is_one() {
        let (machine, words) = line("q35", &["x,ro", "qemu:/t/a,b", "qemu:/t/c,ro"], "user,restrict=on");
        assert_eq!(machine, "q35");
        for part in [
            "-drive file=/t/a,,b,if=none,format=raw,id=disk0 -device virtio-blk-pci,disable-legacy=on,drive=disk0",
            "-drive file=/t/c,if=none,format=raw,id=disk1,readonly=on -device virtio-blk-pci,disable-legacy=on,drive=disk1",
            "-netdev user,id=network,restrict=on -device virtio-net-pci,disable-legacy=on,romfile=,netdev=network",
        ] {
            assert!(words.contains(part), "{words}");
        }
        let (machine, words) = line("microvm,pit=off", &["qemu:/t/a"], "none");
        assert!(machine.starts_with("microvm,pit=off,"), "{machine}");
        assert!(words.contains("-device virtio-blk-device,drive=disk0 -global virtio-mmio."), "{words}");
        assert_eq!(line("microvm", &["x"], "guests"), ("microvm".to_owned(), String::new()));
    }

    #[test]
    fn networks_are_checked() {
        assert_eq!("user".parse(), Ok(Network::User(String::new())));
        assert_eq!("guests".parse(), Ok(Network::Guests));
        for bad in ["", "tap", "none,x", "guests,restrict=on"] {
            assert!(bad.parse::<Network>().unwrap_err().contains("user"), "{bad}");
        }
    }
}
