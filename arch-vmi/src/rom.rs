//! The ROM in the kernel's address space, and its two entries. It and its private memory are mapped at the top of the
//! address space, above the image, from before `VMI_Init` on and for ever.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arch_native::boot::memory_map::MemoryMap;
use arch_native::cpu::local::PLATFORM_WORDS_USED;
use platform::{
    CpuLocal, MemoryKind, PAGE_SIZE, PLATFORM_WORDS, PhysAddr, PhysRange, Protection, Unusable, VirtAddr,
};
use vmi_abi::{Header, InitParameters, InitStatus, RelocationType, SCAN_START, WORDS_PER_CPU};

use crate::native::{self, Content};
use crate::probe::{self, Found, WINDOW_BYTES};

/// Where the window begins in which ROM and private memory are mapped: the last GiB of the address space, to which all of
/// the image reaches by 32 bits.
const WINDOW: VirtAddr = VirtAddr(0xffff_ffff_c000_0000);
/// The first page tables show physical memory at its own address below this.
const IDENTITY_LIMIT: PhysAddr = PhysAddr(4 << 30);
/// Bytes below one page table.
const TABLE_SPAN: u64 = 2 << 20;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;

/// Where ROM and private memory are.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// The ROM as firmware left it.
    pub found: Found,
    /// Its first byte as the kernel sees it.
    pub rom: VirtAddr,
    /// Frames of its private memory, which are mapped from [`Self::data_page`] on.
    pub data: PhysRange,
}

impl Placed {
    /// The ROM's bytes.
    pub fn bytes(&self) -> u64 {
        self.found.header.length() as u64
    }

    /// Whether `address` is one of the ROM's.
    pub fn contains(&self, address: u64) -> bool {
        address >= self.rom.0 && address - self.rom.0 < self.bytes()
    }

    fn data_page(&self) -> VirtAddr {
        (self.rom + u64::from(self.found.header.data_offset)).page()
    }

    fn frames(&self) -> PhysRange {
        let start = self.found.address;
        PhysRange {
            start: start.frame().start(),
            end: PhysAddr((start.0 + self.bytes()).next_multiple_of(PAGE_SIZE)),
        }
    }

    /// What is mapped, where, and with which rights.
    pub fn mappings(&self) -> [(VirtAddr, PhysRange, Protection); 2] {
        [
            (self.rom.page(), self.frames(), Protection::READ | Protection::EXECUTE),
            (self.data_page(), self.data, Protection::READ | Protection::WRITE),
        ]
    }
}

struct PlacedCell(UnsafeCell<Option<Placed>>);

// SAFETY: written once, on the boot CPU before any other runs; only read afterwards.
unsafe impl Sync for PlacedCell {}

static PLACED: PlacedCell = PlacedCell(UnsafeCell::new(None));

/// Where a refused return to user mode faults; zero if never in the ROM.
static IRET_FAULT: AtomicU64 = AtomicU64::new(0);

/// Where ROM and private memory are, once [`start`] has run.
pub fn placed() -> Option<Placed> {
    // SAFETY: written before anyone reads.
    unsafe { *PLACED.0.get() }
}

/// Whether `rip` is where the ROM's return to user mode faults.
pub fn is_iret_fault(rip: u64) -> bool {
    rip == IRET_FAULT.load(Relaxed)
}

/// Finds the ROM, maps it and initializes it.
///
/// # Safety
/// Once, on the boot CPU, on the first page tables; `low_page` is kept for starting CPUs.
pub unsafe fn start(memory: &mut MemoryMap, low_page: Option<PhysAddr>) -> Result<Placed, Unusable> {
    // SAFETY: the first page tables show the window at its own address, and nothing writes there.
    let window = unsafe { core::slice::from_raw_parts(SCAN_START as usize as *const u8, WINDOW_BYTES) };
    let found = probe::find(window)?;
    let placed = place(memory, found)?;
    // SAFETY: as the caller promised; just mapped.
    unsafe {
        *PLACED.0.get() = Some(placed);
        aim(rom_init as *const () as u64, placed.rom + Header::INIT_OFFSET as u64);
        aim(rom_get_relocation as *const () as u64, placed.rom + Header::GET_RELOC_OFFSET as u64);
    }
    let offset = u64::from(found.header.data_offset);
    let parameters = InitParameters {
        size: size_of::<InitParameters>() as u32,
        flags: 0,
        rom: found.address.0,
        data: placed.data.start.0 + ((placed.rom.0 + offset) & (PAGE_SIZE - 1)),
        low_page: low_page.map_or(0, |page| page.0),
        physical_map: 0,
        cpu_words: (offset_of!(CpuLocal, platform) + 8 * FIRST_WORD) as u32,
        reserved: 0,
    };
    // SAFETY: the ROM was checked; it and its memory are mapped, and the identity mapping shows what it may read.
    match InitStatus::from_number(unsafe { rom_init(&raw const parameters) }) {
        InitStatus::Ready => {}
        InitStatus::Failed => return Err(Unusable("the VMI ROM could not be initialized")),
        InitStatus::BadParameters => {
            return Err(Unusable("the VMI ROM could not be initialized: bad parameters"));
        }
        InitStatus::UnsuitableCpu => {
            return Err(Unusable("the VMI ROM could not be initialized: unsuitable CPU"));
        }
        InitStatus::NoClock => return Err(Unusable("the VMI ROM could not be initialized: no clock")),
        InitStatus::NoLocalApic => {
            return Err(Unusable("the VMI ROM could not be initialized: no local APIC"));
        }
    }
    if found.header.iret_fault != 0 {
        IRET_FAULT.store(placed.rom.0 + u64::from(found.header.iret_fault), Relaxed);
    }
    Ok(placed)
}

/// The hypervisor's words of [`CpuLocal::platform`] are the last.
const FIRST_WORD: usize = PLATFORM_WORDS - WORDS_PER_CPU;
const _: () = assert!(FIRST_WORD >= PLATFORM_WORDS_USED);

/// Takes memory for what the ROM wants and shows it and the ROM in the first page tables.
fn place(memory: &mut MemoryMap, found: Found) -> Result<Placed, Unusable> {
    let rom = WINDOW + (found.address.0 & (PAGE_SIZE - 1));
    let start = rom.0 + u64::from(found.header.data_offset);
    let end = start + u64::from(found.header.data_bytes);
    let data_bytes = match found.header.data_bytes {
        0 => 0,
        _ => end.next_multiple_of(PAGE_SIZE) - start / PAGE_SIZE * PAGE_SIZE,
    };
    // Page tables first, then the private memory.
    let span = end.max(rom.0 + found.header.length() as u64) - WINDOW.0;
    let page_tables = span.div_ceil(TABLE_SPAN);
    let tables_bytes = (1 + page_tables) * PAGE_SIZE;
    let room = memory
        .largest_usable_below(IDENTITY_LIMIT)
        .filter(|room| room.bytes() >= tables_bytes + data_bytes)
        .ok_or(Unusable("too little memory for the VMI ROM"))?;
    let end = room.end;
    let taken = PhysRange { start: PhysAddr(end.0 - tables_bytes - data_bytes), end };
    memory.carve(taken, Some(MemoryKind::Kernel))?;
    // SAFETY: free RAM, which the first page tables show at its own address.
    unsafe { (taken.start.0 as *mut u8).write_bytes(0, taken.bytes() as usize) };

    let data = PhysRange { start: taken.start + tables_bytes, end };
    let placed = Placed { found, rom, data };
    let directory = taken.start.0 as *mut u64;
    for n in 0..page_tables {
        // SAFETY: the directory has 512 entries, and the window of 1 GiB no more tables than that.
        unsafe {
            directory.add(n as usize).write((taken.start.0 + (1 + n) * PAGE_SIZE) | PRESENT | WRITABLE)
        };
    }
    for (at, frames, protection) in placed.mappings() {
        let writable = if protection.contains(Protection::WRITE) { WRITABLE } else { 0 };
        for n in 0..frames.bytes() / PAGE_SIZE {
            let page = (at.0 - WINDOW.0) / PAGE_SIZE + n;
            let entry = (frames.start.0 + n * PAGE_SIZE) | PRESENT | writable;
            // SAFETY: the tables lie one behind the other, so the pages of the window count through all of them.
            unsafe { directory.add(512 + page as usize).write(entry) };
        }
    }
    unsafe extern "C" {
        /// The table of the top 512 GiB among the first page tables.
        static mut boot_high: [u64; 512];
    }
    // SAFETY: the table is the boot's own, linked at its physical address; nothing was mapped there.
    unsafe {
        (&raw mut boot_high).cast::<u64>().add(511).write_volatile(directory as u64 | PRESENT | WRITABLE);
    }
    Ok(placed)
}

/// Makes the place at `address` jump to `target`.
///
/// # Safety
/// It is one of the two below, and the image is writable.
unsafe fn aim(address: u64, target: VirtAddr) {
    // SAFETY: a place has the bytes of a branch; nobody runs there now.
    let place = unsafe { core::slice::from_raw_parts_mut(address as *mut u8, native::BRANCH_BYTES) };
    native::fill(place, address, Content::Jump(target.0));
}

/// `VMI_Init`.
#[unsafe(naked)]
unsafe extern "C" fn rom_init(parameters: *const InitParameters) -> i64 {
    naked_asm!("ud2", ".skip 3, 0xcc")
}

/// What `VMI_GetRelocationInfo` leaves in RAX and RDX.
#[derive(Clone, Copy)]
#[repr(C)]
struct RawRelocation {
    address: u64,
    kind: u64,
}

/// `VMI_GetRelocationInfo`.
#[unsafe(naked)]
unsafe extern "C" fn rom_get_relocation(call: u32) -> RawRelocation {
    naked_asm!("ud2", ".skip 3, 0xcc")
}

/// What the ROM answers for a call.
#[derive(Clone, Copy, Debug)]
pub struct Relocation {
    pub kind: RelocationType,
    pub address: u64,
}

/// Asks the initialized ROM about a call; none if it answers with a type that there is not.
pub fn relocation(call: vmi_abi::Call) -> Option<Relocation> {
    // SAFETY: the ROM is initialized.
    let RawRelocation { address, kind } = unsafe { rom_get_relocation(call.number()) };
    Some(Relocation { kind: RelocationType::from_number(kind)?, address })
}
