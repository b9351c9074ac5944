//! The console, and the buffer through which text goes to the host.

use core::cell::UnsafeCell;
use core::marker::PhantomData;

use lguest_abi::VIRQ_CONSOLE;
use platform::{IrqLine, Kernel, PhysAddr};

use crate::data::physical;
use crate::host;
use crate::irq::IrqGuard;

/// [`platform::Console`] of an lguest guest.
#[derive(Debug)]
pub struct LguestConsole<K>(PhantomData<K>);

/// Memory whose guest-physical address is known, whatever is on its way to or from the host. Only used with interrupts
/// disabled, on the one CPU there is.
#[repr(align(64))]
struct Buffer(UnsafeCell<[u8; 512]>);

// SAFETY: there is one CPU, and it uses the buffer with interrupts disabled.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([0; 512]));

/// Calls `send` with guest-physical pieces of `bytes`, at least one.
fn in_pieces(bytes: &[u8], send: impl Fn(PhysAddr, u64)) {
    let mut left = bytes;
    loop {
        let guard = IrqGuard::new();
        // SAFETY: this CPU's only, for interrupts are disabled.
        let buffer = unsafe { &mut *BUFFER.0.get() };
        let (piece, rest) = left.split_at(left.len().min(buffer.len()));
        buffer[..piece.len()].copy_from_slice(piece);
        send(physical(&raw const BUFFER), piece.len() as u64);
        drop(guard);
        left = rest;
        if left.is_empty() {
            return;
        }
    }
}

/// Writes all of `bytes`.
pub fn write(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    // SAFETY: the pieces lie in the buffer, which is shorter than what a call takes.
    in_pieces(bytes, |text, length| unsafe { host::write_console(text, length) });
}

/// Passes a line on, as far as the buffer has room for it.
pub fn report(line: &[u8]) {
    let line = &line[..line.len().min(size_of::<Buffer>())];
    // SAFETY: as above; a line is one piece.
    in_pieces(line, |text, length| unsafe { host::report(text, length) });
}

#[platform::backend]
impl<K: Kernel> platform::Console for LguestConsole<K> {
    fn write(bytes: &[u8]) {
        write(bytes);
    }

    fn read(into: &mut [u8]) -> usize {
        let guard = IrqGuard::new();
        let most = into.len().min(size_of::<Buffer>());
        // SAFETY: the buffer is this CPU's only, for interrupts are disabled.
        let count = unsafe { host::read_console(physical(&raw const BUFFER), most as u64) } as usize;
        // SAFETY: the same.
        let came = unsafe { &*BUFFER.0.get() };
        let count = count.min(most);
        into[..count].copy_from_slice(&came[..count]);
        drop(guard);
        count
    }

    fn input_line() -> Option<IrqLine> {
        Some(IrqLine(VIRQ_CONSOLE))
    }
}
