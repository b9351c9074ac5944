//! One entry of a four-level translation table (Intel SDM vol. 3A, 4.5).

use platform::{CacheMode, Mapping, PhysAddr, PhysFrame, Protection};

/// Entries in a table.
pub const ENTRIES: usize = 512;

/// How far a table is above the pages: 1 for a page table, whose entries are leaves, 4 for a space's root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Level(pub u32);

impl Level {
    /// A page table.
    pub const LEAF: Self = Self(1);
    /// The root of a space.
    pub const ROOT: Self = Self(4);
}

/// An entry's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Entry(pub u64);

/// Whom a leaf is for, and how it behaves beside its rights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafKind(u64);

impl LeafKind {
    /// A page of a user address space.
    pub const USER: Self = Self(Entry::USER);

    /// A page of the kernel, the same in every space.
    pub const fn kernel(cache: CacheMode) -> Self {
        match cache {
            CacheMode::WriteBack => Self(Entry::GLOBAL),
            CacheMode::Uncacheable => Self(Entry::GLOBAL | Entry::CACHE_DISABLE | Entry::WRITE_THROUGH),
        }
    }
}

impl Entry {
    /// Nothing is mapped.
    pub const EMPTY: Self = Self(0);

    /// The processor follows it.
    pub const PRESENT: u64 = 1 << 0;
    /// May be written through.
    pub const WRITE: u64 = 1 << 1;
    /// For user mode.
    pub const USER: u64 = 1 << 2;
    /// Writes reach memory at once.
    pub const WRITE_THROUGH: u64 = 1 << 3;
    /// Not cached.
    pub const CACHE_DISABLE: u64 = 1 << 4;
    /// Has been used.
    pub const ACCESSED: u64 = 1 << 5;
    /// Has been written through.
    pub const DIRTY: u64 = 1 << 6;
    /// Leads to a page though its level is above the lowest.
    pub const LARGE: u64 = 1 << 7;
    /// Outlives a change of space.
    pub const GLOBAL: u64 = 1 << 8;
    /// Ignored by the processor: keeps an entry that allows nothing apart from an empty one.
    const MAPPED: u64 = 1 << 9;
    /// May not be executed.
    pub const NO_EXECUTE: u64 = 1 << 63;
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    const RIGHTS: u64 = Self::PRESENT | Self::WRITE | Self::DIRTY | Self::NO_EXECUTE;

    /// Leads to a lower table of the user half.
    pub const fn user_table(frame: PhysFrame) -> Self {
        Self(frame.start().0 | Self::PRESENT | Self::WRITE | Self::USER | Self::ACCESSED)
    }

    /// Leads to a lower table of the kernel half.
    pub const fn kernel_table(frame: PhysFrame) -> Self {
        Self(frame.start().0 | Self::PRESENT | Self::WRITE | Self::ACCESSED)
    }

    /// Leads to a page. The accessed and dirty flags are set at once: nothing asks for them, and a processor that
    /// finds them clear spends a locked access on setting them.
    #[inline(always)]
    pub const fn leaf(frame: PhysFrame, protection: Protection, kind: LeafKind) -> Self {
        Self(frame.start().0 | Self::MAPPED | Self::ACCESSED | kind.0 | Self::rights(protection))
    }

    #[inline(always)]
    const fn rights(protection: Protection) -> u64 {
        let bits = protection.bits();
        if bits & !Protection::USER.bits() == 0 {
            return Self::NO_EXECUTE;
        }
        let mut rights = Self::PRESENT;
        if bits & Protection::WRITE.bits() != 0 {
            rights |= Self::WRITE | Self::DIRTY;
        }
        if bits & Protection::EXECUTE.bits() == 0 {
            rights |= Self::NO_EXECUTE;
        }
        rights
    }

    /// Whether something is mapped, with any rights or none.
    #[inline(always)]
    pub const fn is_mapped(self) -> bool {
        self.0 != 0
    }

    /// Whether the processor follows it.
    #[inline(always)]
    pub const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Where it leads.
    #[inline(always)]
    pub const fn frame(self) -> PhysFrame {
        PhysAddr(self.0 & Self::ADDRESS).frame()
    }

    /// The leaf with the rights of `protection`, but never the right to write where it had none.
    #[inline(always)]
    pub const fn restricted(self, protection: Protection) -> Self {
        let mut rights = Self::rights(protection);
        if self.0 & Self::WRITE == 0 {
            rights &= !(Self::WRITE | Self::DIRTY);
        }
        Self(self.0 & !Self::RIGHTS | rights)
    }

    /// The leaf without the right to write.
    #[inline(always)]
    pub const fn without_write(self) -> Self {
        Self(self.0 & !Self::WRITE)
    }

    /// The leaf as the contract describes it, if it is mapped.
    pub const fn mapping(self) -> Option<Mapping> {
        if !self.is_mapped() {
            return None;
        }
        let mut bits = 0;
        if self.is_present() {
            bits |= Protection::READ.bits();
            if self.0 & Self::WRITE != 0 {
                bits |= Protection::WRITE.bits();
            }
            if self.0 & Self::NO_EXECUTE == 0 {
                bits |= Protection::EXECUTE.bits();
            }
        }
        if self.0 & Self::USER != 0 {
            bits |= Protection::USER.bits();
        }
        Some(Mapping { frame: self.frame(), protection: Protection::from_bits_truncate(bits) })
    }
}
