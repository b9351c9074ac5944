//! The lguest hypervisor itself (`arch-lguest/host`): a guest that attacks it, and modules that are no good.

use crate::lguest::{Guest, Hypervisor, archive};
use crate::testing::case::{Case, Files, Module, case};
use crate::variant::{Backend, Product};

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![hostile(1, 700)];
    cases.extend(BAD_MODULES.iter().map(|&(name, change, reason)| {
        attack(&format!("lguest/{name}"))
            .module(change.map_or(Module::Missing, Module::Changed))
            .unusable([reason])
    }));
    cases
}

fn attack(name: &str) -> Case {
    case(name).backend(Backend::Lguest).product(Product::Hostile).files(Files::None).memory(4)
}

/// More than a million hypercalls from `lives` seeds, beside a guest whose memory must not change.
fn hostile(seed: u64, lives: u64) -> Case {
    attack(&format!("lguest/hostile-{seed}"))
        .guests(2, "counters restart=1000000")
        .append(&format!("seed={seed} lives={lives}"))
        .wait_for("neighbour: watching")
        .wait_for(&format!("hostile: lives survived by the host: {lives}"))
        // The key goes to the second guest.
        .type_in("\x1d1q")
        .prints("[1] neighbour: memory unchanged")
        .prints("guest 0: exit 0")
        .never_prints("hostile: panic")
        .never_prints("REACHED")
        .limit(400)
}

type Change = fn(Guest, &Hypervisor) -> Vec<u8>;

/// Name, what is given in place of a guest, and what is said of it.
const BAD_MODULES: [(&str, Option<Change>, &str); 8] = [
    ("no-guest", None, "there is no guest"),
    ("no-archive", Some(|guest, _| guest.image), "no archive of guests"),
    ("truncated-module", Some(|guest, args| cut(archive(&guest, args), 9000)), "cut off"),
    (
        "truncated-image",
        Some(|guest, args| archive(&Guest { image: cut(guest.image, 4500), ..guest }, args)),
        "cut off",
    ),
    ("wrong-platform", Some(|guest, args| archive(&for_another_platform(guest), args)), "another platform"),
    (
        "no-elf",
        Some(|guest, args| archive(&Guest { image: b"#!/bin/sh\n".to_vec(), ..guest }, args)),
        "cut off",
    ),
    (
        "small-guest",
        Some(|guest, args| archive(&Guest { memory: 1, ..guest }, args)),
        "too little memory for its image",
    ),
    (
        "small-machine",
        Some(|guest, args| archive(&Guest { memory: 1 << 20, ..guest }, args)),
        "too little memory for its guests",
    ),
];

/// The first `length` bytes.
fn cut(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.truncate(length);
    bytes
}

/// The image with another platform's name in its note.
fn for_another_platform(mut guest: Guest) -> Guest {
    let note = b"Monoguest\0\0\0";
    let at = guest.image.windows(note.len()).position(|bytes| bytes == note).unwrap_or(0);
    guest.image[at + note.len() + 4..][..6].copy_from_slice(b"native");
    guest
}
