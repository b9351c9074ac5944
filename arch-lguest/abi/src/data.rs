//! The page a virtual CPU shares with the host.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// `irq_enabled` when interrupts are enabled: the bit RFLAGS has for it.
pub const IRQ_ENABLED: u32 = 0x200;
/// `hcall_status` of an entry that the guest may fill.
pub const FREE: u8 = 0xff;
/// `hcall_status` of an entry that the host has yet to run.
pub const PENDING: u8 = 0;
/// Entries of the ring.
pub const RING_ENTRIES: usize = 64;
/// Virtual interrupts of a virtual CPU: as many as `blocked_interrupts` has bits.
pub const MOST_INTERRUPTS: u32 = 32;
/// The virtual interrupt of [`crate::Hypercall::SetClockevent`].
pub const VIRQ_TIMER: u32 = 0;
/// The virtual interrupt that says that console input has come.
pub const VIRQ_CONSOLE: u32 = 1;

/// One queued hypercall.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RingEntry {
    /// Number.
    pub rax: AtomicU64,
    /// First argument.
    pub rdi: AtomicU64,
    /// Second argument.
    pub rsi: AtomicU64,
    /// Third argument.
    pub rdx: AtomicU64,
    /// Fourth argument.
    pub r10: AtomicU64,
    /// Fifth argument.
    pub r8: AtomicU64,
}

impl RingEntry {
    const fn empty() -> Self {
        const fn word() -> AtomicU64 {
            AtomicU64::new(0)
        }
        Self { rax: word(), rdi: word(), rsi: word(), rdx: word(), r10: word(), r8: word() }
    }
}

/// Time since 1970-01-01 00:00 UTC.
#[derive(Debug)]
#[repr(C)]
pub struct WallClock {
    /// Seconds.
    pub seconds: AtomicU64,
    /// Nanoseconds of the second.
    pub nanoseconds: AtomicU64,
}

/// The shared page: one a virtual CPU, page aligned in guest-physical memory, named by
/// [`crate::Hypercall::LguestInit`]. Each field says who writes it and when.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct LguestData {
    /// Guest: [`IRQ_ENABLED`] or 0. Host: 0 when it delivers an event or system call, [`IRQ_ENABLED`] at a return to user
    /// mode and at [`crate::Hypercall::Halt`].
    pub irq_enabled: AtomicU32,
    /// Host: [`IRQ_ENABLED`] while an unblocked interrupt waits for `irq_enabled`, else 0.
    pub irq_pending: AtomicU32,
    /// Guest: not 0 when it has put something into the ring. Host: 0 when it has run the ring.
    pub hcall_pending: AtomicU32,
    /// Guest: bit n keeps virtual interrupt n back. All are set before the guest starts.
    pub blocked_interrupts: AtomicU32,
    /// Host: the address of the page fault that it delivers.
    pub cr2: AtomicU64,
    /// Host, at a system call: where user mode goes on. Guest, before SYSRET: the same.
    pub user_rip: AtomicU64,
    /// Host, at a system call: RFLAGS of user mode. Guest, before SYSRET: the same.
    pub user_rflags: AtomicU64,
    /// Guest, before SYSRET and IRET: RAX of the context it returns to.
    pub user_rax: AtomicU64,
    /// Guest, before IRET: RCX.
    pub user_rcx: AtomicU64,
    /// Guest, before IRET: R11.
    pub user_r11: AtomicU64,

    /// Guest: RSP at which an event from user mode is delivered (RSP0 of a task state segment), 16-byte aligned.
    pub kernel_stack: AtomicU64,
    /// Guest: GS base in kernel mode; loaded at every entry from user mode.
    pub kernel_gsbase: AtomicU64,
    /// Host, at an entry from user mode: GS base of user mode. Guest: may change it. Host, at a return to user mode: loads
    /// it, sign-extended from bit 47.
    pub user_gsbase: AtomicU64,
    /// Host: wall clock, refreshed at LGUEST_INIT and whenever an interrupt is delivered.
    pub time: WallClock,
    /// Zero.
    pub reserved0: [u64; 3],

    /// Host, at LGUEST_INIT: rate of the time stamp counter in kHz; 0 means that it must not be used.
    pub tsc_khz: AtomicU32,
    /// Zero.
    pub reserved1: u32,
    /// Host, at LGUEST_INIT: nanoseconds per count, with 32 bits behind the point; 0 with `tsc_khz`. The guest's clock is
    /// `((rdtsc - tsc_base) * tsc_scale) >> 32`, in 128 bits, and [`crate::Hypercall::GetTime`] agrees with it.
    pub tsc_scale: AtomicU64,
    /// Host, at LGUEST_INIT: the counter when the guest's clock was 0.
    pub tsc_base: AtomicU64,
    /// Host, at LGUEST_INIT: nanoseconds from 1970-01-01 00:00 UTC to the moment the guest's clock was 0; 0 if unknown.
    pub wall_clock_base: AtomicU64,
    /// Host, at LGUEST_INIT: the addresses that the host keeps for itself, from here
    pub reserve_start: AtomicU64,
    /// up to, not including, this.
    pub reserve_end: AtomicU64,

    /// Guest, before LGUEST_INIT: the instructions of the last part of an interrupt return to kernel mode, from here
    pub noirq_start: AtomicU64,
    /// up to, not including, this (`ABI.md`, "The final iret").
    pub noirq_end: AtomicU64,
    /// Guest, before LGUEST_INIT: all roots are the same from here on: [`crate::KERNEL_HALF`].
    pub kernel_address: AtomicU64,
    /// Guest, before LGUEST_INIT: where an event that interrupts user mode goes.
    pub event_from_user: AtomicU64,
    /// Guest, before LGUEST_INIT: where an event that interrupts kernel mode goes.
    pub event_from_kernel: AtomicU64,
    /// Guest, before LGUEST_INIT: where a system call goes.
    pub system_call: AtomicU64,
    /// Host, at [`crate::Hypercall::Cpuid`]: EAX, EBX, ECX, EDX.
    pub cpuid: [AtomicU32; 4],
    /// Host, at LGUEST_INIT: which virtual CPU this is.
    pub vcpu: AtomicU32,
    /// Zero.
    pub reserved2: u32,
    /// Zero.
    pub reserved3: [u64; 89],

    /// Both: the state of each ring entry, [`FREE`] or [`PENDING`]. The guest makes all [`FREE`] before LGUEST_INIT.
    pub hcall_status: [AtomicU8; RING_ENTRIES],
    /// Guest: the ring.
    pub hcalls: [RingEntry; RING_ENTRIES],
}

impl LguestData {
    /// A page as it must be before LGUEST_INIT, but for the addresses: interrupts disabled and blocked, the ring empty.
    pub const fn new() -> Self {
        const fn word() -> AtomicU64 {
            AtomicU64::new(0)
        }
        const fn half() -> AtomicU32 {
            AtomicU32::new(0)
        }
        Self {
            irq_enabled: half(),
            irq_pending: half(),
            hcall_pending: half(),
            blocked_interrupts: AtomicU32::new(u32::MAX),
            cr2: word(),
            user_rip: word(),
            user_rflags: word(),
            user_rax: word(),
            user_rcx: word(),
            user_r11: word(),
            kernel_stack: word(),
            kernel_gsbase: word(),
            user_gsbase: word(),
            time: WallClock { seconds: word(), nanoseconds: word() },
            reserved0: [0; 3],
            tsc_khz: half(),
            reserved1: 0,
            tsc_scale: word(),
            tsc_base: word(),
            wall_clock_base: word(),
            reserve_start: word(),
            reserve_end: word(),
            noirq_start: word(),
            noirq_end: word(),
            kernel_address: word(),
            event_from_user: word(),
            event_from_kernel: word(),
            system_call: word(),
            cpuid: [const { AtomicU32::new(0) }; 4],
            vcpu: half(),
            reserved2: 0,
            reserved3: [0; 89],
            hcall_status: [const { AtomicU8::new(FREE) }; RING_ENTRIES],
            hcalls: [const { RingEntry::empty() }; RING_ENTRIES],
        }
    }
}

impl Default for LguestData {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use core::mem::{offset_of, size_of};

    use super::*;

    #[test]
    fn the_page_is_laid_out_as_documented() {
        assert_eq!(size_of::<LguestData>(), 4096);
        for (offset, documented) in [
            (offset_of!(LguestData, irq_enabled), 0x00),
            (offset_of!(LguestData, irq_pending), 0x04),
            (offset_of!(LguestData, hcall_pending), 0x08),
            (offset_of!(LguestData, blocked_interrupts), 0x0c),
            (offset_of!(LguestData, cr2), 0x10),
            (offset_of!(LguestData, user_rip), 0x18),
            (offset_of!(LguestData, user_rflags), 0x20),
            (offset_of!(LguestData, user_rax), 0x28),
            (offset_of!(LguestData, user_rcx), 0x30),
            (offset_of!(LguestData, user_r11), 0x38),
            (offset_of!(LguestData, kernel_stack), 0x40),
            (offset_of!(LguestData, kernel_gsbase), 0x48),
            (offset_of!(LguestData, user_gsbase), 0x50),
            (offset_of!(LguestData, time), 0x58),
            (offset_of!(LguestData, tsc_khz), 0x80),
            (offset_of!(LguestData, tsc_scale), 0x88),
            (offset_of!(LguestData, tsc_base), 0x90),
            (offset_of!(LguestData, wall_clock_base), 0x98),
            (offset_of!(LguestData, reserve_start), 0xa0),
            (offset_of!(LguestData, reserve_end), 0xa8),
            (offset_of!(LguestData, noirq_start), 0xb0),
            (offset_of!(LguestData, noirq_end), 0xb8),
            (offset_of!(LguestData, kernel_address), 0xc0),
            (offset_of!(LguestData, event_from_user), 0xc8),
            (offset_of!(LguestData, event_from_kernel), 0xd0),
            (offset_of!(LguestData, system_call), 0xd8),
            (offset_of!(LguestData, cpuid), 0xe0),
            (offset_of!(LguestData, vcpu), 0xf0),
            (offset_of!(LguestData, hcall_status), 0x3c0),
            (offset_of!(LguestData, hcalls), 0x400),
            (size_of::<RingEntry>(), 48),
        ] {
            assert_eq!(offset, documented);
        }
    }

    #[test]
    fn a_new_page_blocks_every_interrupt_and_has_a_free_ring() {
        use core::sync::atomic::Ordering::Relaxed;
        let data = LguestData::new();
        assert_eq!(data.irq_enabled.load(Relaxed), 0);
        assert_eq!(data.blocked_interrupts.load(Relaxed), u32::MAX);
        assert!(data.hcall_status.iter().all(|status| status.load(Relaxed) == FREE));
    }
}
