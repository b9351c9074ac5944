//! The host's own command line.

use platform::{PhysAddr, Unusable};

use crate::tables::shadow::LEAST_TABLES;

/// What to do when a guest is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// It stays over.
    Never,
    /// One that asks for it starts again.
    Asked,
    /// One that was killed starts again too, so many times.
    Killed(u32),
}

/// Registers of a virtio device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmioDevice {
    /// Where they are.
    pub base: PhysAddr,
    /// How many bytes.
    pub bytes: u64,
    /// The device's line of the I/O APIC.
    pub line: u32,
}

impl MmioDevice {
    /// From `SIZE@BASE:LINE`, as QEMU tells Linux.
    fn parse(text: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        let (bytes, place) = text.split_once('@')?;
        let (base, line) = place.split_once(':')?;
        let base = u64::from_str_radix(base.strip_prefix("0x")?, 16).ok()?;
        Some(Self { base: PhysAddr(base), bytes: bytes.parse().ok()?, line: line.parse().ok()? })
    }
}

/// Virtio devices that can be named.
const MOST_NAMED: usize = 8;

/// What the command line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// `virtio_mmio.device=SIZE@BASE:LINE`, a word for each device, from QEMU itself.
    pub devices: [Option<MmioDevice>; MOST_NAMED],
    /// `counters`: print each guest's counters at the end.
    pub counters: bool,
    /// `restart=asked`, `restart=N`.
    pub restart: Restart,
    /// `tables=N`: how many shadow tables a guest may have, instead of a number that its memory gives.
    pub tables: Option<u64>,
}

impl Options {
    /// Reads a command line of words.
    pub fn parse(line: &[u8]) -> Result<Self, Unusable> {
        let mut options =
            Self { devices: [None; MOST_NAMED], counters: false, restart: Restart::Never, tables: None };
        for word in line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()) {
            if let Some(named) = word.strip_prefix(b"virtio_mmio.device=") {
                let free = options.devices.iter_mut().find(|device| device.is_none());
                let device =
                    MmioDevice::parse(named).ok_or(Unusable("virtio_mmio.device= is not SIZE@BASE:LINE"))?;
                *free.ok_or(Unusable("there are too many virtio_mmio.device="))? = Some(device);
            } else if word == b"counters" {
                options.counters = true;
            } else if word == b"restart=asked" {
                options.restart = Restart::Asked;
            } else if let Some(times) = number(word, b"restart=") {
                options.restart = Restart::Killed(u32::try_from(times).unwrap_or(u32::MAX));
            } else if let Some(tables) = number(word, b"tables=") {
                if tables < LEAST_TABLES as u64 {
                    return Err(Unusable("tables=N needs 32 tables or more"));
                }
                options.tables = Some(tables);
            } else {
                return Err(Unusable(
                    "the hypervisor's command line has a word other than counters, restart=asked, restart=N, tables=N",
                ));
            }
        }
        Ok(options)
    }
}

/// The number behind `name` in `word`, if it is that.
fn number(word: &[u8], name: &[u8]) -> Option<u64> {
    core::str::from_utf8(word.strip_prefix(name)?).ok()?.parse().ok()
}

const _: () = assert!(LEAST_TABLES == 32);
