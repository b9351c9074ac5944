//! A register that ACPI describes by a generic address, ready to be used in any context.

use core::ptr::NonNull;

use acpi::address::{AddressSpace, GenericAddress};
use platform::{CacheMode, Kernel, PhysAddr};
use volatile::VolatilePtr;

use crate::machine::Machine;
use crate::paging::window::PhysicalWindow;

/// Where a register is.
#[derive(Clone, Copy, Debug)]
pub enum Register {
    /// At a port, eight bits wide.
    Port8(u16),
    /// At a port, sixteen bits wide.
    Port16(u16),
    /// In memory, eight bits wide, mapped for ever.
    Memory8(NonNull<u8>),
}

// SAFETY: the pointer leads to a device register, which any CPU may use.
unsafe impl Send for Register {}

impl Register {
    /// The register at `address`; none if it is of a kind that is not used for what this backend does.
    pub fn new<K: Kernel, M: Machine>(address: &GenericAddress) -> Option<Self> {
        if address.address == 0 {
            return None;
        }
        match address.address_space {
            AddressSpace::SystemIo => {
                let port = u16::try_from(address.address).ok()?;
                Some(if address.bit_width > 8 { Self::Port16(port) } else { Self::Port8(port) })
            }
            AddressSpace::SystemMemory => {
                let start = PhysAddr(address.address);
                let mapped = PhysicalWindow::<K, M>::map(start, 1, CacheMode::Uncacheable).ok()?;
                NonNull::new(mapped.as_mut_ptr()).map(Self::Memory8)
            }
            _ => None,
        }
    }

    /// Reads it.
    pub fn read<M: Machine>(self) -> u16 {
        // SAFETY: firmware says that the register is there; `new` mapped it.
        unsafe {
            match self {
                Self::Port8(port) => M::in8(port).into(),
                Self::Port16(port) => M::in16(port),
                Self::Memory8(at) => VolatilePtr::new(at).read().into(),
            }
        }
    }

    /// Writes it.
    pub fn write<M: Machine>(self, value: u16) {
        // SAFETY: firmware says that the register is there; `new` mapped it.
        unsafe {
            match self {
                Self::Port8(port) => M::out8(port, value as u8),
                Self::Port16(port) => M::out16(port, value),
                Self::Memory8(at) => VolatilePtr::new(at).write(value as u8),
            }
        }
    }
}
