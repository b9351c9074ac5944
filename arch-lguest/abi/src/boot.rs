//! What a guest starts with.

/// Version of this interface: changes whenever a number, a layout or a rule does.
pub const ABI_VERSION: u32 = 2;
/// `magic` of [`BootInfo`]: "lguest64", as bytes in memory.
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"lguest64");
/// The longest command line, in bytes.
pub const MOST_COMMAND_LINE: u64 = 4096;

/// The facts of the boot. RSI has its guest-physical address at entry; it lies in the first MiB, which holds nothing
/// else than it, the command line and the devices' page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BootInfo {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`].
    pub version: u32,
    /// Virtual CPUs; 1.
    pub vcpus: u32,
    /// Memory: guest-physical addresses from 0 up to, not including, this. A multiple of the page size.
    pub memory_bytes: u64,
    /// Guest-physical address of the command line.
    pub command_line: u64,
    /// Its length, without a NUL; 0 if there is none.
    pub command_line_bytes: u64,
    /// Guest-physical address of the initramfs: a page boundary at the top of memory.
    pub initramfs: u64,
    /// Its length; 0 if it is empty.
    pub initramfs_bytes: u64,
    /// Not 0 if an initramfs was given.
    pub initramfs_given: u64,
    /// One past the last byte of the image, guest-physical.
    pub image_end: u64,
    /// Addresses the host keeps for itself, from here
    pub reserve_start: u64,
    /// up to, not including, this.
    pub reserve_end: u64,
    /// Which of the host's guests this is, from 0 on.
    pub guest: u64,
    /// How often the host had started it before.
    pub earlier_starts: u64,
    /// Guest-physical address of the [`crate::DevicePage`]; 0 if there are no devices. It stays in use while the guest
    /// runs.
    pub devices: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_are_laid_out_as_documented() {
        assert_eq!(size_of::<BootInfo>(), 112);
        assert_eq!(core::mem::offset_of!(BootInfo, memory_bytes), 0x10);
        assert_eq!(core::mem::offset_of!(BootInfo, reserve_end), 0x50);
        assert_eq!(core::mem::offset_of!(BootInfo, devices), 0x68);
        assert_eq!(BOOT_MAGIC.to_le_bytes(), *b"lguest64");
    }
}
