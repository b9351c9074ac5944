//! The guest that has all it can in registers which are switched between guests only, and looks whether it stays there while
//! another has the processor.

use core::arch::asm;
use core::arch::x86_64::_xgetbv;
use core::cell::UnsafeCell;

use lguest_abi::{BootInfo, ShutdownReason};

use crate::attack::initialize;
use crate::call::{failed, print, shut_down};
use crate::spin::clock;
use crate::words::parameter;

/// x87, SSE and AVX, as far as the host has them.
const COMPONENTS: u64 = 0b111;

/// An area of XSAVE (Intel SDM vol. 1, 13.4).
#[repr(C, align(64))]
struct Area(UnsafeCell<[u8; 1024]>);

// SAFETY: one virtual CPU, and no event comes: interrupts stay disabled.
unsafe impl Sync for Area {}

static FILLED: Area = Area(UnsafeCell::new([0; 1024]));
static SEEN: Area = Area(UnsafeCell::new([0; 1024]));

/// Where the area has the x87 control word, MXCSR, the ten bytes of the first x87 register, the SSE registers, the upper halves
/// of AVX's; and of how many bytes.
const CONTROL_WORD: (usize, usize) = (0, 2);
const MXCSR: (usize, usize) = (24, 4);
const X87: (usize, usize) = (32, 10);
const SSE: (usize, usize) = (160, 256);
const AVX: (usize, usize) = (576, 256);
/// Which x87 registers are in use.
const TAGS: usize = 4;
/// Which components the area has.
const HEADER: usize = 512;

/// Fills the registers from the guest's number, and looks at them until the guest's clock has so many milliseconds (`until=`).
pub fn keep(facts: &BootInfo) -> ! {
    initialize();
    let until = parameter(facts, b"until").unwrap_or(100) * 1_000_000;
    // SAFETY: the host has XSAVE and lets everybody see XCR0.
    let components = unsafe { _xgetbv(0) } & COMPONENTS;
    // SAFETY: nobody else uses the areas.
    let (filled, seen) = unsafe { (&mut *FILLED.0.get(), &mut *SEEN.0.get()) };
    let own = facts.guest as u8;
    for (at, bytes) in [X87, SSE, AVX] {
        for (n, byte) in (0u8..).zip(&mut filled[at..at + bytes.min(255)]) {
            *byte = n.wrapping_mul(37).wrapping_add(own.wrapping_mul(101)).wrapping_add(1);
        }
    }
    // Other rounding and precision, and all exceptions masked.
    filled[..2].copy_from_slice(&[0x027fu16, 0x0f7f][usize::from(own % 2)].to_le_bytes());
    filled[TAGS] = 1;
    filled[MXCSR.0..][..4].copy_from_slice(&[0x3f80u32, 0xdf80][usize::from(own % 2)].to_le_bytes());
    filled[HEADER] = components as u8;
    let base = 0x1234_5600 + facts.guest;
    let selector = [0x2b, 0u32][usize::from(own % 2)];
    // SAFETY: the area is one of XSAVE's that the processor takes; nothing here uses these registers.
    unsafe {
        asm!("xrstor64 [{}]", in(reg) filled, in("eax") components as u32, in("edx") 0, options(nostack));
        asm!("wrfsbase {}", in(reg) base, options(nostack));
        asm!("mov ds, {0:e}", in(reg) selector, options(nostack));
    }
    while clock() < until {
        let (now_base, now_selector): (u64, u32);
        // SAFETY: stores to an aligned area that is large enough, and reads registers.
        unsafe {
            asm!("xsave64 [{}]", in(reg) &mut *seen, in("eax") components as u32, in("edx") 0, options(nostack));
            asm!("rdfsbase {}", out(reg) now_base, options(nostack));
            asm!("mov {0:e}, ds", out(reg) now_selector, options(nostack));
        }
        let kept = |(at, bytes): (usize, usize)| filled[at..at + bytes] == seen[at..at + bytes];
        if ![CONTROL_WORD, MXCSR, X87, SSE].into_iter().all(kept) || (components & 4 != 0 && !kept(AVX)) {
            failed(b"state: EXTENDED STATE HAS CHANGED\r\n\0");
        }
        if (now_base, now_selector) != (base, selector) {
            failed(b"state: FS BASE OR A SELECTOR HAS CHANGED\r\n\0");
        }
    }
    print(b"state: kept\r\n");
    shut_down(ShutdownReason::Exit, 0);
}
