//! The first Rust code: facts, the shared page, translations, and then the kernel.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering::Relaxed;

use arch_native::boot::image;
use arch_native::boot::memory_map::{MOST_REGIONS, MemoryMap};
use arch_native::boot::tables::{Bump, KernelTables, LargePages};
use arch_native::layout::{DIRECT_MAP, IMAGE_BASE, KERNEL_WINDOW, PLATFORM_WINDOW, USER_TOP, direct};
use arch_native::paging;
use lguest_abi::{ABI_VERSION, BOOT_MAGIC, KERNEL_HALF, MOST_COMMAND_LINE};
use platform::{
    BootInfo, Kernel, MemoryKind, MemoryRegion, PhysAddr, PhysFrame, PhysRange, Unusable, VirtAddr,
};

use crate::data::{DATA, physical};
use crate::trap::entry;
use crate::{devices, host, power, ring, time};

/// What stays for ever of the boot.
struct Facts {
    regions: [MemoryRegion; MOST_REGIONS],
    info: MaybeUninit<BootInfo>,
}

struct FactsCell(UnsafeCell<MaybeUninit<Facts>>);

// SAFETY: written before the kernel is entered, and only read afterwards.
unsafe impl Sync for FactsCell {}

static FACTS: FactsCell = FactsCell(UnsafeCell::new(MaybeUninit::zeroed()));

/// Enters the kernel, or says why it cannot.
///
/// # Safety
/// Called once by the boot code, on the host's boot map, with the guest-physical address of what the host tells.
pub unsafe fn start<K: Kernel>(boot_info: u64) -> ! {
    // SAFETY: before anything else is asked of the host.
    unsafe { introduce::<K>() };
    time::init();
    // SAFETY: as the caller promised.
    match unsafe { prepare(boot_info) } {
        Ok(info) => K::boot(info),
        Err(reason) => power::unusable::<K>(reason),
    }
}

/// Tells the host of the shared page and of the ways in.
///
/// # Safety
/// Once, as the first call to the host.
unsafe fn introduce<K: Kernel>() {
    let (noirq_start, noirq_end) = entry::noirq_window();
    for (field, value) in [
        (&DATA.noirq_start, noirq_start),
        (&DATA.noirq_end, noirq_end),
        (&DATA.kernel_address, KERNEL_HALF),
        (&DATA.event_from_user, entry::user_event_entry::<K> as *const () as u64),
        (&DATA.event_from_kernel, entry::kernel_event_entry::<K> as *const () as u64),
        (&DATA.system_call, entry::system_call_entry::<K> as *const () as u64),
    ] {
        field.store(value, Relaxed);
    }
    // SAFETY: as the caller promised.
    unsafe { host::init(physical(&raw const DATA)) };
}

unsafe fn prepare(boot_info: u64) -> Result<&'static BootInfo, Unusable> {
    // SAFETY: the boot map shows guest memory at its own address, and the host put the structure there.
    let given = unsafe { (boot_info as *const lguest_abi::BootInfo).read() };
    if given.magic != BOOT_MAGIC {
        return Err(Unusable("the host's boot information has the wrong magic number"));
    }
    if given.version != ABI_VERSION {
        return Err(Unusable("the host follows another version of the interface"));
    }
    let memory = PhysRange { start: PhysAddr(0), end: PhysAddr(given.memory_bytes) };
    check_reserved(&given, memory.end)?;
    let mut map = MemoryMap::new();
    map.add_usable(memory)?;
    // Address 0 is better left alone.
    map.carve(PhysRange { start: PhysAddr(0), end: PhysAddr(1) }, None)?;
    let mut taken = [(image::memory(), MemoryKind::Kernel); 5];
    let range = |start: u64, bytes: u64| PhysRange { start: PhysAddr(start), end: PhysAddr(start + bytes) };
    taken[1] = (range(boot_info, size_of::<lguest_abi::BootInfo>() as u64), MemoryKind::Reclaimable);
    let command_line_bytes = given.command_line_bytes.min(MOST_COMMAND_LINE);
    // SAFETY: the boot map shows the host's text at its own address.
    let command_line = unsafe { text(VirtAddr(given.command_line), command_line_bytes) };
    if command_line.split(|byte| byte.is_ascii_whitespace()).any(|word| word == RING_OFF) {
        ring::switch_off();
    }
    taken[2] = (range(given.command_line, command_line_bytes), MemoryKind::Reclaimable);
    let initramfs = range(given.initramfs, given.initramfs_bytes);
    taken[3] = (initramfs, MemoryKind::Initramfs);
    let device_bytes = if given.devices == 0 { 0 } else { size_of::<lguest_abi::DevicePage>() as u64 };
    taken[4] = (range(given.devices, device_bytes), MemoryKind::Kernel);
    for (range, kind) in taken.into_iter().filter(|(range, _)| range.bytes() > 0) {
        map.carve(range, Some(kind))?;
    }

    let room = map.largest_usable_below(memory.end).ok_or(Unusable("there is no free memory"))?;
    // SAFETY: usable memory, which nothing has used yet and the boot map shows at its own address.
    let mut bump = unsafe { Bump::new(room) };
    let root = translations(&mut bump, &map)?;
    map.carve(bump.used(), Some(MemoryKind::Kernel))?;
    // SAFETY: the host says so; the page was taken out of the memory that anybody uses above.
    unsafe { devices::set_page(PhysAddr(given.devices)) };
    // SAFETY: the tables map this code, its stack and its data where the boot map does.
    unsafe { host::load_root(root.start()) };
    paging::set_kernel_root(root, memory.end);

    // SAFETY: once, on the only CPU; nothing else refers to the facts yet, and the command line is in the direct map.
    unsafe {
        let facts = (*FACTS.0.get()).as_mut_ptr();
        let regions = (&raw mut (*facts).regions).cast::<MemoryRegion>();
        regions.copy_from_nonoverlapping(map.regions().as_ptr(), map.regions().len());
        let info = (&raw mut (*facts).info).cast::<BootInfo>();
        info.write(BootInfo {
            memory: core::slice::from_raw_parts(regions, map.regions().len()),
            command_line: text(direct(PhysAddr(given.command_line)), command_line_bytes),
            initramfs: (given.initramfs_given != 0).then_some(initramfs),
            direct_map: DIRECT_MAP,
            kernel_window: KERNEL_WINDOW,
            user_top: USER_TOP,
        });
        Ok(&*info)
    }
}

/// # Safety
/// There are so many bytes at `start` while the reference lives.
unsafe fn text<'a>(start: VirtAddr, bytes: u64) -> &'a [u8] {
    // SAFETY: as the caller promised.
    if bytes == 0 { &[] } else { unsafe { core::slice::from_raw_parts(start.as_ptr(), bytes as usize) } }
}

/// The host's addresses must be none of ours.
fn check_reserved(given: &lguest_abi::BootInfo, memory_end: PhysAddr) -> Result<(), Unusable> {
    let image_end = IMAGE_BASE + image::memory().end.0;
    let ours = [(DIRECT_MAP, direct(memory_end)), KERNEL_WINDOW, PLATFORM_WINDOW, (IMAGE_BASE, image_end)];
    if ours.iter().any(|(start, end)| start.0 < given.reserve_end && given.reserve_start < end.0) {
        return Err(Unusable("the host keeps addresses for itself that the kernel needs"));
    }
    Ok(())
}

/// The parameter with which no call waits in the ring.
const RING_OFF: &[u8] = b"lguest.ring=off";

/// What the host's tables have too.
const LARGE_PAGES: LargePages = LargePages { two_mebibyte: true, gibibyte: false };

/// The kernel's own space: the direct map and the image by its sections.
fn translations(bump: &mut Bump, map: &MemoryMap) -> Result<PhysFrame, Unusable> {
    let mut tables = KernelTables::new(bump, LARGE_PAGES)?;
    tables.direct_map(map.regions())?;
    tables.windows()?;
    image::map(&mut tables)?;
    Ok(tables.root())
}
