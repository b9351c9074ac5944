//! Finding the ROM, and every check it must pass before anything of it is executed (ABI.md, section 1).

use core::mem::size_of;

use arch_native::layout::{DIRECT_MAP, DIRECT_MAP_LIMIT, IMAGE_BASE, KERNEL_WINDOW, PLATFORM_WINDOW};
use platform::{PAGE_SIZE, PhysAddr, Unusable};
use vmi_abi::{
    HEADER_BYTES, Header, LICENSES, MAGIC, MOST_CPU_BYTES, PCI_DEVICE, PCI_VENDOR, PciHeader, ROM_SIGNATURE,
    SCAN_END, SCAN_START, SCAN_STEP, checksum,
};
use zerocopy::FromBytes;

/// The longest ROM.
const MOST_BYTES: usize = 64 << 10;
/// The largest private memory that is mapped: all of it and the ROM lie within 1 GiB.
const MOST_DATA_END: u64 = 512 << 20;

/// A ROM that has passed every check.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its first byte.
    pub address: PhysAddr,
    /// What it starts with.
    pub header: Header,
    /// Whether its PCI header names the vendor and device it should.
    pub known_device: bool,
}

/// Why a ROM is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    Missing,
    TooShort,
    TooLong,
    Checksum,
    Version,
    License,
    PciHeader,
    PrivateMemory,
    Hypervisor,
}

impl From<Defect> for Unusable {
    fn from(defect: Defect) -> Self {
        Self(match defect {
            Defect::Missing => "no VMI ROM was found",
            Defect::TooShort => "the VMI ROM is too short for its header",
            Defect::TooLong => "the VMI ROM is longer than its window",
            Defect::Checksum => "the VMI ROM has a bad checksum",
            Defect::Version => "the VMI ROM's version is not supported",
            Defect::License => "the VMI ROM's license is not GPL",
            Defect::PciHeader => "the VMI ROM has no PCI header",
            Defect::PrivateMemory => "the VMI ROM's private memory is misplaced",
            Defect::Hypervisor => "the VMI ROM's hypervisor overlaps the kernel",
        })
    }
}

/// Bytes of the window that is searched.
pub const WINDOW_BYTES: usize = SCAN_END as usize - SCAN_START as usize;

/// Searches `window`, which starts at [`SCAN_START`]: the first ROM of this interface counts.
pub fn find(window: &[u8]) -> Result<Found, Defect> {
    let candidates = (0..window.len()).step_by(SCAN_STEP as usize);
    for offset in candidates {
        let rom = &window[offset..];
        let Ok((header, _)) = Header::read_from_prefix(rom) else { continue };
        if header.rom_signature == ROM_SIGNATURE && header.magic == MAGIC {
            let known_device = check(rom, &header)?;
            let address = PhysAddr(SCAN_START + offset as u64);
            return Ok(Found { address, header, known_device });
        }
    }
    Err(Defect::Missing)
}

/// Checks the ROM at the start of `rest`, which ends with the window; whether its device is the known one.
fn check(rest: &[u8], header: &Header) -> Result<bool, Defect> {
    if header.length() < HEADER_BYTES {
        return Err(Defect::TooShort);
    }
    let rom = rest.get(..header.length()).filter(|rom| rom.len() <= MOST_BYTES).ok_or(Defect::TooLong)?;
    if checksum(rom) != 0 {
        return Err(Defect::Checksum);
    }
    if !header.is_supported() {
        return Err(Defect::Version);
    }
    let license = rom.get(usize::from(header.license_offset)..).unwrap_or_default();
    let end = license.iter().position(|&byte| byte == 0).ok_or(Defect::License)?;
    if !LICENSES.contains(&&license[..end]) {
        return Err(Defect::License);
    }
    let pci = match header.pci_header_offset {
        0 => None,
        offset => rom.get(usize::from(offset)..).and_then(|at| PciHeader::read_from_prefix(at).ok()),
    };
    let (pci, _) = pci.filter(|(pci, _)| pci.signature == *b"PCIR").ok_or(Defect::PciHeader)?;
    if !private_memory_is_good(header) || usize::from(header.iret_fault) >= rom.len() {
        return Err(Defect::PrivateMemory);
    }
    if !is_clear(header.hypervisor_start, header.hypervisor_end) {
        return Err(Defect::Hypervisor);
    }
    Ok(pci.vendor == PCI_VENDOR && pci.device == PCI_DEVICE)
}

fn private_memory_is_good(header: &Header) -> bool {
    let (offset, bytes) = (u64::from(header.data_offset), u64::from(header.data_bytes));
    let placed =
        bytes == 0 || (offset >= header.length() as u64 + PAGE_SIZE && offset + bytes <= MOST_DATA_END);
    placed && header.cpu_bytes <= MOST_CPU_BYTES
}

/// Whether the kernel uses no address from `start` to `end`.
fn is_clear(start: u64, end: u64) -> bool {
    let used = [
        (DIRECT_MAP.0, DIRECT_MAP.0 + DIRECT_MAP_LIMIT.0),
        (KERNEL_WINDOW.0.0, KERNEL_WINDOW.1.0),
        (PLATFORM_WINDOW.0.0, PLATFORM_WINDOW.1.0),
        (IMAGE_BASE.0, u64::MAX),
    ];
    start == end
        || (start >= DIRECT_MAP.0 && start < end && used.iter().all(|used| end <= used.0 || start >= used.1))
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    const LENGTH: usize = 2048;

    fn header() -> Header {
        let mut header = Header::new_zeroed();
        header.rom_signature = ROM_SIGNATURE;
        header.rom_length = (LENGTH / 512) as u8;
        header.magic = MAGIC;
        header.api_major = vmi_abi::API_MAJOR;
        header.jump_slots = 85;
        header.license_offset = 200;
        header.pci_header_offset = 256;
        header.data_offset = 8192;
        header.data_bytes = 100;
        header
    }

    /// The bytes of a good ROM with `header`, its license `license` and its checksum right.
    fn rom(header: Header, license: &[u8]) -> Vec<u8> {
        let mut rom = vec![0; LENGTH];
        rom[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        rom[200..200 + license.len()].copy_from_slice(license);
        rom[256..260].copy_from_slice(b"PCIR");
        rom[260..264].copy_from_slice(&[0xad, 0x15, 0x01, 0x08]);
        rom[LENGTH - 1] = 0u8.wrapping_sub(checksum(&rom));
        rom
    }

    fn window(at: usize, rom: &[u8]) -> Vec<u8> {
        let mut window = vec![0xff; WINDOW_BYTES];
        window[at..at + rom.len()].copy_from_slice(rom);
        window
    }

    fn outcome(change: impl FnOnce(&mut Header)) -> Result<PhysAddr, Defect> {
        let mut header = header();
        change(&mut header);
        find(&window(4096, &rom(header, b"GPL v2"))).map(|found| found.address)
    }

    #[test]
    fn a_good_rom_is_found_at_any_boundary() {
        for at in [0, 2048, 10 * 2048, WINDOW_BYTES - 2048] {
            let found = find(&window(at, &rom(header(), b"GPL"))).unwrap();
            assert_eq!(found.address, PhysAddr(0xc0000 + at as u64));
            assert!(found.known_device);
        }
        assert_eq!(find(&window(1024, &rom(header(), b"GPL"))).unwrap_err(), Defect::Missing);
    }

    #[test]
    fn each_defect_is_named() {
        assert_eq!(outcome(|_| {}), Ok(PhysAddr(0xc1000)));
        assert_eq!(outcome(|header| header.magic = *b"cVmi"), Err(Defect::Missing));
        assert_eq!(outcome(|header| header.rom_signature = 0xaa54), Err(Defect::Missing));
        assert_eq!(outcome(|header| header.rom_length = 0), Err(Defect::TooShort));
        assert_eq!(outcome(|header| header.rom_length = 129), Err(Defect::TooLong));
        assert_eq!(outcome(|header| header.api_major = 3), Err(Defect::Version));
        assert_eq!(outcome(|header| header.license_offset = 0xffff), Err(Defect::License));
        assert_eq!(outcome(|header| header.pci_header_offset = 0), Err(Defect::PciHeader));
        assert_eq!(outcome(|header| header.pci_header_offset = 2040), Err(Defect::PciHeader));
        assert_eq!(outcome(|header| header.data_offset = 2048), Err(Defect::PrivateMemory));
        assert_eq!(outcome(|header| header.data_bytes = u32::MAX), Err(Defect::PrivateMemory));
        assert_eq!(outcome(|header| header.cpu_bytes = 4097), Err(Defect::PrivateMemory));
        assert_eq!(outcome(|header| header.iret_fault = 2048), Err(Defect::PrivateMemory));
    }

    #[test]
    fn a_rom_at_the_end_of_the_window_must_end_there() {
        let mut header = header();
        header.rom_length = 5;
        let bad = rom(header, b"GPL");
        assert_eq!(find(&window(WINDOW_BYTES - 2048, &bad[..2048])).unwrap_err(), Defect::TooLong);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let mut bad = rom(header(), b"GPL");
        bad[1000] ^= 1;
        assert_eq!(find(&window(0, &bad)).unwrap_err(), Defect::Checksum);
    }

    #[test]
    fn only_the_two_licenses_are_accepted() {
        for license in [&b"BSD"[..], b"GPL v3", b"", b"gpl"] {
            assert_eq!(find(&window(0, &rom(header(), license))).unwrap_err(), Defect::License);
        }
    }

    #[test]
    fn the_first_rom_of_this_interface_decides() {
        let mut window = window(2048, &rom(header(), b"BSD"));
        window[8192..8192 + LENGTH].copy_from_slice(&rom(header(), b"GPL"));
        assert_eq!(find(&window).unwrap_err(), Defect::License);
    }

    #[test]
    fn the_hypervisor_may_lie_where_the_kernel_is_not() {
        assert!(is_clear(0, 0));
        assert!(is_clear(0xffff_ff00_0000_0000, 0xffff_ff80_0000_0000));
        assert!(!is_clear(0x1000, 0x2000), "user memory");
        assert!(!is_clear(0xffff_ffff_fc00_0000, 0xffff_ffff_ffff_0000), "beside the image");
        assert!(!is_clear(0xffff_9000_0000_0000, 0xffff_9000_0000_1000), "the direct map");
        assert!(!is_clear(0xffff_ff80_0000_0000, 0xffff_ff00_0000_0000), "upside down");
    }
}
