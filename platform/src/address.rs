//! Physical and virtual addresses, frames and pages.

use core::fmt;
use core::ops::{Add, Sub};

/// Bytes in a frame or page.
pub const PAGE_SIZE: u64 = 4096;

/// A physical address as the kernel knows it. On a platform that translates frames (Xen PV) this is the
/// pseudo-physical address; the backend alone knows another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// A virtual address, in either half.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct VirtAddr(pub u64);

/// A frame number: the frame at physical address `number * PAGE_SIZE`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct PhysFrame(pub u64);

impl PhysAddr {
    /// The frame that holds this address.
    pub const fn frame(self) -> PhysFrame {
        PhysFrame(self.0 / PAGE_SIZE)
    }
}

impl PhysFrame {
    /// Address of the frame's first byte.
    pub const fn start(self) -> PhysAddr {
        PhysAddr(self.0 * PAGE_SIZE)
    }
}

impl VirtAddr {
    /// The address rounded down to its page.
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// The address rounded up to a page boundary; wraps to zero past the last page.
    pub const fn page_up(self) -> Self {
        Self(self.0.wrapping_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1))
    }

    /// Whether the address starts a page.
    pub const fn is_page_aligned(self) -> bool {
        self.0 & (PAGE_SIZE - 1) == 0
    }

    /// As a pointer.
    pub const fn as_ptr<T>(self) -> *const T {
        self.0 as *const T
    }

    /// As a pointer to write through.
    pub const fn as_mut_ptr<T>(self) -> *mut T {
        self.0 as *mut T
    }
}

/// Physical addresses from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PhysRange {
    /// First byte.
    pub start: PhysAddr,
    /// One past the last byte.
    pub end: PhysAddr,
}

impl PhysRange {
    /// Length in bytes.
    pub const fn bytes(self) -> u64 {
        self.end.0 - self.start.0
    }
}

/// Whole pages from `start` up to, not including, `end`; both are page aligned and `start <= end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRange {
    /// First page.
    pub start: VirtAddr,
    /// One past the last page.
    pub end: VirtAddr,
}

impl PageRange {
    /// The range between two page-aligned addresses.
    ///
    /// # Panics
    /// If either is not aligned or they are out of order.
    pub const fn new(start: VirtAddr, end: VirtAddr) -> Self {
        assert!(start.is_page_aligned() && end.is_page_aligned() && start.0 <= end.0);
        Self { start, end }
    }

    /// The single page that holds `address`.
    pub const fn page(address: VirtAddr) -> Self {
        let start = address.page();
        Self { start, end: VirtAddr(start.0 + PAGE_SIZE) }
    }

    /// Number of pages.
    pub const fn pages(self) -> u64 {
        (self.end.0 - self.start.0) / PAGE_SIZE
    }

    /// Whether there is no page in it.
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `address` lies in it.
    pub const fn contains(self, address: VirtAddr) -> bool {
        self.start.0 <= address.0 && address.0 < self.end.0
    }
}

macro_rules! address_arithmetic {
    ($($name:ident),*) => {$(
        impl Add<u64> for $name {
            type Output = Self;
            fn add(self, bytes: u64) -> Self {
                Self(self.0 + bytes)
            }
        }
        impl Sub<u64> for $name {
            type Output = Self;
            fn sub(self, bytes: u64) -> Self {
                Self(self.0 - bytes)
            }
        }
        impl Sub for $name {
            type Output = u64;
            fn sub(self, other: Self) -> u64 {
                self.0 - other.0
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    )*};
}
address_arithmetic!(PhysAddr, VirtAddr, PhysFrame);
