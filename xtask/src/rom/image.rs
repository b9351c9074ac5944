//! From the linked ROM to what lies in memory: header, checksum, length.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use object::elf::{R_X86_64_PC8, R_X86_64_PC16, R_X86_64_PC32, R_X86_64_PC64, R_X86_64_PLT32};
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags};
use vmi_abi::{
    API_MAJOR, API_MINOR, Call, HEADER_BYTES, Header, MAGIC, MOST_CPU_BYTES, PCI_DEVICE, PCI_VENDOR,
    PciHeader, ROM_SIGNATURE, ROM_UNIT, SCAN_STEP, checksum,
};
use zerocopy::{FromZeros, IntoBytes};

use super::Manner;

/// Longest ROM, bytes.
const LONGEST: usize = 64 << 10;
/// What the linker script leaves for the header.
const HEADER_ROOM: usize = 256;
/// The license string and the PCI structure lie in the header's reserved bytes; the checksum's byte is the last of them.
const LICENSE_OFFSET: usize = 64;
const PCI_OFFSET: usize = 72;
const SUM_OFFSET: usize = 127;
/// Bytes that are kept free at the end.
pub const SPARE_BYTES: usize = 32;
const FAR_RETURN: u8 = 0xcb;

/// What the ROM's symbols say.
struct Symbols(HashMap<String, u64>);

impl Symbols {
    fn find(&self, name: &str) -> Result<u64> {
        self.0.get(name).copied().with_context(|| format!("the linked ROM has no symbol {name}"))
    }
}

/// Makes the ROM from the linked file.
pub fn make(elf: &[u8], manner: Manner) -> Result<Vec<u8>> {
    let file = object::File::parse(elf).context("the linked ROM is no ELF file")?;
    let section = file.section_by_name(".rom").context("the linked ROM has no section .rom")?;
    check_position_independence(&section)?;
    let symbols =
        file.symbols().filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address())));
    let symbols = Symbols(symbols.collect());

    let mut rom = section.data().context("the linked ROM's section .rom has no bytes")?.to_vec();
    ensure!(section.address() == 0 && rom.len() > HEADER_ROOM, "the linked ROM does not start at 0");
    let step = usize::try_from(SCAN_STEP)?;
    rom.resize((rom.len() + SPARE_BYTES).next_multiple_of(step), 0);
    if rom.len() > LONGEST {
        bail!("the ROM has {} bytes, and at most {LONGEST} are allowed", rom.len());
    }
    let data_offset = symbols.find("private_start")?;
    ensure!(data_offset >= rom.len() as u64 + 4096, "code and private memory may share a page");
    let header = Header {
        rom_signature: ROM_SIGNATURE,
        rom_length: u8::try_from(rom.len() / ROM_UNIT)?,
        rom_entry: [FAR_RETURN, 0, 0, 0],
        magic: MAGIC,
        api_minor: API_MINOR,
        api_major: API_MAJOR,
        jump_slots: Call::COUNT,
        license_offset: u16::try_from(LICENSE_OFFSET)?,
        pci_header_offset: u16::try_from(PCI_OFFSET)?,
        data_offset: u32::try_from(data_offset)?,
        data_bytes: u32::try_from(symbols.find("private_end")? - data_offset)?,
        cpu_bytes: MOST_CPU_BYTES,
        iret_fault: match manner {
            // It answers that the guest's own instruction is right.
            Manner::Plain => 0,
            Manner::Strict => u16::try_from(symbols.find("vmi_rom_iret_fault")?)?,
        },
        vmi_init: jump(Header::INIT_OFFSET, symbols.find("vmi_rom_init")?)?,
        get_reloc: jump(Header::GET_RELOC_OFFSET, symbols.find("vmi_rom_get_reloc")?)?,
        ..Header::new_zeroed()
    };
    let pci = PciHeader {
        signature: *b"PCIR",
        vendor: PCI_VENDOR,
        device: PCI_DEVICE,
        vital_product_data: 0,
        length: u16::try_from(size_of::<PciHeader>())?,
        revision: 0,
        class_code: [0x00, 0x80, 0x05],
        image_length: u16::from(header.rom_length),
        rom_minor: API_MINOR,
        rom_major: API_MAJOR,
        code_type: 0,
        last_image: 0x80,
        reserved: 0,
    };
    rom[..HEADER_BYTES].copy_from_slice(header.as_bytes());
    rom[LICENSE_OFFSET..LICENSE_OFFSET + 4].copy_from_slice(b"GPL\0");
    rom[PCI_OFFSET..PCI_OFFSET + size_of::<PciHeader>()].copy_from_slice(pci.as_bytes());
    set_checksum(&mut rom);
    Ok(rom)
}

/// Makes the sum of all bytes zero.
pub fn set_checksum(rom: &mut [u8]) {
    rom[SUM_OFFSET] = rom[SUM_OFFSET].wrapping_sub(checksum(rom));
}

/// A ROM that does nothing.
pub fn empty(bytes: usize) -> Vec<u8> {
    let mut rom = vec![0; bytes];
    rom[..2].copy_from_slice(&ROM_SIGNATURE.to_le_bytes());
    rom[2] = u8::try_from(bytes / ROM_UNIT).expect("a ROM's length fits a byte");
    rom[3] = FAR_RETURN;
    set_checksum(&mut rom);
    rom
}

/// `jmp rel32` at an offset.
pub fn jump(from: usize, to: u64) -> Result<[u8; 8]> {
    let distance = i32::try_from(i64::try_from(to)? - i64::try_from(from)? - 5)?;
    let mut code = [0x90; 8];
    code[0] = 0xe9;
    code[1..5].copy_from_slice(&distance.to_le_bytes());
    Ok(code)
}

/// Nothing in the ROM may depend on where it lies: every address in it is relative to the place that uses it.
fn check_position_independence<'a>(section: &impl ObjectSection<'a>) -> Result<()> {
    let mut relocations = 0;
    for (offset, relocation) in section.relocations() {
        relocations += 1;
        let RelocationFlags::Elf { r_type } = relocation.flags() else {
            bail!("the linked ROM has relocations of another format");
        };
        if !matches!(r_type, R_X86_64_PC8 | R_X86_64_PC16 | R_X86_64_PC32 | R_X86_64_PC64 | R_X86_64_PLT32) {
            bail!(
                "the linked ROM has a relocation of type {r_type} at {offset:#x}: it depends on where the ROM lies"
            );
        }
    }
    // There are calls between functions: none at all means that the linker did not keep them.
    ensure!(relocations > 0, "the linked ROM has no record of its relocations");
    Ok(())
}
