//! The walker against a map from page to mapping.

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::vec::Vec;

use platform::{CacheMode, FRAME_BATCH};
use proptest::prelude::*;

use super::*;

/// Tables on the heap; frame n is table n. Hands out frames until a limit, full of rubbish.
struct HeapTables {
    tables: RefCell<Vec<&'static Table>>,
    free: RefCell<Vec<PhysFrame>>,
    used: Cell<usize>,
    limit: Cell<usize>,
}

impl HeapTables {
    fn new() -> Self {
        Self {
            tables: RefCell::default(),
            free: RefCell::default(),
            used: Cell::new(0),
            limit: Cell::new(usize::MAX),
        }
    }

    fn root(&self) -> PhysFrame {
        let frame = self.allocate().unwrap();
        // SAFETY: just allocated.
        clear(unsafe { self.table(frame) });
        frame
    }
}

impl TableMemory for HeapTables {
    unsafe fn table(&self, frame: PhysFrame) -> &Table {
        self.tables.borrow()[frame.0 as usize]
    }

    fn allocate(&self) -> Option<PhysFrame> {
        if self.used.get() == self.limit.get() {
            return None;
        }
        self.used.set(self.used.get() + 1);
        Some(self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut tables = self.tables.borrow_mut();
            tables.push(Box::leak(Box::new([const { AtomicU64::new(0xdead_beef_dead_beef) }; ENTRIES])));
            PhysFrame(tables.len() as u64 - 1)
        }))
    }

    fn free(&self, frame: PhysFrame) {
        assert!(!self.free.borrow().contains(&frame), "freed twice");
        self.used.set(self.used.get() - 1);
        self.free.borrow_mut().push(frame);
    }
}

fn walker(memory: &HeapTables, root: PhysFrame) -> Walker<'_, HeapTables> {
    // SAFETY: the roots of these tests come from the same memory, and nothing runs beside.
    unsafe { Walker::user(memory, root) }
}

type Model = BTreeMap<u64, Mapping>;

/// What the processor enforces of the rights asked for.
fn enforced(protection: Protection) -> Protection {
    let asked = protection - Protection::USER;
    if asked.is_empty() { Protection::USER } else { asked | Protection::READ | Protection::USER }
}

#[derive(Clone, Debug)]
enum Step {
    Map(u64, Vec<u64>, Protection),
    Replace(u64, u64, Protection),
    Protect(u64, u64, Protection),
    Unmap(u64, u64),
    Fork(ForkMode),
}

/// Pages close to one another, and across the borders of tables at every level.
fn page() -> impl Strategy<Value = u64> {
    let bases = [
        0,
        1 << 12,
        (1 << 21) - (3 << 12),
        (1 << 30) - (5 << 12),
        (1 << 39) - (2 << 12),
        (1u64 << 47) - (40 << 12),
    ];
    (prop::sample::select(bases.to_vec()), 0u64..24).prop_map(|(base, n)| base + n * PAGE_SIZE)
}

fn protection() -> impl Strategy<Value = Protection> {
    (0u8..8).prop_map(Protection::from_bits_truncate)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (page(), prop::collection::vec(1u64..1 << 36, 1..16), protection()).prop_map(|(p, f, r)| Step::Map(p, f, r)),
        2 => (page(), 1u64..1 << 36, protection()).prop_map(|(p, f, r)| Step::Replace(p, f, r)),
        2 => (page(), page(), protection()).prop_map(|(a, b, r)| Step::Protect(a.min(b), a.max(b), r)),
        2 => (page(), page()).prop_map(|(a, b)| Step::Unmap(a.min(b), a.max(b))),
        1 => prop_oneof![Just(ForkMode::CopyOnWrite), Just(ForkMode::Share)].prop_map(Step::Fork),
    ]
}

fn range(start: u64, end: u64) -> PageRange {
    PageRange::new(VirtAddr(start), VirtAddr(end))
}

/// Unmaps all of a range in batches; the frames in order.
fn unmap_all(walker: &Walker<'_, HeapTables>, pages: PageRange) -> Vec<PhysFrame> {
    let mut frames = Vec::new();
    let mut at = pages.start;
    while at < pages.end {
        let mut batch = FrameBatch::new();
        at = walker.unmap(PageRange::new(at, pages.end), &mut batch);
        assert!(at == pages.end || batch.is_full());
        frames.extend_from_slice(batch.frames());
    }
    frames
}

const ALL: (u64, u64) = (0, 1 << 47);

fn check(walker: &Walker<'_, HeapTables>, model: &Model) -> Result<(), TestCaseError> {
    for (&page, &mapping) in model {
        prop_assert_eq!(walker.query(VirtAddr(page)), Some(mapping));
        for near in [page.wrapping_sub(PAGE_SIZE), page + PAGE_SIZE] {
            if near < ALL.1 && !model.contains_key(&near) {
                prop_assert_eq!(walker.query(VirtAddr(near)), None);
            }
        }
    }
    Ok(())
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let memory = HeapTables::new();
    let mut roots = std::vec![(memory.root(), Model::new())];
    for step in steps {
        let (root, mut model) = roots.pop().unwrap();
        let parent = walker(&memory, root);
        match step {
            Step::Map(page, frames, rights) => {
                let frames: Vec<_> = frames.into_iter().map(PhysFrame).collect();
                let room = ((ALL.1 - page) / PAGE_SIZE) as usize;
                let frames = &frames[..frames.len().min(room)];
                let mut mapped = 0;
                for (n, &frame) in frames.iter().enumerate() {
                    let at = page + n as u64 * PAGE_SIZE;
                    match model.entry(at) {
                        Entry::Occupied(_) => {}
                        Entry::Vacant(vacant) => {
                            vacant.insert(Mapping { frame, protection: enforced(rights) });
                            mapped |= 1 << n;
                        }
                    }
                }
                prop_assert_eq!(parent.map(VirtAddr(page), frames, rights), Ok(mapped));
            }
            Step::Replace(page, frame, rights) => {
                let mapping = Mapping { frame: PhysFrame(frame), protection: enforced(rights) };
                let mapped = model.get_mut(&page).map(|old| *old = mapping).is_some();
                prop_assert_eq!(parent.replace(VirtAddr(page), PhysFrame(frame), rights), mapped);
            }
            Step::Protect(start, end, rights) => {
                for (_, mapping) in model.range_mut(start..end) {
                    let writable = mapping.protection & Protection::WRITE;
                    mapping.protection = enforced(rights) - (Protection::WRITE - writable);
                }
                parent.protect(range(start, end), rights);
            }
            Step::Unmap(start, end) => {
                let expected: Vec<_> = model.range(start..end).map(|(_, mapping)| mapping.frame).collect();
                model.retain(|page, _| !(start..end).contains(page));
                prop_assert_eq!(unmap_all(&parent, range(start, end)), expected);
            }
            Step::Fork(mode) => {
                let child_root = memory.root();
                let child = walker(&memory, child_root);
                let mut shared = Vec::new();
                let mut at = VirtAddr(ALL.0);
                while at.0 < ALL.1 {
                    let mut batch = FrameBatch::new();
                    at = parent.fork(&child, range(at.0, ALL.1), mode, &mut batch).unwrap();
                    shared.extend_from_slice(batch.frames());
                }
                prop_assert_eq!(shared, model.values().map(|mapping| mapping.frame).collect::<Vec<_>>());
                if mode == ForkMode::CopyOnWrite {
                    for mapping in model.values_mut() {
                        mapping.protection -= Protection::WRITE;
                    }
                }
                check(&child, &model)?;
                roots.push((child_root, model.clone()));
            }
        }
        check(&parent, &model)?;
        roots.push((root, model));
    }
    for (root, model) in roots {
        let walker = walker(&memory, root);
        check(&walker, &model)?;
        prop_assert_eq!(unmap_all(&walker, range(ALL.0, ALL.1)).len(), model.len());
        walker.free_tables(256);
        memory.free(root);
    }
    prop_assert_eq!(memory.used.get(), 0, "tables leaked");
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec(step(), 1..24)) {
        run(steps)?;
    }

    /// However early frames run out, what was done stays done, and nothing is lost.
    #[test]
    fn out_of_frames_leaves_a_sound_space(limit in 1usize..12, pages in prop::collection::vec(page(), 1..8)) {
        let memory = HeapTables::new();
        let root = memory.root();
        memory.limit.set(limit);
        let parent = walker(&memory, root);
        let mut mapped = Model::new();
        for page in pages {
            let frame = PhysFrame(page / PAGE_SIZE + 1);
            if let Ok(1) = parent.map(VirtAddr(page), &[frame], Protection::READ | Protection::WRITE) {
                mapped.insert(page, parent.query(VirtAddr(page)).unwrap());
            }
        }
        check(&parent, &mapped)?;
        if memory.used.get() < limit {
            let child_root = memory.root();
            let child = walker(&memory, child_root);
            let mut shared = FrameBatch::new();
            let outcome = parent.fork(&child, range(ALL.0, ALL.1), ForkMode::CopyOnWrite, &mut shared);
            let copied = unmap_all(&child, range(ALL.0, ALL.1));
            prop_assert_eq!(copied.as_slice(), shared.frames());
            prop_assert_eq!(outcome.is_ok(), copied.len() == mapped.len());
            child.free_tables(256);
            memory.free(child_root);
        }
        prop_assert_eq!(unmap_all(&parent, range(ALL.0, ALL.1)).len(), mapped.len());
        parent.free_tables(256);
        memory.free(root);
        prop_assert_eq!(memory.used.get(), 0);
    }
}

#[test]
fn batches_stop_where_they_are_full() {
    let memory = HeapTables::new();
    let parent = walker(&memory, memory.root());
    let frames: Vec<_> = (1..=2 * FRAME_BATCH as u64 + 3).map(PhysFrame).collect();
    let start = VirtAddr((1 << 21) - 8 * PAGE_SIZE);
    for (n, chunk) in frames.chunks(64).enumerate() {
        let at = start + n as u64 * 64 * PAGE_SIZE;
        let all = u64::MAX >> (64 - chunk.len());
        assert_eq!(parent.map(at, chunk, Protection::READ), Ok(all));
    }
    let mut batch = FrameBatch::new();
    let reached = parent.unmap(range(0, 1 << 30), &mut batch);
    assert_eq!(reached, start + FRAME_BATCH as u64 * PAGE_SIZE);
    assert_eq!(batch.frames(), &frames[..FRAME_BATCH]);
    assert_eq!(parent.unmap(range(reached.0, 1 << 30), &mut batch), reached, "a full batch takes no more");
}

#[test]
fn a_kernel_page_is_global_and_not_for_users() {
    let memory = HeapTables::new();
    let root = memory.root();
    // SAFETY: the root comes from the same memory, and nothing runs beside.
    let kernel = unsafe { Walker::kernel(&memory, root, LeafKind::kernel(CacheMode::Uncacheable)) };
    let page = VirtAddr(0xffff_c800_0000_1000);
    assert_eq!(kernel.map(page, &[PhysFrame(7)], Protection::READ | Protection::WRITE), Ok(1));
    let mapping = Mapping { frame: PhysFrame(7), protection: Protection::READ | Protection::WRITE };
    assert_eq!(kernel.query(page), Some(mapping));
    let mut batch = FrameBatch::new();
    assert_eq!(kernel.unmap(PageRange::page(page), &mut batch), page + PAGE_SIZE);
    assert_eq!(batch.frames(), [PhysFrame(7)]);
}

#[test]
fn a_page_without_rights_is_mapped_all_the_same() {
    let memory = HeapTables::new();
    let space = walker(&memory, memory.root());
    let page = VirtAddr(0x1000);
    assert_eq!(space.map(page, &[PhysFrame(0)], Protection::empty()), Ok(1));
    assert_eq!(space.query(page), Some(Mapping { frame: PhysFrame(0), protection: Protection::USER }));
    assert_eq!(space.map(page, &[PhysFrame(1)], Protection::READ), Ok(0));
    space.protect(PageRange::page(page), Protection::READ | Protection::WRITE);
    let mapping = space.query(page).unwrap();
    assert_eq!(mapping.protection, Protection::USER | Protection::READ, "writing comes back by a fault only");
}

#[test]
fn only_empty_tables_are_unlinked() {
    const TABLE: u64 = PAGE_SIZE * ENTRIES as u64;
    let memory = HeapTables::new();
    let root = memory.root();
    // SAFETY: as in `walker`.
    let walker = unsafe { Walker::kernel(&memory, root, LeafKind::kernel(CacheMode::WriteBack)) };
    let at = VirtAddr(0xffff_c800_0000_0000);
    let map = |page| walker.map(page, &[PhysFrame(7)], Protection::READ).unwrap();
    let unlink = |pages| {
        let mut taken = Vec::new();
        walker.unlink_empty(pages, |frame| taken.push(frame));
        taken
    };
    let first_two = PageRange::new(at, at + 2 * TABLE);
    assert!(unlink(first_two).is_empty());
    for page in [at, at + TABLE, at + 2 * TABLE] {
        map(page);
    }
    let tables = memory.used.get();
    assert!(unlink(first_two).is_empty());
    unmap_all(&walker, PageRange::new(at, at + 3 * TABLE));
    // The third is empty, too, but not asked for.
    let taken = unlink(first_two);
    assert_eq!(taken.len(), 2);
    assert!(unlink(first_two).is_empty());
    taken.into_iter().for_each(|frame| memory.free(frame));
    assert_eq!(memory.used.get(), tables - 2);
    map(at);
    assert_eq!(memory.used.get(), tables - 1);
    assert!(walker.query(at).is_some() && walker.query(at + TABLE).is_none());
}
