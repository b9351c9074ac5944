//! The address space against an array with one element per page.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const PAGES: u64 = 40;
/// The lowest address of the model.
const BASE: u64 = 0x1000_0000;

/// A file and the offset into it; file 0 stands for anonymous memory, the same at every offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Source {
    file: u8,
    offset: u64,
}

impl Behind for Source {
    fn offset_by(&self, bytes: u64) -> Self {
        Self { offset: if self.file == 0 { 0 } else { self.offset + bytes }, ..*self }
    }
}

type Page = Option<(Protection, VmaFlags, Source)>;

struct Model {
    pages: [Page; PAGES as usize],
}

fn range(first: u64, count: u64) -> UserRange {
    UserRange::covering(BASE + first * PAGE_SIZE, count * PAGE_SIZE).unwrap()
}

impl Model {
    fn of(vmas: &[Vma<Source>]) -> Self {
        let mut model = Self { pages: [None; PAGES as usize] };
        for vma in vmas {
            for (page, n) in model.in_range(vma.range).iter_mut().zip(0..) {
                assert!(page.is_none(), "ranges overlap");
                *page = Some((vma.protection, vma.flags, vma.backing.offset_by(n * PAGE_SIZE)));
            }
        }
        model
    }

    fn in_range(&mut self, range: UserRange) -> &mut [Page] {
        let index = |address| ((address - BASE) / PAGE_SIZE) as usize;
        &mut self.pages[index(range.start())..index(range.end())]
    }

    fn free_top_down(&self, length: u64, alignment: u64, low: u64, high: u64, guard: u64) -> Option<u64> {
        let used = |page: u64| self.pages.get(page as usize).is_some_and(Option::is_some);
        (low..high).rev().find(|&start| {
            start + length <= high
                && (BASE / PAGE_SIZE + start).is_multiple_of(alignment)
                && !(start.saturating_sub(guard)..start + length + guard).any(used)
        })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(UserRange, Protection, VmaFlags, Source),
    Remove(UserRange),
    Protect(UserRange, Protection),
    SetFlags(UserRange, VmaFlags, VmaFlags),
}

fn ranges() -> impl Strategy<Value = UserRange> {
    (0..PAGES, 1u64..=12).prop_map(|(first, count)| range(first, count.min(PAGES - first)))
}

fn protections() -> impl Strategy<Value = Protection> {
    prop_oneof![Just(Protection::READ), Just(Protection::READ | Protection::WRITE)]
}

fn flag_sets() -> impl Strategy<Value = VmaFlags> {
    prop_oneof![3 => Just(VmaFlags::empty()), 1 => Just(VmaFlags::LOCKED)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (ranges(), protections(), flag_sets(), 0u8..2).prop_map(|(range, protection, flags, file)| {
            // Offsets that make neighbours of the same file go on in each other.
            let offset = if file == 0 { 0 } else { range.start() };
            Step::Insert(range, protection, flags, Source { file, offset })
        }),
        2 => ranges().prop_map(Step::Remove),
        2 => (ranges(), protections()).prop_map(|(range, protection)| Step::Protect(range, protection)),
        1 => (ranges(), flag_sets(), flag_sets()).prop_map(|(range, set, clear)| Step::SetFlags(range, set, clear)),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_an_array_of_pages(
        steps in steps(),
        searches in proptest::collection::vec((1u64..6, 0u32..3, 0..PAGES, 0..=PAGES, 0u64..3), 1..20),
    ) {
        let mut tree = VmaTree::new();
        let mut model = Model::of(&[]);
        for step in steps {
            match step {
                Step::Insert(range, protection, flags, backing) => {
                    let free = model.in_range(range).iter().all(Option::is_none);
                    let result = tree.insert(Vma { range, protection, flags, backing });
                    prop_assert_eq!(result, if free { Ok(()) } else { Err(VmaError::Overlap) });
                    if free {
                        for (page, n) in model.in_range(range).iter_mut().zip(0..) {
                            *page = Some((protection, flags, backing.offset_by(n * PAGE_SIZE)));
                        }
                    }
                }
                Step::Remove(range) => {
                    let mut pieces = Vec::new();
                    tree.remove(range, |piece| pieces.push(piece)).unwrap();
                    prop_assert!(pieces.is_sorted_by_key(|piece| piece.range.start()));
                    let mut removed = Model::of(&pieces);
                    prop_assert_eq!(removed.in_range(range), model.in_range(range));
                    removed.in_range(range).fill(None);
                    prop_assert!(removed.pages.iter().all(Option::is_none), "nothing outside");
                    model.in_range(range).fill(None);
                }
                Step::Protect(range, protection) => {
                    let whole = model.in_range(range).iter().all(Option::is_some);
                    let result = tree.protect(range, protection);
                    prop_assert_eq!(result, if whole { Ok(()) } else { Err(VmaError::Hole) });
                    if whole {
                        model.in_range(range).iter_mut().flatten().for_each(|page| page.0 = protection);
                    }
                }
                Step::SetFlags(range, set, clear) => if tree.set_flags(range, set, clear).is_ok() {
                    model.in_range(range).iter_mut().flatten().for_each(|page| page.1 = (page.1 - clear) | set);
                },
            }
            prop_assert_eq!(Model::of(tree.as_slice()).pages, model.pages);
            prop_assert!(tree.as_slice().is_sorted_by_key(|vma| vma.range.start()));
            prop_assert!(tree.as_slice().windows(2).all(|pair| !pair[0].continues_in(&pair[1])), "joined");
            let mapped = model.pages.iter().flatten().count() as u64 * PAGE_SIZE;
            prop_assert_eq!(tree.mapped_bytes(), mapped);
            for page in 0..PAGES {
                let address = BASE + page * PAGE_SIZE + page;
                let found = tree.find(address);
                prop_assert_eq!(found.is_some(), model.pages[page as usize].is_some());
                prop_assert!(found.is_none_or(|vma| vma.range.contains(address)));
                let above = (page..PAGES).find(|&page| model.pages[page as usize].is_some());
                let above = above.and_then(|page| tree.find(BASE + page * PAGE_SIZE));
                prop_assert_eq!(tree.find_at_or_above(address), above);
            }
        }
        for (length, alignment, low, high, guard) in searches {
            let alignment = 1 << alignment;
            let search = FreeSearch {
                length: length * PAGE_SIZE,
                alignment: alignment * PAGE_SIZE,
                low: BASE + low * PAGE_SIZE,
                high: BASE + high * PAGE_SIZE,
                guard: guard * PAGE_SIZE,
            };
            let expected = model.free_top_down(length, alignment, low, high, guard);
            let found = tree.find_free_top_down(search);
            prop_assert_eq!(found, expected.map(|page| BASE + page * PAGE_SIZE), "{:?}", search);
        }
        let copy = tree.try_clone().unwrap();
        prop_assert_eq!(copy.as_slice(), tree.as_slice());
        prop_assert_eq!(copy.mapped_bytes(), tree.mapped_bytes());
    }
}

#[test]
fn ranges_are_whole_pages() {
    assert_eq!(UserRange::new(0x1000, 0x1000), None);
    assert_eq!(UserRange::new(0x2000, 0x1000), None);
    assert_eq!(UserRange::new(0x1001, 0x3000), None);
    assert_eq!(UserRange::new(0x1000, 0x3001), None);
    assert_eq!(UserRange::covering(0x1000, 1).unwrap().size(), 0x1000);
    assert_eq!(UserRange::covering(0x1000, 0), None);
    assert_eq!(UserRange::covering(0x1000, u64::MAX), None);
    assert_eq!(UserRange::covering(u64::MAX - 0xfff, 0x1000), None);
}

#[test]
fn searches_stay_within_odd_limits() {
    let mut tree = VmaTree::new();
    let source = Source { file: 0, offset: 0 };
    let search =
        FreeSearch { length: PAGE_SIZE, alignment: PAGE_SIZE, low: 0, high: u64::MAX - 0xfff, guard: 0 };
    assert_eq!(tree.find_free_top_down(search), Some(u64::MAX - 0x1fff));
    assert_eq!(tree.find_free_top_down(FreeSearch { low: 0x2000, high: 0x1000, ..search }), None);
    assert_eq!(
        tree.find_free_top_down(FreeSearch { length: u64::MAX - 0xfff, low: PAGE_SIZE, ..search }),
        None
    );
    let vma = |range| Vma { range, protection: Protection::READ, flags: VmaFlags::empty(), backing: source };
    tree.insert(vma(range(0, 2))).unwrap();
    // The guard reaches below address zero, and above the last.
    let wide = FreeSearch { guard: u64::MAX - 0xfff, ..search };
    assert_eq!(tree.find_free_top_down(wide), None);
    assert_eq!(tree.find_free_top_down(FreeSearch { guard: 1 << 20, ..search }), Some(u64::MAX - 0x1fff));
}
