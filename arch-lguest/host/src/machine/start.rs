//! From the loader's facts to guests that are ready to run.

use core::slice;
use core::sync::atomic::AtomicU64;

use arch_x86::start_info::StartInfo;
use platform::{Nanoseconds, PAGE_SIZE, PhysAddr, PhysRange, Unusable};

use super::cpu::{self, Features};
use super::frames::Frames;
use super::options::Options;
use super::paging::{self, direct};
use super::virtio::Hardware;
use super::{apic, time};
use crate::archive::{Description, DiskSource, Guests, MOST_GUESTS, Network};
use crate::clock::Scale;
use crate::devices::Fittings;
use crate::devices::block::Backing;
use crate::devices::port::Drive;
use crate::devices::switch::{Frame, MOST_WAITING, Room, Switch};
use crate::guest::Guest;
use crate::memory::{GuestMemory, LARGE_PAGE};
use crate::share::Shares;
use crate::tables::shadow::LEAST_TABLES;
use crate::tables::{Table, TablePool};

/// What the host found, and its guests.
pub struct Found {
    /// What the processor can do.
    pub features: Features,
    /// The time stamp counter's rate.
    pub scale: Scale,
    /// The host's own top-level table.
    pub root: PhysAddr,
    /// Options.
    pub options: Options,
    /// Whose turn it is.
    pub shares: Shares,
    /// Guests, not started.
    pub guests: [Option<Guest>; MOST_GUESTS],
    /// How many.
    pub count: usize,
    /// What connects them.
    pub switch: Switch,
    /// What the machine has for them.
    pub hardware: Hardware,
}

/// Tables a guest's shadows may take: one for each of this many pages of its memory.
const PAGES_PER_TABLE: u64 = 32;

/// Finds everything, or says what is missing.
pub fn find(start_info: u64) -> Result<Found, Unusable> {
    // SAFETY: the first page tables and those that follow show it there; what the loader gave is left alone.
    let given = unsafe { StartInfo::read(start_info, direct(PhysAddr(0)))? };
    let features = cpu::init()?;
    let mut frames = Frames::new(&given);
    // What the loader gave may lie above all memory that is free.
    let module_end = given.module.map_or(PhysAddr(0), |module| module.end);
    let end = frames.end().max(module_end);
    let host = paging::load(&mut frames, end)?;
    apic::init();
    let rates = time::measure()?;
    let scale = |rate| Scale::measured(rate, Nanoseconds::SECOND);
    apic::enable_timer(features.deadline, scale(rates.apic_timer));
    apic::enable_console();

    let options = Options::parse(given.command_line)?;
    let module = given.module.ok_or(Unusable("there is no guest: the hypervisor was given no module"))?;
    if module.end > host.end {
        return Err(Unusable("the module with the guests is out of reach: it lies too high in memory"));
    }
    let archive = Guests::parse(bytes(module)).map_err(|bad| Unusable(bad.0))?;
    let hardware = Hardware::find(&mut frames, options.devices.into_iter().flatten())?;
    let mut switch = Switch::new();
    let mut guests = [const { None }; MOST_GUESTS];
    let descriptions = archive.as_slice();
    for (number, description) in descriptions.iter().enumerate() {
        let (memory, pool) = room(&mut frames, description.memory_bytes, options.tables)?;
        if description.network != Network::None {
            switch.connect(number, frame_room(&mut frames)?, description.network == Network::User);
        }
        let fittings = fittings(&mut frames, description, &hardware)?;
        let guest = Guest::new(number, *description, memory, pool, host.entry, fittings);
        guests[number] = Some(guest.map_err(|bad| Unusable(bad.0))?);
    }
    let shares = Shares::new(descriptions.iter().map(|description| description.share));
    let count = descriptions.len();
    if descriptions.iter().any(|description| description.network == Network::User) && hardware.card.is_none()
    {
        return Err(Unusable("a guest wants the machine's network, and the machine has no network card"));
    }
    let (scale, root) = (scale(rates.tsc), host.root);
    Ok(Found { features, scale, root, options, shares, guests, count, switch, hardware })
}

const TOO_LITTLE: Unusable = Unusable("the machine has too little memory for its guests");

/// A guest's disks and network.
fn fittings(
    frames: &mut Frames,
    description: &Description<'static>,
    hardware: &Hardware,
) -> Result<Fittings, Unusable> {
    let mut fittings = Fittings { network: description.network != Network::None, ..Fittings::default() };
    for (to, disk) in fittings.disks.iter_mut().zip(description.disks.iter().flatten()) {
        *to = Some(match disk.source {
            DiskSource::Module(content) if disk.read_only => Backing::ReadOnly(content),
            DiskSource::Module(content) => {
                let range = frames.take((content.len() as u64).next_multiple_of(PAGE_SIZE), PAGE_SIZE);
                let range = range.ok_or(TOO_LITTLE)?;
                // SAFETY: in the direct map, taken for this and never given back; any bytes are bytes.
                let own = unsafe {
                    slice::from_raw_parts_mut(direct(range.start).as_mut_ptr::<u8>(), content.len())
                };
                own.copy_from_slice(content);
                Backing::Memory(own)
            }
            DiskSource::Drive(number) => {
                let drive = hardware.drives.get(number).and_then(Option::as_ref);
                let drive = drive.ok_or(Unusable("a guest wants a drive that the machine does not have"))?;
                let read_only = disk.read_only || drive.is_read_only();
                Backing::Drive { number, sectors: drive.sectors(), read_only }
            }
        });
    }
    Ok(fittings)
}

/// Memory for frames that wait for a guest.
fn frame_room(frames: &mut Frames) -> Result<Room, Unusable> {
    let bytes = (size_of::<Frame>() * MOST_WAITING) as u64;
    let range = frames.take(bytes.next_multiple_of(PAGE_SIZE), PAGE_SIZE).ok_or(TOO_LITTLE)?;
    // SAFETY: in the direct map, page aligned, taken for this and never given back; any bytes are frames.
    Ok(unsafe { &mut *direct(range.start).as_mut_ptr::<[Frame; MOST_WAITING]>() })
}

fn room(frames: &mut Frames, bytes: u64, tables: Option<u64>) -> Result<(GuestMemory, TablePool), Unusable> {
    let memory = frames.take(bytes, LARGE_PAGE).ok_or(TOO_LITTLE)?;
    let usual = (bytes / PAGE_SIZE / PAGES_PER_TABLE).max(4 * LEAST_TABLES as u64);
    let tables = tables.unwrap_or(usual);
    let pool = frames.take(tables * PAGE_SIZE, PAGE_SIZE).ok_or(TOO_LITTLE)?;
    Ok((GuestMemory::new(words(memory), memory.start), TablePool::new(tables_of(pool), pool.start)))
}

/// The module, which the direct map shows.
fn bytes(range: PhysRange) -> &'static [u8] {
    // SAFETY: in the direct map, as the caller has seen to; it is not RAM that is handed out, so nobody writes to it.
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
