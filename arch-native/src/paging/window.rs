//! Physical memory outside the direct map: device registers and firmware tables. A mapping stays for ever, and asking for
//! the same one again gives the same address, so nothing piles up.

use core::marker::PhantomData;

use platform::{CacheMode, Kernel, OutOfFrames, PAGE_SIZE, PhysAddr, PhysFrame, Protection, VirtAddr};

use super::pc_kernel;
use crate::irq::IrqLock;
use crate::layout::PLATFORM_WINDOW;
use crate::machine::Machine;

/// Mappings that are remembered; a machine has a handful of firmware tables and devices.
const REMEMBERED: usize = 64;

#[derive(Clone, Copy)]
struct Mapped {
    first: PhysFrame,
    pages: u64,
    cache: CacheMode,
    at: VirtAddr,
}

struct Window {
    mapped: [Option<Mapped>; REMEMBERED],
    next: VirtAddr,
}

static WINDOW: IrqLock<Window> = IrqLock::new(Window { mapped: [None; REMEMBERED], next: PLATFORM_WINDOW.0 });

/// Maps physical memory, with tables in frames of `K`.
pub(crate) struct PhysicalWindow<K, M>(PhantomData<(K, M)>);

impl<K: Kernel, M: Machine> PhysicalWindow<K, M> {
    /// The virtual address of `start`, with `bytes` bytes from there on mapped, readable and writable.
    pub fn map(start: PhysAddr, bytes: u64, cache: CacheMode) -> Result<VirtAddr, OutOfFrames> {
        let first = start.frame();
        let end = start.0.checked_add(bytes.max(1)).ok_or(OutOfFrames)?;
        let pages = end.div_ceil(PAGE_SIZE) - first.0;
        WINDOW.with::<M, _>(|window| {
            let known = window.mapped.iter().flatten().find(|known| {
                known.cache == cache
                    && known.first.0 <= first.0
                    && first.0 + pages <= known.first.0 + known.pages
            });
            if let Some(known) = known {
                return Ok(known.at + (start - known.first.start()));
            }
            let at = window.next;
            if pages > (PLATFORM_WINDOW.1 - at) / PAGE_SIZE {
                return Err(OutOfFrames);
            }
            // Also if this fails: what was mapped so far stays mapped.
            window.next = at + pages * PAGE_SIZE;
            for n in 0..pages {
                pc_kernel::<K, M>(cache).map(
                    at + n * PAGE_SIZE,
                    &[first + n],
                    Protection::READ | Protection::WRITE,
                )?;
            }
            if let Some(free) = window.mapped.iter_mut().find(|slot| slot.is_none()) {
                *free = Some(Mapped { first, pages, cache, at });
            }
            Ok(at + (start - first.start()))
        })
    }
}
