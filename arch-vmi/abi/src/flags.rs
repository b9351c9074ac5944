//! Flags and selectors in the calls' arguments.

bitflags::bitflags! {
    /// The level of a page table, or of the table that holds an entry. Exactly one is set.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PageLevel: u64 {
        /// Level 1: entries lead to pages of 4 KiB.
        const PT = 0x01;
        /// Level 2.
        const PD = 0x02;
        /// Level 3.
        const PDP = 0x04;
        /// Level 4: what CR3 leads to.
        const PML4 = 0x08;
    }

    /// Flags of `AllocatePage` beside the level.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PageUse: u64 {
        /// Some entries are copies of another table's.
        const CLONE = 0x20;
        /// The page is all zero.
        const ZEROED = 0x40;
    }

    /// Flags of `SetPxELong` and `UpdatePxELong` beside the level.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PteUpdate: u64 {
        /// The entry belongs to this CPU's active space, and the address argument is what it translates.
        const CURRENT_AS = 0x10;
        /// The write may wait until the queue is flushed.
        const DEFER = 0x20;
    }

    /// Flags of `FlushTLB`. With none, queued updates are made and nothing else.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct FlushTlb: u64 {
        /// All translations of the active space but for global ones.
        const TLB = 0x01;
        /// All translations of all spaces, global ones too.
        const GLOBAL = 0x02;
    }

    /// Flags of `SetAlarm` and `CancelAlarm` beside the counter, which is their low byte.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Alarm: u64 {
        /// Goes off again every period.
        const PERIODIC = 0x100;
        /// Delivered at the vector of the local APIC's timer entry.
        const WIRED_LVTT = 0x1_0000;
    }
}

/// A counter of cycles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Counter {
    /// All time.
    Real = 0,
    /// Time during which this CPU ran or waited.
    Available = 1,
    /// Time during which this CPU would have run and was not let.
    Stolen = 2,
}

/// What `SetLazyMode` begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum LazyMode {
    /// Nothing: what was put off is done now.
    Off = 0,
    /// Page-table updates may be put off.
    Mmu = 1,
    /// Changes of the CPU's state may be put off.
    Cpu = 2,
}

/// How `Reboot` restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum RebootKind {
    /// As a key combination would.
    Soft = 0,
    /// As the reset line would.
    Hard = 1,
}

/// Which base `SetSegmentBase` writes and `GetSegmentBase` reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum SegmentBase {
    /// FS.
    Fs = 0,
    /// GS, as it is now.
    Gs = 1,
    /// The base that `SWAPGS` puts in the place of GS: in the kernel, user mode's.
    OtherGs = 2,
}

impl Counter {
    /// The counter with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Real),
            1 => Some(Self::Available),
            2 => Some(Self::Stolen),
            _ => None,
        }
    }
}

impl LazyMode {
    /// The mode with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Off),
            1 => Some(Self::Mmu),
            2 => Some(Self::Cpu),
            _ => None,
        }
    }
}

impl SegmentBase {
    /// The base with this number.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Fs),
            1 => Some(Self::Gs),
            2 => Some(Self::OtherGs),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_one_argument_do_not_overlap() {
        assert_eq!(PageLevel::all().bits() & (PageUse::all().bits() | PteUpdate::all().bits()), 0);
        assert_eq!(Alarm::all().bits() & 0xff, 0);
    }

    #[test]
    fn numbers_of_version_3_are_kept() {
        assert_eq!(PageLevel::PML4.bits(), 8);
        assert_eq!((PteUpdate::CURRENT_AS.bits(), PteUpdate::DEFER.bits()), (0x10, 0x20));
        assert_eq!((PageUse::CLONE.bits(), PageUse::ZEROED.bits()), (0x20, 0x40));
        assert_eq!((Alarm::PERIODIC.bits(), Alarm::WIRED_LVTT.bits()), (0x100, 0x10000));
        assert_eq!((FlushTlb::TLB.bits(), FlushTlb::GLOBAL.bits()), (1, 2));
    }

    #[test]
    fn numbers_lead_back() {
        for number in 0..3 {
            assert_eq!(Counter::from_number(number).map(|counter| counter as u64), Some(number));
            assert_eq!(LazyMode::from_number(number).map(|mode| mode as u64), Some(number));
            assert_eq!(SegmentBase::from_number(number).map(|base| base as u64), Some(number));
        }
        assert_eq!(Counter::from_number(3), None);
        assert_eq!(LazyMode::from_number(3), None);
        assert_eq!(SegmentBase::from_number(3), None);
    }
}
