//! The ROM, its private memory, and memory for tables.

use core::cell::UnsafeCell;

use vmi_abi::{
    Header, InitParameters, InitStatus, MAGIC, ROM_SIGNATURE, SCAN_END, SCAN_START, SCAN_STEP, checksum,
};

use super::console::{end, say};

/// The image lies this much above its physical address.
const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where the ROM is mapped: the last GiB, beside the image's.
const ROM_BASE: u64 = 0xffff_ffff_c000_0000;
const PAGE: u64 = 4096;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const NO_EXECUTE: u64 = 1 << 63;

unsafe extern "C" {
    static boot_pml4: [u64; 512];
    static boot_low: [u64; 512];
    static boot_high: [u64; 512];
    static boot_pd: [[u64; 512]; 4];
    static boot_rom_pd: [u64; 512];
    static mut boot_rom_pt: [u64; 512];
}

/// Pages of this program.
#[repr(C, align(4096))]
pub struct Pages<const N: usize>(UnsafeCell<[[u8; 4096]; N]>);
// SAFETY: each is given to the ROM, or used by one test at a time through raw pointers.
unsafe impl<const N: usize> Sync for Pages<N> {}

impl<const N: usize> Pages<N> {
    pub const fn new() -> Self {
        Self(UnsafeCell::new([[0; 4096]; N]))
    }

    /// Linear address of a page.
    pub fn at(&self, page: usize) -> u64 {
        assert!(page < N);
        self.0.get() as u64 + page as u64 * PAGE
    }

    /// Its frame number.
    pub fn frame(&self, page: usize) -> u64 {
        (self.at(page) - IMAGE_BASE) / PAGE
    }
}

/// The most private memory a ROM may ask of this guest.
const PRIVATE_PAGES: usize = 160;
static PRIVATE: Pages<PRIVATE_PAGES> = Pages::new();
/// Below 640 KiB, and used by nothing: QEMU's memory ends at 0x9fc00 there.
const LOW_PAGE: u64 = 0x9e000;
/// Where the ROM's words are from GS.
pub const CPU_WORDS: u32 = 24;

/// Tables that the first instructions made: frame number and level. They lie at their physical address.
pub fn first_tables() -> [(u64, u64); 9] {
    let frame = |table: *const [u64; 512]| table as u64 / PAGE;
    let low = |n: u64| (&raw const boot_pd as u64 / PAGE + n, 2);
    [
        (frame(&raw const boot_pml4), 8),
        (frame(&raw const boot_low), 4),
        (frame(&raw const boot_high), 4),
        low(0),
        low(1),
        low(2),
        low(3),
        (frame(&raw const boot_rom_pd), 2),
        (frame(&raw const boot_rom_pt), 1),
    ]
}

/// Physical address of the root.
pub fn root() -> u64 {
    &raw const boot_pml4 as u64
}

/// An entry of the second level that nothing uses, and the first address it translates.
pub fn spare_entry() -> (u64, u64) {
    const INDEX: u64 = 7;
    (&raw const boot_rom_pd as u64 + 8 * INDEX, ROM_BASE + (INDEX << 21))
}

/// The command line, from PVH's start information (Xen's `start_info.h`): it is below 4 GiB.
pub fn command_line(start_info: u64) -> Option<&'static str> {
    const COMMAND_LINE: u64 = 24;
    // SAFETY: the loader put both there, and the first tables show them.
    unsafe {
        let text = ((start_info + COMMAND_LINE) as *const u64).read();
        core::ffi::CStr::from_ptr(text as *const core::ffi::c_char).to_str().ok()
    }
}

/// The ROM, where it is mapped.
pub struct Rom {
    pub base: u64,
    pub header: Header,
}

impl Rom {
    /// Finds, checks, maps and initializes it.
    pub fn find_and_map() -> Self {
        let mut places = (SCAN_START..SCAN_END).step_by(SCAN_STEP as usize);
        let header = |place: u64| {
            // SAFETY: the first tables show it.
            unsafe { (place as *const Header).read() }
        };
        let found = places.find(|&place| {
            let header = header(place);
            header.rom_signature == ROM_SIGNATURE && header.magic == MAGIC
        });
        let Some(physical) = found else {
            say!("rom-guest: no VMI ROM");
            end(102)
        };
        let header = header(physical);
        // SAFETY: as above.
        let bytes = unsafe { core::slice::from_raw_parts(physical as *const u8, header.length()) };
        assert_eq!(checksum(bytes), 0);
        assert!(header.is_supported());
        let rom = Self { base: ROM_BASE + physical % PAGE, header };
        rom.map(physical);
        rom
    }

    fn map(&self, physical: u64) {
        let set = |address: u64, entry: u64| {
            let index = (address / PAGE % 512) as usize;
            // SAFETY: this program's own table, at its physical address.
            unsafe { (&raw mut boot_rom_pt).cast::<u64>().add(index).write_volatile(entry) };
        };
        for page in 0..(physical % PAGE + self.header.length() as u64).div_ceil(PAGE) {
            set(ROM_BASE + page * PAGE, ((physical & !(PAGE - 1)) + page * PAGE) | PRESENT);
        }
        let data = self.data();
        let pages = (data % PAGE + u64::from(self.header.data_bytes)).div_ceil(PAGE);
        assert!(pages as usize <= PRIVATE_PAGES, "the ROM wants {pages} pages");
        for page in 0..pages {
            let frame = PRIVATE.frame(page as usize) * PAGE;
            set((data & !(PAGE - 1)) + page * PAGE, frame | PRESENT | WRITABLE | NO_EXECUTE);
        }
    }

    /// Where private memory is.
    fn data(&self) -> u64 {
        self.base + u64::from(self.header.data_offset)
    }

    /// What `VMI_Init` is told.
    pub fn parameters(&self) -> InitParameters {
        InitParameters {
            size: size_of::<InitParameters>() as u32,
            flags: 0,
            rom: SCAN_START + (self.base - ROM_BASE),
            data: PRIVATE.frame(0) * PAGE + self.data() % PAGE,
            low_page: LOW_PAGE,
            physical_map: 0,
            cpu_words: CPU_WORDS,
            reserved: 0,
        }
    }

    /// `VMI_Init`.
    pub fn init(&self, parameters: &InitParameters) -> InitStatus {
        // SAFETY: the ROM's code, in the convention of ABI.md.
        let init: extern "C" fn(*const InitParameters) -> i64 =
            unsafe { core::mem::transmute(self.base + Header::INIT_OFFSET as u64) };
        InitStatus::from_number(init(parameters))
    }

    /// `VMI_GetRelocationInfo`.
    pub fn relocation(&self, number: u32) -> (u64, u64) {
        #[repr(C)]
        struct Pair(u64, u64);
        // SAFETY: as above.
        let get: extern "C" fn(u32) -> Pair =
            unsafe { core::mem::transmute(self.base + Header::GET_RELOC_OFFSET as u64) };
        let Pair(address, kind) = get(number);
        (address, kind)
    }

    /// Whether an address is in the ROM.
    pub fn contains(&self, address: u64) -> bool {
        (self.base..self.base + self.header.length() as u64).contains(&address)
    }
}
