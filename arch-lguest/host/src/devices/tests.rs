//! Devices as a driver meets them, a good one and a bad one.

use std::collections::BTreeSet;

use lguest_abi::{VIRQ_FIRST_DEVICE, status::*};
use platform::PhysAddr;
use proptest::prelude::*;

use super::block::Backing;
use super::port::{Busy, Direction, MOST_BYTES, MOST_FRAME, free_slot};
use super::queue::{MOST_ENTRIES, Place, Queue};
use super::switch::{Frame, MOST_WAITING, Source, Switch};
use super::testing::{PAGES, Piece, Rig, SIZE};
use super::*;
use crate::archive::MOST_GUESTS;

const NETWORK: usize = 1;
const DISK: usize = 2;
const HEADER: u64 = 0x1_0000;
const STATUS: u64 = 0x1_0100;
const DATA: u64 = 0x2_0000;

fn rig(backing: Backing) -> Rig {
    Rig::new(Fittings { disks: [Some(backing), None, None, None], network: true })
}

fn memory_disk() -> Backing {
    Backing::Memory((0..16 * 512).map(|at| (at / 512) as u8).collect::<Vec<_>>().leak())
}

fn drive() -> Backing {
    Backing::Drive { number: 3, sectors: 100, read_only: false }
}

/// One request, with data in one piece; the status byte afterwards (0xee: not written).
fn request(rig: &mut Rig, kind: u32, sector: u64, data: &[Piece]) -> Result<u8, Broken> {
    rig.memory.write(GuestPhys(HEADER), u64::from(kind)).unwrap();
    rig.memory.write(GuestPhys(HEADER + 8), sector).unwrap();
    rig.memory.copy_in(GuestPhys(STATUS), &[0xee]).unwrap();
    let mut pieces = vec![(HEADER, 16, false)];
    pieces.extend(data);
    pieces.push((STATUS, 1, true));
    rig.offer(DISK, 0, 0, &pieces);
    rig.kick(DISK, 0)?;
    Ok(rig.bytes(STATUS, 1)[0])
}

fn rule(result: Result<impl Sized, Broken>) -> Rule {
    result.err().expect("a rule is broken").rule
}

#[test]
fn devices_say_what_they_are() {
    let rig = rig(memory_disk());
    let page = rig.memory.device_page(PAGE_AT).unwrap();
    let kinds: Vec<u8> = page.devices.iter().map(|device| device.kind.load(Relaxed)).collect();
    assert_eq!(kinds[..4], [3, 1, 2, 0]);
    let disk = &page.devices[DISK];
    assert_eq!(disk.irq.load(Relaxed), VIRQ_FIRST_DEVICE + 2);
    let config: Vec<u8> = disk.config.iter().map(|byte| byte.load(Relaxed)).collect();
    assert_eq!(config[..12], [16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    let [size_max, seg_max] = [8, 12].map(|at| u32::from_le_bytes(*config[at..].first_chunk().unwrap()));
    assert!(u64::from(size_max) * u64::from(seg_max) <= MOST_BYTES, "who keeps to both lives");
    assert_eq!(disk.features.load(Relaxed), 1 << 32 | 1 << 9 | 1 << 6 | 1 << 2 | 1 << 1);
    let mac: Vec<u8> = page.devices[NETWORK].config.iter().map(|byte| byte.load(Relaxed)).collect();
    assert_eq!(mac[..12], [0x52, 0x54, 0, 0x6c, 0x67, 0, 0, 0, 0, 0, 0xdc, 5]);
}

#[test]
fn a_status_goes_forward_or_to_nothing() {
    let mut rig = rig(memory_disk());
    for bad in [DRIVER, FEATURES_OK | ACKNOWLEDGE, DRIVER_OK | DRIVER | ACKNOWLEDGE, 64, 16 | ACKNOWLEDGE] {
        assert_eq!(rule(rig.set_status(0, bad)), Rule::BadDevice, "{bad}");
    }
    let both = rig.set_status(0, ACKNOWLEDGE | DRIVER).unwrap();
    assert_eq!(rule(rig.set_status(0, ACKNOWLEDGE)), Rule::BadDevice, "backwards");
    // Without VERSION_1 the host does not agree; with what it did not offer it does not live.
    assert_eq!(rig.set_status(0, both | FEATURES_OK), Ok(both));
    assert_eq!(rule(rig.set_status(0, both | FEATURES_OK | DRIVER_OK)), Rule::BadDevice);
    rig.descriptor(0).accepted.store(1 << 32 | 1 << 28, Relaxed);
    assert_eq!(rule(rig.set_status(0, both | FEATURES_OK)), Rule::BadDevice);
    rig.set_status(0, both | FAILED).unwrap();
    assert_eq!(rule(rig.set_status(0, both | FAILED | FEATURES_OK)), Rule::BadDevice);
    rig.set_status(0, 0).unwrap();
    rig.drive(0);
    assert!(rig.devices.take_input());
    rig.set_status(0, both | FEATURES_OK | DRIVER_OK | FAILED).unwrap();
    assert!(!rig.devices.take_input());
    assert_eq!(rule(rig.notify(0, 1)), Rule::BadDevice, "a kick of a failed device");
}

#[test]
fn what_is_no_device_or_queue_is_not_notified() {
    let mut rig = rig(memory_disk());
    rig.drive(DISK);
    for (device, what) in [(3, 0), (15, 1), (0, 1), (DISK, 2), (DISK, u64::MAX), (DISK, 1 << 40)] {
        assert_eq!(rule(rig.notify(device, what)), Rule::BadDevice, "{device} {what:#x}");
    }
    let between = GuestPhys(PAGE_AT.0 + 8);
    assert_eq!(rule(rig.devices.notify(&rig.memory, between, 0)), Rule::BadDevice);
    assert!(Devices::contain(between) && !Devices::contain(GuestPhys(PAGE_AT.0 + 4096)));
}

#[test]
fn a_queue_lies_in_memory_and_on_its_boundaries() {
    let memory = rig(memory_disk()).memory;
    let end = PAGES as u64 * 4096;
    let good = Place { size: 16, table: GuestPhys(end - 256), driver: GuestPhys(2), device: GuestPhys(4) };
    assert!(Queue::new(&memory, good).is_ok());
    let at = GuestPhys;
    for bad in [
        Place { size: 3, ..good },
        Place { size: 2 * MOST_ENTRIES, ..good },
        Place { table: at(8), ..good },
        Place { table: at(end - 240), ..good },
        Place { table: at(u64::MAX - 15), ..good },
        Place { driver: at(3), ..good },
        Place { driver: at(end - 34), ..good },
        Place { device: at(6), ..good },
        Place { device: at(end - 128), ..good },
    ] {
        assert_eq!(rule(Queue::new(&memory, bad)), Rule::BadDevice, "{bad:?}");
    }
}

#[test]
fn the_console_prints_and_has_the_input() {
    let mut rig = rig(memory_disk());
    rig.input.push(b'a');
    assert!(!rig.devices.take_input(), "nobody drives it yet");
    rig.drive(0);
    rig.memory.copy_in(GuestPhys(DATA), b"Hello, world").unwrap();
    rig.offer(0, 1, 0, &[(DATA, 7, false), (DATA + 7, 5, false)]);
    rig.kick(0, 1).unwrap();
    assert_eq!((&rig.host.printed[..], rig.used(0, 1)), (&b"Hello, world"[..], vec![(0, 0)]));
    // Input that was there before, then more, with and without a wish for interrupts.
    rig.pending = Pending::default();
    rig.offer(0, 0, 0, &[(DATA, 2, true), (DATA + 16, 2, true)]);
    rig.kick(0, 0).unwrap();
    assert_eq!((rig.used(0, 0), rig.bytes(DATA, 1)), (vec![(0, 1)], b"a".to_vec()));
    assert_eq!(rig.pending.bits(), 1 << VIRQ_FIRST_DEVICE);
    assert_eq!(rig.descriptor(0).interrupt_status.swap(0, Relaxed), 1);
    rig.pending = Pending::default();
    let [_, driver, _] = Rig::rings(0, 0);
    rig.memory.copy_in(GuestPhys(driver), &[1]).unwrap();
    b"bcdef".iter().for_each(|&byte| rig.input.push(byte));
    assert!(rig.devices.take_input());
    rig.offer(0, 0, 0, &[(DATA, 2, true), (DATA + 16, 2, true)]);
    rig.kick(0, 0).unwrap();
    assert_eq!((rig.bytes(DATA, 2), rig.bytes(DATA + 16, 2)), (b"bc".to_vec(), b"de".to_vec()));
    assert_eq!((rig.used(0, 0)[1], rig.pending.bits()), ((0, 4), 0));
    // What is left stays the host's after a reset.
    rig.set_status(0, 0).unwrap();
    assert_eq!((rig.devices.take_input(), rig.input.pop()), (false, Some(b'f')));
}

#[test]
fn work_is_done_in_parts() {
    let mut rig = rig(memory_disk());
    rig.drive(0);
    (0..SIZE).for_each(|head| rig.offer(0, 1, head, &[(DATA, 1, false)]));
    rig.notify(0, 2).unwrap();
    let mut parts = Vec::new();
    while rig.devices.have_work() {
        rig.work_once().unwrap();
        parts.push(rig.host.printed.len());
    }
    assert_eq!(parts, [8, 16, 16]);
}

#[test]
fn a_disk_in_memory_reads_and_writes_its_sectors() {
    let mut rig = rig(memory_disk());
    rig.drive(DISK);
    assert_eq!(request(&mut rig, 0, 3, &[(DATA, 500, true), (DATA + 1000, 524, true)]), Ok(0));
    assert_eq!((rig.bytes(DATA, 500), rig.used(DISK, 0)), (vec![3; 500], vec![(0, 1025)]));
    assert_eq!((rig.bytes(DATA + 1012, 512), rig.bytes(DATA + 1000, 12)), (vec![4; 512], vec![3; 12]));
    assert_eq!(rig.pending.bits(), 1 << (VIRQ_FIRST_DEVICE + 2));
    rig.memory.copy_in(GuestPhys(DATA), &[0x77; 512]).unwrap();
    assert_eq!(request(&mut rig, 1, 15, &[(DATA, 512, false)]), Ok(0));
    assert_eq!(request(&mut rig, 0, 15, &[(DATA + 512, 512, true)]), Ok(0));
    assert_eq!(rig.bytes(DATA + 512, 512), vec![0x77; 512]);
    assert_eq!(request(&mut rig, 4, u64::MAX, &[]), Ok(0));
    assert_eq!(request(&mut rig, 8, 0, &[(DATA, 20, true)]), Ok(0));
    assert_eq!(rig.bytes(DATA, 20), b"disk-2\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    // Errors that virtio has a status for.
    assert_eq!(request(&mut rig, 0, 0, &[]), Ok(1));
    for (kind, sector, piece, status) in [
        (0, 16, (DATA, 512, true), 1),
        (0, 15, (DATA, 1024, true), 1),
        (1, u64::MAX, (DATA, 512, false), 1),
        (0, 0, (DATA, 100, true), 1),
        (13, 0, (DATA, 512, false), 2),
    ] {
        assert_eq!(request(&mut rig, kind, sector, &[piece]), Ok(status), "{kind} {sector}");
    }
    assert_eq!(rig.counters.disk_requests, 11);
    let mut fixed = self::rig(Backing::ReadOnly(&[9; 1024]));
    fixed.drive(DISK);
    assert_eq!(request(&mut fixed, 0, 1, &[(DATA, 512, true)]), Ok(0));
    assert_eq!(request(&mut fixed, 1, 1, &[(DATA, 512, false)]), Ok(1));
    assert_eq!(fixed.descriptor(DISK).features.load(Relaxed) & 1 << 5, 1 << 5);
}

#[test]
fn chains_that_are_not_what_they_must_be_kill() {
    let end = PAGES as u64 * 4096;
    let (header, status) = ((HEADER, 16, false), (STATUS, 1, true));
    let long = vec![(DATA, 64 << 10, true); 3];
    let long: Vec<_> = [header].into_iter().chain(long).chain([status]).collect();
    let cases: [(usize, usize, &[Piece]); 18] = [
        (DISK, 0, &[header]),
        (DISK, 0, &[status]),
        (DISK, 0, &[(HEADER, 15, false), status]),
        (DISK, 0, &[header, (STATUS, 2, true)]),
        (DISK, 0, &[header, (DATA, 512, false), (DATA, 512, true), status]),
        (DISK, 0, &[header, (DATA, 512, false), status]),
        (DISK, 0, &long),
        (DISK, 0, &[header, (DATA, 0, true), status]),
        (DISK, 0, &[status, header]),
        (DISK, 0, &[header, (end - 511, 512, true), status]),
        (DISK, 0, &[header, (u64::MAX, 512, true), status]),
        (0, 0, &[(DATA, 1, false)]),
        (0, 1, &[(DATA, 1, true)]),
        (0, 1, &[(DATA, 4097, false)]),
        (NETWORK, 0, &[(DATA, 1525, true)]),
        (NETWORK, 0, &[(DATA, 1526, false)]),
        (NETWORK, 1, &[(DATA, 25, false)]),
        (NETWORK, 1, &[(DATA, 1527, false)]),
    ];
    for (device, queue, pieces) in cases {
        let mut rig = rig(memory_disk());
        (0..3).for_each(|device| rig.drive(device));
        rig.input.push(b'x');
        rig.host.frames.push_back(vec![0; 60]);
        rig.offer(device, queue, 0, pieces);
        assert_eq!(rule(rig.kick(device, queue)), Rule::BadQueue, "{device} {queue} {pieces:x?}");
    }
    // Descriptors that lead nowhere or round in circles, and indices that cannot be.
    let [desc, driver, _] = Rig::rings(0, 1);
    for (at, bytes) in [
        (desc + 14, &[0, 0][..]),
        (desc + 14, &[SIZE as u8, 0]),
        (desc + 12, &[4, 0]),
        (driver + 2, &[SIZE as u8 + 1, 0]),
        (driver + 4, &[0xff, 0xff]),
    ] {
        let mut rig = rig(memory_disk());
        rig.drive(0);
        rig.offer(0, 1, 0, &[(DATA, 1, false), (DATA, 1, false)]);
        rig.memory.copy_in(GuestPhys(at), bytes).unwrap();
        assert_eq!(rule(rig.kick(0, 1)), Rule::BadQueue, "{at:#x} {bytes:?}");
    }
}

#[test]
fn a_drive_completes_later_and_a_reset_waits_for_it() {
    let mut rig = rig(drive());
    rig.drive(DISK);
    rig.memory.copy_in(GuestPhys(HEADER), &[0; 16]).unwrap();
    for n in 0..5 {
        rig.offer(
            DISK,
            0,
            3 * n,
            &[(HEADER, 16, false), (DATA, 512, true), (STATUS + u64::from(n), 1, true)],
        );
    }
    rig.kick(DISK, 0).unwrap();
    assert_eq!((rig.host.drive.begun.len(), rig.devices.have_work()), (3, false), "the others wait");
    let (ticket, direction, sector, bytes) = rig.host.drive.begun.pop_front().unwrap();
    assert_eq!((direction, sector, bytes), (Direction::Read, 0, 512));
    rig.devices.complete(ticket, Err(Failed), &rig.memory, &mut rig.pending).unwrap();
    assert_eq!((rig.used(DISK, 0), rig.bytes(STATUS, 1)), (vec![(0, 1)], vec![1]));
    assert_eq!(rig.pending.bits(), 1 << (VIRQ_FIRST_DEVICE + 2));
    rig.devices.retry();
    rig.work().unwrap();
    assert_eq!(rig.host.drive.begun.len(), 3);
    // The guest takes its memory back, and goes on only when the drive has let it go.
    rig.set_status(DISK, 0).unwrap();
    while let Some((ticket, ..)) = rig.host.drive.begun.pop_front() {
        assert!(rig.devices.are_draining());
        rig.devices.complete(ticket, Ok(()), &rig.memory, &mut rig.pending).unwrap();
    }
    assert!(!rig.devices.are_draining());
    assert_eq!(rig.used(DISK, 0).len(), 1, "nothing is given back to a queue that is no more");
    // A completion that nobody waits for changes nothing.
    rig.devices.complete(ticket, Ok(()), &rig.memory, &mut rig.pending).unwrap();
}

#[test]
fn frames_go_out_and_come_in() {
    let mut rig = rig(memory_disk());
    rig.drive(NETWORK);
    rig.memory.copy_in(GuestPhys(DATA + 12), &[0xab; 60]).unwrap();
    rig.offer(NETWORK, 1, 0, &[(DATA, 12, false), (DATA + 12, 60, false)]);
    rig.kick(NETWORK, 1).unwrap();
    assert_eq!((&rig.host.sent, rig.used(NETWORK, 1)), (&vec![(0, vec![0xab; 60])], vec![(0, 0)]));
    rig.host.frames.push_back(vec![0xcd; 100]);
    rig.devices.take_frames();
    rig.work().unwrap();
    assert_eq!(rig.host.frames.len(), 1, "there is no buffer yet");
    rig.offer(NETWORK, 0, 0, &[(DATA, 2048, true)]);
    rig.kick(NETWORK, 0).unwrap();
    assert_eq!(rig.used(NETWORK, 0), [(0, 112)]);
    assert_eq!(rig.bytes(DATA, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(rig.bytes(DATA + 12, 100), vec![0xcd; 100]);
    assert_eq!((rig.counters.frames_sent, rig.counters.frames_received), (1, 1));
}

fn room() -> super::switch::Room {
    Box::leak(Box::new([const { Frame::EMPTY }; MOST_WAITING]))
}

fn frame(to: [u8; 6], from: usize) -> Vec<u8> {
    [&to[..], &MacAddress::of_guest(from).0, &[8, 0, from as u8]].concat()
}

/// Who has got something, and whether the uplink would.
fn reached(switch: &mut Switch, source: Source, frame: &[u8]) -> (BTreeSet<usize>, bool) {
    let route = switch.forward(source, frame);
    let mut bytes = [0; MOST_FRAME];
    let got = (0..MOST_GUESTS).filter(|&guest| {
        let fresh = switch.take_fresh(guest);
        let length = switch.take(guest, &mut bytes);
        assert_eq!(length.is_some(), fresh);
        assert_eq!(route.guests[guest], fresh, "who is told of is who gets it");
        length.is_some_and(|length| bytes[..length] == *frame)
    });
    (got.collect(), route.outside)
}

#[test]
fn the_switch_knows_everybody() {
    let mut switch = Switch::new();
    (0..4).for_each(|guest| switch.connect(guest, room(), guest != 2));
    let all = [0xff; 6];
    let of = |guest| MacAddress::of_guest(guest).0;
    let (stranger, me) = ([2, 0, 0, 0, 0, 9], Source::Guest(0));
    for (source, bytes, guests, outside) in [
        (me, frame(of(1), 0), vec![1], false),
        (me, frame(all, 0), vec![1, 2, 3], true),
        (me, frame(stranger, 0), vec![], true),
        (me, frame(of(0), 0), vec![], false),
        (me, frame(of(1), 3), vec![], false),
        (me, vec![0xff; 13], vec![], false),
        (me, [frame(of(1), 0), vec![0; MOST_FRAME]].concat(), vec![], false),
        (Source::Guest(2), frame(stranger, 2), vec![], false),
        (Source::Guest(2), frame(all, 2), vec![0, 1, 3], false),
        (Source::Guest(7), frame(all, 7), vec![0, 1, 2, 3], false),
        (Source::Uplink, frame(of(3), 9), vec![3], false),
        (Source::Uplink, frame(all, 9), vec![0, 1, 3], false),
        (Source::Uplink, frame(of(2), 9), vec![], false),
        (Source::Uplink, frame(stranger, 9), vec![], false),
        (Source::Uplink, frame(of(3), 1), vec![], false),
        (Source::Uplink, frame(all, 2), vec![], false),
        (Source::Uplink, frame(all, 7), vec![0, 1, 3], false),
    ] {
        let expected = (guests.into_iter().collect(), outside);
        assert_eq!(reached(&mut switch, source, &bytes), expected, "{source:?} {bytes:x?}");
    }
}

#[test]
fn a_flood_leaves_room_for_others() {
    let mut switch = Switch::new();
    (0..3).for_each(|guest| switch.connect(guest, room(), false));
    let mut send = |from| {
        (0..1000).for_each(|_| {
            let route = switch.forward(Source::Guest(from), &frame(MacAddress::of_guest(0).0, from));
            assert!(route.guests[0] && !route.outside);
        })
    };
    send(1);
    send(2);
    let mut bytes = [0; MOST_FRAME];
    let mut by_source = [0; 3];
    while let Some(length) = switch.take(0, &mut bytes) {
        assert_eq!(length, 15);
        by_source[usize::from(bytes[14])] += 1;
    }
    assert_eq!(by_source, [0, MOST_WAITING / 2, MOST_WAITING / 4]);
    assert_eq!(switch.lost(0), 2000 - (MOST_WAITING * 3 / 4) as u64);
    switch.forward(Source::Guest(1), &frame(MacAddress::of_guest(0).0, 1));
    switch.clear(0);
    assert_eq!(switch.take(0, &mut bytes), None);
}

#[test]
fn a_flood_of_requests_leaves_slots_for_others() {
    let mut slots = [None; 8];
    let begin = |slots: &mut [Option<u8>; 8], guest| {
        let slot = free_slot(slots, guest, |&owner| owner)?;
        assert_eq!(slots[slot].replace(guest), None);
        Ok::<_, Busy>(())
    };
    let flood = |slots: &mut _, guest| (0..100).filter(|_| begin(slots, guest).is_ok()).count();
    assert_eq!([0, 1, 2, 3, 4].map(|guest| flood(&mut slots, guest)), [4, 2, 1, 1, 0]);
    // The first one to be completed is not the flooder's again.
    slots[0] = None;
    assert_eq!([0, 4].map(|guest| flood(&mut slots, guest)), [0, 1]);
    slots = [None; 8];
    assert_eq!(flood(&mut slots, 0), 4);
}

/// A request that a disk takes, but perhaps for where its data is: kind, sector, pieces.
fn disk_request() -> impl Strategy<Value = (u32, u64, Vec<(u64, u32)>)> {
    let end = PAGES as u64 * 4096;
    let at = prop_oneof![8 => 0..end, 4 => end - 1536..end - 500, 1 => end..end + 1024, 1 => any::<u64>()];
    let bytes = prop_oneof![12 => (1..4u32).prop_map(|sectors| 512 * sectors), 1 => 1..5000u32];
    let data = prop::collection::vec((at, bytes), 1..5);
    let data = (0..2u32, 0..101u64, data);
    prop_oneof![8 => data, 1 => Just((4, 0, Vec::new()))]
}

proptest! {
    /// Whatever is in its rings, a guest is served or killed, and its drive is asked for its own memory only.
    #[test]
    fn any_rings_are_survived(
        scribbles in prop::collection::vec((any::<bool>(), 0usize..5, 0u64..0x900, any::<[u8; 2]>()), 0..60),
        chains in prop::collection::vec((0usize..5, 0u16..16, prop::collection::vec(
            (0u64..PAGES as u64 * 4096 + 600, prop_oneof![Just(1), Just(16), Just(512), Just(1600), 0..70_000u32], any::<bool>()), 1..5)), 0..20),
        requests in prop::collection::vec((disk_request(), 0u16..16), 0..12),
        first in 0usize..5,
        in_memory: bool,
    ) {
        let mut rig = rig(if in_memory { memory_disk() } else { drive() });
        (0..3).for_each(|device| rig.drive(device));
        let queues = [(0, 0), (0, 1), (NETWORK, 0), (NETWORK, 1), (DISK, 0)];
        let kick = |rig: &mut Rig, (device, queue)| {
            let answer = rig.kick(device, queue).map_err(|broken| broken.rule);
            while let Some((ticket, ..)) = rig.host.drive.begun.pop_front() {
                rig.devices.complete(ticket, Ok(()), &rig.memory, &mut rig.pending).unwrap();
            }
            answer
        };
        for ((kind, sector, data), head) in requests {
            rig.memory.write(GuestPhys(HEADER), u64::from(kind)).unwrap();
            rig.memory.write(GuestPhys(HEADER + 8), sector).unwrap();
            let data = data.into_iter().map(|(at, bytes)| (at, bytes, kind == 0));
            let pieces: Vec<_> =
                [(HEADER, 16, false)].into_iter().chain(data).chain([(STATUS, 1, true)]).collect();
            rig.offer(DISK, 0, head.min(SIZE - pieces.len() as u16), &pieces);
            if let Err(rule) = kick(&mut rig, (DISK, 0)) {
                prop_assert_eq!(rule, Rule::BadQueue);
                // A guest that breaks a rule is over.
                return Ok(());
            }
        }
        for (which, head, pieces) in chains {
            let (device, queue) = queues[which];
            let head = head.min(SIZE - pieces.len() as u16);
            rig.offer(device, queue, head, &pieces);
            rig.input.push(b'i');
            rig.host.frames.push_back(vec![7; 99]);
        }
        for (near, which, at, value) in scribbles {
            let at = if near { at % 0x60 } else { at };
            rig.memory.copy_in(GuestPhys(Rig::rings(queues[which].0, queues[which].1)[0] + at), &value).unwrap();
        }
        for n in 0..queues.len() {
            if let Err(rule) = kick(&mut rig, queues[(first + n) % queues.len()]) {
                prop_assert_eq!(rule, Rule::BadQueue);
                return Ok(());
            }
        }
    }

    /// Whatever is in its page, and whatever it notifies.
    #[test]
    fn any_page_is_survived(
        writes in prop::collection::vec((0usize..4, 0u64..256, any::<u8>()), 0..80),
        statuses in prop::collection::vec((0usize..5, any::<u8>(), 0u64..7), 0..30),
    ) {
        let mut rig = rig(memory_disk());
        rig.drive(0);
        for (device, at, value) in writes {
            rig.memory.copy_in(GuestPhys(PAGE_AT.0 + 256 * device as u64 + at), &[value]).unwrap();
        }
        for (device, status, what) in statuses {
            let broken = [rig.set_status(device, status & 0x8f).err(), rig.kick(device, what as usize).err()];
            for broken in broken.into_iter().flatten() {
                prop_assert!(matches!(broken.rule, Rule::BadDevice | Rule::BadQueue));
            }
        }
    }
}

#[test]
fn transfers_name_memory_of_the_guest() {
    let memory = rig(drive()).memory;
    let range = memory.host_range(GuestPhys(4096), 512).unwrap();
    assert_eq!((range.start, range.bytes()), (PhysAddr(0x4000_1000), 512));
    assert!(memory.host_range(GuestPhys(PAGES as u64 * 4096 - 511), 512).is_err());
}
