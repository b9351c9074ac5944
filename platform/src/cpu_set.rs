//! CPUs and sets of them.

/// The most CPUs an image can use; more are left off.
pub const MAX_CPUS: usize = 64;

/// A CPU's number as the kernel counts: 0 is the boot CPU, the others follow without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct CpuId(pub u32);

impl CpuId {
    /// As an index into per-CPU arrays.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuSet(u64);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self(0);

    /// Only `cpu`.
    pub const fn one(cpu: CpuId) -> Self {
        Self(1 << cpu.0)
    }

    /// CPUs 0 up to, not including, `count` (at most [`MAX_CPUS`]).
    pub const fn first(count: usize) -> Self {
        if count >= MAX_CPUS { Self(u64::MAX) } else { Self((1 << count) - 1) }
    }

    /// Bit n stands for CPU n.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Bit n stands for CPU n.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// This set and `cpu`.
    #[must_use]
    pub const fn with(self, cpu: CpuId) -> Self {
        Self(self.0 | 1 << cpu.0)
    }

    /// This set less `cpu`.
    #[must_use]
    pub const fn without(self, cpu: CpuId) -> Self {
        Self(self.0 & !(1 << cpu.0))
    }

    /// CPUs in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `cpu` is in it.
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 & (1 << cpu.0) != 0
    }

    /// Whether it has no CPU.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many CPUs.
    pub const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Its CPUs, ascending.
    pub fn iter(self) -> impl Iterator<Item = CpuId> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            (left != 0).then(|| {
                let cpu = CpuId(left.trailing_zeros());
                left &= left - 1;
                cpu
            })
        })
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        cpus.into_iter().fold(Self::EMPTY, Self::with)
    }
}
