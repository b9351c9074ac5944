//! Floating-point and vector registers in signal frames.
//!
//! The frame holds the platform's save area as `xsave` writes it (its standard form) or, on machines without it, as
//! `fxsave` does. With `xsave`, words that the processor leaves to software say so, and a second mark follows the area
//! (Linux arch/x86/include/uapi/asm/sigcontext.h, `struct _fpx_sw_bytes`).

use core::arch::asm;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use zerocopy::IntoBytes;

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::mm::{ExtendedArea, extended};
use crate::process::current;
use crate::sync::interrupts;
use crate::util::words;

/// Bytes of the area that `fxsave` writes, and that `xsave` begins with.
const LEGACY_BYTES: usize = 512;
/// Bytes of the header that follows with `xsave`.
const HEADER_BYTES: usize = 64;
/// Where in the legacy area the software's words are.
const SOFTWARE_WORDS: usize = 464;
/// How many bytes they have.
const SOFTWARE_BYTES: usize = LEGACY_BYTES - SOFTWARE_WORDS;
/// Where the header says which components are not in their initial state.
const XSTATE_BV: usize = LEGACY_BYTES;
/// `FP_XSTATE_MAGIC1`.
const MAGIC1: u32 = 0x4650_5853;
/// `FP_XSTATE_MAGIC2`, behind the area.
const MAGIC2: u32 = 0x4650_5845;
/// Components of the legacy area: x87 and SSE.
const LEGACY_COMPONENTS: u64 = 0b11;
/// Where the legacy area has MXCSR, and behind it a mask of its valid bits.
const MXCSR: usize = 24;
/// Initial x87 control word.
const INITIAL_FCW: u16 = 0x37f;

/// Whether the platform saves with `xsave`.
pub(super) fn uses_xsave() -> bool {
    extended::bytes() > LEGACY_BYTES
}

/// Bytes a frame needs for the registers.
pub(super) fn frame_bytes() -> usize {
    let bytes = extended::bytes();
    if bytes > LEGACY_BYTES { bytes + size_of::<u32>() } else { bytes }
}

/// Components that are enabled (XCR0).
fn components() -> u64 {
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            let (low, high): (u32, u32);
            // SAFETY: `xgetbv` is an unprivileged instruction; the platform uses `xsave`, so it has been enabled.
            unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
            let found = u64::from(high) << 32 | u64::from(low);
            KNOWN.store(found, Ordering::Relaxed);
            found
        }
        known => known,
    }
}

/// Writes the running task's registers to `to`, which is 64-byte aligned.
pub(super) fn save_to(to: UserAddr) -> KResult<()> {
    let area = current().extended_state();
    let bytes = extended::bytes();
    interrupts::disable();
    // SAFETY: the task's own area, of the size the platform asked for; the CPU holds the running task's registers.
    unsafe { extended::save(area) };
    interrupts::enable();
    // SAFETY: the area is initialized for all of its bytes. Should the copy wait for memory, the scheduler saves the
    // same registers there once more, which changes nothing.
    let saved = unsafe { core::slice::from_raw_parts(area.0.as_ptr::<u8>(), bytes) };
    MXCSR_MASK.store(half(saved, MXCSR + 4), Ordering::Relaxed);
    if !uses_xsave() {
        return to.write_bytes(saved);
    }
    if word(saved, XSTATE_BV) & LEGACY_COMPONENTS == LEGACY_COMPONENTS {
        to.write_bytes(&saved[..SOFTWARE_WORDS])?;
        to.offset(SOFTWARE_WORDS as u64).write(&software_words(bytes, components()))?;
        to.offset(LEGACY_BYTES as u64).write_bytes(&saved[LEGACY_BYTES..])?;
    } else {
        let mut head = [0; LEGACY_BYTES + HEADER_BYTES];
        words::copy_bytes(&mut head, &saved[..LEGACY_BYTES + HEADER_BYTES]);
        describe(&mut head, bytes, components());
        to.write_bytes(&head)?;
        to.offset(head.len() as u64).write_bytes(&saved[head.len()..])?;
    }
    to.offset(bytes as u64).write(&MAGIC2)
}

/// What the area says to software: its size and what it holds.
fn software_words(bytes: usize, components: u64) -> [u64; SOFTWARE_BYTES / 8] {
    let extended = (bytes + size_of::<u32>()) as u64;
    [u64::from(MAGIC1) | extended << 32, components, bytes as u64, 0, 0, 0]
}

/// Valid bits of MXCSR, as the processor says whenever it saves registers; 0 as long as it has not.
static MXCSR_MASK: AtomicU32 = AtomicU32::new(0);

/// Refuses bits of MXCSR that the processor should refuse: emulators let them pass.
fn check_mxcsr(legacy: &[u8]) -> KResult<()> {
    let mask = MXCSR_MASK.load(Ordering::Relaxed);
    if mask != 0 && half(legacy, MXCSR) & !mask != 0 { Err(Errno::EFAULT) } else { Ok(()) }
}

/// Completes the head of a saved area for a program's eyes: it may change the legacy registers without knowing of the
/// header, so they are always there and marked as such.
fn describe(head: &mut [u8; LEGACY_BYTES + HEADER_BYTES], bytes: usize, components: u64) {
    let present = word(head, XSTATE_BV);
    if present & 1 == 0 {
        // MXCSR and its mask, at 24 to 32, belong to SSE and are always valid.
        words::clear_bytes(&mut head[..24]);
        words::clear_bytes(&mut head[32..160]);
        head[..2].copy_from_slice(&INITIAL_FCW.to_le_bytes());
    }
    if present & 2 == 0 {
        words::clear_bytes(&mut head[160..416]);
    }
    head[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&(present | LEGACY_COMPONENTS).to_le_bytes());
    head[SOFTWARE_WORDS..LEGACY_BYTES].copy_from_slice(software_words(bytes, components).as_bytes());
}

/// Gives the running task the registers a new program starts with.
pub(super) fn start_afresh() {
    let area = current().extended_state();
    interrupts::disable();
    // SAFETY: the task's own area, of the size the platform asked for; the registers are the running task's.
    unsafe { extended::load_fresh(area) };
    interrupts::enable();
}

/// Loads the running task's registers from a signal frame's state at `from`; null stands for the initial state.
pub(super) fn restore_from(from: UserAddr) -> KResult<()> {
    if from.is_null() {
        start_afresh();
        return Ok(());
    }
    let bytes = extended::bytes();
    let alignment = if uses_xsave() { 64 } else { 16 };
    if !from.0.is_multiple_of(alignment) {
        return Err(Errno::EFAULT);
    }
    let mut area = ExtendedArea::unfilled().ok_or(Errno::ENOMEM)?;
    let (legacy, rest) = area.bytes_mut().split_at_mut(LEGACY_BYTES);
    let legacy = from.read_uninit(legacy)?;
    check_mxcsr(legacy)?;
    if uses_xsave() {
        let filled = match wanted_components(legacy, bytes, components()) {
            Some((wanted, user_bytes)) if from.offset(user_bytes as u64).read::<u32>()? == MAGIC2 => {
                let rest = &mut rest[..user_bytes - LEGACY_BYTES];
                let rest = from.offset(LEGACY_BYTES as u64).read_uninit(rest)?;
                check_header(&mut rest[..HEADER_BYTES], wanted, components())?;
                rest.len()
            }
            // Without the marks there is only the legacy part.
            _ => {
                let mut header = [0; HEADER_BYTES];
                header[..8].copy_from_slice(&LEGACY_COMPONENTS.to_le_bytes());
                rest[..HEADER_BYTES].write_copy_of_slice(&header);
                HEADER_BYTES
            }
        };
        rest[filled..].fill(MaybeUninit::new(0));
    }
    load(&area)
}

/// Which components a frame asks to restore, and how long its area is; none if the marks are not as the kernel left
/// them.
fn wanted_components(legacy: &[u8], bytes: usize, components: u64) -> Option<(u64, usize)> {
    let user_bytes = half(legacy, SOFTWARE_WORDS + 16) as usize;
    let marked = half(legacy, SOFTWARE_WORDS) == MAGIC1
        && user_bytes >= LEGACY_BYTES + HEADER_BYTES
        && user_bytes <= bytes
        && half(legacy, SOFTWARE_WORDS + 4) as usize >= user_bytes;
    marked.then(|| (word(legacy, SOFTWARE_WORDS + 8) & components, user_bytes))
}

/// Refuses a header the processor would refuse, and drops the components that are not wanted.
fn check_header(header: &mut [u8], wanted: u64, components: u64) -> KResult<()> {
    let present = word(header, 0);
    if present & !components != 0 || (8..HEADER_BYTES).step_by(8).any(|at| word(header, at) != 0) {
        return Err(Errno::EFAULT);
    }
    header[..8].copy_from_slice(&(present & wanted).to_le_bytes());
    Ok(())
}

fn load(area: &ExtendedArea) -> KResult<()> {
    interrupts::disable();
    // SAFETY: an area of the size the platform asked for, all of it filled. The registers are the running task's, whose own
    // area is written when they are saved next.
    let accepted = unsafe { extended::load(area.state()) };
    interrupts::enable();
    if accepted { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Control and status of the running task's x87 and SSE units: the exceptions raised and not masked.
pub(super) fn raised_exceptions() -> RaisedExceptions {
    let area = current().extended_state();
    interrupts::disable();
    // SAFETY: as in `save_to`.
    unsafe { extended::save(area) };
    interrupts::enable();
    // SAFETY: the legacy area is there on every platform.
    let legacy = unsafe { core::slice::from_raw_parts(area.0.as_ptr::<u8>(), LEGACY_BYTES) };
    let control = u16::from_le_bytes([legacy[0], legacy[1]]);
    let status = u16::from_le_bytes([legacy[2], legacy[3]]);
    let mxcsr = half(legacy, MXCSR);
    RaisedExceptions { x87: u32::from(status & !control) & 0x3f, sse: mxcsr & !(mxcsr >> 7) & 0x3f }
}

/// Exceptions raised and not masked, as bits: invalid, denormal, zero divide, overflow, underflow, precision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RaisedExceptions {
    /// Of the x87 unit.
    pub x87: u32,
    /// Of the SSE unit.
    pub sse: u32,
}

#[inline(always)]
fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 832;

    #[test]
    fn a_described_area_asks_for_what_it_holds() {
        let mut head = [0xaa; LEGACY_BYTES + HEADER_BYTES];
        head[XSTATE_BV..].fill(0);
        head[XSTATE_BV] = 4;
        describe(&mut head, BYTES, 7);
        assert_eq!(word(&head, XSTATE_BV), 7);
        assert_eq!(&head[..2], &INITIAL_FCW.to_le_bytes());
        assert_eq!(&head[24..32], &[0xaa; 8], "MXCSR is valid whatever the header says");
        assert!(head[160..416].iter().all(|&byte| byte == 0));
        assert_eq!(wanted_components(&head[..LEGACY_BYTES], BYTES, 7), Some((7, BYTES)));
        assert!(check_header(&mut head[LEGACY_BYTES..], 7, 7).is_ok());
    }

    #[test]
    fn broken_marks_leave_the_legacy_part_only() {
        let mut head = [0; LEGACY_BYTES + HEADER_BYTES];
        describe(&mut head, BYTES, 7);
        for (at, value) in [(0, 1_u32), (16, 100), (16, 4096), (4, 100)] {
            let mut broken = head;
            broken[SOFTWARE_WORDS + at..SOFTWARE_WORDS + at + 4].copy_from_slice(&value.to_le_bytes());
            assert_eq!(wanted_components(&broken[..LEGACY_BYTES], BYTES, 7), None, "word {at} = {value}");
        }
    }

    #[test]
    fn headers_the_processor_refuses_are_refused() {
        let mut header = [0; HEADER_BYTES];
        header[0] = 8;
        assert!(check_header(&mut header, 7, 7).is_err(), "a component that is not enabled");
        header[0] = 7;
        header[8] = 1;
        assert!(check_header(&mut header, 7, 7).is_err(), "the compacted form");
        header[8] = 0;
        assert!(check_header(&mut header, 3, 7).is_ok());
        assert_eq!(word(&header, 0), 3, "what is not asked for is left at its initial state");
    }
}
