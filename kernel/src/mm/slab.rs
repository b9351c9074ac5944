//! The kernel heap: small objects by size class from slabs, large ones straight from pages.
//!
//! A slab is a block of pages aligned to its size, with a header at its start, so an object's slab is found by masking
//! its address. Free objects are linked through their own first word; objects of a new slab are handed out in order and
//! join the list only when freed, so making a slab touches just its header. Allocation and release are O(1).
//! Not locked: the caller wraps it, as for a global allocator.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

/// Bytes in a page.
const PAGE_SIZE: usize = 4096;

/// Where the heap's pages come from.
///
/// # Safety
/// A block from `alloc_pages(order)` has 2^order pages, starts at a multiple of its size, is writable and belongs to the
/// heap alone until it is given back.
pub unsafe trait PageSource {
    /// Takes 2^order pages; `None` if there are none (or never will be, for a large order).
    fn alloc_pages(&mut self, order: u8) -> Option<NonNull<u8>>;

    /// Takes a block back.
    ///
    /// # Safety
    /// `block` came from `alloc_pages(order)` of this source, and nothing uses it any more.
    unsafe fn free_pages(&mut self, block: NonNull<u8>, order: u8);
}

/// Object size of a class in bytes, and the order of its slabs. The orders keep the part of a slab that is lost to the
/// header and to the remainder under an eighth.
const CLASSES: [(u16, u8); 13] = [
    (16, 0),
    (32, 0),
    (48, 0),
    (64, 0),
    (96, 0),
    (128, 0),
    (192, 0),
    (256, 0),
    (384, 0),
    (512, 1),
    (768, 1),
    (1024, 2),
    (2048, 3),
];

/// The largest object that lies in a slab.
const LARGEST_OBJECT: usize = CLASSES[CLASSES.len() - 1].0 as usize;

/// The smallest class for each size, in steps of 16 bytes.
const CLASS_OF_SIZE: [u8; LARGEST_OBJECT / 16 + 1] = {
    let mut table = [0; LARGEST_OBJECT / 16 + 1];
    let mut step = 0;
    let mut class = 0;
    while step < table.len() {
        if step * 16 > CLASSES[class].0 as usize {
            class += 1;
        }
        table[step] = class as u8;
        step += 1;
    }
    table
};

/// Where a layout goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Class(usize),
    /// Pages of this order.
    Pages(u8),
}

fn place(layout: Layout) -> Place {
    let size = if layout.align() <= 16 {
        layout.size()
    } else {
        // Objects whose size is a power of two lie at multiples of their size.
        match layout.size().max(layout.align()).checked_next_power_of_two() {
            Some(size) => size,
            None => return Place::Pages(u8::MAX),
        }
    };
    if size <= LARGEST_OBJECT {
        Place::Class(usize::from(CLASS_OF_SIZE[size.div_ceil(16)]))
    } else {
        Place::Pages(size.div_ceil(PAGE_SIZE).next_power_of_two().trailing_zeros() as u8)
    }
}

/// Marks a header as one, against stray pointers.
const HEADER_MARK: u32 = 0x51ab_0b1c;

#[repr(C, align(64))]
struct Header {
    mark: u32,
    class: u32,
    /// Objects in use.
    used: u32,
    /// Objects handed out at least once; those above are untouched.
    carved: u32,
    /// The list of objects freed.
    free: *mut FreeObject,
    previous: *mut Header,
    next: *mut Header,
}

struct FreeObject {
    next: *mut FreeObject,
}

/// What follows from a class's place in [`CLASSES`].
#[derive(Clone, Copy)]
struct Shape {
    size: u32,
    order: u8,
    /// Offset of the first object: a multiple of every power of two that divides the size.
    first: u32,
    capacity: u32,
}

const SHAPES: [Shape; CLASSES.len()] = {
    let mut shapes = [Shape { size: 0, order: 0, first: 0, capacity: 0 }; CLASSES.len()];
    let mut class = 0;
    while class < CLASSES.len() {
        let (size, order) = CLASSES[class];
        let natural = 1u32 << size.trailing_zeros();
        let first = (size_of::<Header>() as u32).next_multiple_of(natural);
        let capacity = ((PAGE_SIZE << order) as u32 - first) / size as u32;
        shapes[class] = Shape { size: size as u32, order, first, capacity };
        class += 1;
    }
    shapes
};

/// The slabs of one class.
struct Class {
    /// Slabs with both used and free objects.
    partial: *mut Header,
    /// One empty slab, kept against giving back and taking again in turns.
    spare: *mut Header,
    slabs: u64,
    used: u64,
}

impl Class {
    const fn new() -> Self {
        Self { partial: ptr::null_mut(), spare: ptr::null_mut(), slabs: 0, used: 0 }
    }
}

/// How one size class is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClassStatistics {
    /// Bytes in an object.
    pub object_bytes: u64,
    /// Objects handed out.
    pub used: u64,
    /// Objects that the slabs have room for.
    pub capacity: u64,
    /// Slabs held, the spare one too.
    pub slabs: u64,
}

/// How the heap is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapStatistics {
    /// Each size class, smallest first.
    pub classes: [ClassStatistics; CLASSES.len()],
    /// Allocations that have pages of their own.
    pub large: u64,
    /// Pages taken from the source and not given back.
    pub pages: u64,
}

/// The heap.
pub struct Heap<P> {
    source: P,
    classes: [Class; CLASSES.len()],
    large: u64,
    pages: u64,
}

// SAFETY: the pointers lead only to slabs, which belong to this heap and are reached only through `&mut self`; they may
// be used from whichever thread has the heap.
unsafe impl<P: Send> Send for Heap<P> {}

impl<P: PageSource> Heap<P> {
    /// A heap that holds no pages yet.
    pub const fn new(source: P) -> Self {
        Self { source, classes: [const { Class::new() }; CLASSES.len()], large: 0, pages: 0 }
    }

    /// The source of its pages.
    pub fn source(&mut self) -> &mut P {
        &mut self.source
    }

    /// Memory for `layout`; `None` if the source has no pages. A layout of size 0 takes the smallest object.
    #[inline]
    pub fn alloc(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        match place(layout) {
            Place::Class(class) => self.alloc_object(class),
            Place::Pages(order) => {
                let block = self.source.alloc_pages(order)?;
                self.large += 1;
                self.pages += 1 << order;
                Some(block)
            }
        }
    }

    /// Gives back memory that [`Self::alloc`] returned.
    ///
    /// # Safety
    /// `memory` came from `alloc` of this heap with a layout of the same size and alignment, was not given back since, and
    /// nothing uses it any more.
    ///
    /// # Panics
    /// If the slab's header shows that `memory` was never ours or that it was overwritten.
    #[inline]
    pub unsafe fn dealloc(&mut self, memory: NonNull<u8>, layout: Layout) {
        match place(layout) {
            // SAFETY: the memory is an object of the class that its layout leads to, by the caller's word.
            Place::Class(class) => unsafe { self.free_object(memory, class) },
            Place::Pages(order) => {
                self.large -= 1;
                self.pages -= 1 << order;
                // SAFETY: the same layout made `alloc` take a block of this order, and the caller is done with it.
                unsafe { self.source.free_pages(memory, order) }
            }
        }
    }

    /// Whether memory allocated for `layout` also holds `new_size` bytes without being wasteful, so that a
    /// reallocation has nothing to do (it is then given back with either size).
    pub fn fits_in_place(layout: Layout, new_size: usize) -> bool {
        Layout::from_size_align(new_size, layout.align()).is_ok_and(|new| place(new) == place(layout))
    }

    /// Gives the spare slabs back to the source.
    pub fn shrink(&mut self) {
        for class in 0..CLASSES.len() {
            let spare = core::mem::replace(&mut self.classes[class].spare, ptr::null_mut());
            if let Some(spare) = NonNull::new(spare) {
                self.release_slab(spare, class);
            }
        }
    }

    /// What is in use now.
    pub fn statistics(&self) -> HeapStatistics {
        let mut statistics = HeapStatistics { large: self.large, pages: self.pages, ..Default::default() };
        for ((out, class), shape) in statistics.classes.iter_mut().zip(&self.classes).zip(&SHAPES) {
            *out = ClassStatistics {
                object_bytes: u64::from(shape.size),
                used: class.used,
                capacity: class.slabs * u64::from(shape.capacity),
                slabs: class.slabs,
            };
        }
        statistics
    }

    #[inline]
    fn alloc_object(&mut self, class: usize) -> Option<NonNull<u8>> {
        let shape = &SHAPES[class];
        if self.classes[class].partial.is_null() {
            self.add_partial(class)?;
        }
        let slabs = &mut self.classes[class];
        slabs.used += 1;
        // SAFETY: slabs on the partial list are live blocks of this heap with a valid header, reached only through
        // `&mut self`; a partial slab has a freed object, or one not carved yet that lies inside the block.
        unsafe {
            let slab = slabs.partial;
            let header = &mut *slab;
            header.used += 1;
            let object = if header.free.is_null() {
                let offset = shape.first + header.carved * shape.size;
                header.carved += 1;
                slab.cast::<u8>().add(offset as usize)
            } else {
                let object = header.free;
                header.free = (*object).next;
                object.cast()
            };
            if header.used == shape.capacity {
                unlink(slabs, slab);
            }
            Some(NonNull::new_unchecked(object))
        }
    }

    /// Gives the class a slab to allocate from: the spare, or a new one.
    #[cold]
    fn add_partial(&mut self, class: usize) -> Option<()> {
        let spare = core::mem::replace(&mut self.classes[class].spare, ptr::null_mut());
        let slab = match NonNull::new(spare) {
            Some(slab) => slab,
            None => self.new_slab(class)?,
        };
        // SAFETY: the slab is live and on no list.
        unsafe { link(&mut self.classes[class], slab.as_ptr()) };
        Some(())
    }

    fn new_slab(&mut self, class: usize) -> Option<NonNull<Header>> {
        let order = SHAPES[class].order;
        let slab = self.source.alloc_pages(order)?.cast::<Header>();
        self.pages += 1 << order;
        self.classes[class].slabs += 1;
        let header = Header {
            mark: HEADER_MARK,
            class: class as u32,
            used: 0,
            carved: 0,
            free: ptr::null_mut(),
            previous: ptr::null_mut(),
            next: ptr::null_mut(),
        };
        // SAFETY: the block is ours, larger than a header and aligned to its size.
        unsafe { slab.write(header) };
        Some(slab)
    }

    fn release_slab(&mut self, slab: NonNull<Header>, class: usize) {
        let order = SHAPES[class].order;
        self.pages -= 1 << order;
        self.classes[class].slabs -= 1;
        // SAFETY: the block came from the source with this order, is on no list, and none of its objects is in use.
        unsafe {
            (*slab.as_ptr()).mark = 0;
            self.source.free_pages(slab.cast(), order);
        }
    }

    /// # Safety
    /// `memory` is an object of a slab of `class` of this heap, in use until now.
    #[inline]
    unsafe fn free_object(&mut self, memory: NonNull<u8>, class: usize) {
        let shape = &SHAPES[class];
        let mask = (PAGE_SIZE << shape.order) - 1;
        let slab = memory.as_ptr().map_addr(|address| address & !mask).cast::<Header>();
        let slabs = &mut self.classes[class];
        // SAFETY: slabs are aligned to their size, so the mask leads to the header of the object's slab, which is live
        // and reached only through `&mut self`; the object is free now, so its first word is ours to write.
        unsafe {
            let header = &mut *slab;
            assert!(
                header.mark == HEADER_MARK && header.class == class as u32 && header.used != 0,
                "kernel heap: {memory:p} of class {} freed into a slab that is not its own",
                shape.size
            );
            let object = memory.as_ptr().cast::<FreeObject>();
            debug_assert!(object != header.free, "kernel heap: {memory:p} freed twice");
            (*object).next = header.free;
            header.free = object;
            if header.used == shape.capacity {
                link(slabs, slab);
            }
            header.used -= 1;
            slabs.used -= 1;
            if header.used == 0 {
                self.retire(NonNull::new_unchecked(slab), class);
            }
        }
    }

    /// Takes a slab that became empty from the list: one is kept, further ones go back.
    ///
    /// # Safety
    /// The slab is on the partial list of `class` and has no object in use.
    #[cold]
    unsafe fn retire(&mut self, slab: NonNull<Header>, class: usize) {
        let slabs = &mut self.classes[class];
        // SAFETY: the slab is on this list.
        unsafe { unlink(slabs, slab.as_ptr()) };
        if slabs.spare.is_null() {
            slabs.spare = slab.as_ptr();
        } else {
            self.release_slab(slab, class);
        }
    }
}

/// Puts a slab at the front of its class's partial list.
///
/// # Safety
/// `slab` and the slabs on the list are live; `slab` is on no list.
unsafe fn link(slabs: &mut Class, slab: *mut Header) {
    // SAFETY: by the caller's word.
    unsafe {
        (*slab).previous = ptr::null_mut();
        (*slab).next = slabs.partial;
        if !slabs.partial.is_null() {
            (*slabs.partial).previous = slab;
        }
    }
    slabs.partial = slab;
}

/// Takes a slab from its class's partial list.
///
/// # Safety
/// `slab` is on the list, whose slabs are live.
unsafe fn unlink(slabs: &mut Class, slab: *mut Header) {
    // SAFETY: by the caller's word.
    unsafe {
        let (previous, next) = ((*slab).previous, (*slab).next);
        if previous.is_null() {
            slabs.partial = next;
        } else {
            (*previous).next = next;
        }
        if !next.is_null() {
            (*next).previous = previous;
        }
    }
}

#[cfg(test)]
#[path = "slab_tests.rs"]
mod tests;
