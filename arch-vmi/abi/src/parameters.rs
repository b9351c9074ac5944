//! What the guest hands to `VMI_Init`, and what comes back.

use core::mem::{offset_of, size_of};

/// The most private memory a CPU that a ROM may ask for, bytes: one page.
pub const MOST_CPU_BYTES: u32 = 4096;
/// Words of eight bytes that the guest keeps for the hypervisor in each CPU's private data.
pub const WORDS_PER_CPU: usize = 2;

/// What `VMI_Init` is told. The guest may reuse the structure when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct InitParameters {
    /// Size of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Physical address of the ROM's first byte.
    pub rom: u64,
    /// Physical address of the private memory: of the byte mapped at the ROM plus `data_offset`.
    pub data: u64,
    /// Physical address of a page below 640 KiB that becomes the hypervisor's; zero if there is none.
    pub low_page: u64,
    /// Linear address at which physical addresses 0 to 4 GiB are mapped until `VMI_Init` returns.
    pub physical_map: u64,
    /// Where the hypervisor's words are, from the kernel's GS base.
    pub cpu_words: u32,
    /// Zero.
    pub reserved: u32,
}

/// The result of `VMI_Init`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub enum InitStatus {
    /// The interface is ready.
    Ready = 0,
    /// For a reason not listed here. All that version 3 knew.
    Failed = -1,
    /// The parameters are not those of this version, or are out of their range.
    BadParameters = -2,
    /// The CPU lacks what the hypervisor needs.
    UnsuitableCpu = -3,
    /// The machine has no clock to measure the CPU's counter with.
    NoClock = -4,
    /// The machine has no local APIC that can be used.
    NoLocalApic = -5,
}

impl InitStatus {
    /// The status with this number; whatever is not known is [`InitStatus::Failed`].
    pub const fn from_number(number: i64) -> Self {
        match number {
            0 => Self::Ready,
            -2 => Self::BadParameters,
            -3 => Self::UnsuitableCpu,
            -4 => Self::NoClock,
            -5 => Self::NoLocalApic,
            _ => Self::Failed,
        }
    }
}

const _: () = {
    assert!(size_of::<InitParameters>() == 48);
    assert!(offset_of!(InitParameters, rom) == 8);
    assert!(offset_of!(InitParameters, data) == 16);
    assert!(offset_of!(InitParameters, low_page) == 24);
    assert!(offset_of!(InitParameters, physical_map) == 32);
    assert!(offset_of!(InitParameters, cpu_words) == 40);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_numbers_lead_back() {
        for number in -5..=0 {
            assert_eq!(InitStatus::from_number(number) as i64, number);
        }
        assert_eq!(InitStatus::from_number(1), InitStatus::Failed);
        assert_eq!(InitStatus::from_number(-6), InitStatus::Failed);
    }
}
