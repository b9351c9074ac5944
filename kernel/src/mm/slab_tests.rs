//! The heap against a list of what is allocated, each piece filled with a pattern of its own.

use std::collections::HashMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Pages from the build machine's allocator, up to a limit; leaks show up in `blocks`.
#[derive(Default)]
struct TestPages {
    blocks: HashMap<usize, u8>,
    limit: usize,
}

impl TestPages {
    fn pages(&self) -> usize {
        self.blocks.values().map(|order| 1 << order).sum()
    }
}

fn block_layout(order: u8) -> Layout {
    Layout::from_size_align(PAGE_SIZE << order, PAGE_SIZE << order).unwrap()
}

// SAFETY: blocks come from the global allocator with the size and alignment that the trait asks for.
unsafe impl PageSource for TestPages {
    fn alloc_pages(&mut self, order: u8) -> Option<NonNull<u8>> {
        if order > 10 || self.pages() + (1 << order) > self.limit {
            return None;
        }
        // SAFETY: the layout has a size.
        let block = NonNull::new(unsafe { std::alloc::alloc(block_layout(order)) })?;
        // SAFETY: the block has this size.
        unsafe { block.write_bytes(0xa5, PAGE_SIZE << order) };
        self.blocks.insert(block.addr().get(), order);
        Some(block)
    }

    unsafe fn free_pages(&mut self, block: NonNull<u8>, order: u8) {
        assert_eq!(self.blocks.remove(&block.addr().get()), Some(order), "not a block of ours");
        // SAFETY: the block was allocated with this layout and is out of the map now.
        unsafe { std::alloc::dealloc(block.as_ptr(), block_layout(order)) };
    }
}

fn heap(limit: usize) -> Heap<TestPages> {
    Heap::new(TestPages { blocks: HashMap::new(), limit })
}

struct Piece {
    memory: NonNull<u8>,
    layout: Layout,
    pattern: u8,
}

impl Piece {
    fn take(heap: &mut Heap<TestPages>, layout: Layout, pattern: u8) -> Option<Self> {
        let memory = heap.alloc(layout)?;
        assert_eq!(memory.addr().get() % layout.align(), 0);
        // SAFETY: the heap gave this many bytes.
        unsafe { memory.write_bytes(pattern, layout.size()) };
        Some(Self { memory, layout, pattern })
    }

    fn give_back(self, heap: &mut Heap<TestPages>) {
        // SAFETY: the piece is live and this long.
        let bytes = unsafe { core::slice::from_raw_parts(self.memory.as_ptr(), self.layout.size()) };
        assert!(bytes.iter().all(|&byte| byte == self.pattern), "overwritten by another piece");
        // SAFETY: it came from this heap with this layout, and the piece is gone after this.
        unsafe { heap.dealloc(self.memory, self.layout) };
    }
}

fn layouts() -> impl Strategy<Value = Layout> {
    let sizes = prop_oneof![4 => 0usize..300, 3 => 0usize..2100, 1 => 0usize..20_000];
    (sizes, 0u32..=13).prop_map(|(size, align)| {
        let align = if align > 9 { 8 } else { 1 << align };
        Layout::from_size_align(size, align).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn pieces_never_touch_and_all_pages_come_back(
        steps in proptest::collection::vec((layouts(), any::<usize>(), 0u8..10), 1..400),
        limit in prop_oneof![Just(40usize), Just(10_000)],
    ) {
        let mut heap = heap(limit);
        let mut pieces: Vec<Piece> = Vec::new();
        for (n, (layout, pick, choice)) in steps.into_iter().enumerate() {
            if choice < 6 || pieces.is_empty() {
                match Piece::take(&mut heap, layout, n as u8) {
                    Some(piece) => pieces.push(piece),
                    None => prop_assert!(limit == 40),
                }
            } else {
                let piece = pieces.swap_remove(pick % pieces.len());
                piece.give_back(&mut heap);
            }
            let pages = heap.source().pages() as u64;
            let statistics = heap.statistics();
            prop_assert_eq!(statistics.pages, pages);
            let objects: u64 = statistics.classes.iter().map(|class| class.used).sum();
            prop_assert_eq!(objects + statistics.large, pieces.len() as u64);
            prop_assert!(statistics.classes.iter().all(|class| class.used <= class.capacity));
        }
        for piece in pieces {
            piece.give_back(&mut heap);
        }
        prop_assert!(heap.statistics().classes.iter().all(|class| class.used == 0 && class.slabs <= 1));
        heap.shrink();
        prop_assert_eq!(heap.source().blocks.len(), 0);
        prop_assert_eq!(heap.statistics().pages, 0);
    }
}

#[test]
fn every_size_goes_to_the_smallest_class_that_holds_it() {
    for size in 0..=LARGEST_OBJECT {
        let Place::Class(class) = place(Layout::from_size_align(size, 8).unwrap()) else { panic!("{size}") };
        assert!(usize::from(CLASSES[class].0) >= size);
        assert!(class == 0 || usize::from(CLASSES[class - 1].0) < size);
    }
    let pages = |size, align| place(Layout::from_size_align(size, align).unwrap());
    assert_eq!(pages(LARGEST_OBJECT + 1, 8), Place::Pages(0));
    assert_eq!(pages(4097, 8), Place::Pages(1));
    assert_eq!(pages(5 * PAGE_SIZE, 8), Place::Pages(3));
    assert_eq!(pages(1, 2 * PAGE_SIZE), Place::Pages(1));
    assert_eq!(pages(isize::MAX as usize - 4095, 4096), Place::Pages(51));
}

#[test]
fn slabs_waste_at_most_an_eighth() {
    for shape in &SHAPES {
        let bytes = (PAGE_SIZE << shape.order) as u32;
        let lost = bytes - shape.capacity * shape.size;
        assert!(lost * 8 <= bytes, "class {} loses {lost} of {bytes}", shape.size);
        assert!(shape.first + shape.capacity * shape.size <= bytes);
    }
}

#[test]
fn an_empty_slab_is_kept_and_the_second_one_goes_back() {
    let mut heap = heap(100);
    let layout = Layout::from_size_align(1024, 8).unwrap();
    let per_slab = 15;
    let mut pieces: Vec<Piece> =
        (0..per_slab * 3).map(|n| Piece::take(&mut heap, layout, n as u8).unwrap()).collect();
    assert_eq!(heap.source().blocks.len(), 3);
    for (left, slabs) in [(per_slab * 2, 3), (per_slab, 2), (0, 1)] {
        while pieces.len() > left {
            pieces.pop().unwrap().give_back(&mut heap);
        }
        assert_eq!(heap.source().blocks.len(), slabs);
    }
    let piece = Piece::take(&mut heap, layout, 1).unwrap();
    assert_eq!(heap.source().blocks.len(), 1, "the kept slab is used again");
    piece.give_back(&mut heap);
    heap.shrink();
    assert!(heap.source().blocks.is_empty());
}

#[test]
fn grows_in_place_within_a_class() {
    let layout = Layout::from_size_align(40, 8).unwrap();
    assert!(Heap::<TestPages>::fits_in_place(layout, 48));
    assert!(!Heap::<TestPages>::fits_in_place(layout, 49));
    assert!(!Heap::<TestPages>::fits_in_place(layout, 16));
    assert!(!Heap::<TestPages>::fits_in_place(layout, usize::MAX));
}

#[test]
fn runs_out_without_harm() {
    let mut heap = heap(1);
    let layout = Layout::from_size_align(256, 256).unwrap();
    let pieces: Vec<Piece> = core::iter::from_fn(|| Piece::take(&mut heap, layout, 7)).collect();
    assert_eq!(pieces.len(), 15);
    assert!(heap.alloc(Layout::from_size_align(16, 8).unwrap()).is_none());
    assert!(heap.alloc(Layout::from_size_align(1 << 40, 8).unwrap()).is_none());
    for piece in pieces {
        piece.give_back(&mut heap);
    }
    heap.shrink();
    assert!(heap.source().blocks.is_empty());
}

#[test]
#[should_panic(expected = "not its own")]
fn notices_an_object_freed_with_another_size() {
    let mut heap = heap(10);
    let memory = heap.alloc(Layout::from_size_align(64, 8).unwrap()).unwrap();
    // SAFETY: broken on purpose; the heap looks at the slab's header before it changes anything.
    unsafe { heap.dealloc(memory, Layout::from_size_align(32, 8).unwrap()) };
}
