//! A device that was reset leaves memory alone, whatever it was at.

use core::sync::atomic::Ordering;

use alloc::vec::Vec;

use platform::{Device, Nanoseconds};

use super::{disks, known};
use crate::driven::{Driven, SECTOR, Transfer, requests_of};
use crate::hook::devices;
use crate::memory::Shared;
use crate::report::{Outcome, ensure};
use crate::virtqueue::Buffer;
use crate::wait;

/// Times that each disk is reset in the midst of its work.
const ROUNDS: usize = 40;
/// Bytes of one transfer.
const BYTES: u32 = 16 * SECTOR;
/// What is in memory once it is the driver's again.
const OURS: u8 = 0xa5;
/// What was on the disk, and what goes there.
const OLD: u8 = 0x11;
const NEW: u8 = 0x22;

/// Where all transfers begin.
const FIRST_SECTOR: u64 = 0;

/// As many transfers as a queue takes, with a buffer each, none of them told of yet. The device comes last, so that it is reset
/// before the buffers are given back.
fn transfers(
    device: Device,
    transfer: Transfer,
    byte: u8,
) -> Result<(Vec<Shared>, Driven), alloc::string::String> {
    let limit = requests_of(&device).map_or(0, |(queue, _)| devices::queue_limit(device.id, queue));
    let size = limit.min(32);
    // The largest power of two.
    let mut driven = Driven::start(device, 1 << size.ilog2())?;
    let mut buffers = Vec::new();
    for head in (0..driven.queue.size()).step_by(4) {
        let buffer = Shared::new(BYTES as usize);
        buffer.fill(byte);
        let is_written = transfer == Transfer::Read;
        driven.transfer(
            head,
            transfer,
            FIRST_SECTOR,
            &[Buffer { at: buffer.at(0), bytes: BYTES, is_written }],
        );
        buffers.push(buffer);
    }
    Ok((buffers, driven))
}

/// Puts `byte` where the transfers are.
fn prepare(device: Device, byte: u8) -> Outcome {
    let (_buffers, mut driven) = transfers(device, Transfer::Write, byte)?;
    driven.notify();
    for head in (0..driven.queue.size()).step_by(4) {
        // In any order.
        ensure!(wait::comes(|| driven.queue.has_used()), "{:?} did not write request {head}", device.id);
        driven.queue.take();
    }
    Ok(())
}

pub fn memory() -> Outcome {
    for device in known()? {
        let mut driven = Driven::start(device, 4)?;
        driven.request(0);
        driven.reset()?;
        stay_ours(device, &driven.written())?;
    }
    for device in disks()? {
        prepare(device, OLD)?;
        for _ in 0..ROUNDS {
            let (buffers, driven) = transfers(device, Transfer::Read, 0)?;
            driven.notify();
            driven.reset()?;
            let areas: Vec<_> = driven.written().into_iter().chain(&buffers).collect();
            stay_ours(device, &areas)?;
        }
    }
    Ok(())
}

/// Watches that nobody writes there.
fn stay_ours(device: Device, areas: &[&Shared]) -> Outcome {
    areas.iter().for_each(|area| area.fill(OURS));
    wait::pass(Nanoseconds::from_millis(3));
    for area in areas {
        let changed = area.find_other(OURS);
        ensure!(changed.is_none(), "{:?} wrote to byte {changed:?} of a buffer after its reset", device.id);
    }
    Ok(())
}

pub fn disk() -> Outcome {
    for device in disks()? {
        for _ in 0..ROUNDS {
            prepare(device, OLD)?;
            let (buffers, driven) = transfers(device, Transfer::Write, NEW)?;
            driven.notify();
            driven.reset()?;
            let areas: Vec<_> = buffers.iter().collect();
            stay_ours(device, &areas)?;
            drop(driven);
            let (buffers, mut driven) = transfers(device, Transfer::Read, 0)?;
            driven.notify();
            ensure!(wait::comes(|| driven.queue.has_used()), "{:?} read nothing", device.id);
            let Some(used) = driven.queue.take() else { continue };
            let buffer = &buffers[used.head as usize / 4];
            for at in 0..BYTES as usize {
                let byte = buffer.byte(at).load(Ordering::Relaxed);
                ensure!([OLD, NEW].contains(&byte), "{:?} wrote {byte:#x} after its reset", device.id);
            }
        }
    }
    Ok(())
}
