//! The lguest hypervisor itself (`arch-lguest/host`): a guest that attacks it, and modules that are no good.

use anyhow::{Result, ensure};

use super::backends::Extent;
use crate::bench::exits::counters;
use crate::lguest::{Guest, GuestDisk, Hypervisor, Network, archive};
use crate::testing::case::{Case, Files, Module, Source, case};
use crate::testing::programs::Program;
use crate::variant::{Backend, Product};

/// The cases.
pub fn cases(extent: Extent) -> Vec<Case> {
    let outside = hostile(2, 100).named("outside").image(&[0x5a; 64 * 512], false);
    let outside = outside.network(Network::User("restrict=on".into()));
    let mut cases = vec![hostile(1, 150).disk(&[0x5a; 64 * 512], false), outside, side_by_side(), flooded()];
    if extent == Extent::Everything {
        cases.push(million(1000));
    }
    cases.extend(BAD_MODULES.iter().map(|&(name, change, reason)| {
        attack(&format!("lguest/{name}"))
            .module(change.map_or(Module::Missing, Module::Changed))
            .unusable([reason])
    }));
    cases
}

/// Three guests, whose lines say whose they are.
fn side_by_side() -> Case {
    case("lguest/three-guests")
        .backend(Backend::Lguest)
        .guests(3, "counters")
        .memory(32)
        .sh("i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done; echo counted $i")
        .prints("[0] counted 2000")
        .prints("[1] counted 2000")
        .prints("[2] counted 2000")
        .prints("guest 2: exit 0")
}

/// One guest floods another with datagrams while a third has something to tell it.
fn flooded() -> Case {
    case("lguest/flooded")
        .backend(Backend::Lguest)
        .guests(3, "counters")
        .network(Network::Guests)
        .memory(32)
        .with("/flood", Source::Program(Program::Rust("flood".to_owned())))
        .sh(&super::script(
            "seq 1 100000 | head -c 100000 > /sent
            me=$(ifconfig eth0 | sed -n 's/.*67:0\\(.\\).*/\\1/p')
            ifconfig eth0 10.0.0.1$me netmask 255.255.255.0 up
            case $me in
                0) until nc 10.0.0.12 2 < /dev/null 2> /dev/null; do /flood 10.0.0.12:9 200; done ;;
                1) until nc 10.0.0.12 1 < /sent 2> /dev/null; do true; done ;;
                2) until [ $(sed -n 's/.*eth0: *[0-9]* *\\([0-9]*\\).*/\\1/p' /proc/net/dev) -gt 400 ]; do true; done
                    nc -l -p 1 | cmp - /sent
                    nc -l -p 2 ;;
            esac
            echo guest $me has finished",
        ))
        .prints("[0] guest 0 has finished")
        .prints("[1] guest 1 has finished")
        .prints("[2] guest 2 has finished")
}

fn attack(name: &str) -> Case {
    case(name).backend(Backend::Lguest).product(Product::Hostile).files(Files::None).memory(4)
}

/// More than a million hypercalls, from seeds that the other cases have not.
fn million(seed: u64) -> Case {
    hostile(seed, 850).disk(&[0x5a; 64 * 512], false).judged(|console| made_calls(console, 1_000_000))
}

/// Lives that end at once would attack nothing.
fn made_calls(console: &str, least: u64) -> Result<()> {
    let calls = counters(console, 0)?.get("hypercalls").copied().unwrap_or(0);
    ensure!(calls >= least, "there were only {calls} hypercalls");
    Ok(())
}

/// Hypercalls, tables and requests from `lives` seeds, beside a guest whose memory must not change.
fn hostile(seed: u64, lives: u64) -> Case {
    attack(&format!("lguest/hostile-{seed}"))
        .guests(2, "counters restart=1000000")
        .network(Network::Guests)
        .append(&format!("seed={seed} lives={lives}"))
        .wait_for(&format!("hostile: lives survived by the host: {lives}"))
        // The key goes to the second guest, where it waits until that one looks.
        .type_in("\x1d1q")
        .prints("[1] neighbour: watching")
        .prints("[1] neighbour: memory unchanged")
        .prints("guest 0: exit 0")
        .never_prints("hostile: panic")
        .never_prints("REACHED")
        .judged(|console| made_calls(console, 80_000))
        .limit(400)
}

type Change = fn(Guest, &Hypervisor) -> Vec<u8>;

/// Name, what is given in place of a guest, and what is said of it.
const BAD_MODULES: [(&str, Option<Change>, &str); 11] = [
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
        "odd-disk",
        Some(|guest, args| {
            archive(&Guest { disks: vec![GuestDisk::of_bytes(vec![0; 1000], true)], ..guest }, args)
        }),
        "whole sectors",
    ),
    (
        "no-drive",
        Some(|guest, args| archive(&Guest { disks: vec![GuestDisk::of_qemu(0, true)], ..guest }, args)),
        "a drive that the machine does not have",
    ),
    (
        "no-card",
        Some(|guest, _| {
            let user = Hypervisor { network: Network::User(String::new()), ..Hypervisor::default() };
            archive(&guest, &user)
        }),
        "the machine has no network card",
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
