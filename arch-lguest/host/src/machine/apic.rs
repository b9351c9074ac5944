//! Interrupts of the machine: the local APIC with its timer, and lines of the I/O APIC (Intel SDM vol. 3A, 11; 82093AA).

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use platform::{Nanoseconds, PhysAddr};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::paging::direct;
use super::uart;
use crate::clock::Scale;

/// Vector of the timer.
pub const TIMER: u8 = 0x30;
/// Vector of COM1.
pub const CONSOLE: u8 = 0x31;
/// Vector of the machine's virtio devices.
pub const DEVICE: u8 = 0x40;
const SPURIOUS: u8 = 0xff;

const LOCAL: PhysAddr = PhysAddr(0xfee0_0000);
const IO: PhysAddr = PhysAddr(0xfec0_0000);
const IDENTITY: u64 = 0x20;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS_VECTOR: u64 = 0xf0;
const TIMER_ENTRY: u64 = 0x320;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;
const MASKED: u32 = 1 << 16;
const DEADLINE_MODE: u32 = 2 << 17;
const TSC_DEADLINE: Msr = Msr::new(0x6e0);
const APIC_BASE: Msr = Msr::new(0x1b);

/// Whether the timer takes a value of the time stamp counter.
static DEADLINE: AtomicBool = AtomicBool::new(false);
/// Nanoseconds per count of the timer, else.
static TIMER_SCALE: AtomicU64 = AtomicU64::new(0);

fn write(register: u64, value: u32) {
    // SAFETY: the local APIC's registers, mapped uncached.
    unsafe { direct(LOCAL + register).as_mut_ptr::<u32>().write_volatile(value) };
}

fn read(register: u64) -> u32 {
    // SAFETY: as above; reading these registers has no effect.
    unsafe { direct(LOCAL + register).as_ptr::<u32>().read_volatile() }
}

fn write_io(register: u32, value: u32) {
    // SAFETY: the I/O APIC's index and data registers, mapped uncached.
    unsafe {
        direct(IO).as_mut_ptr::<u32>().write_volatile(register);
        direct(IO + 0x10).as_mut_ptr::<u32>().write_volatile(value);
    }
}

/// Takes the machine's interrupts over: all off but the local APIC itself.
pub fn init() {
    // SAFETY: masks every line of the two 8259s; the local APIC is enabled at its usual place.
    unsafe {
        Port::<u8>::new(0x21).write(0xff);
        Port::<u8>::new(0xa1).write(0xff);
        let mut base = APIC_BASE;
        base.write(LOCAL.0 | 1 << 11 | base.read() & (1 << 8));
    }
    write(SPURIOUS_VECTOR, 1 << 8 | u32::from(SPURIOUS));
    write(TIMER_ENTRY, MASKED | u32::from(TIMER));
    write(DIVIDE, 0b1011); // by one
}

/// Starts the timer's counter, for a measurement.
pub fn start_counting() {
    write(INITIAL_COUNT, u32::MAX);
}

/// Counts since [`start_counting`].
pub fn counted() -> u32 {
    u32::MAX - read(CURRENT_COUNT)
}

/// Makes the timer usable: with the time stamp counter's value if the processor can, else at the rate measured.
pub fn enable_timer(deadline_mode: bool, scale: Scale) {
    write(INITIAL_COUNT, 0);
    DEADLINE.store(deadline_mode, Relaxed);
    TIMER_SCALE.store(scale.0, Relaxed);
    write(TIMER_ENTRY, u32::from(TIMER) | if deadline_mode { DEADLINE_MODE } else { 0 });
}

/// Lets COM1 interrupt.
pub fn enable_console() {
    route(uart::LINE, CONSOLE);
    uart::enable_interrupt();
}

/// The identity of this processor's local APIC.
pub fn id() -> u8 {
    (read(IDENTITY) >> 24) as u8
}

/// Lets a line of the I/O APIC interrupt this processor with `vector`: by its edge, active high.
pub fn route(line: u32, vector: u8) {
    write_io(0x10 + 2 * line + 1, u32::from(id()) << 24);
    write_io(0x10 + 2 * line, u32::from(vector));
}

/// Interrupts once when the time stamp counter has reached `deadline`, which is `wait` away; or earlier, if the timer cannot
/// count that far.
pub fn arm(deadline: u64, wait: Nanoseconds) {
    if DEADLINE.load(Relaxed) {
        let mut register = TSC_DEADLINE;
        // SAFETY: the processor has the register; a value that has passed interrupts at once.
        unsafe { register.write(deadline.max(1)) };
        return;
    }
    let counts = Scale(TIMER_SCALE.load(Relaxed)).counts(wait);
    write(INITIAL_COUNT, u32::try_from(counts).unwrap_or(u32::MAX).max(1));
}

/// An interrupt was taken.
pub fn end(vector: u8) {
    if vector != SPURIOUS {
        write(END_OF_INTERRUPT, 0);
    }
}
