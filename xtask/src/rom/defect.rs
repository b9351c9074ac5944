//! ROMs with something wrong, made from a good one.

use anyhow::{Context, Result, ensure};
use vmi_abi::{Call, Header, SCAN_END, SCAN_START, SCAN_STEP};

use super::image::{SPARE_BYTES, jump, set_checksum};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Defect {
    /// The bytes of the 32-bit interface in the place of "cVm8"
    Magic,
    /// One bit is another
    Checksum,
    /// The length is zero
    NoLength,
    /// It is longer than a ROM may be
    TooLong,
    /// It reaches past where ROMs are
    PastTheEnd,
    /// Another major version
    Version,
    /// Another license
    License,
    /// The license lies outside of the ROM
    LicenseOutside,
    /// There is no PCI structure
    NoPciHeader,
    /// The PCI structure is none
    PciHeader,
    /// Private memory overlaps the code
    DataOffset,
    /// More private memory than there is room for
    DataBytes,
    /// More private memory than the machine has
    DataBeyondMemory,
    /// More memory a CPU than there may be
    CpuBytes,
    /// The instruction that faults for a bad frame lies outside of the ROM
    IretFault,
    /// The hypervisor wants addresses that the kernel needs
    Addresses,
    /// `VMI_Init` fails for no reason it would tell
    InitFails,
    /// `VMI_Init` finds no clock
    NoClock,
    /// A call's relocation lies before the ROM
    RelocationBefore(Call),
    /// A call's relocation lies behind the ROM
    RelocationBehind(Call),
    /// A call's relocation has a type that does not exist
    RelocationType(Call),
    /// A call's relocation has a type that the call does not allow
    Relocation(Call, u8),
    /// Nothing: it is unlike ours in all that may be so (license, device, minor version, a range of addresses for the
    /// hypervisor that the kernel has no use for), and lies at the very end
    Unusual,
}

/// Every defect, by a name for it.
pub const DEFECTS: &[(&str, Defect)] = &[
    ("magic", Defect::Magic),
    ("checksum", Defect::Checksum),
    ("no-length", Defect::NoLength),
    ("too-long", Defect::TooLong),
    ("past-the-end", Defect::PastTheEnd),
    ("version", Defect::Version),
    ("license", Defect::License),
    ("license-outside", Defect::LicenseOutside),
    ("no-pci-header", Defect::NoPciHeader),
    ("pci-header", Defect::PciHeader),
    ("data-offset", Defect::DataOffset),
    ("data-bytes", Defect::DataBytes),
    ("data-beyond-memory", Defect::DataBeyondMemory),
    ("cpu-bytes", Defect::CpuBytes),
    ("iret-fault", Defect::IretFault),
    ("addresses", Defect::Addresses),
    ("init-fails", Defect::InitFails),
    ("no-clock", Defect::NoClock),
    ("relocation-before", Defect::RelocationBefore(Call::SetAlarm)),
    ("relocation-behind", Defect::RelocationBehind(Call::IoDelay)),
    ("relocation-type", Defect::RelocationType(Call::EnableInterrupts)),
    ("nop-for-iret", Defect::Relocation(Call::Iret, 3)),
    ("none-for-alarm", Defect::Relocation(Call::SetAlarm, 0)),
    ("jump-for-call", Defect::Relocation(Call::DisableInterrupts, 2)),
    ("call-without-stack", Defect::Relocation(Call::SyscallSwapGs, 1)),
    ("unusual", Defect::Unusual),
];

const MAGIC_OFFSET: usize = 8;
const MINOR_OFFSET: usize = 12;
const MAJOR_OFFSET: usize = 13;
const LICENSE_OFFSET: usize = 22;
const PCI_OFFSET: usize = 24;
const HYPERVISOR_OFFSET: usize = 32;
const DATA_OFFSET: usize = 48;
const DATA_BYTES_OFFSET: usize = 52;
const IRET_FAULT_OFFSET: usize = 60;
const CPU_BYTES_OFFSET: usize = 56;
/// `ud2`.
const UNDEFINED: [u8; 2] = [0x0f, 0x0b];
/// `mov rax, imm32; ret`: as many bytes as the header has for `VMI_Init`.
const RETURN: [u8; 8] = [0x48, 0xc7, 0xc0, 0, 0, 0, 0, 0xc3];

impl Defect {
    /// Where the ROM is put.
    pub fn address(self, rom: &[u8]) -> u64 {
        match self {
            Self::PastTheEnd => SCAN_END - SCAN_STEP,
            Self::Unusual => SCAN_END - (rom.len() as u64).next_multiple_of(SCAN_STEP),
            _ => SCAN_START,
        }
    }

    /// Whether `VMI_Init` succeeds and a relocation is bad.
    const fn is_in_relocations(self) -> bool {
        matches!(
            self,
            Self::RelocationBefore(_)
                | Self::RelocationBehind(_)
                | Self::RelocationType(_)
                | Self::Relocation(..)
        )
    }

    /// The ROM with this defect, and no other.
    pub fn apply(self, good: &[u8]) -> Result<Vec<u8>> {
        let mut rom = good.to_vec();
        match self {
            Self::Magic => rom[MAGIC_OFFSET..MAGIC_OFFSET + 4].copy_from_slice(b"cVmi"),
            Self::NoLength => rom[2] = 0,
            Self::TooLong => {
                // All of it is there, and its sum is good: only its length is wrong.
                rom.resize(usize::try_from(SCAN_END - SCAN_START)? - 512, 0);
                rom[2] = 255;
            }
            Self::Version => rom[MAJOR_OFFSET] += 1,
            Self::License => {
                let at = half(&rom, LICENSE_OFFSET);
                rom[at..at + 4].copy_from_slice(b"BSD\0");
            }
            Self::LicenseOutside => rom[LICENSE_OFFSET..LICENSE_OFFSET + 2].fill(0xff),
            Self::NoPciHeader => rom[PCI_OFFSET..PCI_OFFSET + 2].fill(0),
            Self::PciHeader => {
                let at = half(&rom, PCI_OFFSET);
                rom[at] = b'X';
            }
            Self::DataOffset => {
                let length = u32::try_from(rom.len())?;
                rom[DATA_OFFSET..DATA_OFFSET + 4].copy_from_slice(&(length - 512).to_le_bytes());
            }
            Self::DataBytes => rom[DATA_BYTES_OFFSET..][..4].fill(0xff),
            Self::DataBeyondMemory => {
                rom[DATA_BYTES_OFFSET..][..4].copy_from_slice(&(256u32 << 20).to_le_bytes());
            }
            Self::IretFault => rom[IRET_FAULT_OFFSET..][..2].fill(0xff),
            Self::Unusual => {
                rom[MINOR_OFFSET] += 9;
                let (license, pci) = (half(&rom, LICENSE_OFFSET), half(&rom, PCI_OFFSET));
                rom[license..license + 7].copy_from_slice(b"GPL v2\0");
                // Vendor and device.
                rom[pci + 4..pci + 8].copy_from_slice(&[0x34, 0x12, 0x78, 0x56]);
                let range: [u64; 2] = [0xffff_f000_0000_0000, 0xffff_f080_0000_0000];
                let bytes = range.map(u64::to_le_bytes);
                rom[HYPERVISOR_OFFSET..][..16].copy_from_slice(bytes.as_flattened());
            }
            Self::CpuBytes => {
                rom[CPU_BYTES_OFFSET..CPU_BYTES_OFFSET + 4].copy_from_slice(&4097u32.to_le_bytes())
            }
            Self::Addresses => {
                let top: [u64; 2] = [0xffff_ffff_8000_0000, 0xffff_ffff_ffff_f000];
                let bytes = top.map(u64::to_le_bytes);
                rom[HYPERVISOR_OFFSET..HYPERVISOR_OFFSET + 16].copy_from_slice(bytes.as_flattened());
            }
            Self::InitFails => fail_init(&mut rom, -1),
            Self::NoClock => fail_init(&mut rom, -4),
            Self::RelocationBefore(call) => answer(&mut rom, call, -1, 1)?,
            Self::RelocationBehind(call) => {
                let behind = i32::try_from(rom.len())? + 2048;
                answer(&mut rom, call, behind, 1)?;
            }
            Self::RelocationType(call) => answer(&mut rom, call, 512, 7)?,
            Self::Relocation(call, kind) => answer(&mut rom, call, 512, kind)?,
            Self::Checksum | Self::PastTheEnd => {}
        }
        // What must not be executed any more ends whoever does.
        if !self.is_in_relocations() && self != Self::Unusual {
            rom[Header::GET_RELOC_OFFSET..][..2].copy_from_slice(&UNDEFINED);
            if !matches!(self, Self::InitFails | Self::NoClock) {
                rom[Header::INIT_OFFSET..][..2].copy_from_slice(&UNDEFINED);
            }
        }
        set_checksum(&mut rom);
        if self == Self::Checksum {
            let last = rom.len() - 1;
            rom[last] ^= 0x10;
        }
        Ok(rom)
    }
}

fn half(rom: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([rom[at], rom[at + 1]]))
}

fn fail_init(rom: &mut [u8], status: i32) {
    let mut code = RETURN;
    code[3..7].copy_from_slice(&status.to_le_bytes());
    rom[Header::INIT_OFFSET..][..8].copy_from_slice(&code);
}

/// Puts code before `VMI_GetRelocationInfo` that answers for one call with an address, by its offset in the ROM, and a type.
fn answer(rom: &mut [u8], call: Call, offset: i32, kind: u8) -> Result<()> {
    let code_at = rom.len() - SPARE_BYTES;
    ensure!(rom[code_at..].iter().all(|&byte| byte == 0), "the ROM has no room for a defect");
    let entry = Header::GET_RELOC_OFFSET;
    let distance = i32::from_le_bytes(rom[entry + 1..entry + 5].try_into()?);
    let original = i32::try_from(entry)? + 5 + distance;
    let number = u8::try_from(call.number()).context("a call's number fits a byte")?;

    let at = |bytes: &[u8]| -> Result<i32> { Ok(i32::try_from(code_at + bytes.len())?) };
    // cmp edi, number; jne original
    let mut code = vec![0x83, 0xff, number, 0x0f, 0x85];
    code.extend((original - at(&code)? - 4).to_le_bytes());
    // lea rax, [rip + offset]
    code.extend([0x48, 0x8d, 0x05]);
    code.extend((offset - at(&code)? - 4).to_le_bytes());
    // mov edx, kind; ret
    code.extend([0xba, kind, 0, 0, 0, 0xc3]);
    rom[code_at..][..code.len()].copy_from_slice(&code);
    let jump = jump(entry, u64::try_from(code_at)?)?;
    rom[entry..entry + 8].copy_from_slice(&jump);
    Ok(())
}
