//! The model of address spaces and of what CPUs remember of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use platform::{CpuId, CpuSet, MAX_CPUS, Mapping, PAGE_SIZE, PageRange, PhysFrame, Root, VirtAddr};

/// A translation that was taken away, or lost rights, while CPUs might remember it.
#[derive(Clone, Debug)]
pub struct Stale {
    /// The space; none for the kernel's own part of all spaces.
    pub root: Option<Root>,
    /// The page.
    pub page: VirtAddr,
    /// What CPUs may still use.
    pub was: Mapping,
    /// CPUs that have not been flushed since.
    pub cpus: CpuSet,
    /// The CPU that made the change.
    pub by: CpuId,
}

/// What a page's translation needs on its way: the tables of levels 1 to 3, counted from the leaves.
const TABLE_SHIFTS: [(u8, u32); 3] = [(3, 39), (2, 30), (1, 21)];

/// Translations of one space and the frames that its tables take.
#[derive(Default)]
pub struct Space {
    pub pages: BTreeMap<VirtAddr, Mapping>,
    tables: BTreeMap<(u8, u64), PhysFrame>,
    top: Option<PhysFrame>,
}

impl Space {
    pub fn new(top: PhysFrame) -> Self {
        Self { top: Some(top), ..Self::default() }
    }

    /// The first table that is missing for `page`.
    pub fn missing_table(&self, page: VirtAddr) -> Option<(u8, u64)> {
        TABLE_SHIFTS
            .iter()
            .map(|&(level, shift)| (level, page.0 >> shift))
            .find(|key| !self.tables.contains_key(key))
    }

    pub fn add_table(&mut self, key: (u8, u64), frame: PhysFrame) {
        self.tables.insert(key, frame);
    }

    pub fn into_table_frames(self) -> impl Iterator<Item = PhysFrame> {
        self.tables.into_values().chain(self.top)
    }

    /// Takes out the leaf tables that lead to no page.
    pub fn take_empty_tables(&mut self) -> Vec<PhysFrame> {
        let (level, shift) = TABLE_SHIFTS[2];
        let used: BTreeSet<_> = self.pages.keys().map(|page| (level, page.0 >> shift)).collect();
        self.tables
            .extract_if((level, 0)..=(level, u64::MAX), |key, _| !used.contains(key))
            .map(|(_, frame)| frame)
            .collect()
    }

    /// The mapped pages in `pages`, ascending.
    pub fn mapped(&self, pages: PageRange) -> impl Iterator<Item = (VirtAddr, Mapping)> {
        self.pages.range(pages.start..pages.end).map(|(page, mapping)| (*page, *mapping))
    }
}

/// What one CPU remembers.
pub type Buffer = BTreeMap<VirtAddr, Mapping>;

/// All translations of the machine.
pub struct Translations {
    pub spaces: BTreeMap<u64, Space>,
    pub kernel: Space,
    /// Tokens are never used again.
    pub last_root: u64,
    pub active: [Option<Root>; MAX_CPUS],
    pub buffers: [Buffer; MAX_CPUS],
    pub table_frames: BTreeSet<PhysFrame>,
    stale: BTreeMap<(u64, VirtAddr), Vec<Stale>>,
}

/// Stands for the kernel's own part in the keys of [`Translations::stale`].
fn key(root: Option<Root>) -> u64 {
    root.map_or(0, |root| root.0)
}

static TRANSLATIONS: Mutex<Translations> = Mutex::new(Translations {
    spaces: BTreeMap::new(),
    kernel: Space { pages: BTreeMap::new(), tables: BTreeMap::new(), top: None },
    last_root: 0,
    active: [None; MAX_CPUS],
    buffers: [const { Buffer::new() }; MAX_CPUS],
    table_frames: BTreeSet::new(),
    stale: BTreeMap::new(),
});

/// Locks the translations; nothing of the kernel is called while they are locked.
pub fn translations() -> MutexGuard<'static, Translations> {
    TRANSLATIONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was never flushed. After a failure a CPU may hold the lock for ever; then nothing is known.
pub fn unflushed() -> Vec<Stale> {
    match TRANSLATIONS.try_lock() {
        Ok(translations) => translations.stale().cloned().collect(),
        Err(TryLockError::Poisoned(error)) => error.into_inner().stale().cloned().collect(),
        Err(TryLockError::WouldBlock) => Vec::new(),
    }
}

impl Translations {
    /// The space that `root` names.
    pub fn space(&mut self, hook: &str, root: Root) -> Result<&mut Space, String> {
        self.spaces.get_mut(&root.0).ok_or_else(|| format!("{hook}: there is no space {root:?}"))
    }

    /// CPUs that have `root` active.
    pub fn users_of(&self, root: Root) -> CpuSet {
        (0..MAX_CPUS as u32).map(CpuId).filter(|cpu| self.active[cpu.index()] == Some(root)).collect()
    }

    pub fn stale(&self) -> impl Iterator<Item = &Stale> {
        self.stale.values().flatten()
    }

    /// The newest change to the page that `cpu` was not flushed for.
    pub fn stale_on(&self, cpu: CpuId, root: Option<Root>, page: VirtAddr) -> Option<&Stale> {
        self.stale.get(&(key(root), page))?.iter().rev().find(|stale| stale.cpus.contains(cpu))
    }

    /// `cpus` may go on to use what the page was.
    pub fn add_stale(&mut self, stale: Stale) {
        if !stale.cpus.is_empty() {
            self.stale.entry((key(stale.root), stale.page)).or_default().push(stale);
        }
    }

    /// `cpus` forget `pages`.
    pub fn flush(&mut self, root: Option<Root>, pages: PageRange, cpus: CpuSet) {
        for cpu in cpus.iter() {
            if root.is_none() || self.active[cpu.index()] == root {
                self.buffers[cpu.index()].retain(|page, _| !pages.contains(*page));
            }
        }
        let root = key(root);
        let mut flushed = Vec::new();
        for (entry, list) in self.stale.range_mut((root, pages.start)..(root, pages.end)) {
            forget(list, cpus);
            if list.is_empty() {
                flushed.push(*entry);
            }
        }
        for entry in flushed {
            self.stale.remove(&entry);
        }
    }

    /// `cpu` changes spaces, which makes it forget all user pages.
    pub fn activate(&mut self, cpu: CpuId, root: Option<Root>) {
        self.buffers[cpu.index()].clear();
        if let Some(former) = std::mem::replace(&mut self.active[cpu.index()], root) {
            let last = VirtAddr(!(PAGE_SIZE - 1));
            self.flush(Some(former), PageRange::new(VirtAddr(0), last), CpuSet::one(cpu));
        }
    }
}

fn forget(list: &mut Vec<Stale>, cpus: CpuSet) {
    for stale in list.iter_mut() {
        stale.cpus = CpuSet::from_bits(stale.cpus.bits() & !cpus.bits());
    }
    list.retain(|stale| !stale.cpus.is_empty());
}
