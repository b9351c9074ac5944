//! What `ioctl(2)` does to a disk (Linux include/uapi/linux/fs.h).

use platform::PAGE_SIZE;

use super::disk::{Disk, SECTOR};
use crate::errno::Errno;
use crate::mm::UserAddr;
use crate::process::current;
use crate::syscall::SysResult;

const BLKROGET: u32 = 0x125e;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKSECTGET: u32 = 0x1267;
const BLKSSZGET: u32 = 0x1268;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKIOMIN: u32 = 0x1278;
const BLKIOOPT: u32 = 0x1279;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKROTATIONAL: u32 = 0x127e;

/// The size of block that Linux would read and write by: the largest up to a page that the disk has a whole number of.
fn usual_block(disk: &Disk) -> u32 {
    let most = 1 << disk.bytes().trailing_zeros().min(PAGE_SIZE.trailing_zeros());
    most.max(disk.block_bytes() as u32)
}

/// Carries out `request`.
pub(super) fn ioctl(disk: &Disk, request: u32, argument: UserAddr) -> SysResult {
    let sectors = disk.bytes() / SECTOR as u64;
    let block = disk.block_bytes() as u32;
    match request {
        BLKROGET => argument.write(&i32::from(disk.is_read_only()))?,
        BLKGETSIZE => argument.write(&sectors)?,
        BLKGETSIZE64 => argument.write(&disk.bytes())?,
        BLKSSZGET | BLKIOMIN | BLKPBSZGET => argument.write(&block)?,
        BLKBSZGET => argument.write(&usual_block(disk))?,
        BLKSECTGET => argument.write(&((disk.most_bytes() / SECTOR) as u16))?,
        BLKIOOPT | BLKALIGNOFF => argument.write(&0u32)?,
        // Virtio says nothing of it, and Linux then believes that it is.
        BLKROTATIONAL => argument.write(&1u16)?,
        BLKFLSBUF | BLKRRPART if !current().process.credentials().is_privileged() => {
            return Err(Errno::EACCES);
        }
        BLKFLSBUF => disk.flush()?,
        // Partitions are not looked for.
        BLKRRPART => return Err(Errno::EINVAL),
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}
