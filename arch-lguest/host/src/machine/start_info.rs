//! `hvm_start_info`, what a PVH loader tells (Xen's `xen/include/public/arch-x86/hvm/start_info.h`).

use core::slice;

use platform::{PhysAddr, PhysRange};

use super::paging::direct;
use super::power::Unusable;

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;
const LONGEST_COMMAND_LINE: usize = 4096;
const MOST_ENTRIES: usize = 512;

#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

/// One line of the loader's memory map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

impl MapEntry {
    /// What it covers, if that is RAM.
    pub fn ram(&self) -> Option<PhysRange> {
        let end = PhysAddr(self.address.saturating_add(self.size));
        (self.kind == RAM).then_some(PhysRange { start: PhysAddr(self.address), end })
    }
}

/// What the loader said, checked. All of it lies below 4 GiB.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo {
    /// The memory map.
    pub map: &'static [MapEntry],
    /// The command line.
    pub command_line: &'static [u8],
    /// The module, if there is one.
    pub module: Option<PhysRange>,
    /// The loader's own structures.
    pub own: [PhysRange; 3],
}

fn range(start: u64, bytes: u64) -> Option<PhysRange> {
    let end = start.checked_add(bytes).filter(|end| start != 0 && *end <= 1 << 32)?;
    Some(PhysRange { start: PhysAddr(start), end: PhysAddr(end) })
}

impl StartInfo {
    /// Reads the structure at `address`.
    pub fn read(address: u64) -> Result<Self, Unusable> {
        let header_at = range(address, size_of::<Header>() as u64);
        let header_at = header_at.ok_or(Unusable("the loader gave no PVH start information"))?;
        // SAFETY: memory below 4 GiB is in the direct map; any bytes are a header.
        let header = unsafe { direct(header_at.start).as_ptr::<Header>().read_unaligned() };
        if header.magic != MAGIC || header.version < 1 {
            return Err(Unusable("the loader gave no PVH start information with a memory map"));
        }
        let entries = (header.memory_map_entries as usize).min(MOST_ENTRIES);
        let map_at = range(header.memory_map, (entries * size_of::<MapEntry>()) as u64);
        let map_at = map_at.filter(|map| map.start.0.is_multiple_of(8));
        let map_at = map_at.ok_or(Unusable("the loader's memory map is out of reach"))?;
        // SAFETY: in the direct map, aligned; any bytes are entries; the host leaves what `own` names alone.
        let map = unsafe { slice::from_raw_parts(direct(map_at.start).as_ptr(), entries) };

        let mut command_line: &[u8] = &[];
        let mut command_line_at = PhysRange::default();
        if header.command_line != 0 {
            let text = range(header.command_line, LONGEST_COMMAND_LINE as u64);
            let text = text.ok_or(Unusable("the command line is out of reach"))?;
            // SAFETY: as above.
            let bytes =
                unsafe { slice::from_raw_parts(direct(text.start).as_ptr::<u8>(), LONGEST_COMMAND_LINE) };
            let end = bytes.iter().position(|&byte| byte == 0);
            command_line = &bytes[..end.ok_or(Unusable("the command line is too long"))?];
            command_line_at = text;
        }
        let mut module = None;
        if header.modules > 0 {
            let at = range(header.module_list, size_of::<Module>() as u64);
            let at = at.ok_or(Unusable("the loader's list of modules is out of reach"))?;
            // SAFETY: as above.
            let found = unsafe { direct(at.start).as_ptr::<Module>().read_unaligned() };
            module = Some(range(found.address, found.size).ok_or(Unusable("the module is out of reach"))?);
        }
        Ok(Self { map, command_line, module, own: [header_at, map_at, command_line_at] })
    }
}
