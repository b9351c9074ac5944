//! Disks as block devices: `/dev/vda`, `/dev/vdb`, ….

mod disk;
mod file;
mod ioctl;
mod requests;
#[cfg(test)]
mod sim_tests;

use alloc::sync::Arc;
use alloc::vec::Vec;

use platform::Device;

use super::{AVAILABLE, Driver};
use crate::errno::{Errno, KResult};
use crate::fs::device::{DeviceNumber, FileOps};
use crate::fs::tree;
use crate::process::credentials::Gid;
use crate::sync::SpinRwLock;
use disk::Disk;

/// The major number: the first that Linux gives to drivers that have none of their own.
pub const MAJOR: u32 = 254;
/// Minor numbers from one disk to the next; those between are partitions, which nobody looks for.
const MINORS: u32 = 16;
/// As many disks as there are letters.
const MOST_DISKS: usize = 26;
/// Group of disks (`disk` in Debian's `/etc/group`).
const DISK_GROUP: Gid = Gid(6);

static DISKS: SpinRwLock<Vec<Arc<Disk>>> = SpinRwLock::new(Vec::new());

/// The disk's name below `/dev`.
fn name(index: usize) -> [u8; 3] {
    [b'v', b'd', b'a' + index as u8]
}

fn number(index: usize) -> DeviceNumber {
    DeviceNumber::new(MAJOR, index as u32 * MINORS)
}

/// Starts the driver of a disk, and gives it a name.
pub(super) fn add(device: Device) -> KResult<Arc<dyn Driver>> {
    let disk = Arc::new(Disk::start(device)?);
    // Devices are added one after another. One without a name is not among the disks, and leaves its letter to the next.
    let index = DISKS.read().len();
    if index == MOST_DISKS {
        return Err(Errno::ENFILE);
    }
    tree::add_disk(&name(index), number(index), DISK_GROUP)?;
    DISKS.write().push(disk.clone());
    log::info!(
        "{}: {} sectors of 512 bytes{}",
        name(index).escape_ascii(),
        disk.sectors(),
        if disk.is_read_only() { ", read-only" } else { "" }
    );
    Ok(disk)
}

/// Opens the block device with this number.
///
/// # Errors
/// ENXIO if there is none.
pub fn open(number: DeviceNumber) -> KResult<Arc<dyn FileOps>> {
    if !AVAILABLE || number.major != MAJOR || !number.minor.is_multiple_of(MINORS) {
        return Err(Errno::ENXIO);
    }
    let disk = DISKS.read().get((number.minor / MINORS) as usize).cloned();
    Ok(Arc::new(file::BlockFile::new(disk.ok_or(Errno::ENXIO)?)))
}

/// Has every disk write through what it keeps for itself.
pub fn sync() {
    let disks: Vec<_> = DISKS.read().clone();
    for disk in disks {
        // Nobody is told by `sync(2)`; those who want to know call `fsync(2)`.
        let _ = disk.flush();
    }
}

/// What `/proc/partitions` tells of the disks: number, sectors, name.
pub fn partitions() -> Vec<(DeviceNumber, u64, [u8; 3])> {
    if !AVAILABLE {
        return Vec::new();
    }
    DISKS
        .read()
        .iter()
        .enumerate()
        .map(|(index, disk)| (number(index), disk.sectors(), name(index)))
        .collect()
}
