//! Every frame comes back when programs and tasks have ended, on the simulated machine.

use alloc::sync::Arc;
use std::vec::Vec;

use platform::{Access, Nanoseconds, PAGE_SIZE, Protection, VirtAddr};
use sim::Machine;

use super::space::{MapPlace, MapRequest};
use super::vma::VmaFlags;
use super::{AddressSpace, Backing, frames, shortage};
use crate::{testing, time};

const PAGES: u64 = 8;
/// Far apart, so that each range needs tables of its own.
const RANGES: [VirtAddr; 2] = [VirtAddr(0x40_0000), VirtAddr(0x8000_0000)];
/// More stacks than one table leads to.
const TASKS: usize = 80;

fn touch(space: &AddressSpace, access: Access) {
    for range in RANGES {
        for page in 0..PAGES {
            space.fault(range + page * PAGE_SIZE, Access::USER | access).unwrap();
        }
    }
}

/// What becomes of the memory of a program that writes, forks, and whose child writes.
fn life() {
    let parent = AddressSpace::new().unwrap();
    for range in RANGES {
        parent
            .map(MapRequest {
                place: MapPlace::Replace(range),
                length: PAGES * PAGE_SIZE,
                protection: Protection::READ | Protection::WRITE,
                flags: VmaFlags::empty(),
                backing: Backing::Anonymous,
            })
            .unwrap();
    }
    touch(&parent, Access::WRITE);
    assert_eq!(parent.resident_pages(), 2 * PAGES);
    let child = parent.fork().unwrap();
    touch(&child, Access::WRITE | Access::PRESENT);
    touch(&parent, Access::WRITE | Access::PRESENT);
    assert_ne!(parent.frame_at(RANGES[0]), child.frame_at(RANGES[0]));
    parent.remove_user();
    child.remove_user();
}

fn free_frames() -> u64 {
    shortage::reclaim();
    frames::totals().1
}

/// Lives at the same time, each in a task of its own, and then one after another.
fn lives() {
    let before = free_frames();
    for _ in 0..3 {
        let tasks: Vec<_> = (0..TASKS).map(|_| testing::spawn(life)).collect();
        assert!(frames::totals().1 < before);
        for task in tasks {
            // The scheduler lets go of a task when it has switched away from it.
            while Arc::strong_count(&task) > 1 {
                time::sleep_until(time::now() + Nanoseconds::MILLISECOND).unwrap();
            }
        }
        assert_eq!(free_frames(), before);
    }
    (0..TASKS).for_each(|_| life());
    assert_eq!(free_frames(), before);
}

#[test]
fn every_frame_comes_back_on_one_cpu() {
    testing::run("mm::sim_tests::every_frame_comes_back_on_one_cpu", || Machine::new().memory_mib(64), lives);
}

#[test]
fn every_frame_comes_back_on_three_cpus() {
    let name = "mm::sim_tests::every_frame_comes_back_on_three_cpus";
    testing::run(name, || Machine::new().memory_mib(64).cpus(3), lives);
}
