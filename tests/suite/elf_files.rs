//! Programs that cannot be run: as process 1 the boot is given up, elsewhere execve fails.

use super::elf::{Segment, TinyElf};
use crate::testing::case::{Case, Source, case};

/// A change to a correct file.
type Change = fn(&mut TinyElf);

/// Name, change, and what the message says of the file.
const WRONG: [(&str, Change, &str); 14] = [
    ("32-bit", |elf| elf.class = 1, "is not a 64-bit ELF file"),
    ("big-endian", |elf| elf.byte_order = 2, "is not a little-endian ELF file"),
    ("for-i386", |elf| elf.machine = 3, "not for x86-64"),
    ("for-aarch64", |elf| elf.machine = 183, "not for x86-64"),
    ("relocatable", |elf| elf.kind = 1, "is not an executable"),
    ("core-file", |elf| elf.kind = 4, "is not an executable"),
    ("header-size", |elf| elf.header_size = 32, "program headers of 32 bytes"),
    ("no-program-headers", |elf| elf.segments.clear(), "no program headers"),
    ("nothing-to-load", |elf| elf.segments[0].kind = 4, "no segment to load"),
    ("larger-in-the-file", |elf| elf.segments[0].in_memory = 0x800, "more bytes in the file than in memory"),
    ("misaligned", |elf| elf.segments[0].address += 0x10, "misaligned"),
    (
        "in-the-kernel",
        |elf| elf.segments[0].address = 0xffff_8000_0000_0000,
        "outside the user address space",
    ),
    ("huge", |elf| elf.segments[0].in_memory = 1 << 50, "outside the user address space"),
    ("overlapping", |elf| elf.segments.push(elf.segments[0].clone()), "overlapping"),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("elf/smallest").with("/program", bytes(&TinyElf::exiting(7))).argv(["/program"]).exits(7),
        // Memory is promised and not used, up to what the machine has.
        case("elf/large-bss")
            .with("/program", bytes(&TinyElf::exiting(7).with(|elf| elf.segments[0].in_memory = 32 << 20)))
            .argv(["/program"])
            .exits(7),
        case("elf/dynamic")
            .with(
                "/program",
                bytes(&TinyElf::exiting(7).with(|elf| {
                    let name = b"/lib64/ld-linux-x86-64.so.2\0";
                    let offset = 64 + 2 * 56 + elf.code.len() as u64;
                    elf.code.extend(name);
                    let length = name.len() as u64;
                    elf.segments.push(Segment {
                        kind: 3,
                        offset,
                        address: 0x40_0000 + offset,
                        in_file: length,
                        in_memory: length,
                    });
                })),
            )
            .argv(["/program"])
            .unusable(["/program", "is dynamically linked", "/lib64/ld-linux-x86-64.so.2"]),
        case("elf/entry-outside-user-space")
            .with("/program", bytes(&TinyElf::exiting(7).with(|elf| elf.entry = 0xffff_ffff_8000_0000)))
            .argv(["/program"])
            .unusable(["/program", "starts at"]),
        // As on Linux, a start where nothing is mapped is the program's own fault.
        case("elf/entry-in-nothing")
            .with("/program", bytes(&TinyElf::exiting(7).with(|elf| elf.entry = 0x7000_0000)))
            .argv(["/program"])
            .exits(139),
        case("elf/absent").argv(["/absent"]).unusable(["/absent"]),
        case("elf/argv-file-absent").append("monoguest.argv=/absent").unusable(["/absent"]),
        case("elf/argv-file-empty")
            .with("/empty", Source::Bytes(Vec::new()))
            .append("monoguest.argv=/empty")
            .unusable(["/empty"]),
        case("elf/a-directory").argv(["/tmp"]).append("init=/tmp").unusable(["/tmp"]),
        case("elf/not-executable")
            .with_mode("/program", bytes(&TinyElf::exiting(7)), 0o644)
            .argv(["/program"])
            .unusable(["/program"]),
        case("elf/text")
            .with("/program", Source::Bytes(b"hello\n".to_vec()))
            .argv(["/program"])
            .unusable(["/program"]),
        case("elf/empty")
            .with("/program", Source::Bytes(Vec::new()))
            .argv(["/program"])
            .unusable(["/program"]),
        case("elf/script-without-its-interpreter")
            .with("/program", Source::Bytes(b"#!/absent/interpreter\n".to_vec()))
            .argv(["/program"])
            .unusable(["/program"]),
        case("elf/script-of-itself")
            .with("/program", Source::Bytes(b"#!/program\n".to_vec()))
            .argv(["/program"])
            .unusable(["/program"]),
        case("elf/script")
            .with("/program", Source::Bytes(b"#!/bin/sh -e\necho \"$0 [$*]\"; false; exit 3\n".to_vec()))
            .argv(["/program", "a", "b c"])
            .prints("/program [a b c]\n")
            .exits(1),
        in_a_shell(),
    ];
    for (name, change, message) in WRONG {
        cases.push(
            case(format!("elf/{name}"))
                .with("/program", bytes(&TinyElf::exiting(7).with(change)))
                .argv(["/program"])
                .unusable(["/program", message]),
        );
    }
    for (length, message) in [(3, "/program"), (40, "truncated"), (90, "truncated"), (0x800, "truncated")] {
        let mut file = TinyElf::exiting(7).bytes();
        file.truncate(length);
        cases.push(
            case(format!("elf/truncated-to-{length}"))
                .with("/program", Source::Bytes(file))
                .argv(["/program"])
                .unusable(["/program", message]),
        );
    }
    cases
}

fn bytes(elf: &TinyElf) -> Source {
    Source::Bytes(elf.bytes())
}

/// The same files one after the other in a guest that stays up: none runs, and the shell goes on. What the kernel does
/// not know the shell takes for a script, as it does on Linux, so that the failure's status is the shell's own.
fn in_a_shell() -> Case {
    let mut all = case("elf/the-kernel-stays-up");
    for (name, change, _) in WRONG {
        all = all.with(&format!("/wrong/{name}"), bytes(&TinyElf::exiting(7).with(change)));
    }
    all.with("/right", bytes(&TinyElf::exiting(7)))
        .sh("for f in /wrong/*; do $f; s=$?; [ $s -ne 0 -a $s -ne 7 ] || exit 1; done; /right")
        .exits(7)
}
