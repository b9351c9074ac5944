//! The frame allocator against a map of which frames are out.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::mm::frame_cache::{CACHE_BATCH, CACHE_FRAMES, FrameCache};
use crate::mm::frame_table::{FrameRecord, Holders};

const FRAMES: u64 = 6 * BLOCK_FRAMES + 100;

fn order(n: u8) -> Order {
    Order::new(n).unwrap()
}

/// A table in memory that was never cleared.
fn dirty_records(count: u64) -> Vec<FrameRecord> {
    (0..count as u32)
        .map(|frame| {
            let noise = frame.wrapping_mul(0x9e37_79b9);
            let record = FrameRecord::default();
            record.set_links(noise, noise.rotate_left(11));
            record.set_holders(noise.rotate_left(7));
            match noise >> 30 {
                0 => record.set_usage(FrameUse::Free(order(frame as u8 % 11))),
                1 => record.set_usage(FrameUse::Allocated(order(frame as u8 % 11))),
                2 => record.set_usage_of_stale_block(FrameUse::Cached),
                _ => {}
            }
            record
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(u8),
    Free(usize),
    FreeTwice(usize),
    FreeWithWrongOrder(usize),
    FreeAnything(u64, u8),
    Split(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0u8..=MAX_ORDER).prop_map(Step::Alloc),
        6 => (0u8..=2).prop_map(Step::Alloc),
        8 => any::<usize>().prop_map(Step::Free),
        1 => any::<usize>().prop_map(Step::FreeTwice),
        1 => any::<usize>().prop_map(Step::FreeWithWrongOrder),
        2 => (0..FRAMES + 50, 0u8..=MAX_ORDER).prop_map(|(frame, order)| Step::FreeAnything(frame, order)),
        1 => any::<usize>().prop_map(Step::Split),
    ];
    proptest::collection::vec(step, 1..200)
}

fn nth(map: &BTreeMap<u64, u8>, n: usize) -> Option<(u64, u8)> {
    (!map.is_empty()).then(|| map.iter().nth(n % map.len()).map(|(&frame, &order)| (frame, order)).unwrap())
}

/// What the frames cover, in order; overlapping blocks show up as a frame seen twice.
fn covered(out: &BTreeMap<u64, u8>) -> u64 {
    let mut end = 0;
    let mut sum = 0;
    for (&frame, &order) in out {
        assert!(frame >= end, "block at {frame} overlaps the one before");
        assert_eq!(frame % (1 << order), 0, "block at {frame} is not aligned");
        end = frame + (1 << order);
        sum += 1 << order;
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_a_map_of_blocks(cuts in proptest::collection::btree_set(0..=FRAMES, 2..8), steps in steps()) {
        let records = dirty_records(FRAMES);
        let mut buddy = Buddy::new(FrameTable::new(&records));
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let ranges: Vec<(u64, u64)> = cuts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        for &(start, end) in ranges.iter().rev() {
            buddy.add_range(PhysFrame(start), PhysFrame(end)).unwrap();
        }
        let total: u64 = ranges.iter().map(|(start, end)| end - start).sum();
        let usable = |frame: u64| ranges.iter().any(|&(start, end)| (start..end).contains(&frame));
        let blocks_at_first = *buddy.free_blocks();
        let mut out = BTreeMap::new();
        for step in steps {
            match step {
                Step::Alloc(n) => match buddy.alloc(order(n)) {
                    Some(frame) => {
                        prop_assert!((0..1 << n).all(|inside| usable(frame.0 + inside)));
                        prop_assert_eq!(out.insert(frame.0, n), None);
                    }
                    None => prop_assert!(buddy.free_blocks()[usize::from(n)..].iter().all(|&blocks| blocks == 0)),
                },
                Step::Free(n) => if let Some((frame, held)) = nth(&out, n) {
                    buddy.free(PhysFrame(frame), order(held)).unwrap();
                    out.remove(&frame);
                },
                Step::FreeTwice(n) => if let Some((frame, held)) = nth(&out, n) {
                    buddy.free(PhysFrame(frame), order(held)).unwrap();
                    out.remove(&frame);
                    let frame = PhysFrame(frame);
                    prop_assert_eq!(buddy.free(frame, order(held)), Err(FrameError::NotAllocated(frame)));
                },
                Step::FreeWithWrongOrder(n) => if let Some((frame, held)) = nth(&out, n) {
                    let frame = PhysFrame(frame);
                    let wrong = order((held + 1) % (MAX_ORDER + 1));
                    let error = FrameError::WrongOrder { frame, allocated: order(held) };
                    prop_assert_eq!(buddy.free(frame, wrong), Err(error));
                },
                Step::FreeAnything(frame, n) => {
                    let result = buddy.free(PhysFrame(frame), order(n));
                    let allocated = out.get(&frame).copied();
                    match result {
                        Ok(()) => prop_assert_eq!(out.remove(&frame), Some(n)),
                        Err(FrameError::Foreign(_)) => prop_assert!(!usable(frame)),
                        Err(FrameError::NotAllocated(_)) => prop_assert!(usable(frame) && allocated.is_none()),
                        Err(_) => prop_assert!(allocated.is_some_and(|held| held != n)),
                    }
                }
                Step::Split(n) => if let Some((frame, held)) = nth(&out, n) {
                    buddy.split(PhysFrame(frame), order(held)).unwrap();
                    out.extend((frame..frame + (1 << held)).map(|single| (single, 0)));
                },
            }
            let free = total - covered(&out);
            prop_assert_eq!(buddy.counts(), FrameCounts { total, free });
            let listed: u64 = buddy.free_blocks().iter().zip(0..).map(|(&blocks, n)| u64::from(blocks) << n).sum();
            prop_assert_eq!(listed, free);
        }
        for (&frame, &held) in &out {
            buddy.free(PhysFrame(frame), order(held)).unwrap();
        }
        // Everything joined again.
        prop_assert_eq!(*buddy.free_blocks(), blocks_at_first);
    }
}

#[test]
fn refuses_ranges_that_overlap_or_lie_outside() {
    let records = dirty_records(4 * BLOCK_FRAMES);
    let mut buddy = Buddy::new(FrameTable::new(&records));
    let range = |start, end| (PhysFrame(start), PhysFrame(end));
    let (start, end) = range(BLOCK_FRAMES, 2 * BLOCK_FRAMES + 7);
    buddy.add_range(start, end).unwrap();
    let counts = buddy.counts();
    for (start, end) in [
        range(0, BLOCK_FRAMES + 1),
        range(BLOCK_FRAMES + 5, BLOCK_FRAMES + 6),
        range(0, 4 * BLOCK_FRAMES),
        range(2 * BLOCK_FRAMES + 6, 2 * BLOCK_FRAMES + 8),
        range(3 * BLOCK_FRAMES, 4 * BLOCK_FRAMES + 1),
        range(9, 8),
    ] {
        assert!(matches!(buddy.add_range(start, end), Err(FrameError::BadRange(_))), "{start:?}..{end:?}");
        assert_eq!(buddy.counts(), counts);
    }
    let (start, end) = range(2 * BLOCK_FRAMES + 7, 2 * BLOCK_FRAMES + 8);
    buddy.add_range(start, end).unwrap();
    assert_eq!(buddy.counts().free, BLOCK_FRAMES + 8);
    assert_eq!(buddy.free_blocks()[3], 1, "the added frame completes a block of eight");
}

#[test]
fn counts_holders_and_refuses_to_free_what_is_shared() {
    let records = dirty_records(BLOCK_FRAMES);
    let table = FrameTable::new(&records);
    let mut buddy = Buddy::new(table);
    buddy.add_range(PhysFrame(3), PhysFrame(BLOCK_FRAMES)).unwrap();
    let frame = buddy.alloc(Order::FRAME).unwrap();
    assert_eq!(table.holders_of(frame), 1);
    table.get(frame).unwrap();
    assert_eq!(buddy.free(frame, Order::FRAME), Err(FrameError::StillShared(frame)));
    assert_eq!(table.put(frame), Ok(Holders::Some));
    assert_eq!(table.put(frame), Ok(Holders::None));
    assert_eq!(table.put(frame), Err(FrameError::NoHolder(frame)));
    assert_eq!(table.get(frame), Err(FrameError::NoHolder(frame)));
    assert_eq!(table.holders_of(frame), 0);
    buddy.free(frame, Order::FRAME).unwrap();
    let outside = PhysFrame(BLOCK_FRAMES);
    assert_eq!(table.get(outside), Err(FrameError::Foreign(outside)));
    assert_eq!(table.put(outside), Err(FrameError::Foreign(outside)));
    let frame = buddy.alloc(Order::FRAME).unwrap();
    table.record(frame).set_holders(u32::MAX - 1);
    assert_eq!(table.get(frame), Err(FrameError::TooManyHolders(frame)));
}

#[test]
fn exactly_one_of_many_holders_is_the_last() {
    const HOLDERS: usize = 8;
    let records = dirty_records(BLOCK_FRAMES);
    let table = FrameTable::new(&records);
    let mut buddy = Buddy::new(table);
    buddy.add_range(PhysFrame(0), PhysFrame(BLOCK_FRAMES)).unwrap();
    for _ in 0..200 {
        let frame = buddy.alloc(Order::FRAME).unwrap();
        for _ in 1..HOLDERS {
            table.get(frame).unwrap();
        }
        let last = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..HOLDERS)
                .map(|_| {
                    scope.spawn(|| {
                        table.get(frame).unwrap();
                        let first = table.put(frame).unwrap();
                        (first == Holders::None) as u32 + (table.put(frame).unwrap() == Holders::None) as u32
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
        });
        assert_eq!(last, 1);
        buddy.free(frame, Order::FRAME).unwrap();
    }
}

#[test]
fn a_cache_moves_batches_and_notices_misuse() {
    let records = dirty_records(BLOCK_FRAMES);
    let table = FrameTable::new(&records);
    let mut buddy = Buddy::new(table);
    buddy.add_range(PhysFrame(0), PhysFrame(100)).unwrap();
    let mut cache = FrameCache::new();
    assert_eq!(cache.pop(table), None);
    assert_eq!(cache.refill(&mut buddy), CACHE_BATCH);
    assert_eq!(buddy.counts(), FrameCounts { total: 100, free: 100 - CACHE_BATCH as u64 });

    let frame = cache.pop(table).unwrap();
    assert_eq!(table.holders_of(frame), 1);
    table.get(frame).unwrap();
    assert_eq!(cache.push(table, frame), Err(FrameError::StillShared(frame)));
    assert_eq!(table.put(frame), Ok(Holders::Some));
    assert_eq!(cache.push(table, frame), Ok(true));
    assert_eq!(cache.push(table, frame), Err(FrameError::NotAllocated(frame)));
    assert_eq!(buddy.free(frame, Order::FRAME), Err(FrameError::NotAllocated(frame)));
    assert_eq!(cache.push(table, PhysFrame(200)), Err(FrameError::Foreign(PhysFrame(200))));
    let pair = buddy.alloc(order(1)).unwrap();
    let error = FrameError::WrongOrder { frame: pair, allocated: order(1) };
    assert_eq!(cache.push(table, pair), Err(error));
    buddy.free(pair, order(1)).unwrap();

    assert_eq!(cache.refill(&mut buddy), CACHE_BATCH);
    assert_eq!(cache.refill(&mut buddy), 0, "the cache is full");
    assert!(cache.is_full());
    let extra = buddy.alloc(Order::FRAME).unwrap();
    assert_eq!(cache.push(table, extra), Ok(false));
    cache.drain(&mut buddy).unwrap();
    assert_eq!(cache.push(table, extra), Ok(true));
    assert_eq!(cache.pop(table), Some(extra), "last in, first out");
    assert_eq!(cache.push(table, extra), Ok(true));
    assert_eq!(cache.len(), CACHE_FRAMES - CACHE_BATCH + 1);
    cache.drain_all(&mut buddy).unwrap();
    assert_eq!(buddy.counts(), FrameCounts { total: 100, free: 100 });
    assert_eq!((0..5).map(|_| cache.refill(&mut buddy)).sum::<usize>(), CACHE_FRAMES);
    while buddy.alloc(Order::FRAME).is_some() {}
    cache.pop(table).unwrap();
    assert_eq!(cache.refill(&mut buddy), 0, "memory is used up");
}

#[test]
fn orders_fit_their_frames() {
    for frames in 1..=BLOCK_FRAMES {
        let fitting = Order::fitting(frames).unwrap();
        assert!(fitting.frames() >= frames && (fitting == Order::FRAME || fitting.frames() / 2 < frames));
    }
    assert_eq!(Order::fitting(BLOCK_FRAMES + 1), None);
    assert_eq!(Order::new(MAX_ORDER + 1), None);
    assert_eq!(FrameTable::bytes_needed(PhysFrame(1 << 20)), 16 << 20);
}
