//! `hvm_start_info`, what a PVH loader tells (Xen's `xen/include/public/arch-x86/hvm/start_info.h`).

use core::mem::size_of;

use platform::{PhysAddr, PhysRange, Unusable, VirtAddr};

const MAGIC: u32 = 0x336e_c578;
const RAM: u32 = 1;

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
    /// From version 1 on.
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
    /// What it is about, as far as addresses go.
    pub const fn range(&self) -> PhysRange {
        let end = PhysAddr(self.address.saturating_add(self.size));
        PhysRange { start: PhysAddr(self.address), end }
    }

    /// Whether it is RAM the loader gives away.
    pub const fn is_ram(&self) -> bool {
        self.kind == RAM
    }
}

/// The most lines of a memory map that are read.
const MOST_ENTRIES: usize = 512;
/// The longest command line that is read, in bytes.
const LONGEST_COMMAND_LINE: usize = 64 << 10;

/// What the loader said, checked.
#[derive(Debug)]
pub struct StartInfo {
    /// The memory map.
    pub map: &'static [MapEntry],
    /// The command line without its NUL.
    pub command_line: &'static [u8],
    /// The first module.
    pub module: Option<PhysRange>,
    /// ACPI's root pointer, if the loader knows it.
    pub rsdp: Option<PhysAddr>,
    /// The ranges all of this lies in.
    pub own_memory: [PhysRange; 4],
}

impl StartInfo {
    /// Reads the structure at `address`.
    ///
    /// # Safety
    /// Physical memory below 4 GiB is mapped from `shown_at` on, for ever, and what the structure points to stays
    /// unchanged.
    pub unsafe fn read(address: u64, shown_at: VirtAddr) -> Result<Self, Unusable> {
        let mapped = |address: u64| shown_at + address;
        if address == 0 || !address.is_multiple_of(4) || address >= 1 << 32 {
            return Err(Unusable("the loader gave no PVH start information"));
        }
        // SAFETY: it lies below 4 GiB, so it can be read; any bytes are a header.
        let header = unsafe { mapped(address).as_ptr::<Header>().read_unaligned() };
        if header.magic != MAGIC {
            return Err(Unusable("the loader's PVH start information has the wrong magic number"));
        }
        if header.version < 1 || header.memory_map_entries == 0 {
            return Err(Unusable("the loader's PVH start information has no memory map"));
        }
        let entries = (header.memory_map_entries as usize).min(MOST_ENTRIES);
        let map_bytes = (entries * size_of::<MapEntry>()) as u64;
        if !below_4_gib(header.memory_map, map_bytes) || !header.memory_map.is_multiple_of(8) {
            return Err(Unusable("the loader's memory map is out of reach"));
        }
        // SAFETY: mapped (below 4 GiB), aligned, any bytes are entries, and nothing writes there.
        let map =
            unsafe { core::slice::from_raw_parts(mapped(header.memory_map).as_ptr::<MapEntry>(), entries) };

        let command_line = if header.command_line == 0 {
            &[]
        } else if below_4_gib(header.command_line, 1) {
            let limit = LONGEST_COMMAND_LINE.min(((1u64 << 32) - header.command_line) as usize);
            // SAFETY: mapped (below 4 GiB), and nothing writes there.
            let bytes =
                unsafe { core::slice::from_raw_parts(mapped(header.command_line).as_ptr::<u8>(), limit) };
            let Some(end) = bytes.iter().position(|&byte| byte == 0) else {
                return Err(Unusable("the command line has no end"));
            };
            &bytes[..end]
        } else {
            return Err(Unusable("the command line is out of reach"));
        };

        let mut module = None;
        let module_bytes = u64::from(header.modules) * size_of::<Module>() as u64;
        if header.modules > 0 {
            if !below_4_gib(header.module_list, module_bytes) {
                return Err(Unusable("the loader's list of modules is out of reach"));
            }
            // SAFETY: mapped (below 4 GiB); any bytes are a module.
            let first = unsafe { mapped(header.module_list).as_ptr::<Module>().read_unaligned() };
            let Some(end) = first.address.checked_add(first.size) else {
                return Err(Unusable("the loader's module wraps around the address space"));
            };
            module = Some(PhysRange { start: PhysAddr(first.address), end: PhysAddr(end) });
        }

        let range =
            |start: u64, bytes: u64| PhysRange { start: PhysAddr(start), end: PhysAddr(start + bytes) };
        Ok(Self {
            map,
            command_line,
            module,
            rsdp: (header.rsdp != 0).then_some(PhysAddr(header.rsdp)),
            own_memory: [
                range(address, size_of::<Header>() as u64),
                range(header.memory_map, map_bytes),
                range(header.command_line, command_line.len() as u64 + 1),
                range(header.module_list, module_bytes),
            ],
        })
    }
}

fn below_4_gib(start: u64, bytes: u64) -> bool {
    start != 0 && start.checked_add(bytes).is_some_and(|end| end <= 1 << 32)
}
