//! Starting a guest.

use core::mem::size_of;

use lguest_abi::{ABI_VERSION, BOOT_MAGIC, BootInfo};
use platform::PAGE_SIZE;

use super::{Guest, State, Vcpu};
use crate::archive::Description;
use crate::context::Context;
use crate::counters::Counters;
use crate::devices::{Devices, Fittings, PAGE_AT};
use crate::image::{BadImage, Image};
use crate::memory::{GuestMemory, GuestPhys};
use crate::tables::TablePool;
use crate::tables::entry_range;
use crate::tables::shadow::{HostEntry, Shadow};

const FACTS_AT: GuestPhys = GuestPhys(0x1000);
const COMMAND_LINE_AT: GuestPhys = GuestPhys(0x2000);

impl Guest {
    /// A guest that has not been started.
    pub fn new(
        number: usize,
        description: Description<'static>,
        memory: GuestMemory,
        pool: TablePool,
        host: HostEntry,
        fittings: Fittings,
    ) -> Result<Self, BadImage> {
        Ok(Self {
            number,
            state: State::Stopped,
            counters: Counters::default(),
            image: Image::check(description.image)?,
            description,
            memory,
            shadow: Some(Shadow::new(pool, host)),
            vcpu: Vcpu::default(),
            input: Default::default(),
            devices: Devices::new(fittings),
            started: 0,
        })
    }

    /// Starts it from the beginning, at `counter`, with nothing left of an earlier run.
    pub fn start(&mut self, counter: u64) -> Result<Context, BadImage> {
        if let Some(shadow) = self.shadow.take() {
            let host = shadow.host();
            self.shadow = Some(Shadow::new(shadow.into_pool(), host));
        }
        self.memory.clear();
        self.image.load(&self.memory)?;
        self.load_facts()?;
        let page = self.devices.start(self.number, &self.memory);
        page.map_err(|_| BadImage("the guest has too little memory for its devices"))?;
        self.vcpu = Vcpu::default();
        self.input = Default::default();
        self.started = counter;
        self.state = State::Running;
        Ok(Context::start(self.image.entry.0, FACTS_AT.0))
    }

    fn load_facts(&self) -> Result<(), BadImage> {
        let too_little = |_| BadImage("the guest has too little memory for its initramfs");
        let command_line = self.description.command_line;
        let initramfs = self.description.initramfs.unwrap_or_default();
        let bytes = self.memory.bytes();
        let initramfs_at = bytes.checked_sub(initramfs.len() as u64).ok_or(()).map_err(too_little)?;
        let initramfs_at = GuestPhys(initramfs_at & !(PAGE_SIZE - 1));
        if initramfs_at < self.image.end {
            return Err(too_little(()));
        }
        let host = self.shadow.as_ref().map(Shadow::host);
        let reserved = host.map(|host| entry_range(host.index)).unwrap_or_default();
        let facts = BootInfo {
            magic: BOOT_MAGIC,
            version: ABI_VERSION,
            vcpus: 1,
            memory_bytes: bytes,
            command_line: COMMAND_LINE_AT.0,
            command_line_bytes: command_line.len() as u64,
            initramfs: initramfs_at.0,
            initramfs_bytes: initramfs.len() as u64,
            initramfs_given: u64::from(self.description.initramfs.is_some()),
            image_end: self.image.end.0,
            reserve_start: reserved.0,
            reserve_end: reserved.1,
            guest: self.number as u64,
            earlier_starts: self.counters.restarts,
            devices: PAGE_AT.0,
        };
        let in_memory = |_| BadImage("the guest has too little memory for the facts of the boot");
        self.memory.copy_in(initramfs_at, initramfs).map_err(in_memory)?;
        self.memory.copy_in(COMMAND_LINE_AT, command_line).map_err(in_memory)?;
        self.memory.copy_in(FACTS_AT, &fact_bytes(&facts)).map_err(in_memory)
    }
}

fn fact_bytes(facts: &BootInfo) -> [u8; size_of::<BootInfo>()] {
    let words = [
        facts.magic,
        u64::from(facts.version) | u64::from(facts.vcpus) << 32,
        facts.memory_bytes,
        facts.command_line,
        facts.command_line_bytes,
        facts.initramfs,
        facts.initramfs_bytes,
        facts.initramfs_given,
        facts.image_end,
        facts.reserve_start,
        facts.reserve_end,
        facts.guest,
        facts.earlier_starts,
        facts.devices,
    ];
    let mut bytes = [0; size_of::<BootInfo>()];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
