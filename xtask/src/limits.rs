//! What QEMU's loader and the kernel do not take, told before one of them fails at it in its own way.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, ProgramHeader};

use crate::qemu::{Hardware, Launch};
use crate::report::{Usage, say};

/// Bytes of a kernel command line that the loader has room for: what is longer overwrites its own data.
const MOST_COMMAND_LINE: usize = 4095;
/// Bytes that QEMU keeps above an initramfs, at the end of memory.
const ABOVE_INITRAMFS: u64 = 160 << 10;

/// Checks a guest that QEMU itself loads.
///
/// # Errors
/// If it cannot start.
pub fn check(launch: &Launch) -> Result<()> {
    check_command_line(&launch.append)?;
    let initramfs = launch.initrd.as_deref().map_or(Ok(0), bytes)?;
    check_memory(&launch.hardware, image_end(&launch.image)?, initramfs)?;
    if usize::from(launch.hardware.smp) > platform::MAX_CPUS {
        say!("warning: the kernel uses {} CPUs of these {}", platform::MAX_CPUS, launch.hardware.smp);
    }
    Ok(())
}

fn check_command_line(line: &str) -> Result<()> {
    if line.len() > MOST_COMMAND_LINE {
        bail!(Usage(format!(
            "the kernel command line would have {} bytes; QEMU's loader takes {MOST_COMMAND_LINE}",
            line.len()
        )));
    }
    Ok(())
}

/// The loader puts the initramfs at the end of memory and does not look what is there.
fn check_memory(hardware: &Hardware, image_end: u64, initramfs: u64) -> Result<()> {
    let least = (image_end + initramfs + ABOVE_INITRAMFS).div_ceil(1 << 20);
    if u64::from(hardware.memory) < least {
        bail!(Usage(format!(
            "--memory {} has no room for the kernel and its initramfs beside each other: {least} is the least",
            hardware.memory
        )));
    }
    Ok(())
}

fn bytes(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("cannot use {}", path.display()))?.len())
}

/// One past the last byte of memory that an image takes.
fn image_end(path: &Path) -> Result<u64> {
    let unusable = || format!("cannot use the image {}", path.display());
    let bytes = fs::read(path).with_context(unusable)?;
    let elf: ElfFile64<'_> = ElfFile64::parse(&*bytes).with_context(unusable)?;
    let endian = elf.endian();
    let headers = elf.elf_program_headers().iter();
    let ends = headers
        .filter(|header| header.p_type(endian) == object::elf::PT_LOAD)
        .map(|header| header.p_paddr(endian).saturating_add(header.p_memsz(endian)));
    Ok(ends.max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_has_a_limit() {
        assert!(check_command_line(&"x".repeat(4095)).is_ok());
        assert!(check_command_line(&"x".repeat(4096)).unwrap_err().to_string().contains("4096 bytes"));
    }

    #[test]
    fn kernel_and_initramfs_lie_beside_each_other() {
        let memory = |memory| Hardware { memory, ..Hardware::default() };
        let (image_end, initramfs) = (0x1c_1000, 2_026_004);
        assert!(check_memory(&memory(4), image_end, initramfs).is_ok());
        let error = check_memory(&memory(3), image_end, initramfs).unwrap_err();
        assert!(error.to_string().ends_with("4 is the least"), "{error}");
        assert!(check_memory(&memory(2), image_end, 0).is_ok());
        assert!(check_memory(&memory(1), image_end, 0).is_err());
    }
}
