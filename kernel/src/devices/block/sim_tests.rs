//! Disks on the simulated machine.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use platform::{End, Nanoseconds};
use sim::Machine;
use sim::disk::{Behaviour, Disk};

use crate::devices;
use crate::errno::Errno;
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_DSYNC, O_RDONLY, O_RDWR};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::open_kernel;
use crate::testing;
use crate::time::{now, sleep_until};

const MS: Nanoseconds = Nanoseconds::MILLISECOND;

/// The disk of the machine that runs: there is one machine a process.
static DISK: OnceLock<Disk> = OnceLock::new();

fn disk() -> &'static Disk {
    DISK.get().expect("the test gave the machine a disk")
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at ^ at >> 8 ^ at >> 16) as u8).collect()
}

/// Runs `body` on a machine with this disk, once its driver has started.
#[track_caller]
fn run(name: &str, make: fn() -> Disk, body: fn()) {
    static BODY: OnceLock<fn()> = OnceLock::new();
    let name = std::format!("devices::block::sim_tests::{name}");
    sim::in_fresh_process(&name, || {
        BODY.set(body).expect("one machine a process");
        let disk = DISK.get_or_init(make).clone();
        let start = || {
            devices::start();
            BODY.get().expect("was set")();
        };
        testing::outcome(Machine::new().cpus(2).device(disk), start).expect(End::PowerOff);
    });
}

fn open(flags: u32) -> Arc<OpenFile> {
    open_kernel(b"/dev/vda", flags).expect("there is a disk")
}

fn read(file: &OpenFile, at: u64, bytes: usize) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; bytes];
    let moved = file.read_at(at, &mut IoDst::kernel(&mut buffer))?;
    buffer.truncate(moved);
    Ok(buffer)
}

fn write(file: &OpenFile, at: u64, bytes: &[u8]) -> Result<usize, Errno> {
    file.write_at(at, &mut IoSrc::kernel(bytes))
}

#[test]
fn a_disk_is_read_and_written_at_any_place() {
    let make = || Disk::new(pattern(300 * 1024)).block_bytes(1024).latency(MS);
    run("a_disk_is_read_and_written_at_any_place", make, || {
        let file = open(O_RDWR);
        let mut model = pattern(300 * 1024);
        let mut random = 1u32;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % below
        };
        for round in 0..200 {
            let at = next(model.len() + 2000);
            let length = if round % 4 == 0 { next(200 * 1024) } else { next(3000) };
            let there = length.min(model.len().saturating_sub(at));
            if round % 2 == 0 {
                let expected = model.get(at..at + there).unwrap_or(&[]);
                assert_eq!(read(&file, at as u64, length).as_deref(), Ok(expected), "{length} bytes at {at}");
            } else {
                let bytes: Vec<u8> = (0..length).map(|index| (index + round) as u8).collect();
                let expected = if there == 0 && length > 0 { Err(Errno::ENOSPC) } else { Ok(there) };
                assert_eq!(write(&file, at as u64, &bytes), expected, "{length} bytes at {at}");
                if there > 0 {
                    model[at..at + there].copy_from_slice(&bytes[..there]);
                }
            }
        }
        assert!(disk().state().bytes == model, "the disk is not what was written");
    });
}

#[test]
fn more_requests_than_there_is_room_for_all_end() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const TASKS: usize = 40;
    let make = || Disk::new(pattern(TASKS * 512)).latency(MS);
    run("more_requests_than_there_is_room_for_all_end", make, || {
        for _ in 0..TASKS {
            testing::spawn(|| {
                let sector = NEXT.fetch_add(1, Ordering::Relaxed);
                let bytes = read(&open(O_RDONLY), (sector * 512) as u64, 512).expect("the disk is well");
                assert!(bytes == pattern(TASKS * 512)[sector * 512..][..512]);
                DONE.fetch_add(1, Ordering::Relaxed);
            });
        }
        while DONE.load(Ordering::Relaxed) < TASKS {
            sleep_until(now() + MS).expect("no signals");
            assert!(now() < Nanoseconds::from_millis(100), "only {DONE:?} have ended");
        }
        // Sixteen at a time: they overlap, but for no more than there is room for.
        assert!(now() >= Nanoseconds(3 * MS.0) && now() < Nanoseconds(20 * MS.0), "{:?}", now());
    });
}

#[test]
fn writers_of_parts_of_one_block_do_not_undo_each_other() {
    static DONE: AtomicUsize = AtomicUsize::new(0);
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    const TASKS: usize = 12;
    const BLOCKS: usize = 20;
    let make = || Disk::new(vec![0; BLOCKS * 512]).latency(Nanoseconds(1000));
    run("writers_of_parts_of_one_block_do_not_undo_each_other", make, || {
        for _ in 0..TASKS {
            testing::spawn(|| {
                let task = NEXT.fetch_add(1, Ordering::Relaxed);
                let file = open(O_RDWR);
                for block in 0..BLOCKS {
                    assert_eq!(write(&file, (block * 512 + task * 40) as u64, &[1 + task as u8; 40]), Ok(40));
                }
                DONE.fetch_add(1, Ordering::Relaxed);
            });
        }
        while DONE.load(Ordering::Relaxed) < TASKS {
            sleep_until(now() + MS).expect("no signals");
        }
        for (at, byte) in disk().state().bytes.iter().enumerate() {
            let task = at % 512 / 40;
            assert_eq!(*byte, if task < TASKS { 1 + task as u8 } else { 0 }, "byte {at}");
        }
    });
}

#[test]
fn nothing_is_written_to_a_read_only_disk() {
    let make = || Disk::new(pattern(2048)).read_only();
    run("nothing_is_written_to_a_read_only_disk", make, || {
        let file = open(O_RDWR);
        assert_eq!(write(&file, 0, &[1; 512]), Err(Errno::EPERM));
        assert_eq!(read(&file, 1000, 24).as_deref(), Ok(&pattern(2048)[1000..1024]));
        assert!(disk().state().bytes == pattern(2048));
    });
}

#[test]
fn what_is_written_is_flushed_when_asked_for() {
    run(
        "what_is_written_is_flushed_when_asked_for",
        || Disk::new(pattern(4096)),
        || {
            let file = open(O_RDWR);
            assert_eq!(write(&file, 10, b"text"), Ok(4));
            assert_eq!(disk().state().flushes, 0);
            assert_eq!(file.ops().expect("a device").sync(), Ok(()));
            assert_eq!(disk().state().flushes, 1);
            assert_eq!(write(&open(O_RDWR | O_DSYNC), 10, b"text"), Ok(4));
            assert_eq!(disk().state().flushes, 2);
            devices::sync();
            assert_eq!(disk().state().flushes, 3);
        },
    );
}

#[test]
fn an_error_is_one_requests_own() {
    run(
        "an_error_is_one_requests_own",
        || Disk::new(pattern(4096)),
        || {
            let file = open(O_RDWR);
            disk().state().behaviour = Behaviour::Errors;
            assert_eq!(read(&file, 0, 1), Err(Errno::EIO));
            assert_eq!(write(&file, 0, &[1; 512]), Err(Errno::EIO));
            assert_eq!(file.ops().expect("a device").sync(), Err(Errno::EIO));
            disk().state().behaviour = Behaviour::Good;
            assert_eq!(read(&file, 0, 512).as_deref(), Ok(&pattern(512)[..]));
        },
    );
}

#[test]
fn a_disk_that_must_be_reset_hangs_nobody() {
    fails("a_disk_that_must_be_reset_hangs_nobody", Behaviour::Breaks);
}

#[test]
fn a_disk_that_gives_back_what_it_has_not_got_is_not_used_any_more() {
    fails("a_disk_that_gives_back_what_it_has_not_got_is_not_used_any_more", Behaviour::Forges);
}

/// Forty tasks wait for a disk when it fails: all are told, and so is everybody later.
fn fails(name: &str, how: Behaviour) {
    static HOW: OnceLock<Behaviour> = OnceLock::new();
    static FAILED: AtomicUsize = AtomicUsize::new(0);
    const TASKS: usize = 40;
    let _ = HOW.set(how);
    run(
        name,
        || Disk::new(pattern(4096)).latency(Nanoseconds::from_millis(1000)),
        || {
            for _ in 0..TASKS {
                testing::spawn(|| {
                    if read(&open(O_RDONLY), 0, 512) == Err(Errno::EIO) {
                        FAILED.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            sleep_until(now() + MS).expect("no signals");
            assert_eq!(FAILED.load(Ordering::Relaxed), 0);
            assert_eq!(disk().state().requests, 16, "as many as there is room for are under way");
            // The seventeenth request is another task's, when the first ones end; it is they that fail.
            disk().state().behaviour = *HOW.get().expect("was set");
            while FAILED.load(Ordering::Relaxed) < TASKS - 16 {
                sleep_until(now() + MS).expect("no signals");
                assert!(now() < Nanoseconds::from_millis(5000), "only {FAILED:?} were told");
            }
            let requests = disk().state().requests;
            assert_eq!(read(&open(O_RDONLY), 0, 512), Err(Errno::EIO));
            assert_eq!(disk().state().requests, requests, "a dead disk was asked for something");
        },
    );
}
