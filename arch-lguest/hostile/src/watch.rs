//! The watching guest: what it wrote to its memory must stay there.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lguest_abi::{BootInfo, Hypercall, ShutdownReason, WaitMode};

use crate::attack::initialize;
use crate::call::{call, failed, physical, print, print_line, shut_down};

/// Memory that is watched: from here to the end.
const FROM: u64 = 0x20_0000;
/// Time between two looks.
const PAUSE: u64 = 5_000_000;

fn expected(at: u64) -> u64 {
    at.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// How often it has looked.
static LOOKS: AtomicU64 = AtomicU64::new(0);
/// Where its memory ends; 0 in a guest that does not watch.
static END: AtomicU64 = AtomicU64::new(0);

/// Fills the memory and begins.
pub fn watch(facts: &BootInfo) -> ! {
    initialize();
    END.store(facts.memory_bytes, Relaxed);
    for at in (FROM..facts.memory_bytes).step_by(8) {
        // SAFETY: memory that holds nothing else, seen through the boot map.
        unsafe { (at as *mut u64).write_volatile(expected(at)) };
    }
    print(b"neighbour: watching\r\n");
    look()
}

/// Whether this guest watches.
pub fn is_watching() -> bool {
    END.load(Relaxed) != 0
}

/// Looks, and waits for the timer; its event leads here again. Ends when a key was pressed.
pub fn look() -> ! {
    for at in (FROM..END.load(Relaxed)).step_by(8) {
        // SAFETY: as above.
        if unsafe { (at as *const u64).read_volatile() } != expected(at) {
            failed(b"neighbour: MY MEMORY HAS CHANGED\r\n\0");
        }
    }
    let looks = LOOKS.fetch_add(1, Relaxed) + 1;
    let key = [0u8];
    if call(Hypercall::ConsoleRead, [physical(&raw const key), 1, 0]) != 0 {
        print_line(b"neighbour: memory unchanged, looks: ", looks);
        shut_down(ShutdownReason::Exit, 0);
    }
    let now = call(Hypercall::GetTime, [0; 3]);
    call(Hypercall::SetClockevent, [now + PAUSE, 0, 0]);
    call(Hypercall::Halt, [WaitMode::ForInterrupt as u64, 0, 0]);
    failed(b"neighbour: a wait came back without an event\r\n\0")
}
