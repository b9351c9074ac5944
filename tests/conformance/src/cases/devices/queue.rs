//! Queues: where they are, how long, and what both sides see in them.

use core::sync::atomic::Ordering;

use super::{all, disks, known};
use crate::driven::{Driven, SECTOR, Transfer, requests_of};
use crate::hook::devices;
use crate::memory::Shared;
use crate::report::{Outcome, ensure};
use crate::virtqueue::Buffer;

/// The most descriptors a virtqueue may have (virtio 1.2, 2.7).
const MOST: u16 = 1 << 15;

pub fn limits() -> Outcome {
    for device in all()? {
        let id = device.id;
        for queue in 0..=u16::MAX {
            let limit = devices::queue_limit(id, queue);
            ensure!(limit <= MOST, "queue {queue} of {id:?} may have {limit} descriptors");
            // Many kinds have a number of queues that only their configuration tells, but none so many.
            ensure!(limit == 0 || queue < u16::MAX, "{id:?} has a queue of each number");
        }
        if let Some((queue, least)) = requests_of(&device) {
            let limit = devices::queue_limit(id, queue);
            ensure!(limit >= least, "queue {queue} of {id:?} may have {limit} descriptors");
        }
    }
    Ok(())
}

pub fn sizes() -> Outcome {
    for device in known()? {
        let Some((number, least)) = requests_of(&device) else { continue };
        let limit = devices::queue_limit(device.id, number);
        let sizes = (0..=15).map(|power| 1 << power).filter(|size| (least..=limit).contains(size));
        for size in sizes {
            let mut driven = Driven::start(device, size)?;
            // Around the rings, the second time with other descriptors.
            for turn in 0..2 * u32::from(size) {
                let head = ((turn + turn / u32::from(size)) % u32::from(size - least + 1)) as u16;
                driven.request(head);
                driven.complete(head).map_err(|why| alloc::format!("{why}, of {size} descriptors"))?;
            }
        }
    }
    Ok(())
}

pub fn placed() -> Outcome {
    for device in known()? {
        let id = device.id;
        let mut driven = Driven::stop_short(device, 4)?;
        driven.take_queue_away();
        let first = driven.move_queue(8);
        driven.go()?;
        driven.request(0);
        driven.complete(0)?;
        let changed = first.device_area().find_other(0);
        ensure!(changed.is_none(), "{id:?} wrote to a queue that was taken away, at {changed:?}");
        drop(driven);
        // After a reset it begins anew, at the start of the rings.
        let mut driven = Driven::start(device, 4)?;
        driven.request(1);
        driven.complete(1).map_err(|why| alloc::format!("{why}, after its reset"))?;
    }
    Ok(())
}

/// Rounds of [`both_ways`].
const ROUNDS: u64 = 200;
/// Sectors that it uses.
const SECTORS: u64 = 8;

/// What is written in a round, different in each word.
fn pattern(round: u64, word: usize) -> u64 {
    (round << 32 | word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

pub fn both_ways() -> Outcome {
    let words = SECTOR as usize / 8;
    let piece =
        |memory: &Shared, at: usize, bytes: u32, is_written| Buffer { at: memory.at(at), bytes, is_written };
    for device in disks()? {
        let (from, to) = (Shared::new(8192), Shared::new(8192));
        let mut driven = Driven::start(device, 8)?;
        for round in 0..ROUNDS {
            let sector = round % SECTORS;
            // In two pieces, the second across the end of a page.
            let places = |word: usize| if word < 8 { 8 * word } else { 4096 - 64 + 8 * word };
            for word in 0..words {
                from.long(places(word)).store(pattern(round, word), Ordering::Relaxed);
            }
            let pieces = [piece(&from, 0, 64, false), piece(&from, 4096, SECTOR - 64, false)];
            driven.transfer(0, Transfer::Write, sector, &pieces);
            driven.notify();
            let used = driven.complete(0)?;
            ensure!(
                used.written == 1,
                "{:?} wrote {} bytes to memory it was to read",
                device.id,
                used.written
            );
            from.fill(!0);
            driven.transfer(4, Transfer::Read, sector, &[piece(&to, 4096 - 256, SECTOR, true)]);
            driven.notify();
            let used = driven.complete(4)?;
            ensure!(used.written == SECTOR + 1, "{:?} says it wrote {} bytes", device.id, used.written);
            for word in 0..words {
                let (seen, expected) = (to.long(4096 - 256 + 8 * word), pattern(round, word));
                let seen = seen.load(Ordering::Relaxed);
                ensure!(
                    seen == expected,
                    "{:?} showed {seen:#x} where {expected:#x} was written, in word {word} of round {round}",
                    device.id
                );
            }
            to.fill(0);
        }
        // Neighbours keep what they have.
        let rounds = ROUNDS - SECTORS..ROUNDS;
        for round in rounds {
            driven.transfer(0, Transfer::Read, round % SECTORS, &[piece(&to, 0, SECTOR, true)]);
            driven.notify();
            driven.complete(0)?;
            let seen = to.long(8).load(Ordering::Relaxed);
            ensure!(seen == pattern(round, 1), "{:?} has changed sector {}", device.id, round % SECTORS);
        }
    }
    Ok(())
}
