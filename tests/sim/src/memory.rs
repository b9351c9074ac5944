//! Physical memory: one file in memory, mapped whole as the direct map and page by page as kernel mappings.

use std::io::Error;
use std::sync::OnceLock;

use platform::{
    BootInfo, MemoryKind, MemoryRegion, PAGE_SIZE, PhysAddr, PhysFrame, PhysRange, Protection, VirtAddr,
};

/// One past the highest user address. Everything of the build machine's own lies above it.
pub const USER_TOP: u64 = 0x5000_0000_0000;
/// Where the direct map goes if the address is free; else anywhere above [`USER_TOP`].
const DIRECT_MAP_HINT: u64 = 0x6000_0000_0000;
/// Where kernel mappings go if the address is free.
const WINDOW_HINT: u64 = 0x6800_0000_0000;
const WINDOW_BYTES: u64 = 64 << 30;
/// What memory that nobody has written holds.
const POISON: u8 = 0xa5;
/// The most memory that is filled with [`POISON`]: more would take too long.
const POISON_LIMIT: u64 = 64 << 20;

/// The machine's memory.
pub struct Memory {
    file: libc::c_int,
    base: u64,
    window: (u64, u64),
    ram: Vec<PhysRange>,
}

static MEMORY: OnceLock<Memory> = OnceLock::new();

/// The memory of the machine that runs.
pub fn memory() -> &'static Memory {
    MEMORY.get().expect("no machine runs in this process")
}

/// Makes the memory of a machine and the facts it boots with.
pub fn build(ram: Vec<PhysRange>, command_line: &[u8], initramfs: Option<&[u8]>) -> &'static BootInfo {
    let memory = MEMORY.get_or_init(|| Memory::new(ram));
    let mut layout = Layout { regions: Vec::new(), room: memory.largest_range() };
    for range in &memory.ram {
        if *range != layout.room {
            layout.regions.push(MemoryRegion { range: *range, kind: MemoryKind::Usable });
        }
    }
    layout.take_low(1 << 16, MemoryKind::Kernel);
    let facts = layout.take_low(page_up(command_line.len() as u64 + 4096), MemoryKind::Reclaimable);
    let initramfs = initramfs.map(|bytes| {
        let range = layout.take_high(page_up(bytes.len() as u64));
        // SAFETY: the range is RAM, mapped through the direct map, that nobody else knows yet.
        unsafe { memory.host(range.start).as_mut_ptr::<u8>().copy_from(bytes.as_ptr(), bytes.len()) };
        PhysRange { start: range.start, end: range.start + bytes.len() as u64 }
    });
    layout.regions.push(MemoryRegion { range: layout.room, kind: MemoryKind::Usable });
    layout.regions.push(MemoryRegion {
        range: PhysRange { start: PhysAddr(0), end: PhysAddr(PAGE_SIZE) },
        kind: MemoryKind::Reserved,
    });
    layout.regions.retain(|region| region.range.bytes() > 0);
    layout.regions.sort_by_key(|region| region.range.start);

    // The facts lie in memory that the kernel may take once it has copied them.
    let map_bytes = std::mem::size_of_val(layout.regions.as_slice());
    assert!(map_bytes as u64 <= PAGE_SIZE, "the memory map has too many regions");
    let map = memory.host(facts.start).as_mut_ptr::<MemoryRegion>();
    let line = memory.host(facts.start + PAGE_SIZE).as_mut_ptr::<u8>();
    // SAFETY: the region is RAM that nobody else knows yet, page aligned, with a page for the map and room for the line
    // behind it; it stays mapped for ever.
    let (regions, command_line) = unsafe {
        map.copy_from(layout.regions.as_ptr(), layout.regions.len());
        line.copy_from(command_line.as_ptr(), command_line.len());
        (
            std::slice::from_raw_parts(map, layout.regions.len()),
            std::slice::from_raw_parts(line, command_line.len()),
        )
    };
    Box::leak(Box::new(BootInfo {
        memory: regions,
        command_line,
        initramfs,
        direct_map: VirtAddr(memory.base),
        kernel_window: (VirtAddr(memory.window.0), VirtAddr(memory.window.1)),
        user_top: VirtAddr(USER_TOP),
    }))
}

/// A memory map in the making: `room` is what is left of the range that all carving is done in.
struct Layout {
    regions: Vec<MemoryRegion>,
    room: PhysRange,
}

impl Layout {
    fn take_low(&mut self, bytes: u64, kind: MemoryKind) -> PhysRange {
        assert!(bytes <= self.room.bytes(), "the machine has too little memory for its own facts");
        let range = PhysRange { start: self.room.start, end: self.room.start + bytes };
        self.room.start = range.end;
        self.regions.push(MemoryRegion { range, kind });
        range
    }

    fn take_high(&mut self, bytes: u64) -> PhysRange {
        assert!(bytes <= self.room.bytes(), "the machine has too little memory for its initramfs");
        let range = PhysRange { start: self.room.end - bytes, end: self.room.end };
        self.room.end = range.start;
        self.regions.push(MemoryRegion { range, kind: MemoryKind::Initramfs });
        range
    }
}

const fn page_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE_SIZE)
}

impl Memory {
    fn new(ram: Vec<PhysRange>) -> Self {
        let end = ram.iter().map(|range| range.end.0).max().unwrap_or(0);
        assert!(end > 0, "a machine has memory");
        for range in &ram {
            assert!(
                range.start.0 % PAGE_SIZE == 0 && range.end.0 % PAGE_SIZE == 0,
                "{range:?} is not of pages"
            );
            assert!(range.start.0 >= PAGE_SIZE, "the first page is no RAM: null pointers shall fault");
        }
        // SAFETY: creates a file, touches no memory of ours.
        let file = unsafe { libc::memfd_create(c"ram".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(file >= 0, "memfd_create: {}", Error::last_os_error());
        // SAFETY: as above.
        let sized = unsafe { libc::ftruncate(file, end as libc::off_t) };
        assert_eq!(sized, 0, "ftruncate: {}", Error::last_os_error());
        let base = reserve(DIRECT_MAP_HINT, end);
        let window = reserve(WINDOW_HINT, WINDOW_BYTES);
        let memory = Self { file, base, window: (window, window + WINDOW_BYTES), ram };
        for range in &memory.ram {
            memory.map_file(
                base + range.start.0,
                range.start,
                range.bytes(),
                libc::PROT_READ | libc::PROT_WRITE,
            );
        }
        if memory.ram.iter().map(|range| range.bytes()).sum::<u64>() <= POISON_LIMIT {
            for range in &memory.ram {
                // SAFETY: just mapped, and nobody else knows it.
                unsafe {
                    memory.host(range.start).as_mut_ptr::<u8>().write_bytes(POISON, range.bytes() as usize);
                }
            }
        }
        memory
    }

    fn largest_range(&self) -> PhysRange {
        *self.ram.iter().max_by_key(|range| range.bytes()).expect("a machine has memory")
    }

    /// Where an address of RAM is found on the build machine.
    pub fn host(&self, address: PhysAddr) -> VirtAddr {
        VirtAddr(self.base + address.0)
    }

    /// Whether the frame is RAM.
    pub fn is_ram(&self, frame: PhysFrame) -> bool {
        self.ram.iter().any(|range| range.start <= frame.start() && frame.start() < range.end)
    }

    /// Whether the address is in the window for kernel mappings.
    pub fn in_window(&self, address: VirtAddr) -> bool {
        self.window.0 <= address.0 && address.0 < self.window.1
    }

    /// One past the window for kernel mappings.
    pub fn window_end(&self) -> u64 {
        self.window.1
    }

    /// Whether the address is that of RAM in the direct map.
    pub fn in_direct_map(&self, address: VirtAddr) -> bool {
        address.0.checked_sub(self.base).is_some_and(|offset| self.is_ram(PhysAddr(offset).frame()))
    }

    /// Maps a page of the window to a frame, for everyone at once.
    pub fn map_window(&self, page: VirtAddr, frame: PhysFrame, protection: Protection) {
        let mut flags = libc::PROT_NONE;
        for (right, flag) in [
            (Protection::READ, libc::PROT_READ),
            (Protection::WRITE, libc::PROT_WRITE),
            (Protection::EXECUTE, libc::PROT_EXEC),
        ] {
            if protection.contains(right) {
                flags |= flag;
            }
        }
        self.map_file(page.0, frame.start(), PAGE_SIZE, flags);
    }

    /// Takes a page of the window away, for everyone at once.
    pub fn unmap_window(&self, page: VirtAddr) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: replaces a page of the window, which belongs to this module; the kernel gave it up.
        let got = unsafe { libc::mmap(page.as_mut_ptr(), PAGE_SIZE as usize, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(got, libc::MAP_FAILED, "mmap: {}", Error::last_os_error());
    }

    fn map_file(&self, at: u64, from: PhysAddr, bytes: u64, protection: libc::c_int) {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: replaces a part of the two reserved ranges, which belong to this module.
        let got = unsafe {
            libc::mmap(
                at as *mut libc::c_void,
                bytes as usize,
                protection,
                flags,
                self.file,
                from.0 as libc::off_t,
            )
        };
        assert_ne!(got, libc::MAP_FAILED, "mmap: {}", Error::last_os_error());
    }
}

/// Reserves addresses above [`USER_TOP`] in which every access faults.
fn reserve(hint: u64, bytes: u64) -> u64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping; without MAP_FIXED it replaces none.
    let got = unsafe { libc::mmap(hint as *mut libc::c_void, bytes as usize, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(got, libc::MAP_FAILED, "mmap of {bytes} bytes: {}", Error::last_os_error());
    assert!(got as u64 >= USER_TOP, "the build machine has no free addresses above the user half");
    got as u64
}
