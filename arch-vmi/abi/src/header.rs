//! The ROM's header, and where it is looked for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First physical address at which a ROM may start.
pub const SCAN_START: u64 = 0xc0000;
/// One past the last byte that a ROM may have.
pub const SCAN_END: u64 = 0xe0000;
/// A ROM starts at a multiple of this.
pub const SCAN_STEP: u64 = 2048;
/// Unit of [`Header::rom_length`], bytes.
pub const ROM_UNIT: usize = 512;

/// [`Header::rom_signature`]: 55 AA in memory.
pub const ROM_SIGNATURE: u16 = 0xaa55;
/// [`Header::magic`]. The 32-bit interface has "cVmi", so that its kernels pass this ROM by.
pub const MAGIC: [u8; 4] = *b"cVm8";
/// Changes when a call is removed, renumbered or means something else.
pub const API_MAJOR: u8 = 4;
/// Changes when a call is appended.
pub const API_MINOR: u8 = 0;
/// What the license string must be, without its NUL: the ROM's code becomes part of a kernel.
pub const LICENSES: [&[u8]; 2] = [b"GPL", b"GPL v2"];
/// [`PciHeader::vendor`]: VMware, as in the 32-bit interface.
pub const PCI_VENDOR: u16 = 0x15ad;
/// [`PciHeader::device`].
pub const PCI_DEVICE: u16 = 0x0801;

/// Size of [`Header`].
pub const HEADER_BYTES: usize = size_of::<Header>();

/// What a ROM starts with. All numbers are little-endian; offsets are from the first byte of the ROM.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C, packed)]
pub struct Header {
    /// [`ROM_SIGNATURE`].
    pub rom_signature: u16,
    /// Length in units of [`ROM_UNIT`]. The sum of all bytes is zero modulo 256.
    pub rom_length: u8,
    /// 16-bit code that firmware calls.
    pub rom_entry: [u8; 4],
    /// Zero.
    pub rom_pad0: u8,
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`API_MINOR`] of the ROM.
    pub api_minor: u8,
    /// [`API_MAJOR`] of the ROM.
    pub api_major: u8,
    /// One more than the highest call number the ROM knows.
    pub jump_slots: u8,
    /// Zero.
    pub reserved1: u8,
    /// Zero; was `virtual_top`, which has too few bits for an address.
    pub reserved_virtual_top: u32,
    /// Zero.
    pub reserved2: u16,
    /// Offset of the license, a NUL-terminated string.
    pub license_offset: u16,
    /// Offset of the [`PciHeader`].
    pub pci_header_offset: u16,
    /// Offset of a Plug and Play header; zero if there is none.
    pub pnp_header_offset: u16,
    /// Zero.
    pub rom_pad3: u32,
    /// First linear address that is the hypervisor's; zero with `hypervisor_end` if none is.
    pub hypervisor_start: u64,
    /// One past the last such address.
    pub hypervisor_end: u64,
    /// Where the ROM expects its private memory, from its own first byte as the guest has mapped it.
    pub data_offset: u32,
    /// Bytes of private memory.
    pub data_bytes: u32,
    /// Bytes of private memory a CPU, at most [`crate::MOST_CPU_BYTES`]; zero if `BindCPU` need not bring any.
    pub cpu_bytes: u32,
    /// Offset of the instruction whose fault is one of the frame that was handed to `IRET`; zero if the ROM answers
    /// NONE for it.
    pub iret_fault: u16,
    /// Zero.
    pub reserved3: u16,
    /// Room for the license and the other headers.
    pub reserved: [u8; 64],
    /// Code: `VMI_Init`.
    pub vmi_init: [u8; 8],
    /// Code: `VMI_GetRelocationInfo`.
    pub get_reloc: [u8; 8],
}

/// The PCI data structure of a ROM (PCI Firmware Specification 3.0, 5.1.2).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C, packed)]
pub struct PciHeader {
    /// "PCIR".
    pub signature: [u8; 4],
    /// [`PCI_VENDOR`].
    pub vendor: u16,
    /// [`PCI_DEVICE`].
    pub device: u16,
    /// Zero.
    pub vital_product_data: u16,
    /// Size of this structure.
    pub length: u16,
    /// Zero.
    pub revision: u8,
    /// Programming interface, subclass, class: 00, 80, 05 is "other memory controller".
    pub class_code: [u8; 3],
    /// As [`Header::rom_length`].
    pub image_length: u16,
    /// [`API_MINOR`] of the ROM.
    pub rom_minor: u8,
    /// [`API_MAJOR`] of the ROM.
    pub rom_major: u8,
    /// Zero: PC-AT.
    pub code_type: u8,
    /// 0x80: there is no further image.
    pub last_image: u8,
    /// Zero.
    pub reserved: u16,
}

impl Header {
    /// Length of the ROM in bytes.
    pub const fn length(&self) -> usize {
        self.rom_length as usize * ROM_UNIT
    }

    /// Offset of the code of `VMI_Init`.
    pub const INIT_OFFSET: usize = core::mem::offset_of!(Header, vmi_init);
    /// Offset of the code of `VMI_GetRelocationInfo`.
    pub const GET_RELOC_OFFSET: usize = core::mem::offset_of!(Header, get_reloc);

    // Version 0 is satisfied by all, until there is a version 1.
    #[allow(clippy::absurd_extreme_comparisons)]
    /// Whether a guest made for [`API_MAJOR`] and [`API_MINOR`] may use this ROM.
    pub const fn is_supported(&self) -> bool {
        self.api_major == API_MAJOR && self.api_minor >= API_MINOR
    }
}

/// The 8-bit sum of a ROM's bytes: zero if it is good.
pub fn checksum(rom: &[u8]) -> u8 {
    rom.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_first_part_lies_where_version_3_has_it() {
        assert_eq!(size_of::<Header>(), 144);
        for (offset, expected) in [
            (offset_of!(Header, rom_signature), 0),
            (offset_of!(Header, rom_length), 2),
            (offset_of!(Header, rom_entry), 3),
            (offset_of!(Header, magic), 8),
            (offset_of!(Header, api_minor), 12),
            (offset_of!(Header, api_major), 13),
            (offset_of!(Header, jump_slots), 14),
            (offset_of!(Header, reserved_virtual_top), 16),
            (offset_of!(Header, license_offset), 22),
            (offset_of!(Header, pci_header_offset), 24),
            (offset_of!(Header, pnp_header_offset), 26),
            (offset_of!(Header, vmi_init), 128),
            (offset_of!(Header, get_reloc), 136),
        ] {
            assert_eq!(offset, expected);
        }
    }

    #[test]
    fn the_new_fields_lie_in_what_was_reserved() {
        for (offset, expected) in [
            (offset_of!(Header, hypervisor_start), 32),
            (offset_of!(Header, hypervisor_end), 40),
            (offset_of!(Header, data_offset), 48),
            (offset_of!(Header, data_bytes), 52),
            (offset_of!(Header, cpu_bytes), 56),
            (offset_of!(Header, iret_fault), 60),
            (offset_of!(Header, reserved), 64),
        ] {
            assert_eq!(offset, expected);
        }
    }

    #[test]
    fn the_pci_structure_is_that_of_the_specification() {
        assert_eq!(size_of::<PciHeader>(), 24);
        assert_eq!(offset_of!(PciHeader, vendor), 4);
        assert_eq!(offset_of!(PciHeader, length), 10);
        assert_eq!(offset_of!(PciHeader, class_code), 13);
        assert_eq!(offset_of!(PciHeader, image_length), 16);
        assert_eq!(offset_of!(PciHeader, code_type), 20);
        assert_eq!(offset_of!(PciHeader, last_image), 21);
    }

    #[test]
    fn versions() {
        let mut header: Header = zerocopy::FromZeros::new_zeroed();
        (header.api_major, header.api_minor) = (4, 7);
        assert!(header.is_supported());
        header.api_major = 3;
        assert!(!header.is_supported());
        header.api_major = 5;
        assert!(!header.is_supported());
    }

    #[test]
    fn sums_wrap() {
        assert_eq!(checksum(&[0x80, 0x80]), 0);
        assert_eq!(checksum(&[0xff, 2]), 1);
    }
}
