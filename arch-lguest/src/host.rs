//! Calls to the host.

use core::arch::asm;
use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{Hypercall, ShutdownReason, WaitMode};
use platform::{Nanoseconds, PhysAddr};

use crate::data::DATA;
use crate::irq::IrqGuard;

/// One call. The host runs the ring first.
///
/// # Safety
/// The arguments are what the call takes (the host kills a guest that is wrong); memory that the host writes is the
/// caller's.
#[inline(always)]
unsafe fn call(number: Hypercall, first: u64, second: u64, third: u64) -> u64 {
    let result;
    // SAFETY: in kernel mode the instruction is a hypercall, which keeps all registers but these. Memory is not `nomem`:
    // the host reads and writes some, and may deliver interrupts.
    unsafe {
        asm!("syscall", inlateout("rax") number as u64 => result, in("rdi") first, in("rsi") second, in("rdx") third,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A call that may stand in the ring and does not. Those change nothing in memory that is the kernel's.
#[inline(never)]
pub fn call_at_once(number: Hypercall, first: u64, second: u64, third: u64) {
    debug_assert!(number.may_wait());
    // SAFETY: what the ring's calls do is forget or load translations, which their callers answer for, or pass on text.
    unsafe { call(number, first, second, third) };
}

/// Names the shared page; the first call of all.
///
/// # Safety
/// Once, with the page's fields filled.
pub unsafe fn init(page: PhysAddr) {
    // SAFETY: as the caller promised.
    unsafe { call(Hypercall::LguestInit, page.0, 0, 0) };
}

/// Loads a root at once.
///
/// # Safety
/// It maps what the caller runs on.
pub unsafe fn load_root(root: PhysAddr) {
    // SAFETY: as the caller promised.
    unsafe { call(Hypercall::NewPgtable, root.0, 0, 0) };
}

/// Runs the ring.
#[inline]
pub fn run_ring() {
    // SAFETY: takes no arguments.
    unsafe { call(Hypercall::FlushAsync, 0, 0, 0) };
}

/// Lets the host deliver what is pending, if interrupts are enabled.
#[cold]
pub fn send_interrupts() {
    // SAFETY: takes no arguments.
    unsafe { call(Hypercall::SendInterrupts, 0, 0, 0) };
}

/// Enables interrupts and waits for one.
#[inline]
pub fn wait_for_interrupt() {
    // SAFETY: the contract lets the kernel do so.
    unsafe { call(Hypercall::Halt, WaitMode::ForInterrupt as u64, 0, 0) };
}

/// Never runs again.
pub fn halt() -> ! {
    loop {
        // SAFETY: as it says.
        unsafe { call(Hypercall::Halt, WaitMode::ForEver as u64, 0, 0) };
    }
}

/// Raises the timer's interrupt once the host's clock has reached `deadline`.
pub fn set_clock_event(deadline: Nanoseconds) {
    // SAFETY: any deadline is one; zero, which would mean none, is long past.
    unsafe { call(Hypercall::SetClockevent, deadline.0.max(1), 0, 0) };
}

/// The host's clock.
#[cold]
pub fn time() -> Nanoseconds {
    // SAFETY: takes no arguments.
    Nanoseconds(unsafe { call(Hypercall::GetTime, 0, 0, 0) })
}

/// What CPUID says to this guest: EAX, EBX, ECX, EDX.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let guard = IrqGuard::new();
    // SAFETY: any leaf may be asked for.
    unsafe { call(Hypercall::Cpuid, leaf.into(), subleaf.into(), 0) };
    let answer = [0, 1, 2, 3].map(|register: usize| DATA.cpuid[register].load(Relaxed));
    drop(guard);
    answer
}

/// Prints `bytes` bytes at `text` on the console.
///
/// # Safety
/// They lie in guest memory, and are no more than a call takes.
pub unsafe fn write_console(text: PhysAddr, bytes: u64) {
    // SAFETY: as the caller promised.
    unsafe { call(Hypercall::Notify, text.0, bytes, 0) };
}

/// Has the host look at a device.
///
/// # Safety
/// `device` is the guest-physical address of a descriptor in the page of devices.
pub unsafe fn notify_device(device: PhysAddr, what: u64) {
    // SAFETY: as the caller promised; what the device may read and write was handed to it before.
    unsafe { call(Hypercall::Notify, device.0, what, 0) };
}

/// Takes console input; returns how many bytes.
///
/// # Safety
/// `bytes` bytes of guest memory at `buffer` are the caller's.
pub unsafe fn read_console(buffer: PhysAddr, bytes: u64) -> u64 {
    // SAFETY: as the caller promised.
    unsafe { call(Hypercall::ConsoleRead, buffer.0, bytes, 0) }
}

/// Passes a line on.
///
/// # Safety
/// It lies in guest memory, has no line feed and is no longer than a call takes.
pub unsafe fn report(line: PhysAddr, bytes: u64) {
    // SAFETY: as the caller promised.
    unsafe { call(Hypercall::Report, line.0, bytes, 0) };
}

/// The guest is over.
pub fn shut_down(reason: ShutdownReason, status: u8) -> ! {
    // SAFETY: there is no text, and the status has eight bits.
    unsafe { call(Hypercall::Shutdown, 0, reason as u64, status.into()) };
    halt()
}
