//! Shadows against a model: whatever the guest does to its tables, the processor never finds more than they grant, and a
//! fill makes an access possible exactly when they grant it.

use core::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::entry::{ACCESSED, ADDRESS, DIRTY, LARGE, PRESENT, USER, WRITE};
use super::guest::{GuestRoot, is_canonical, locate};
use super::shadow::{Access, Fill, Given, HostEntry, LEAST_TABLES, Shadow, Stale};
use super::{Table, TablePool, entry_range};
use crate::memory::testing::{memory, words};
use crate::memory::{GuestMemory, GuestPhys};
use crate::rule::Rule;
use platform::{PAGE_SIZE, PageRange, PhysAddr, VirtAddr};

const HOST: HostEntry = HostEntry { index: 448, value: 0x7000 | PRESENT };
const MEMORY_AT: u64 = 0x4000_0000;
const POOL_AT: u64 = 0x8000_0000;
const PAGES: u64 = 1024;
const KERNEL: VirtAddr = VirtAddr(0xffff_8000_0000_0000);

fn tables(count: usize) -> &'static [Table] {
    let (tables, rest) = words(count).as_chunks::<512>();
    assert!(rest.is_empty());
    tables
}

fn pool(count: usize) -> TablePool {
    TablePool::new(tables(count), PhysAddr(POOL_AT))
}

/// Whether the host is mapped while the processor runs on what it was given.
fn show_the_host(tables: &[Table], given: Given) -> bool {
    [given.kernel, given.user].iter().all(|at| {
        let table = &tables[((at.0 - POOL_AT) / PAGE_SIZE) as usize];
        table[HOST.index].load(Relaxed) == HOST.value
    })
}

/// A guest's memory, its tables in it, and the next free frame.
struct Tables {
    memory: GuestMemory,
    next: u64,
}

impl Tables {
    fn new() -> Self {
        Self { memory: memory(PAGES as usize, MEMORY_AT), next: 0x10_0000 }
    }

    fn table(&mut self) -> GuestPhys {
        let at = GuestPhys(self.next);
        self.next += PAGE_SIZE;
        at
    }

    fn entry(&mut self, root: GuestPhys, address: u64, lowest: u32) -> GuestPhys {
        let mut at = root;
        for level in (lowest..=4).rev() {
            let slot = GuestPhys(at.0 + 8 * super::entry::index(address, level) as u64);
            if level == lowest {
                return slot;
            }
            let entry = self.memory.read(slot).unwrap();
            at = GuestPhys(entry & ADDRESS);
            if entry & PRESENT == 0 {
                at = self.table();
                self.memory.write(slot, at.0 | PRESENT | WRITE | USER).unwrap();
            }
        }
        unreachable!()
    }

    fn map(&mut self, root: GuestPhys, address: u64, entry: u64) {
        let slot = self.entry(root, address, 1);
        self.memory.write(slot, entry).unwrap();
    }
}

const READ: Access = Access { write: false, execute: false, user: true };

#[test]
fn both_modes_share_a_page_and_only_user_mode_executes_it() {
    let mut guest = Tables::new();
    let root = guest.table();
    guest.map(root, 0x40_0000, 0x5000 | PRESENT | USER);
    guest.map(root, KERNEL.0, 0x6000 | PRESENT | WRITE);
    let mut shadow = Shadow::new(pool(LEAST_TABLES), HOST);
    shadow.load(&guest.memory, root).unwrap();
    let page = VirtAddr(0x40_0000);
    let fetch = Access { execute: true, ..READ };
    assert_eq!(shadow.fill(&guest.memory, page, fetch), Ok(Fill::Filled));
    let (entry, executable) = shadow.processor_walk(page, true).unwrap();
    assert!(executable && entry & ADDRESS == MEMORY_AT + 0x5000 && entry & WRITE == 0);
    assert!(!shadow.processor_walk(page, false).unwrap().1);
    let from_kernel = Access { execute: true, user: false, write: false };
    assert_eq!(shadow.fill(&guest.memory, page, from_kernel), Ok(Fill::Denied { present: true }));
    // The kernel half is the kernel's.
    assert_eq!(shadow.fill(&guest.memory, KERNEL, READ), Ok(Fill::Denied { present: false }));
    assert_eq!(
        shadow.fill(&guest.memory, KERNEL, Access { write: true, ..Access::default() }),
        Ok(Fill::Filled)
    );
    assert!(shadow.processor_walk(KERNEL, false).is_some() && shadow.processor_walk(KERNEL, true).is_none());
}

#[test]
fn accessed_and_dirty_flags_are_written_back() {
    let mut guest = Tables::new();
    let root = guest.table();
    guest.map(root, 0x40_0000, 0x5000 | PRESENT | USER | WRITE);
    let mut shadow = Shadow::new(pool(LEAST_TABLES), HOST);
    shadow.load(&guest.memory, root).unwrap();
    let page = VirtAddr(0x40_0000);
    let slot = guest.entry(root, page.0, 1);
    shadow.fill(&guest.memory, page, READ).unwrap();
    assert_eq!(guest.memory.read(slot).unwrap() & (ACCESSED | DIRTY), ACCESSED);
    // The first write is seen.
    assert_eq!(shadow.processor_walk(page, true).unwrap().0 & WRITE, 0);
    shadow.fill(&guest.memory, page, Access { write: true, ..READ }).unwrap();
    assert_eq!(guest.memory.read(slot).unwrap() & (ACCESSED | DIRTY), ACCESSED | DIRTY);
    assert_ne!(shadow.processor_walk(page, true).unwrap().0 & WRITE, 0);
}

#[test]
fn what_the_guest_announces_is_seen() {
    let mut guest = Tables::new();
    let root = guest.table();
    let page = VirtAddr(0x40_0000);
    guest.map(root, page.0, 0x5000 | PRESENT | USER | WRITE | ACCESSED | DIRTY);
    let mut shadow = Shadow::new(pool(LEAST_TABLES), HOST);
    shadow.load(&guest.memory, root).unwrap();
    shadow.fill(&guest.memory, page, READ).unwrap();
    let _ = shadow.give();
    let all = PageRange { start: VirtAddr(0), end: VirtAddr(0x8000_0000_0000) };
    guest.map(root, page.0, 0x5000 | PRESENT | USER | ACCESSED | DIRTY);
    shadow.refresh(&guest.memory, Some(root), all).unwrap();
    assert_eq!(shadow.processor_walk(page, true).unwrap().0 & WRITE, 0);
    assert_eq!(shadow.give().stale, Stale::Page(page));
    guest.map(root, page.0, 0);
    shadow.refresh(&guest.memory, Some(root), PageRange::page(page)).unwrap();
    assert_eq!(shadow.processor_walk(page, true), None);
    // A table that has gone takes what it led to with it.
    guest.map(root, page.0, 0x5000 | PRESENT | USER | ACCESSED);
    shadow.fill(&guest.memory, page, READ).unwrap();
    guest.memory.write(root, 0).unwrap();
    shadow.refresh(&guest.memory, Some(root), PageRange::page(page)).unwrap();
    assert_eq!((shadow.processor_walk(page, true), shadow.processor_walk(page, false)), (None, None));
}

#[test]
fn large_pages_are_the_kernels() {
    let mut guest = Tables::new();
    let root = guest.table();
    let slot = guest.entry(root, KERNEL.0, 2);
    guest.memory.write(slot, PRESENT | WRITE | LARGE).unwrap();
    let mut shadow = Shadow::new(pool(LEAST_TABLES), HOST);
    shadow.load(&guest.memory, root).unwrap();
    let write = Access { write: true, ..Access::default() };
    let inside = KERNEL + 0x12_3000;
    assert_eq!(shadow.fill(&guest.memory, inside, write), Ok(Fill::Filled));
    assert_eq!(shadow.processor_walk(inside, false).unwrap().0 & ADDRESS, MEMORY_AT + 0x12_3000);
    assert_eq!(guest.memory.read(slot).unwrap() & DIRTY, DIRTY);
    let root_of = GuestRoot::Table(root);
    assert_eq!(locate(&guest.memory, root_of, inside + 8, true), Ok(Some(GuestPhys(0x12_3008))));
    // It is taken away, or becomes a table.
    guest.memory.write(slot, 0).unwrap();
    let all = PageRange { start: KERNEL, end: VirtAddr(0) };
    shadow.refresh(&guest.memory, None, all).unwrap();
    assert_eq!(shadow.processor_walk(inside, false), None);
    guest.map(root, inside.0, 0x5000 | PRESENT);
    assert_eq!(shadow.fill(&guest.memory, inside, Access::default()), Ok(Fill::Filled));
    assert_eq!(shadow.processor_walk(inside, false).unwrap().0 & ADDRESS, MEMORY_AT + 0x5000);
    guest.memory.write(slot, PRESENT | WRITE | LARGE).unwrap();
    shadow.refresh(&guest.memory, None, all).unwrap();
    assert_eq!(shadow.fill(&guest.memory, inside, Access::default()), Ok(Fill::Filled));
    assert_eq!(shadow.processor_walk(inside, false).unwrap().0 & ADDRESS, MEMORY_AT + 0x12_3000);
    for broken in [
        PRESENT | LARGE | 0x1000,              // not aligned
        PRESENT | LARGE | (PAGES * PAGE_SIZE), // beyond memory
    ] {
        guest.memory.write(slot, broken).unwrap();
        assert!(shadow.fill(&guest.memory, inside, write).is_err());
    }
    let user = guest.entry(root, 0x40_0000, 2);
    guest.memory.write(user, PRESENT | USER | LARGE).unwrap();
    assert_eq!(shadow.fill(&guest.memory, VirtAddr(0x40_0000), READ).unwrap_err().rule, Rule::ReservedBits);
    shadow.flush(true);
    shadow.into_pool();
}

#[test]
fn roots_are_checked() {
    let mut guest = Tables::new();
    let (root, other) = (guest.table(), guest.table());
    let mut shadow = Shadow::new(pool(LEAST_TABLES), HOST);
    for (at, rule) in [
        (GuestPhys(root.0 + 8), Rule::UnalignedAddress),
        (GuestPhys(0), Rule::UnalignedAddress),
        (GuestPhys(PAGES * PAGE_SIZE), Rule::AddressOutsideMemory),
        (GuestPhys(!0xfff), Rule::AddressOutsideMemory),
    ] {
        assert_eq!(shadow.load(&guest.memory, at).unwrap_err().rule, rule);
    }
    guest.memory.write(GuestPhys(root.0 + 448 * 8), PRESENT).unwrap();
    assert_eq!(shadow.load(&guest.memory, root).unwrap_err().rule, Rule::HostRange);
    shadow.load(&guest.memory, other).unwrap();
    assert_eq!(shadow.release(other).unwrap_err().rule, Rule::ReleasedRoot);
    assert_eq!(shadow.release(GuestPhys(0x1234)), Ok(()));
    assert_eq!(shadow.forget_top(other, 256).unwrap_err().rule, Rule::BadArgument);
}

#[test]
fn the_host_stays_where_the_processor_runs() {
    let mut guest = Tables::new();
    let (first, second) = (guest.table(), guest.table());
    let pages = (0..200).map(|n| VirtAddr(n << 39 | n << 21));
    pages.clone().for_each(|page| guest.map(second, page.0, 0x5000 | PRESENT | USER));
    let tables = tables(LEAST_TABLES);
    let mut shadow = Shadow::new(TablePool::new(tables, PhysAddr(POOL_AT)), HOST);
    // Calls in one ring: the processor is still on the boot map, then on `first`, while others take all the tables there are.
    for leave in [first, second] {
        let given = shadow.give();
        shadow.load(&guest.memory, first).unwrap();
        shadow.load(&guest.memory, second).unwrap();
        shadow.release(first).unwrap();
        shadow.flush(true);
        for page in pages.clone() {
            assert_eq!(shadow.fill(&guest.memory, page, READ), Ok(Fill::Filled));
            assert!(show_the_host(tables, given));
        }
        shadow.load(&guest.memory, leave).unwrap();
    }
    assert!(shadow.evictions() > 0);
    assert_eq!(shadow.into_pool().free_count(), LEAST_TABLES);
}

#[test]
fn every_table_comes_back_whatever_was_mapped() {
    let mut guest = Tables::new();
    let tables = 64;
    let mut pool = pool(tables);
    for _ in 0..3 {
        let mut shadow = Shadow::new(pool, HOST);
        for _ in 0..100 {
            let root = guest.table();
            // Tables that lead to themselves, at every level and in both halves.
            for at in [0, 1, 255, 256, 511] {
                guest.memory.write(GuestPhys(root.0 + at * 8), root.0 | PRESENT | USER | WRITE).unwrap();
            }
            shadow.load(&guest.memory, root).unwrap();
            for address in [0, 0x20_1000, 0x7fff_ffff_f000, KERNEL.0, 0xffff_ffff_ffff_f000] {
                let access = Access { user: address < KERNEL.0, ..Access::default() };
                assert_eq!(shadow.fill(&guest.memory, VirtAddr(address), access), Ok(Fill::Filled));
                assert!(shadow.processor_walk(VirtAddr(address), access.user).is_some());
            }
        }
        assert!(shadow.evictions() > 0);
        pool = shadow.into_pool();
        assert_eq!(pool.free_count(), tables);
        guest.next = 0x10_0000;
    }
}

/// A step of a guest.
#[derive(Clone, Debug)]
enum Step {
    /// Writes a word of its tables, and announces it or not.
    Write {
        table: u8,
        index: u16,
        entry: u64,
        announce: bool,
    },
    Load(u8),
    Touch {
        page: u64,
        write: bool,
        execute: bool,
        user: bool,
    },
    Release(u8),
    Flush(bool),
    SetPgd(u8, u16),
    /// Goes on, after calls.
    Run,
}

/// Tables of the fuzzed guest.
const FUZZED: u64 = 6;

fn entry() -> impl Strategy<Value = u64> {
    let frame = prop_oneof![
        4 => (0..FUZZED).prop_map(|table| 0x10_0000 + table * PAGE_SIZE),
        2 => (0..PAGES).prop_map(|page| page * PAGE_SIZE),
        1 => any::<u64>().prop_map(|bits| bits & ADDRESS),
    ];
    let flags =
        prop_oneof![4 => Just(PRESENT | USER | WRITE), 3 => any::<u64>().prop_map(|bits| bits & !ADDRESS)];
    (frame, flags).prop_map(|(frame, flags)| frame | flags)
}

fn step() -> impl Strategy<Value = Step> {
    let index = prop_oneof![Just(0u16), Just(1), Just(255), Just(256), Just(448), Just(511), 0u16..512];
    let page = prop::collection::vec(
        prop_oneof![Just(0u64), Just(1), Just(255), Just(256), Just(511), 0..512u64],
        4,
    )
    .prop_map(|indices| {
        let low = indices.iter().fold(0, |address, index| address << 9 | index) << 12;
        ((low << 16) as i64 >> 16) as u64
    });
    prop_oneof![
        6 => (0..FUZZED as u8, index.clone(), entry(), any::<bool>())
            .prop_map(|(table, index, entry, announce)| Step::Write { table, index, entry, announce }),
        2 => (0..FUZZED as u8).prop_map(Step::Load),
        8 => (page, any::<[bool; 3]>())
            .prop_map(|(page, [write, execute, user])| Step::Touch { page, write, execute, user }),
        1 => (0..FUZZED as u8).prop_map(Step::Release),
        1 => any::<bool>().prop_map(Step::Flush),
        1 => (0..FUZZED as u8, index).prop_map(|(table, index)| Step::SetPgd(table, index)),
        2 => Just(Step::Run),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_hostile_guest_reaches_only_its_own_memory(steps in prop::collection::vec(step(), 1..200)) {
        let memory = memory(PAGES as usize, MEMORY_AT);
        let at = |table: u8| GuestPhys(0x10_0000 + u64::from(table) * PAGE_SIZE);
        let tables = tables(LEAST_TABLES + 8);
        let mut shadow = Shadow::new(TablePool::new(tables, PhysAddr(POOL_AT)), HOST);
        let mut given = shadow.give();
        let everything = [
            PageRange { start: VirtAddr(0), end: VirtAddr(0x8000_0000_0000) },
            PageRange { start: KERNEL, end: VirtAddr(0) },
        ];
        let mut touched = Vec::new();
        for step in steps {
            // A broken rule would end the guest; here it goes on, for the host must be safe at any moment.
            match step {
                Step::Write { table, index, entry, announce } => {
                    memory.write(GuestPhys(at(table).0 + 8 * u64::from(index)), entry).unwrap();
                    if announce {
                        for table in 0..FUZZED as u8 {
                            let _ = shadow.refresh(&memory, Some(at(table)), everything[0]);
                        }
                        let _ = shadow.refresh(&memory, None, everything[1]);
                    }
                }
                Step::Load(table) => {
                    let _ = shadow.load(&memory, at(table));
                }
                Step::Touch { page, write, execute, user } => {
                    let address = VirtAddr(page);
                    prop_assert!(is_canonical(address));
                    if HOST.covers(address) {
                        continue;
                    }
                    touched.push(address);
                    let access = Access { write, execute, user };
                    let granted = shadow.guest_root().page(&memory, address);
                    let fill = shadow.fill(&memory, address, access);
                    if let (Ok(Fill::Filled), Ok(page)) = (fill, granted) {
                        let page = page.unwrap();
                        let (entry, executable) = shadow.processor_walk(address, user).unwrap();
                        prop_assert_eq!(entry & ADDRESS, MEMORY_AT + page.frame.0);
                        prop_assert!(entry & USER != 0 && (!write || entry & WRITE != 0) && (!execute || executable));
                        prop_assert!(!write || page.writable);
                        prop_assert!(!execute || page.executable);
                    }
                }
                Step::Release(table) => {
                    let _ = shadow.release(at(table));
                }
                Step::Flush(everything) => shadow.flush(everything),
                Step::SetPgd(table, index) => {
                    let _ = shadow.forget_top(at(table), usize::from(index));
                }
                Step::Run => given = shadow.give(),
            }
            prop_assert!(show_the_host(tables, given));
            for &address in touched.iter().rev().take(8) {
                for user in [false, true] {
                    if let Some((entry, _)) = shadow.processor_walk(address, user) {
                        let frame = entry & ADDRESS;
                        prop_assert!((MEMORY_AT..MEMORY_AT + PAGES * PAGE_SIZE).contains(&frame), "{entry:#x}");
                        prop_assert!(entry & USER != 0 && (!user || address < KERNEL));
                    }
                }
            }
        }
        prop_assert_eq!(shadow.into_pool().free_count(), LEAST_TABLES + 8);
    }
}

#[test]
fn the_hosts_entry_covers_its_addresses_only() {
    let (start, end) = entry_range(HOST.index);
    assert_eq!((start, end), (0xffff_e000_0000_0000, 0xffff_e080_0000_0000));
    assert!(HOST.covers(VirtAddr(start)) && HOST.covers(VirtAddr(end - 1)));
    assert!(!HOST.covers(VirtAddr(start - 1)) && !HOST.covers(VirtAddr(end)));
    assert!(!HOST.covers(VirtAddr(448 << 39 & 0x7fff_ffff_ffff)));
    assert_eq!(entry_range(511).1, 0);
}
