//! From what the loader calls RAM to the regions of the contract.

use platform::{MemoryKind, MemoryRegion, PAGE_SIZE, PhysAddr, PhysRange, Unusable};

/// The most regions there can be.
pub const MOST_REGIONS: usize = 128;

/// Page-aligned, ascending, disjoint regions.
#[derive(Debug)]
pub struct MemoryMap {
    regions: [MemoryRegion; MOST_REGIONS],
    length: usize,
}

const NOTHING: MemoryRegion =
    MemoryRegion { range: PhysRange { start: PhysAddr(0), end: PhysAddr(0) }, kind: MemoryKind::Reserved };

fn inward(range: PhysRange) -> PhysRange {
    let start = range.start.0.saturating_add(PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
    let end = range.end.0 / PAGE_SIZE * PAGE_SIZE;
    PhysRange { start: PhysAddr(start), end: PhysAddr(end.max(start)) }
}

fn outward(range: PhysRange) -> PhysRange {
    let start = range.start.0 / PAGE_SIZE * PAGE_SIZE;
    let end = range.end.0.saturating_add(PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
    PhysRange { start: PhysAddr(start), end: PhysAddr(end) }
}

impl MemoryMap {
    /// No memory.
    pub const fn new() -> Self {
        Self { regions: [NOTHING; MOST_REGIONS], length: 0 }
    }

    /// The regions.
    pub fn regions(&self) -> &[MemoryRegion] {
        &self.regions[..self.length]
    }

    /// Adds RAM; what of it is known already keeps its kind.
    pub fn add_usable(&mut self, range: PhysRange) -> Result<(), Unusable> {
        let range = inward(range);
        let mut start = range.start;
        let mut at = 0;
        while start.0 < range.end.0 {
            let next = self.regions().get(at).map(|region| region.range);
            match next {
                Some(next) if next.end.0 <= start.0 => at += 1,
                Some(next) if next.start.0 <= start.0 => {
                    start = next.end;
                    at += 1;
                }
                _ => {
                    let end = next.map_or(range.end, |next| PhysAddr(range.end.0.min(next.start.0)));
                    self.insert(
                        at,
                        MemoryRegion { range: PhysRange { start, end }, kind: MemoryKind::Usable },
                    )?;
                    start = end;
                }
            }
        }
        self.merge();
        Ok(())
    }

    /// Makes every page that `range` touches and that is usable so far be of `kind`; with none, be no memory at all.
    pub fn carve(&mut self, range: PhysRange, kind: Option<MemoryKind>) -> Result<(), Unusable> {
        let range = outward(range);
        let mut at = 0;
        while at < self.length {
            let MemoryRegion { range: old, kind: old_kind } = self.regions[at];
            let start = old.start.0.max(range.start.0);
            let end = old.end.0.min(range.end.0);
            if start >= end || old_kind != MemoryKind::Usable {
                at += 1;
                continue;
            }
            self.remove(at);
            let pieces = [
                (old.start.0, start, Some(MemoryKind::Usable)),
                (start, end, kind),
                (end, old.end.0, Some(MemoryKind::Usable)),
            ];
            for (start, end, kind) in pieces {
                if let Some(kind) = kind
                    && start < end
                {
                    let range = PhysRange { start: PhysAddr(start), end: PhysAddr(end) };
                    self.insert(at, MemoryRegion { range, kind })?;
                    at += 1;
                }
            }
        }
        self.merge();
        Ok(())
    }

    /// Whether all of `range` is memory.
    pub fn covers(&self, range: PhysRange) -> bool {
        let mut reached = range.start.0;
        for region in self.regions() {
            if region.range.start.0 <= reached && reached < region.range.end.0 {
                reached = region.range.end.0;
            }
        }
        reached >= range.end.0
    }

    /// The largest usable region, as far as it lies below `limit`.
    pub fn largest_usable_below(&self, limit: PhysAddr) -> Option<PhysRange> {
        self.regions()
            .iter()
            .filter(|region| region.kind == MemoryKind::Usable && region.range.start.0 < limit.0)
            .map(|region| PhysRange {
                start: region.range.start,
                end: PhysAddr(region.range.end.0.min(limit.0)),
            })
            .max_by_key(|range| range.bytes())
    }

    /// The last usable page below `limit`.
    pub fn last_usable_page_below(&self, limit: PhysAddr) -> Option<PhysRange> {
        self.regions()
            .iter()
            .rev()
            .filter(|region| region.kind == MemoryKind::Usable && region.range.start.0 < limit.0)
            .map(|region| {
                let end = region.range.end.0.min(limit.0);
                PhysRange { start: PhysAddr(end - PAGE_SIZE), end: PhysAddr(end) }
            })
            .next()
    }

    fn insert(&mut self, at: usize, region: MemoryRegion) -> Result<(), Unusable> {
        if self.length == MOST_REGIONS {
            return Err(Unusable("the memory map has too many pieces"));
        }
        self.regions.copy_within(at..self.length, at + 1);
        self.regions[at] = region;
        self.length += 1;
        Ok(())
    }

    fn remove(&mut self, at: usize) {
        self.regions.copy_within(at + 1..self.length, at);
        self.length -= 1;
    }

    fn merge(&mut self) {
        let mut at = 1;
        while at < self.length {
            let (before, here) = (self.regions[at - 1], self.regions[at]);
            if before.kind == here.kind && before.range.end == here.range.start {
                self.regions[at - 1].range.end = here.range.end;
                self.remove(at);
            } else {
                at += 1;
            }
        }
    }
}

impl Default for MemoryMap {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn pages(start: u64, end: u64) -> PhysRange {
        PhysRange { start: PhysAddr(start * PAGE_SIZE), end: PhysAddr(end * PAGE_SIZE) }
    }

    #[test]
    fn ram_is_rounded_inward_and_the_rest_outward() {
        let mut map = MemoryMap::new();
        map.add_usable(PhysRange { start: PhysAddr(1), end: PhysAddr(10 * PAGE_SIZE + 1) }).unwrap();
        map.carve(PhysRange { start: PhysAddr(5 * PAGE_SIZE + 7), end: PhysAddr(5 * PAGE_SIZE + 8) }, None)
            .unwrap();
        let ranges: Vec<_> = map.regions().iter().map(|region| region.range).collect();
        assert_eq!(ranges, [pages(1, 5), pages(6, 10)]);
        assert!(map.covers(pages(1, 5)) && !map.covers(pages(4, 7)));
    }

    proptest! {
        /// Against a map that knows each page by itself.
        #[test]
        fn agrees_with_a_page_by_page_model(
            ram in prop::collection::vec((0u64..64, 0u64..64), 1..6),
            carved in prop::collection::vec((0u64..64, 0u64..64, 0usize..4), 0..6),
        ) {
            let mut map = MemoryMap::new();
            let mut model = [None; 64];
            for (a, b) in ram {
                let (start, end) = (a.min(b), a.max(b));
                map.add_usable(pages(start, end)).unwrap();
                model[start as usize..end as usize].fill(Some(MemoryKind::Usable));
            }
            for (a, b, kind) in carved {
                let (start, end) = (a.min(b), a.max(b));
                let kind = [None, Some(MemoryKind::Kernel), Some(MemoryKind::Initramfs), Some(MemoryKind::Reclaimable)][kind];
                map.carve(pages(start, end), kind).unwrap();
                for page in &mut model[start as usize..end as usize] {
                    if *page == Some(MemoryKind::Usable) {
                        *page = kind;
                    }
                }
            }
            let mut seen = [None; 64];
            let mut before = 0;
            for region in map.regions() {
                prop_assert!(region.range.start.0 >= before && region.range.start.0 < region.range.end.0);
                before = region.range.end.0;
                for page in region.range.start.frame().0..region.range.end.frame().0 {
                    seen[page as usize] = Some(region.kind);
                }
            }
            prop_assert_eq!(seen, model);
        }
    }
}
