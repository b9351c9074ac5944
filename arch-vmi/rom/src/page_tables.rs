//! What a strict ROM knows of a guest's page tables, and what it holds the guest to: tables are announced before they are
//! used and released after, and entries change through the ROM alone.

/// Tables that can be known.
const CAPACITY: usize = 8192;
/// More than this and looking them up takes too long.
const MOST: usize = CAPACITY / 8 * 7;
const ENTRIES: usize = 512;

const PRESENT: u64 = 1 << 0;
const ACCESSED_AND_DIRTY: u64 = 1 << 5 | 1 << 6;
const LARGE: u64 = 1 << 7;
const FRAME: u64 = 0x000f_ffff_ffff_f000;

const PT: u64 = 1;
const PML4: u64 = 8;

/// A rule that the guest broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken(pub &'static str);

/// Where tables are read.
pub trait Memory {
    /// The entry of the table in `frame`, or none if memory is not known there.
    fn entry(&self, frame: u64, index: usize) -> Option<u64>;
}

/// A table, or what an entry called one before it was announced. All zero is a free place.
#[derive(Clone, Copy)]
struct Known {
    /// Frame number and one; zero is free.
    key: u64,
    /// 1, 2, 4 or 8; zero while it is not announced.
    level: u64,
    /// Sum of its present entries, without the bits the processor sets.
    sum: u64,
    /// Entries that lead to it.
    links: u64,
}

/// All tables. All zero is none.
pub struct PageTables {
    known: [Known; CAPACITY],
    count: usize,
    /// A first root was loaded: from now on a table is announced before anything leads to it.
    begun: bool,
}

/// What counts of an entry.
const fn counted(entry: u64) -> u64 {
    if entry & PRESENT == 0 { 0 } else { entry & !ACCESSED_AND_DIRTY }
}

/// The table that an entry of a table of `level` leads to.
const fn target(entry: u64, level: u64) -> Option<u64> {
    let leads_on = entry & PRESENT != 0 && level > PT && (level == PML4 || entry & LARGE == 0);
    if leads_on { Some((entry & FRAME) >> 12) } else { None }
}

impl PageTables {
    /// No tables.
    pub const fn new() -> Self {
        const FREE: Known = Known { key: 0, level: 0, sum: 0, links: 0 };
        Self { known: [FREE; CAPACITY], count: 0, begun: false }
    }

    fn position(&self, frame: u64) -> Option<usize> {
        let key = frame.wrapping_add(1);
        let start = place(frame);
        for step in 0..CAPACITY {
            let at = (start + step) % CAPACITY;
            match self.known.get(at).map_or(0, |known| known.key) {
                0 => return None,
                found if found == key => return Some(at),
                _ => {}
            }
        }
        None
    }

    fn find(&mut self, frame: u64) -> Option<&mut Known> {
        let at = self.position(frame)?;
        self.known.get_mut(at)
    }

    fn find_or_add(&mut self, frame: u64) -> Result<&mut Known, Broken> {
        if self.find(frame).is_none() {
            if self.count >= MOST {
                return Err(Broken("the test ROM cannot keep more page tables"));
            }
            let start = place(frame);
            for step in 0..CAPACITY {
                if let Some(known) = self.known.get_mut((start + step) % CAPACITY)
                    && known.key == 0
                {
                    *known = Known { key: frame.wrapping_add(1), level: 0, sum: 0, links: 0 };
                    self.count += 1;
                    break;
                }
            }
        }
        self.find(frame).ok_or(Broken("the test ROM cannot keep more page tables"))
    }

    /// Frees a table's place, and moves up those behind it that would not be found across the gap.
    fn forget(&mut self, frame: u64) {
        let Some(mut gap) = self.position(frame) else { return };
        self.count -= 1;
        let mut at = gap;
        loop {
            at = (at + 1) % CAPACITY;
            let Some(known) = self.known.get(at).copied().filter(|known| known.key != 0) else { break };
            let home = place(known.key.wrapping_sub(1));
            // Whether its own place lies at the gap or before it, counted backwards from where it is.
            if at.wrapping_sub(home) % CAPACITY >= at.wrapping_sub(gap) % CAPACITY {
                if let Some(free) = self.known.get_mut(gap) {
                    *free = known;
                }
                gap = at;
            }
        }
        if let Some(free) = self.known.get_mut(gap) {
            free.key = 0;
        }
    }

    fn link(&mut self, entry: u64, level: u64) -> Result<(), Broken> {
        let Some(frame) = target(entry, level) else { return Ok(()) };
        let begun = self.begun;
        let known = self.find_or_add(frame)?;
        if known.level == 0 && begun {
            return Err(Broken("an entry leads to a page table that was not announced"));
        }
        if known.level != 0 && known.level != level >> 1 {
            return Err(Broken("an entry leads to a page table of another level"));
        }
        known.links += 1;
        Ok(())
    }

    fn unlink(&mut self, entry: u64, level: u64) -> Result<(), Broken> {
        let Some(frame) = target(entry, level) else { return Ok(()) };
        match self.find(frame) {
            Some(known) if known.links > 0 => {
                known.links -= 1;
                Ok(())
            }
            _ => Err(Broken("an entry that leads to a page table was written behind the ROM's back")),
        }
    }

    /// `AllocatePage`.
    pub fn announce(
        &mut self,
        memory: &impl Memory,
        frame: u64,
        level: u64,
        zeroed: bool,
        clone: Option<(u64, u64, u64)>,
    ) -> Result<(), Broken> {
        let begun = self.begun;
        let known = self.find_or_add(frame)?;
        if known.level != 0 {
            return Err(Broken("AllocatePage: the page is a page table already"));
        }
        if begun && known.links != 0 {
            return Err(Broken("AllocatePage: an entry leads to the page already"));
        }
        known.level = level;
        let mut cloned = 0..0;
        if let Some((from, first, count)) = clone {
            if self.find(from).is_none_or(|from| from.level != level) {
                return Err(Broken("AllocatePage: the cloned page is no page table of this level"));
            }
            let end = first.saturating_add(count);
            if end > ENTRIES as u64 {
                return Err(Broken("AllocatePage: more entries are cloned than a table has"));
            }
            cloned = first as usize..end as usize;
            for index in cloned.clone() {
                let (copy, original) = (memory.entry(frame, index), memory.entry(from, index));
                if copy.map(counted) != original.map(counted) {
                    return Err(Broken("AllocatePage: an entry is no copy of the cloned page's"));
                }
            }
        }
        let mut sum = 0u64;
        for index in 0..ENTRIES {
            let Some(entry) = memory.entry(frame, index) else {
                return Err(Broken("AllocatePage: the page is outside of the linear mapping"));
            };
            if zeroed && entry != 0 && !cloned.contains(&index) {
                return Err(Broken("AllocatePage: the page is said to be zero and is not"));
            }
            sum = sum.wrapping_add(counted(entry));
            self.link(entry, level)?;
        }
        if let Some(known) = self.find(frame) {
            known.sum = sum;
        }
        Ok(())
    }

    /// An entry of the table in `frame` changes from `old` to `new`.
    pub fn update(&mut self, frame: u64, level: u64, old: u64, new: u64) -> Result<(), Broken> {
        match self.find(frame) {
            Some(known) if known.level == level => {
                known.sum = known.sum.wrapping_sub(counted(old)).wrapping_add(counted(new));
            }
            Some(known) if known.level != 0 => {
                return Err(Broken("an update's level is not the page table's"));
            }
            _ => return Err(Broken("an update is in a page that is no page table")),
        }
        self.unlink(old, level)?;
        self.link(new, level)
    }

    /// The guest has written an entry of the table in `frame`. What it was follows from the sum.
    pub fn written(
        &mut self,
        memory: &impl Memory,
        frame: u64,
        index: usize,
        level: u64,
    ) -> Result<(), Broken> {
        let (sum, new) = (sum(memory, frame)?, memory.entry(frame, index).unwrap_or(0));
        match self.find(frame) {
            Some(known) if known.level == level => {
                let old = known.sum.wrapping_sub(sum).wrapping_add(counted(new));
                self.update(frame, level, old, new)
            }
            _ => Err(Broken("UpdatePxELong: the entry is in a page that is no page table of this level")),
        }
    }

    /// `ReleasePage`.
    pub fn release(&mut self, memory: &impl Memory, frame: u64, level: u64) -> Result<(), Broken> {
        let Some(known) = self.find(frame).filter(|known| known.level == level) else {
            return Err(Broken("ReleasePage: the page is no page table of this level"));
        };
        if known.links != 0 {
            return Err(Broken("ReleasePage: an entry still leads to the page"));
        }
        self.verify(memory, frame)?;
        for index in 0..ENTRIES {
            if let Some(entry) = memory.entry(frame, index) {
                self.unlink(entry, level)?;
            }
        }
        self.forget(frame);
        Ok(())
    }

    /// CR3 is to lead to the table in `frame`.
    pub fn load(&mut self, memory: &impl Memory, frame: u64) -> Result<(), Broken> {
        if !self.begun {
            let missing = |known: &Known| known.key != 0 && known.level == 0 && known.links != 0;
            if self.known.iter().any(missing) {
                return Err(Broken("SetCR3: not all tables made before VMI_Init were announced"));
            }
            self.begun = true;
        }
        if self.find(frame).is_none_or(|known| known.level != PML4) {
            return Err(Broken("SetCR3: the page is no announced table of level 4"));
        }
        self.verify(memory, frame)
    }

    /// Whether the table holds what the ROM was told.
    fn verify(&mut self, memory: &impl Memory, frame: u64) -> Result<(), Broken> {
        let sum = sum(memory, frame)?;
        if self.find(frame).is_some_and(|known| known.sum != sum) {
            return Err(Broken("a page table was written behind the ROM's back"));
        }
        Ok(())
    }
}

impl Default for PageTables {
    fn default() -> Self {
        Self::new()
    }
}

const fn place(frame: u64) -> usize {
    (frame.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % CAPACITY
}

fn sum(memory: &impl Memory, frame: u64) -> Result<u64, Broken> {
    let mut sum = 0u64;
    for index in 0..ENTRIES {
        let Some(entry) = memory.entry(frame, index) else {
            return Err(Broken("a page table is outside of the linear mapping"));
        };
        sum = sum.wrapping_add(counted(entry));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Ram(BTreeMap<(u64, usize), u64>);

    impl Memory for Ram {
        fn entry(&self, frame: u64, index: usize) -> Option<u64> {
            (frame < 10_000).then(|| self.0.get(&(frame, index)).copied().unwrap_or(0))
        }
    }

    const PD: u64 = 2;
    const PDP: u64 = 4;

    const fn leads_to(frame: u64) -> u64 {
        frame << 12 | 0x63
    }

    fn set(
        tables: &mut PageTables,
        ram: &mut Ram,
        at: (u64, usize),
        level: u64,
        value: u64,
    ) -> Result<(), Broken> {
        let old = ram.entry(at.0, at.1).unwrap();
        tables.update(at.0, level, old, value)?;
        ram.0.insert(at, value);
        Ok(())
    }

    /// A root (100) with nothing in it, loaded.
    fn begun() -> (Box<PageTables>, Ram) {
        let (mut tables, ram) = (Box::new(PageTables::new()), Ram::default());
        tables.announce(&ram, 100, PML4, true, None).unwrap();
        tables.load(&ram, 100).unwrap();
        (tables, ram)
    }

    fn refused(result: Result<(), Broken>, why: &str) {
        let Broken(text) = result.expect_err(why);
        assert!(text.contains(why), "{text}");
    }

    #[test]
    fn a_table_lives_and_ends() {
        let (mut tables, mut ram) = begun();
        tables.announce(&ram, 7, PDP, true, None).unwrap();
        set(&mut tables, &mut ram, (100, 3), PML4, leads_to(7)).unwrap();
        refused(tables.release(&ram, 7, PDP), "still leads");
        set(&mut tables, &mut ram, (100, 3), PML4, 0).unwrap();
        tables.release(&ram, 7, PDP).unwrap();
        refused(tables.release(&ram, 7, PDP), "no page table");
        tables.announce(&ram, 7, PT, true, None).unwrap();
    }

    #[test]
    fn what_is_not_announced_cannot_be_used() {
        let (mut tables, mut ram) = begun();
        refused(set(&mut tables, &mut ram, (100, 3), PML4, leads_to(7)), "not announced");
        refused(tables.load(&ram, 8), "no announced table");
        refused(tables.update(9, PT, 0, leads_to(1)), "no page table");
        tables.announce(&ram, 9, PD, true, None).unwrap();
        refused(tables.update(9, PT, 0, leads_to(1)), "level");
        refused(set(&mut tables, &mut ram, (100, 4), PML4, leads_to(9)), "another level");
        refused(tables.announce(&ram, 9, PD, true, None), "already");
    }

    #[test]
    fn writing_behind_its_back_is_seen() {
        let (mut tables, mut ram) = begun();
        ram.0.insert((100, 5), 0x1000);
        tables.load(&ram, 100).expect("an entry that is not present may be written");
        ram.0.insert((100, 6), leads_to(3));
        refused(tables.load(&ram, 100), "behind");
        refused(tables.release(&ram, 100, PML4), "behind");
    }

    #[test]
    fn an_entry_may_be_written_and_told() {
        let (mut tables, mut ram) = begun();
        tables.announce(&ram, 7, PDP, true, None).unwrap();
        ram.0.insert((100, 3), leads_to(7));
        tables.written(&ram, 100, 3, PML4).unwrap();
        refused(tables.release(&ram, 7, PDP), "still leads");
        ram.0.insert((100, 3), 0);
        tables.written(&ram, 100, 3, PML4).unwrap();
        tables.release(&ram, 7, PDP).unwrap();
        tables.load(&ram, 100).unwrap();
        ram.0.insert((100, 4), leads_to(9));
        refused(tables.written(&ram, 100, 4, PML4), "not announced");
        refused(tables.written(&ram, 7, 0, PDP), "no page table");
    }

    #[test]
    fn the_processor_may_set_its_bits() {
        let (mut tables, mut ram) = begun();
        tables.announce(&ram, 7, PT, true, None).unwrap();
        set(&mut tables, &mut ram, (7, 0), PT, 0x5007).unwrap();
        ram.0.insert((7, 0), 0x5067);
        set(&mut tables, &mut ram, (7, 0), PT, 0).unwrap();
        tables.release(&ram, 7, PT).unwrap();
    }

    #[test]
    fn tables_made_before_come_in_any_order() {
        let (mut tables, mut ram) = (Box::new(PageTables::new()), Ram::default());
        ram.0.insert((1, 0), leads_to(2));
        ram.0.insert((2, 0), leads_to(3));
        // 2 MiB: no table below.
        ram.0.insert((3, 0), 0x20_0000 | 0xe3);
        tables.announce(&ram, 1, PML4, false, None).unwrap();
        tables.announce(&ram, 3, PD, false, None).unwrap();
        refused(tables.load(&ram, 1), "not all");
        tables.announce(&ram, 2, PDP, false, None).unwrap();
        tables.load(&ram, 1).unwrap();
    }

    #[test]
    fn clones_and_zeros_are_what_they_are_said_to_be() {
        let (mut tables, mut ram) = begun();
        tables.announce(&ram, 7, PDP, true, None).unwrap();
        set(&mut tables, &mut ram, (100, 511), PML4, leads_to(7)).unwrap();
        refused(tables.announce(&ram, 101, PML4, true, Some((100, 256, 256))), "no copy");
        ram.0.insert((102, 511), leads_to(7));
        refused(tables.announce(&ram, 102, PML4, true, None), "said to be zero");
        ram.0.insert((103, 511), leads_to(7));
        tables.announce(&ram, 103, PML4, true, Some((100, 256, 256))).unwrap();
        refused(tables.announce(&ram, 104, PML4, true, Some((100, 256, 257))), "more entries");
        refused(tables.announce(&ram, 105, PML4, true, Some((7, 0, 1))), "cloned page");
        refused(tables.announce(&ram, 20_000, PT, true, None), "outside");
    }

    #[test]
    fn many_tables() {
        let (mut tables, ram) = begun();
        for round in 0..3 {
            for frame in 1000..3000 {
                tables
                    .announce(&ram, frame * 3, PT, true, None)
                    .unwrap_or_else(|_| panic!("{round} {frame}"));
            }
            for frame in 1000..3000 {
                tables.release(&ram, frame * 3, PT).unwrap_or_else(|_| panic!("{round} {frame}"));
                refused(tables.release(&ram, frame * 3, PT), "no page table");
            }
        }
        assert_eq!(tables.count, 1);
    }

    #[test]
    fn too_many_tables() {
        let (mut tables, ram) = begun();
        let failed = (200..10_000).find_map(|frame| tables.announce(&ram, frame, PT, true, None).err());
        assert!(failed.unwrap().0.contains("cannot keep more"));
    }
}
