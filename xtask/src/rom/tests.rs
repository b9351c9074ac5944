//! Both ROMs as they are made, run in this process as far as that goes without the machine; and the defects.

use std::arch::naked_asm;
use std::fs;
use std::num::NonZeroUsize;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};
use vmi_abi::{
    CALLS, Call, Convention, HEADER_BYTES, Header, InitParameters, InitStatus, MAGIC, PciHeader,
    RelocationType, SCAN_START, checksum,
};
use zerocopy::FromBytes;

use super::{Choice, DEFECTS, Defect, Manner, build, image};
use crate::workspace::Workspace;

const BOTH: [Manner; 2] = [Manner::Plain, Manner::Strict];
/// Offsets in a page at which a ROM may lie.
const PLACES: [usize; 2] = [0, 2048];

fn rom(manner: Manner) -> Vec<u8> {
    let path = build(&Workspace::find().unwrap(), manner).unwrap();
    fs::read(path).unwrap()
}

fn header(rom: &[u8]) -> Header {
    Header::read_from_bytes(&rom[..HEADER_BYTES]).unwrap()
}

#[test]
fn headers_are_what_a_guest_checks() {
    for manner in BOTH {
        let rom = rom(manner);
        let header = header(&rom);
        assert_eq!(&rom[..2], [0x55, 0xaa]);
        assert_eq!({ header.magic }, MAGIC);
        assert_eq!(header.length(), rom.len());
        assert!(rom.len() <= 64 << 10 && rom.len().is_multiple_of(2048));
        assert_eq!(checksum(&rom), 0);
        assert!(header.is_supported());
        assert_eq!(header.rom_entry[0], 0xcb, "far return");
        let license = &rom[usize::from(header.license_offset)..];
        assert!(license.starts_with(b"GPL\0"));
        let (pci, _) = PciHeader::read_from_prefix(&rom[usize::from(header.pci_header_offset)..]).unwrap();
        assert_eq!({ pci.signature }, *b"PCIR");
        assert_eq!(({ pci.vendor }, { pci.device }), (0x15ad, 0x0801));
        assert!(header.data_offset as usize >= rom.len() + 4096);
        assert!(usize::from(header.iret_fault) < rom.len());
        assert_eq!(u32::from(header.jump_slots), CALLS.last().unwrap().number() + 1);
        // Whoever fills an address in would find a place for it here, or in what is not there at all.
        assert_eq!(({ header.hypervisor_start }, { header.hypervisor_end }), (0, 0));
    }
}

#[test]
fn the_strict_one_differs_where_a_guest_might_rely_on_the_plain_one() {
    let (plain, strict) = (header(&rom(Manner::Plain)), header(&rom(Manner::Strict)));
    assert_ne!({ plain.data_offset }, { strict.data_offset });
    assert_ne!({ plain.data_bytes }, { strict.data_bytes });
    assert_eq!({ plain.iret_fault }, 0);
    assert_ne!({ strict.iret_fault }, 0);
}

#[test]
fn choices() {
    assert_eq!("none".parse(), Ok(Choice::None));
    assert_eq!("strict".parse(), Ok(Choice::Ours(Manner::Strict)));
    assert_eq!("bad:no-clock".parse(), Ok(Choice::Defective(Defect::NoClock)));
    assert_eq!("./my.rom".parse(), Ok(Choice::File("./my.rom".into())));
    assert!("bad:luck".parse::<Choice>().unwrap_err().contains("checksum"));
}

/// A ROM in this process, with its private memory.
struct Mapped {
    rom: Vec<u8>,
    base: usize,
}

impl Mapped {
    /// Maps it so that it starts at `offset` in a page.
    fn new(manner: Manner, offset: usize) -> Self {
        let rom = rom(manner);
        let header = header(&rom);
        let length = offset + header.data_offset as usize + header.data_bytes as usize;
        let flags = MapFlags::MAP_PRIVATE;
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping, and its first pages made executable once they hold the ROM.
        let base = unsafe {
            let memory = mmap_anonymous(None, NonZeroUsize::new(length).unwrap(), both, flags).unwrap();
            let base = memory.as_ptr() as usize + offset;
            std::ptr::copy_nonoverlapping(rom.as_ptr(), base as *mut u8, rom.len());
            let code = (offset + rom.len()).next_multiple_of(4096);
            mprotect(memory, code, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC).unwrap();
            base
        };
        Self { rom, base }
    }

    fn get_reloc(&self, number: u32) -> (u64, u64) {
        #[repr(C)]
        struct Pair(u64, u64);
        // SAFETY: the ROM's code, in the convention of ABI.md.
        let get_reloc: extern "C" fn(u32) -> Pair =
            unsafe { std::mem::transmute(self.base + Header::GET_RELOC_OFFSET) };
        let Pair(address, kind) = get_reloc(number);
        (address, kind)
    }

    fn init(&self, parameters: &InitParameters) -> InitStatus {
        // SAFETY: as above.
        let init: extern "C" fn(*const InitParameters) -> i64 =
            unsafe { std::mem::transmute(self.base + Header::INIT_OFFSET) };
        InitStatus::from_number(init(parameters))
    }

    fn contains(&self, address: u64) -> bool {
        (self.base as u64..(self.base + self.rom.len()) as u64).contains(&address)
    }

    /// Calls what a call's relocation leads to.
    fn call(&self, call: Call, registers: &mut Registers) {
        let (address, kind) = self.get_reloc(call.number());
        assert_eq!(kind, RelocationType::CallRel as u64, "{}", call.name());
        // SAFETY: the tests call only what a process may do.
        unsafe { call_with(address, registers) };
    }
}

/// RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8 to R15.
type Registers = [u64; 15];

/// Calls `address` with these registers, and stores what they are afterwards.
#[unsafe(naked)]
unsafe extern "C" fn call_with(address: u64, registers: *mut Registers) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rsi",
        "push rdi",
        "mov rax, [rsi]",
        "mov rbx, [rsi + 8]",
        "mov rcx, [rsi + 16]",
        "mov rdx, [rsi + 24]",
        "mov rdi, [rsi + 40]",
        "mov rbp, [rsi + 48]",
        "mov r8, [rsi + 56]",
        "mov r9, [rsi + 64]",
        "mov r10, [rsi + 72]",
        "mov r11, [rsi + 80]",
        "mov r12, [rsi + 88]",
        "mov r13, [rsi + 96]",
        "mov r14, [rsi + 104]",
        "mov r15, [rsi + 112]",
        "mov rsi, [rsi + 32]",
        "call [rsp]",
        "mov [rsp], rsi",
        "mov rsi, [rsp + 8]",
        "mov [rsi], rax",
        "mov [rsi + 8], rbx",
        "mov [rsi + 16], rcx",
        "mov [rsi + 24], rdx",
        "pop rax",
        "mov [rsi + 32], rax",
        "mov [rsi + 40], rdi",
        "mov [rsi + 48], rbp",
        "mov [rsi + 56], r8",
        "mov [rsi + 64], r9",
        "mov [rsi + 72], r10",
        "mov [rsi + 80], r11",
        "mov [rsi + 88], r12",
        "mov [rsi + 96], r13",
        "mov [rsi + 104], r14",
        "mov [rsi + 112], r15",
        "pop rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

fn patterns() -> Registers {
    std::array::from_fn(|index| 0x1111_1111_1111_1111 * (index as u64 + 1))
}

const RAX: usize = 0;
const RBX: usize = 1;
const RCX: usize = 2;
const RDX: usize = 3;
const RDI: usize = 5;
const RBP: usize = 6;
const R8: usize = 7;
const R11: usize = 10;
const R12: usize = 11;

#[test]
fn every_relocation_is_allowed_and_inside() {
    for manner in BOTH {
        for offset in PLACES {
            let mapped = Mapped::new(manner, offset);
            for &call in CALLS {
                let (address, kind) = mapped.get_reloc(call.number());
                let kind = RelocationType::from_number(kind).expect("a type that exists");
                assert!(call.allowed().contains(kind.flag()), "{} {kind:?}", call.name());
                match kind {
                    RelocationType::None | RelocationType::Nop => assert_eq!(address, 0),
                    _ => assert!(mapped.contains(address), "{} at {address:#x}", call.name()),
                }
                assert_eq!(
                    (address, kind as u64),
                    mapped.get_reloc(call.number()),
                    "the answers do not change"
                );
            }
            for number in [34, 38, 40, 61, 72, 85, 255, 256, 1 << 20, u32::MAX] {
                assert_eq!(mapped.get_reloc(number), (0, 0), "{number}");
            }
        }
    }
}

#[test]
fn the_strict_one_has_a_place_for_each_call() {
    let mapped = Mapped::new(Manner::Strict, 2048);
    let mut seen = std::collections::BTreeMap::new();
    for &call in CALLS {
        let (address, _) = mapped.get_reloc(call.number());
        if address != 0
            && let Some(other) = seen.insert(address, call)
        {
            let same = [
                (Call::WriteGdtEntry, Call::WriteLdtEntry),
                (Call::MachineToPhysical, Call::PhysicalToMachine),
            ];
            assert!(same.contains(&(other, call)), "{} and {}", other.name(), call.name());
        }
    }
    assert!(seen.len() > 60);
}

#[test]
fn calls_keep_what_they_must_wherever_the_rom_lies() {
    for offset in PLACES {
        let mapped = Mapped::new(Manner::Strict, offset);

        let mut registers = patterns();
        (registers[RAX], registers[RCX]) = (0, 0);
        let before = registers;
        mapped.call(Call::Cpuid, &mut registers);
        let own = std::arch::x86_64::__cpuid_count(0, 0);
        assert_eq!(registers[..4], [own.eax, own.ebx, own.ecx, own.edx].map(u64::from));
        assert_eq!(registers[4..], before[4..]);

        let mut registers = patterns();
        mapped.call(Call::Rdtsc, &mut registers);
        assert!(registers[RAX] >> 32 == 0 && registers[RDX] >> 32 == 0);
        assert_eq!(registers[RCX], patterns()[RCX]);
        assert_eq!(registers[4..], patterns()[4..]);

        let mut registers = patterns();
        mapped.call(Call::GetInterruptMask, &mut registers);
        assert_eq!(registers[RAX] & 0x200, 0x200, "a process has interrupts enabled");
        assert_eq!(registers[1..], patterns()[1..]);

        // One of System V: what may change does, and what may not does not.
        let mut registers = patterns();
        mapped.call(Call::MachineToPhysical, &mut registers);
        assert_eq!(registers[RAX], patterns()[RDI]);
        for kept in [RBX, RBP, R12, R12 + 1, R12 + 2, R12 + 3] {
            assert_eq!(registers[kept], patterns()[kept], "{kept}");
        }
        for spoilt in [RCX, RDX, RDI, R8, R11] {
            assert_ne!(registers[spoilt], patterns()[spoilt], "{spoilt}");
        }

        // A page-table update before BindCPU, with what the ROM knows of page tables set out of reach, is not made here:
        // SetLinearMapping only notes.
        let mut registers = patterns();
        registers[RDI] = 77;
        mapped.call(Call::SetLinearMapping, &mut registers);
        assert_eq!(Call::SetPxELong.convention(), Convention::PageTable);
    }
}

#[test]
fn counters_count() {
    for manner in BOTH {
        let mapped = Mapped::new(manner, 0);
        let read = |counter| {
            let mut registers = patterns();
            registers[RDI] = counter;
            mapped.call(Call::GetCycleCounter, &mut registers);
            registers[RAX]
        };
        let (first, second) = (read(0), read(0));
        assert!(first < second);
        let (available, stolen, real) = (read(1), read(2), read(0));
        assert!(available > 0 && available + stolen <= real);
        assert_eq!(stolen == 0, manner == Manner::Plain);
        assert_eq!(read(3), 0);
    }
}

#[test]
fn bad_parameters_are_refused_before_the_machine_is_touched() {
    for manner in BOTH {
        for offset in PLACES {
            let mapped = Mapped::new(manner, offset);
            let private = (mapped.base + header(&mapped.rom).data_offset as usize) as u64;
            // Physical memory that is not the private memory: other memory of this process.
            let memory = vec![0u8; header(&mapped.rom).data_bytes as usize + 8192];
            let elsewhere = (memory.as_ptr() as u64).next_multiple_of(4096);
            let map = elsewhere - (1 << 20);
            let good = InitParameters {
                size: 48,
                flags: 0,
                rom: 0xc0000 + offset as u64,
                data: (1 << 20) + (private & 0xfff),
                low_page: 0x9e000,
                physical_map: map & !0xfff,
                cpu_words: 48,
                reserved: 0,
            };
            let bad = [
                ("another mapping of the private memory", good),
                ("size", InitParameters { size: 40, ..good }),
                ("flags", InitParameters { flags: 1, ..good }),
                ("reserved", InitParameters { reserved: 1, ..good }),
                ("rom", InitParameters { rom: 0xe0000 + offset as u64, ..good }),
                ("rom in a page", InitParameters { rom: 0xc0000 + 2048 - offset as u64, ..good }),
                ("data in a page", InitParameters { data: good.data + 8, ..good }),
                ("data above 4 GiB", InitParameters { data: good.data + (1 << 32), ..good }),
                ("low page", InitParameters { low_page: 0xa0000, ..good }),
                ("low page in a page", InitParameters { low_page: 0x9e800, ..good }),
                ("map", InitParameters { physical_map: 1 << 63, ..good }),
                ("words", InitParameters { cpu_words: 4, ..good }),
            ];
            for (what, parameters) in bad {
                assert_eq!(mapped.init(&parameters), InitStatus::BadParameters, "{what}");
            }
        }
    }
}

#[test]
fn a_defect_is_the_only_one() {
    let good = rom(Manner::Plain);
    let of = |defect: Defect| defect.apply(&good).unwrap();
    assert_ne!(checksum(&of(Defect::Checksum)), 0);
    let others = DEFECTS.iter().map(|(_, defect)| *defect);
    for defect in others.filter(|defect| !matches!(defect, Defect::Checksum | Defect::NoLength)) {
        let rom = of(defect);
        assert_eq!(checksum(&rom), 0, "{defect:?}");
        assert_eq!(header(&rom).length(), rom.len(), "{defect:?}");
        assert!(rom != good || defect.address(&rom) != SCAN_START, "{defect:?}");
    }
    assert!(header(&of(Defect::TooLong)).length() > 64 << 10);
    assert!(!header(&of(Defect::Version)).is_supported());
    assert_eq!(checksum(&image::empty(2048)), 0);
}

#[test]
fn defective_answers_are_given_for_one_call_alone() {
    let good = rom(Manner::Plain);
    for (defect, kind) in [
        (Defect::RelocationBefore(Call::SetAlarm), 1),
        (Defect::RelocationBehind(Call::SetAlarm), 1),
        (Defect::RelocationType(Call::SetAlarm), 7),
        (Defect::Relocation(Call::SetAlarm, 2), 2),
    ] {
        let mut mapped = Mapped::new(Manner::Plain, 0);
        mapped.rom = defect.apply(&good).unwrap();
        let pages = mapped.rom.len().next_multiple_of(4096);
        // SAFETY: the mapping goes on behind the code, and nothing of it runs meanwhile.
        unsafe {
            let memory = std::ptr::NonNull::new(mapped.base as *mut std::ffi::c_void).unwrap();
            mprotect(memory, pages, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE).unwrap();
            std::ptr::copy_nonoverlapping(mapped.rom.as_ptr(), mapped.base as *mut u8, mapped.rom.len());
            mprotect(memory, pages, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC).unwrap();
        }
        let (address, got) = mapped.get_reloc(Call::SetAlarm.number());
        assert_eq!(got, kind);
        let outside = matches!(defect, Defect::RelocationBefore(_) | Defect::RelocationBehind(_));
        assert_eq!(mapped.contains(address), !outside);
        let (address, kind) = mapped.get_reloc(Call::CancelAlarm.number());
        assert!(mapped.contains(address) && kind == 1);
    }
}
