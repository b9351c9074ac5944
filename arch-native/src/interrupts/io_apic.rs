//! One I/O APIC: 24 lines, more or less, routed to CPUs (Intel 82093AA data sheet).

use core::ptr::NonNull;

use platform::VirtAddr;
use volatile::VolatilePtr;

const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;

/// Registers behind an index and a data window.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    memory: VirtAddr,
    /// Global number of the first line.
    pub first: u32,
    /// How many lines.
    pub lines: u32,
}

impl IoApic {
    /// The I/O APIC whose registers are mapped at `memory`; none if nothing answers there.
    ///
    /// # Safety
    /// The page is mapped uncached for ever.
    pub unsafe fn new(memory: VirtAddr, first: u32) -> Option<Self> {
        let mut this = Self { memory, first, lines: 0 };
        let version = this.read(VERSION);
        if version == u32::MAX || version & 0xff == 0 {
            return None;
        }
        this.lines = (version >> 16 & 0xff) + 1;
        Some(this)
    }

    /// Sets where and how line `line` (counted from this APIC's first) is delivered.
    pub fn redirect(&self, line: u32, low: u32, destination: u8) {
        self.write(REDIRECTION + 2 * line + 1, u32::from(destination) << 24);
        self.set(line, low);
    }

    /// Sets how line `line` is delivered.
    pub fn set(&self, line: u32, low: u32) {
        self.write(REDIRECTION + 2 * line, low);
    }

    fn read(&self, register: u32) -> u32 {
        self.pointer(0).write(register);
        self.pointer(0x10).read()
    }

    fn write(&self, register: u32, value: u32) {
        self.pointer(0).write(register);
        self.pointer(0x10).write(value);
    }

    fn pointer(&self, offset: u64) -> VolatilePtr<'_, u32> {
        // SAFETY: the constructor's caller mapped the registers; they are never null.
        unsafe { VolatilePtr::new(NonNull::new_unchecked((self.memory + offset).as_mut_ptr())) }
    }
}
