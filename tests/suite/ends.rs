//! How a guest ends, and the exit status that comes of it.

use super::elf::TinyElf;
use crate::testing::case::{Case, Source, case};

/// A program without a library that runs these instructions.
fn instructions(code: &[u8]) -> Source {
    Source::Bytes(TinyElf::running(code).bytes())
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for status in [0, 1, 2, 42, 101, 102, 124, 127, 128, 255] {
        cases.push(case(format!("end/exit-{status}")).sh(&format!("exit {status}")).exits(status));
    }
    // Process 1 is killed by what it does itself; the status is 128 and the signal's number.
    for (name, code, status) in [
        ("undefined-instruction", &[0x0f, 0x0b][..], 128 + 4),
        ("breakpoint", &[0xcc], 128 + 5),
        ("division-by-zero", &[0x31, 0xc0, 0xf7, 0xf0], 128 + 8),
        ("null-pointer", &[0x31, 0xc0, 0x8a, 0x00], 128 + 11),
        ("halt", &[0xf4], 128 + 11),
        ("interrupts-off", &[0xfa], 128 + 11),
        ("port-input", &[0xe4, 0x60], 128 + 11),
        ("control-register", &[0x0f, 0x20, 0xc0], 128 + 11),
        // mov rax, -4096; jmp rax
        ("jump-to-the-kernel", &[0x48, 0xc7, 0xc0, 0x00, 0xf0, 0xff, 0xff, 0xff, 0xe0], 128 + 11),
        // mov rax, 0x8000000000000000; mov al, [rax]
        ("non-canonical", &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8a, 0x00], 128 + 11),
    ] {
        cases.push(
            case(format!("end/{name}")).with("/program", instructions(code)).argv(["/program"]).exits(status),
        );
    }
    cases.push(
        case("end/child-killed")
            .sh("sh -c 'kill -9 $$'; s=$?; echo status $s; exit $s")
            .prints("status 137")
            .exits(137),
    );
    cases.push(
        case("end/child-faults")
            .with("/program", instructions(&[0xf4]))
            .sh("/program; s=$?; echo status $s; exit $s")
            .prints("status 139")
            .exits(139),
    );
    // Process 1 is not killed by a signal it has no handler for.
    cases.push(
        case("end/process-1-is-not-killed")
            .sh("kill -9 $$; kill -15 $$; echo still here; exit 5")
            .prints("still here")
            .exits(5),
    );
    cases.push(case("end/processes-left-behind").sh("sleep 1000 & sleep 1000 & exit 6").exits(6));
    cases.push(case("end/poweroff").sh("poweroff -f; sleep 1000"));
    cases.push(case("end/reboot").sh("reboot -f; sleep 1000").reboots());
    cases
}
