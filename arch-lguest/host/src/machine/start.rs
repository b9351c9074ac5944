//! From the loader's facts to guests that are ready to run.

use core::slice;
use core::sync::atomic::AtomicU64;

use arch_x86::start_info::StartInfo;
use platform::{PAGE_SIZE, PhysAddr, PhysRange, Unusable};

use super::cpu::{self, Features};
use super::frames::Frames;
use super::options::Options;
use super::paging::{self, direct};
use super::{apic, time};
use crate::archive::{Guests, MOST_GUESTS};
use crate::clock::Scale;
use crate::guest::Guest;
use crate::memory::{GuestMemory, LARGE_PAGE};
use crate::share::Shares;
use crate::tables::shadow::LEAST_TABLES;
use crate::tables::{Table, TablePool};

/// What the host found, and its guests.
#[derive(Debug)]
pub struct Found {
    /// What the processor can do.
    pub features: Features,
    /// The time stamp counter's rate.
    pub scale: Scale,
    /// Options.
    pub options: Options,
    /// Whose turn it is.
    pub shares: Shares,
    /// Guests, not started.
    pub guests: [Option<Guest>; MOST_GUESTS],
    /// How many.
    pub count: usize,
}

/// Tables a guest's shadows may take: one for each of this many pages of its memory.
const PAGES_PER_TABLE: u64 = 32;

/// Finds everything, or says what is missing.
pub fn find(start_info: u64) -> Result<Found, Unusable> {
    // SAFETY: the first page tables and those that follow show it there; what the loader gave is left alone.
    let given = unsafe { StartInfo::read(start_info, direct(PhysAddr(0)))? };
    let features = cpu::init()?;
    let mut frames = Frames::new(&given);
    let end = frames.end();
    let host = paging::load(&mut frames, end)?;
    apic::init();
    let rates = time::measure()?;
    apic::enable_timer(features.deadline, rates.timer);
    apic::enable_console();

    let options = Options::parse(given.command_line)?;
    let module = given.module.ok_or(Unusable("there is no guest: the hypervisor was given no module"))?;
    let archive = Guests::parse(bytes(module)).map_err(|bad| Unusable(bad.0))?;
    let mut guests = [const { None }; MOST_GUESTS];
    let descriptions = archive.as_slice();
    for (number, description) in descriptions.iter().enumerate() {
        let (memory, pool) = room(&mut frames, description.memory_bytes)?;
        let guest = Guest::new(number, *description, memory, pool, host);
        guests[number] = Some(guest.map_err(|bad| Unusable(bad.0))?);
    }
    let shares = Shares::new(descriptions.iter().map(|description| description.share));
    Ok(Found { features, scale: rates.counter, options, shares, guests, count: descriptions.len() })
}

fn room(frames: &mut Frames, bytes: u64) -> Result<(GuestMemory, TablePool), Unusable> {
    let too_little = Unusable("the machine has too little memory for its guests");
    let memory = frames.take(bytes, LARGE_PAGE).ok_or(too_little)?;
    let tables = (bytes / PAGE_SIZE / PAGES_PER_TABLE).max(4 * LEAST_TABLES as u64);
    let pool = frames.take(tables * PAGE_SIZE, PAGE_SIZE).ok_or(too_little)?;
    Ok((GuestMemory::new(words(memory), memory.start), TablePool::new(tables_of(pool), pool.start)))
}

fn bytes(range: PhysRange) -> &'static [u8] {
    // SAFETY: in the direct map; nobody writes to what the loader gave.
    unsafe { slice::from_raw_parts(direct(range.start).as_ptr(), range.bytes() as usize) }
}

fn words(range: PhysRange) -> &'static [AtomicU64] {
    // SAFETY: in the direct map, page aligned, taken for this and never given back; atomics may have any value.
    unsafe { slice::from_raw_parts(direct(range.start).as_ptr(), range.bytes() as usize / 8) }
}

fn tables_of(range: PhysRange) -> &'static [Table] {
    let start: PhysAddr = range.start;
    // SAFETY: as above.
    unsafe { slice::from_raw_parts(direct(start).as_ptr(), (range.bytes() / PAGE_SIZE) as usize) }
}
