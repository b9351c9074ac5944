use core::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

use crate::errno::Errno;
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::pipe::{ATOMIC_WRITE, DEFAULT_CAPACITY, Pipe};
use crate::fs::poll::PollEvents;
use crate::sync::Once;
use crate::testing;

fn machine() -> sim::Machine {
    sim::Machine::new().cpus(2).memory_mib(16)
}

fn write(pipe: &Pipe, bytes: &[u8], nonblock: bool) -> Result<usize, Errno> {
    pipe.write(&mut IoSrc::kernel(bytes), nonblock)
}

fn read(pipe: &Pipe, length: usize, nonblock: bool) -> Result<Vec<u8>, Errno> {
    let mut bytes = std::vec![0; length];
    let moved = pipe.read(&mut IoDst::kernel(&mut bytes), nonblock)?;
    bytes.truncate(moved);
    Ok(bytes)
}

#[test]
fn bytes_come_out_in_order() {
    testing::run("fs::tests::pipes::bytes_come_out_in_order", machine, || {
        let pipe = Pipe::new();
        pipe.open(true, true);
        assert_eq!(read(&pipe, 1, true), Err(Errno::EAGAIN));
        let (mut put, mut got) = (0u32, 0u32);
        for round in 0..400usize {
            let part: Vec<u8> = (0..round * 37 % 9000)
                .map(|_| {
                    put += 1;
                    ((put * 7) >> 3) as u8
                })
                .collect();
            match write(&pipe, &part, true) {
                Ok(moved) => put -= (part.len() - moved) as u32,
                Err(error) => {
                    assert_eq!(error, Errno::EAGAIN);
                    put -= part.len() as u32;
                }
            }
            for byte in read(&pipe, round * 53 % 8000, true).unwrap_or_default() {
                got += 1;
                assert_eq!(byte, ((got * 7) >> 3) as u8);
            }
            assert_eq!(pipe.used(), (put - got) as usize);
        }
        assert!(put > 300_000);
    });
}

#[test]
fn a_full_ring_that_wraps_within_a_page_loses_nothing() {
    testing::run("fs::tests::pipes::a_full_ring_that_wraps_within_a_page_loses_nothing", machine, || {
        let pipe = Pipe::new();
        pipe.open(true, true);
        let bytes: Vec<u8> = (0..DEFAULT_CAPACITY + 100).map(|at| (at / 3) as u8).collect();
        assert_eq!(write(&pipe, &bytes[..DEFAULT_CAPACITY], true), Ok(DEFAULT_CAPACITY));
        assert_eq!(read(&pipe, 100, true).unwrap(), &bytes[..100]);
        assert_eq!(write(&pipe, &bytes[DEFAULT_CAPACITY..], true), Ok(100));
        assert_eq!(pipe.set_capacity(4096, true), Err(Errno::EBUSY));
        assert_eq!(pipe.set_capacity(DEFAULT_CAPACITY * 2, true), Ok(DEFAULT_CAPACITY * 2));
        assert_eq!(read(&pipe, DEFAULT_CAPACITY * 2, true).unwrap(), &bytes[100..]);
    });
}

#[test]
fn small_writes_stay_in_one_piece() {
    testing::run("fs::tests::pipes::small_writes_stay_in_one_piece", machine, || {
        let pipe = Pipe::new();
        pipe.open(true, true);
        assert_eq!(write(&pipe, &[1; DEFAULT_CAPACITY - 100], true), Ok(DEFAULT_CAPACITY - 100));
        assert_eq!(write(&pipe, &[2; ATOMIC_WRITE], true), Err(Errno::EAGAIN));
        assert_eq!(write(&pipe, &[2; ATOMIC_WRITE + 1], true), Ok(100));
        assert!(!pipe.poll(false, true).contains(PollEvents::OUT));
        pipe.close(true, false);
        assert_eq!(pipe.poll(false, true), PollEvents::ERR);
    });
}

#[test]
fn the_end_of_writers_is_the_end_of_the_file() {
    testing::run("fs::tests::pipes::the_end_of_writers_is_the_end_of_the_file", machine, || {
        let pipe = Pipe::new();
        pipe.open(true, true);
        write(&pipe, b"rest", true).unwrap();
        pipe.close(false, true);
        assert_eq!(pipe.poll(true, false), PollEvents::READABLE | PollEvents::HUP);
        assert_eq!(read(&pipe, 10, false).unwrap(), b"rest");
        assert_eq!(read(&pipe, 10, false).unwrap(), b"");
    });
}

static SHARED: Once<Pipe> = Once::new();
static DONE: AtomicU64 = AtomicU64::new(0);
const TOTAL: usize = 1_000_000;

#[test]
fn readers_and_writers_wait_for_one_another() {
    testing::run("fs::tests::pipes::readers_and_writers_wait_for_one_another", machine, || {
        let pipe = SHARED.call_once(Pipe::new);
        pipe.open(true, true);
        testing::spawn(|| {
            let pipe = SHARED.get().unwrap();
            let bytes: Vec<u8> = (0..TOTAL).map(|at| (at / 5) as u8).collect();
            let mut done = 0;
            for round in 1.. {
                let part = (round * 7919 % 100_000).min(TOTAL - done);
                assert_eq!(write(pipe, &bytes[done..done + part], false), Ok(part));
                done += part;
                if done == TOTAL {
                    break;
                }
            }
            pipe.close(false, true);
            DONE.store(1, Ordering::Release);
        });
        let mut at = 0;
        for round in 1.. {
            let part = read(pipe, 1 + round * 104_729 % 70_000, false).unwrap();
            if part.is_empty() {
                break;
            }
            for byte in part {
                assert_eq!(byte, (at / 5) as u8);
                at += 1;
            }
        }
        assert_eq!(at, TOTAL);
    });
}
