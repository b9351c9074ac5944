//! The ELF reader against programs written here, sound and not, and against one the build machine made.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::errno::Errno;

const LIMITS: UserLimits = UserLimits { bottom: 0x1_0000, top: 0x7fff_ffff_f000 };

#[derive(Clone, Copy, Debug)]
struct Part {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

const fn load(flags: u32, offset: u64, vaddr: u64, file_size: u64, memory_size: u64) -> Part {
    Part { kind: SEGMENT_LOAD, flags, offset, vaddr, file_size, memory_size, alignment: 4096 }
}

const TEXT: Part = load(FLAG_READ | FLAG_EXECUTE, 0, 0x40_0000, 0x1800, 0x1800);
const DATA: Part = load(FLAG_READ | FLAG_WRITE, 0x2000, 0x60_2000, 0x100, 0x5000);
const STACK: Part = Part { kind: SEGMENT_GNU_STACK, ..load(FLAG_READ | FLAG_WRITE, 0, 0, 0, 0) };

fn program(kind: u16, parts: &[Part]) -> Vec<u8> {
    let mut file = vec![0; 0x3000];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(16, &kind.to_le_bytes());
    put(18, &MACHINE_X86_64.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &0x40_1000u64.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &(parts.len() as u16).to_le_bytes());
    for (index, part) in parts.iter().enumerate() {
        let at = 64 + 56 * index;
        put(at, &part.kind.to_le_bytes());
        put(at + 4, &part.flags.to_le_bytes());
        let words = [part.offset, part.vaddr, part.vaddr, part.file_size, part.memory_size, part.alignment];
        for (word, n) in words.iter().zip(0..) {
            put(at + 8 + 8 * n, &word.to_le_bytes());
        }
    }
    file
}

fn read(file: &[u8]) -> Result<LoadPlan, ElfError> {
    LoadPlan::read(file, LIMITS)
}

fn with(change: impl FnOnce(&mut Vec<u8>)) -> ElfError {
    let mut file = program(TYPE_EXECUTABLE, &[TEXT, DATA, STACK]);
    change(&mut file);
    read(&file).expect_err("the damage goes unnoticed")
}

fn with_parts(parts: &[Part]) -> ElfError {
    read(&program(TYPE_EXECUTABLE, parts)).expect_err("the damage goes unnoticed")
}

#[test]
fn plans_an_executable_at_a_fixed_address() {
    let plan = read(&program(TYPE_EXECUTABLE, &[DATA, STACK, TEXT])).unwrap();
    assert_eq!((plan.entry, plan.needs_bias, plan.executable_stack), (0x40_1000, false, false));
    assert_eq!((plan.program_headers, plan.program_header_count), (Some(0x40_0040), 3));
    assert_eq!(plan.alignment, 4096);
    let protections: Vec<_> = plan.segments.iter().map(|segment| segment.protection).collect();
    assert_eq!(protections, [Protection::READ | Protection::EXECUTE, Protection::READ | Protection::WRITE]);
    let data = Segment {
        vaddr: 0x60_2000,
        memory_size: 0x5000,
        file_size: 0x100,
        file_offset: 0x2000,
        protection: Protection::READ | Protection::WRITE,
        index: 0,
    };
    assert_eq!(plan.segments[1], data);
    assert_eq!(plan.span(), (0x40_0000, 0x60_7000));
}

#[test]
fn plans_a_position_independent_executable() {
    let text = Part { alignment: 0x20_0000, vaddr: 0, ..TEXT };
    let data = Part { alignment: 3, vaddr: 0x2000, ..DATA };
    let mut file = program(TYPE_SHARED, &[text, data, Part { flags: 7, ..STACK }]);
    file[24..32].copy_from_slice(&0x1000u64.to_le_bytes());
    let plan = read(&file).unwrap();
    assert!(plan.needs_bias && plan.executable_stack);
    assert_eq!((plan.entry, plan.alignment, plan.program_headers), (0x1000, 0x20_0000, Some(0x40)));
    assert_eq!(plan.span(), (0, 0x7000));
}

#[test]
fn leaves_out_empty_segments_and_program_headers_that_are_not_loaded() {
    let empty = Part { memory_size: 0, file_size: 0, ..TEXT };
    let plan = read(&program(TYPE_EXECUTABLE, &[empty, DATA])).unwrap();
    assert_eq!(plan.segments.len(), 1);
    assert_eq!(plan.program_headers, None);
    assert_eq!(with_parts(&[empty, STACK]), ElfError::NoSegments);
}

#[test]
fn refuses_wrong_headers() {
    assert_eq!(read(b""), Err(ElfError::NotElf));
    assert_eq!(read(b"#!/bin/sh\n"), Err(ElfError::NotElf));
    assert_eq!(with(|file| file.truncate(63)), ElfError::TruncatedHeader);
    assert_eq!(with(|file| file.truncate(4)), ElfError::TruncatedHeader);
    assert_eq!(with(|file| file.truncate(64 + 3 * 56 - 1)), ElfError::TruncatedProgramHeaders);
    assert_eq!(with(|file| file[39] = 0xff), ElfError::TruncatedProgramHeaders);
    assert_eq!(with(|file| file[4] = 1), ElfError::WrongClass(1));
    assert_eq!(with(|file| file[5] = 2), ElfError::WrongByteOrder(2));
    assert_eq!(with(|file| file[6] = 0), ElfError::WrongVersion(0));
    assert_eq!(with(|file| file[20] = 2), ElfError::WrongVersion(2));
    assert_eq!(with(|file| file[18] = 183), ElfError::WrongMachine(183));
    assert_eq!(with(|file| file[16] = 1), ElfError::WrongType(1));
    assert_eq!(with(|file| file[54] = 32), ElfError::WrongHeaderSize(32));
    assert_eq!(with(|file| file[56] = 0), ElfError::NoProgramHeaders);
    assert_eq!(with(|file| file[57] = 5), ElfError::TooManyProgramHeaders(5 << 8 | 3));
    assert_eq!(with(|file| file[30] = 0x80), ElfError::BadEntry(0x80_0000_0040_1000));
}

#[test]
fn refuses_wrong_segments() {
    let bad_text = |change: fn(&mut Part)| {
        let mut text = TEXT;
        change(&mut text);
        with_parts(&[STACK, text, DATA])
    };
    assert_eq!(bad_text(|text| text.file_size = 0x1801), ElfError::FileLargerThanMemory { index: 1 });
    assert_eq!(bad_text(|text| text.vaddr += 1), ElfError::Misaligned { index: 1 });
    assert_eq!(bad_text(|text| text.offset += 0x2000), ElfError::TruncatedSegment { index: 1 });
    assert_eq!(bad_text(|text| text.offset = u64::MAX - 5), ElfError::TruncatedSegment { index: 1 });
    assert_eq!(bad_text(|text| text.memory_size = u64::MAX), ElfError::AddressWraps { index: 1 });
    assert_eq!(
        bad_text(|text| text.vaddr = 0u64.wrapping_sub(0x3000)),
        ElfError::OutsideUserSpace { index: 1 }
    );
    assert_eq!(bad_text(|text| text.vaddr = 0), ElfError::OutsideUserSpace { index: 1 });
    assert_eq!(bad_text(|text| text.vaddr = LIMITS.top - 0x1000), ElfError::OutsideUserSpace { index: 1 });
    assert_eq!(bad_text(|text| text.memory_size = 1 << 62), ElfError::Overlap { index: 2 });
    assert_eq!(bad_text(|text| text.vaddr = 0x60_2000), ElfError::Overlap { index: 2 });
    let huge = Part { memory_size: LIMITS.top, ..DATA };
    assert_eq!(with_parts(&[TEXT, huge]), ElfError::OutsideUserSpace { index: 1 });
    let mut pie = program(TYPE_SHARED, &[TEXT, huge]);
    assert_eq!(read(&pie), Err(ElfError::OutsideUserSpace { index: 1 }));
    pie = program(TYPE_SHARED, &[TEXT]);
    pie[24..32].copy_from_slice(&0x3f_ffffu64.to_le_bytes());
    assert_eq!(read(&pie), Err(ElfError::BadEntry(0x3f_ffff)));
}

#[test]
fn lets_neighbours_share_a_page_only_where_the_file_is_the_same() {
    let data = load(FLAG_READ | FLAG_WRITE, 0x1800, 0x40_1800, 0x100, 0x5000);
    assert_eq!(read(&program(TYPE_EXECUTABLE, &[TEXT, data])).unwrap().segments.len(), 2);
    let overlap = ElfError::Overlap { index: 1 };
    // Another page of the file, zeros that the second would take, and a second with nothing but zeros.
    assert_eq!(with_parts(&[TEXT, Part { offset: 0x800, ..data }]), overlap);
    assert_eq!(with_parts(&[Part { file_size: 0x1700, ..TEXT }, data]), overlap);
    assert_eq!(with_parts(&[TEXT, Part { file_size: 0, ..data }]), overlap);
}

#[test]
fn names_the_dynamic_linker_it_will_not_use() {
    let mut file =
        program(TYPE_SHARED, &[Part { kind: SEGMENT_INTERPRETER, ..load(4, 0x2800, 0x2800, 28, 28) }]);
    file[0x2800..0x2800 + 28].copy_from_slice(b"/lib64/ld-linux-x86-64.so.2\0");
    let error = read(&file).unwrap_err();
    assert_eq!(error, ElfError::NeedsInterpreter(b"/lib64/ld-linux-x86-64.so.2".to_vec()));
    assert_eq!(error.errno().number(), 80);
    assert_eq!(
        error.to_string(),
        "is dynamically linked (needs /lib64/ld-linux-x86-64.so.2); link it statically"
    );
    file[0x2800 + 27] = b'x';
    assert_eq!(read(&file), Err(ElfError::BadInterpreter));
    file.truncate(0x2810);
    assert_eq!(read(&file), Err(ElfError::BadInterpreter));
    file[64 + 32] = 1;
    assert_eq!(read(&file), Err(ElfError::BadInterpreter));
}

#[test]
fn says_what_is_wrong_in_words_and_in_numbers() {
    assert_eq!(ElfError::WrongMachine(183).to_string(), "is for AArch64, not for x86-64");
    assert_eq!(ElfError::WrongMachine(9999).to_string(), "is for machine 9999, not for x86-64");
    assert_eq!(ElfError::WrongMachine(3).errno(), Errno::ENOEXEC);
    assert_eq!(ElfError::Overlap { index: 1 }.errno(), Errno::EINVAL);
    assert_eq!(ElfError::OutsideUserSpace { index: 1 }.errno(), Errno::ENOMEM);
    let numbers = [Errno::EIO, Errno::ENOEXEC, Errno::ENOMEM, Errno::EINVAL, Errno::ELIBBAD];
    assert_eq!(numbers.map(Errno::number), [5, 8, 12, 22, 80]);
}

#[test]
fn passes_read_errors_on() {
    struct Broken(Vec<u8>, u64);
    impl ProgramFile for Broken {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }
        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
            if offset >= self.1 { Err(ReadError) } else { self.0.read_exact_at(offset, buffer) }
        }
    }
    for readable in [0, 64] {
        let file = Broken(program(TYPE_EXECUTABLE, &[TEXT]), readable);
        assert_eq!(LoadPlan::read(&file, LIMITS), Err(ElfError::Unreadable));
    }
}

#[test]
fn reads_this_very_test_program() {
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    match read(&file) {
        Ok(plan) => assert!(plan.segments.iter().any(|part| part.protection.contains(Protection::EXECUTE))),
        Err(error) => assert!(matches!(error, ElfError::NeedsInterpreter(path) if path.starts_with(b"/"))),
    }
}

fn parts() -> impl Strategy<Value = Part> {
    let address = prop_oneof![0u64..0x80_0000, any::<u64>()];
    let size = prop_oneof![0u64..0x4000, any::<u64>()];
    (0u32..4, 0u32..8, 0u64..0x4000, address, size.clone(), size, any::<bool>()).prop_map(
        |(kind, flags, offset, vaddr, file_size, memory_size, aligned)| {
            let vaddr = if aligned { vaddr & !0xfff | offset & 0xfff } else { vaddr };
            let memory_size = if aligned { memory_size.max(file_size) } else { memory_size };
            Part { kind: kind.max(1), flags, offset, vaddr, file_size, memory_size, alignment: 4096 }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_plan_keeps_its_promises(parts in proptest::collection::vec(parts(), 1..4), pie: bool) {
        let file = program(if pie { TYPE_SHARED } else { TYPE_EXECUTABLE }, &parts);
        let Ok(plan) = read(&file) else { return Ok(()) };
        let mut end = 0;
        for segment in &plan.segments {
            prop_assert!(segment.file_size <= segment.memory_size && segment.memory_size > 0);
            prop_assert!(segment.vaddr >= end);
            end = segment.end();
            if segment.file_size > 0 {
                prop_assert!(segment.file_offset + segment.file_size <= file.len() as u64);
                prop_assert_eq!(segment.vaddr - segment.page_start(), segment.file_offset % 4096);
            }
        }
        let (start, end) = plan.span();
        prop_assert!(end - start <= LIMITS.top - LIMITS.bottom);
        prop_assert!(pie || (start >= LIMITS.bottom && end <= LIMITS.top));
    }

    #[test]
    fn noise_in_the_headers_is_never_trouble(at in 0usize..256, bytes in any::<[u8; 8]>()) {
        let mut file = program(TYPE_EXECUTABLE, &[TEXT, DATA, STACK]);
        file[at..at + 8].copy_from_slice(&bytes);
        if let Ok(plan) = read(&file) {
            prop_assert!(!plan.segments.is_empty());
        }
    }
}
