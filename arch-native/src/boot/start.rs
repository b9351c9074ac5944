//! The first Rust code: facts, translations, traps, and then the kernel.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use arch_x86::start_info::StartInfo;
use platform::{
    BootInfo, CpuId, Kernel, MemoryKind, MemoryRegion, PhysAddr, PhysFrame, PhysRange, Unusable, VirtAddr,
};

use super::image;
use super::memory_map::{MOST_REGIONS, MemoryMap};
use super::tables::{Bump, KernelTables, LargePages};
use crate::cpu::features::{self, Features, has};
use crate::cpu::segments::{self, CpuTables};
use crate::cpu::{control, extended_state, smap};
use crate::layout::{KERNEL_WINDOW, USER_TOP, direct};
use crate::machine::Machine;
use crate::time::tsc;
use crate::trap::idt;
use crate::{console, firmware, paging, power, smp};

/// Memory the first page tables show at its own address.
const IDENTITY_LIMIT: PhysAddr = PhysAddr(4 << 30);
/// Real-mode code must lie below.
const REAL_MODE_LIMIT: PhysAddr = PhysAddr(0xa0000);

unsafe extern "C" {
    static image_start: [u8; 0];
    static image_end: [u8; 0];
}

/// What stays for ever of the boot.
struct Facts {
    regions: [MemoryRegion; MOST_REGIONS],
    info: MaybeUninit<BootInfo>,
    tables: CpuTables,
}

struct FactsCell(UnsafeCell<MaybeUninit<Facts>>);

// SAFETY: the boot CPU writes it before any other CPU or interrupt; afterwards it is only read, but for the CPU tables,
// which are the boot CPU's own.
unsafe impl Sync for FactsCell {}

static FACTS: FactsCell = FactsCell(UnsafeCell::new(MaybeUninit::zeroed()));

/// What the loader said, and what follows from it.
struct Known {
    given: StartInfo,
    map: MemoryMap,
    /// The page for the first instructions of other CPUs.
    low_page: Option<PhysAddr>,
}

/// Enters the kernel, or says why it cannot.
///
/// # Safety
/// Called once by the boot code, on the first page tables, with the address of the loader's start information and the
/// time stamp counter at the first instruction.
pub unsafe fn start<K: Kernel, M: Machine>(start_info: u64, first_tick: u64) -> ! {
    tsc::set_origin(first_tick);
    // Nothing sensitive is done before the machine has begun.
    // SAFETY: as the caller promised.
    let begun = unsafe { read(start_info) }.and_then(|mut known| {
        M::begin(&mut known.map, known.low_page)?;
        Ok(known)
    });
    let known = match begun {
        Ok(known) => known,
        Err(reason) => M::refuse::<K>(reason),
    };
    console::init::<M>();
    // SAFETY: as the caller promised.
    match unsafe { prepare::<K, M>(known) } {
        Ok(info) => K::boot(info),
        Err(reason) => power::unusable::<K, M>(reason),
    }
}

unsafe fn read(start_info: u64) -> Result<Known, Unusable> {
    // SAFETY: the first page tables show physical memory below 4 GiB at its own address.
    let given = unsafe { StartInfo::read(start_info, VirtAddr(0))? };
    let mut map = memory(&given)?;
    let low_page = map.last_usable_page_below(REAL_MODE_LIMIT);
    if let Some(page) = low_page {
        map.carve(page, Some(MemoryKind::Kernel))?;
    }
    Ok(Known { given, map, low_page: low_page.map(|page| page.start) })
}

unsafe fn prepare<K: Kernel, M: Machine>(known: Known) -> Result<&'static BootInfo, Unusable> {
    let Known { given, mut map, low_page } = known;
    features::detect::<M>()?;
    smp::set_trampoline(low_page);

    if has(Features::SMAP) && !M::RECORDED {
        // SAFETY: the image is writable under the first page tables, and this is the only CPU.
        unsafe { smap::enable() };
    }

    let memory_end = map.regions().last().map_or(PhysAddr(0), |region| region.range.end);
    let room =
        map.largest_usable_below(IDENTITY_LIMIT).ok_or(Unusable("there is no free memory below 4 GiB"))?;
    // SAFETY: usable RAM below 4 GiB, which nothing has used yet.
    let mut bump = unsafe { Bump::new(room) };
    let root = translations::<M>(&mut bump, &map)?;
    M::adopt_tables(root, memory_end);
    map.carve(bump.used(), Some(MemoryKind::Kernel))?;

    // SAFETY: the tables map this code, its stack and its data as the first ones do; NX and write protection are
    // enabled first because the tables use them.
    unsafe {
        control::enable_protection::<M>();
        M::set_cr3(root.start().0);
        control::enable::<M>();
    }
    paging::set_kernel_root(root, memory_end);
    extended_state::enable::<M>();
    firmware::set_root_pointer(given.rsdp);

    // SAFETY: once, on the only CPU; nothing else refers to the facts yet, and what lay at its own address is now in
    // the direct map.
    unsafe {
        let facts = (*FACTS.0.get()).as_mut_ptr();
        CpuTables::init(&raw mut (*facts).tables);
        segments::register(CpuId(0), &raw mut (*facts).tables);
        CpuTables::load::<M>(&raw mut (*facts).tables);
        idt::build::<K, M>();
        idt::load::<K, M>();

        let regions = (&raw mut (*facts).regions).cast::<MemoryRegion>();
        regions.copy_from_nonoverlapping(map.regions().as_ptr(), map.regions().len());
        let command_line = given.command_line;
        let text = direct(PhysAddr(command_line.as_ptr() as u64)).as_ptr::<u8>();
        let info = (&raw mut (*facts).info).cast::<BootInfo>();
        info.write(BootInfo {
            memory: core::slice::from_raw_parts(regions, map.regions().len()),
            command_line: if command_line.is_empty() {
                &[]
            } else {
                core::slice::from_raw_parts(text, command_line.len())
            },
            initramfs: given.module,
            direct_map: crate::layout::DIRECT_MAP,
            kernel_window: KERNEL_WINDOW,
            user_top: USER_TOP,
        });
        Ok(&*info)
    }
}

fn address(symbol: *const [u8; 0]) -> VirtAddr {
    VirtAddr(symbol as u64)
}

/// The loader's memory, with what the image, the initramfs and the facts take marked.
fn memory(given: &StartInfo) -> Result<MemoryMap, Unusable> {
    let mut map = MemoryMap::new();
    let limit = crate::layout::DIRECT_MAP_LIMIT;
    for entry in given.map.iter().filter(|entry| entry.is_ram()) {
        let range = entry.range();
        map.add_usable(PhysRange { start: range.start.min(limit), end: range.end.min(limit) })?;
    }
    for entry in given.map.iter().filter(|entry| !entry.is_ram()) {
        map.carve(entry.range(), None)?;
    }
    // The first page holds the BIOS's data, and address 0 is better left alone.
    map.carve(PhysRange { start: PhysAddr(0), end: PhysAddr(1) }, None)?;

    let image = PhysRange {
        start: PhysAddr(address(&raw const image_start).0),
        end: PhysAddr(address(&raw const image_end).0),
    };
    if !map.covers(image) {
        return Err(Unusable("too little memory for the kernel image"));
    }
    map.carve(image, Some(MemoryKind::Kernel))?;
    if let Some(initramfs) = given.module
        && initramfs.bytes() > 0
    {
        if !map.covers(initramfs) {
            return Err(Unusable("the initramfs lies outside of memory"));
        }
        map.carve(initramfs, Some(MemoryKind::Initramfs))?;
    }
    for range in given.own_memory {
        if range.bytes() > 0 {
            map.carve(range, Some(MemoryKind::Reclaimable))?;
            // A loader may keep its facts where it reports no memory. The kernel reads the command line there.
            if !map.covers(range) {
                map.add_usable(outward(range))?;
                map.carve(range, Some(MemoryKind::Reserved))?;
            }
        }
    }
    Ok(map)
}

fn outward(range: PhysRange) -> PhysRange {
    let start = range.start.frame().start();
    PhysRange { start, end: PhysAddr(range.end.0.next_multiple_of(platform::PAGE_SIZE)) }
}

/// The kernel's own space: the direct map and the image by its sections.
fn translations<M: Machine>(bump: &mut Bump, map: &MemoryMap) -> Result<PhysFrame, Unusable> {
    let large = LargePages { two_mebibyte: true, gibibyte: has(Features::GIBIBYTE_PAGES) };
    let mut tables = KernelTables::new(bump, large)?;
    tables.direct_map(map.regions())?;
    tables.windows()?;
    image::map(&mut tables)?;
    for (start, physical, protection) in M::beside_image() {
        tables.map(start, physical, protection)?;
    }
    Ok(tables.root())
}
