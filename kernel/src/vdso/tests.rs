use core::arch::asm;
use std::boxed::Box;
use std::string::String;
use std::vec::Vec;

use object::read::elf::{FileHeader, SectionHeader};
use object::{Object, ObjectSection, ObjectSymbol};
use platform::PAGE_SIZE;
use proptest::prelude::*;

use super::code::{CLOCK_OFFSET, CLOCK_ROOM, DATA_READS_CLOCK, DATA_REALTIME_OFFSET, TEXT_OFFSET};
use super::elf::{Image, build, hash};

/// `mov rax, [rdi]; mov ecx, 1; mov edx, 1; mov rsi, rdx; xor r8d, r8d; ret`: reads a fake clock, and spoils registers
/// that a function of the ABI may spoil.
const FAKE_CLOCK: &[u8] =
    &[0x48, 0x8b, 0x07, 0xb9, 1, 0, 0, 0, 0xba, 1, 0, 0, 0, 0x48, 0x89, 0xd6, 0x45, 0x31, 0xc0, 0xc3];

fn image(clock: &[u8]) -> Box<Image> {
    let mut image = Box::new([0; PAGE_SIZE as usize]);
    build(&mut image, clock);
    image
}

fn word<const N: usize>(image: &[u8], at: u64) -> [u8; N] {
    image[at as usize..at as usize + N].try_into().unwrap()
}

fn u16_at(image: &[u8], at: u64) -> u16 {
    u16::from_le_bytes(word(image, at))
}

fn u32_at(image: &[u8], at: u64) -> u32 {
    u32::from_le_bytes(word(image, at))
}

fn u64_at(image: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(word(image, at))
}

fn string_at(image: &[u8], at: u64) -> String {
    let bytes = &image[at as usize..];
    String::from_utf8(bytes[..bytes.iter().position(|&byte| byte == 0).unwrap()].to_vec()).unwrap()
}

/// Finds a function as the C libraries do: by program headers, dynamic entries, hash table and version.
fn look_up(image: &[u8], version: &str, name: &str) -> Option<u64> {
    let (headers, count) = (u64_at(image, 32), u16_at(image, 56));
    let segment = |kind: u32| {
        (0..u64::from(count)).map(|n| headers + n * 56).find(|&header| u32_at(image, header) == kind).unwrap()
    };
    // Base = where the image lies + p_offset - p_vaddr of PT_LOAD.
    let load = segment(1);
    assert_eq!((u64_at(image, load + 8), u64_at(image, load + 16)), (0, 0));
    let dynamic = u64_at(image, segment(2) + 8);
    let entry = |tag: u64| {
        let mut at = dynamic;
        loop {
            match u64_at(image, at) {
                0 => panic!("no dynamic entry {tag:#x}"),
                found if found == tag => return u64_at(image, at + 8),
                _ => at += 16,
            }
        }
    };
    let (strings, symbols, table) = (entry(5), entry(6), entry(4));
    let (versions, mut definition) = (entry(0x6fff_fff0), entry(0x6fff_fffc));
    let index = loop {
        let names = definition + u64::from(u32_at(image, definition + 12));
        let is_base = u16_at(image, definition + 2) & 1 != 0;
        if !is_base && string_at(image, strings + u64::from(u32_at(image, names))) == version {
            assert_eq!(u32_at(image, definition + 8), hash(version));
            break u16_at(image, definition + 4);
        }
        match u32_at(image, definition + 16) {
            0 => return None,
            next => definition += u64::from(next),
        }
    };
    let buckets = u32_at(image, table);
    let bucket = |n: u32| table + 8 + u64::from(n) * 4;
    let mut symbol = u32_at(image, bucket(hash(name) % buckets));
    while symbol != 0 {
        let at = symbols + u64::from(symbol) * 24;
        let defined = u16_at(image, at + 6) != 0;
        if defined
            && string_at(image, strings + u64::from(u32_at(image, at))) == name
            && u16_at(image, versions + u64::from(symbol) * 2) & 0x7fff == index
        {
            return Some(u64_at(image, at + 8));
        }
        symbol = u32_at(image, bucket(buckets + symbol));
    }
    None
}

const NAMES: [&str; 5] = ["clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"];

#[test]
fn c_libraries_find_the_functions_by_both_names() {
    let image = image(FAKE_CLOCK);
    let text = TEXT_OFFSET as u64..CLOCK_OFFSET as u64;
    for name in NAMES {
        let at = look_up(&*image, "LINUX_2.6", &std::format!("__vdso_{name}")).unwrap();
        assert!(text.contains(&at));
        assert_eq!(look_up(&*image, "LINUX_2.6", name), Some(at));
        assert_eq!(look_up(&*image, "LINUX_2.5", name), None);
    }
    assert_eq!(look_up(&*image, "LINUX_2.6", "__vdso_nothing"), None);
    // As computed by others: the value compiled into the C library for this version.
    assert_eq!(hash("LINUX_2.6"), 61_765_110);
}

#[test]
fn the_image_is_a_well_formed_shared_object() {
    let image = image(FAKE_CLOCK);
    let file = object::File::parse(&image[..]).unwrap();
    assert_eq!(file.kind(), object::ObjectKind::Dynamic);
    assert_eq!(file.architecture(), object::Architecture::X86_64);
    let symbols: Vec<_> = file.dynamic_symbols().filter(|symbol| symbol.is_definition()).collect();
    assert_eq!(symbols.len(), 2 * NAMES.len());
    for symbol in &symbols {
        let name = symbol.name().unwrap();
        assert_eq!(symbol.is_weak(), !name.starts_with("__vdso_"), "{name}");
        let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
        assert_eq!(section.name(), Ok(".text"));
        assert!(symbol.size() > 0);
    }
    let header = object::elf::FileHeader64::<object::Endianness>::parse(&image[..]).unwrap();
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, &image[..]).unwrap();
    let versions = sections.versions(endian, &image[..]).unwrap().unwrap();
    let table = sections.symbols(endian, &image[..], object::elf::SHT_DYNSYM).unwrap();
    for index in 1..table.len() {
        let version = versions.version_index(endian, object::SymbolIndex(index));
        let version = versions.version(version).unwrap().unwrap();
        assert_eq!(version.name(), b"LINUX_2.6");
    }
    for section in sections.iter() {
        assert!(section.sh_offset(endian) + section.sh_size(endian) <= PAGE_SIZE);
    }
}

#[test]
#[should_panic(expected = "too long")]
fn a_clock_function_that_does_not_fit_is_refused() {
    build(&mut [0; PAGE_SIZE as usize], &[0xc3; CLOCK_ROOM + 1]);
}

/// The pages in this process: clock data, kernel data, image.
struct Mapped(*mut u8);

const PAGE: usize = PAGE_SIZE as usize;

fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let result;
    // SAFETY: the callers map, protect and unmap memory of their own, or read a clock.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") arguments[0], in("rsi") arguments[1],
             in("rdx") arguments[2], in("r10") arguments[3], in("r8") arguments[4], in("r9") arguments[5],
             out("rcx") _, out("r11") _);
    }
    result
}

impl Mapped {
    fn new(reads_clock: bool) -> Self {
        let at = system_call(9, [0, 3 * PAGE, 3, 0x22, usize::MAX, 0]);
        assert!(at > 0);
        let at = at as *mut u8;
        // SAFETY: three new pages that may be written.
        unsafe {
            at.add(2 * PAGE).cast::<Image>().write(*image(FAKE_CLOCK));
            at.add(PAGE + DATA_READS_CLOCK).cast::<u32>().write(reads_clock.into());
        }
        assert_eq!(system_call(10, [at.addr() + 2 * PAGE, PAGE, 5, 0, 0, 0]), 0);
        Self(at)
    }

    fn set(&self, now: u64, realtime_offset: u64) {
        // SAFETY: the two data pages are mapped and writable.
        unsafe {
            self.0.cast::<u64>().write_volatile(now);
            self.0.add(PAGE + DATA_REALTIME_OFFSET).cast::<u64>().write_volatile(realtime_offset);
        }
    }

    fn function(&self, name: &str) -> usize {
        // SAFETY: the image is mapped and readable.
        let image = unsafe { core::slice::from_raw_parts(self.0.add(2 * PAGE), PAGE) };
        self.0.addr() + 2 * PAGE + look_up(image, "LINUX_2.6", name).unwrap() as usize
    }

    fn clock_gettime(&self, clock: i32) -> (i32, [i64; 2]) {
        let mut time = [-1i64; 2];
        // SAFETY: the function has this signature.
        let function: extern "C" fn(i32, *mut [i64; 2]) -> i32 =
            unsafe { core::mem::transmute(self.function("__vdso_clock_gettime")) };
        (function(clock, &mut time), time)
    }

    fn clock_getres(&self, clock: i32) -> (i32, [i64; 2]) {
        let mut time = [-1i64; 2];
        // SAFETY: as above.
        let function: extern "C" fn(i32, *mut [i64; 2]) -> i32 =
            unsafe { core::mem::transmute(self.function("__vdso_clock_getres")) };
        (function(clock, &mut time), time)
    }

    fn gettimeofday(&self) -> (i32, [i64; 2], [i32; 2]) {
        let (mut time, mut zone) = ([-1i64; 2], [-1i32; 2]);
        // SAFETY: as above.
        let function: extern "C" fn(*mut [i64; 2], *mut [i32; 2]) -> i32 =
            unsafe { core::mem::transmute(self.function("__vdso_gettimeofday")) };
        assert_eq!(function(core::ptr::null_mut(), core::ptr::null_mut()), 0);
        (function(&mut time, &mut zone), time, zone)
    }

    fn time(&self) -> (i64, i64) {
        let mut time = -1;
        // SAFETY: as above.
        let function: extern "C" fn(*mut i64) -> i64 =
            unsafe { core::mem::transmute(self.function("__vdso_time")) };
        let returned = function(&mut time);
        assert!(function(core::ptr::null_mut()) >= returned);
        (returned, time)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        assert_eq!(system_call(11, [self.0.addr(), 3 * PAGE, 0, 0, 0, 0]), 0);
    }
}

proptest! {
    #[test]
    fn the_functions_read_the_clock_page(now in 0..u64::MAX / 2, offset in 0..u64::MAX / 2) {
        let mapped = Mapped::new(true);
        mapped.set(now, offset);
        let split = |time: u64| [(time / 1_000_000_000) as i64, (time % 1_000_000_000) as i64];
        let wall = split(now + offset);
        for clock in [0, 5, 11] {
            prop_assert_eq!(mapped.clock_gettime(clock), (0, wall));
        }
        for clock in [1, 4, 6, 7] {
            prop_assert_eq!(mapped.clock_gettime(clock), (0, split(now)));
        }
        prop_assert_eq!(mapped.gettimeofday(), (0, [wall[0], wall[1] / 1000], [0, 0]));
        prop_assert_eq!(mapped.time(), (wall[0], wall[0]));
    }
}

#[test]
fn clocks_the_page_does_not_know_go_to_the_kernel() {
    let mapped = Mapped::new(true);
    mapped.set(1, 2);
    let (result, time) = mapped.clock_gettime(2);
    assert_eq!(result, 0);
    assert!(time[0] >= 0 && (0..1_000_000_000).contains(&time[1]));
    for clock in [10, 12, 99] {
        assert_eq!(mapped.clock_gettime(clock), (-22, [-1, -1]), "{clock}");
    }
    assert_eq!(mapped.clock_getres(1), (0, [0, 1]));
    assert_eq!(mapped.clock_getres(99).0, -22);
    // SAFETY: the function has this signature.
    let getcpu: extern "C" fn(*mut u32, *mut u32, usize) -> i32 =
        unsafe { core::mem::transmute(mapped.function("__vdso_getcpu")) };
    let mut cpu = u32::MAX;
    assert_eq!(getcpu(&mut cpu, core::ptr::null_mut(), 0), 0);
    assert_ne!(cpu, u32::MAX);
}

#[test]
fn without_a_user_clock_every_reading_is_a_system_call() {
    let mapped = Mapped::new(false);
    mapped.set(1, 2);
    let before = mapped.clock_gettime(1).1;
    let after = mapped.clock_gettime(1).1;
    assert!(before[0] > 0 && before <= after);
    assert!(mapped.time().0 > 1_600_000_000);
    assert!(mapped.gettimeofday().1[0] > 1_600_000_000);
}
