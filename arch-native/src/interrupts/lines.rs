//! Interrupt lines: those of the I/O APICs by their global numbers, and messages from devices.
//!
//! A device's message cannot be masked below the device. So a masked one that arrives is kept, and raised again when it
//! is unmasked.

use core::sync::atomic::{AtomicU8, Ordering};

use platform::{CpuId, CpuSet, InterruptError, IrqLine, MessageAddress};

use super::io_apic::IoApic;
use super::local_apic::{self, MASKED};
use super::vectors::{self, FIRST_LINE, LINES_END};
use crate::irq::IrqLock;
use crate::machine::Machine;

/// Lines of I/O APICs that can be used.
const MOST_LINES: usize = 240;
const MOST_IO_APICS: usize = 8;
/// Messages are lines from here on, by vector.
const FIRST_MESSAGE: u32 = 0x1000;

const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
/// Where a device writes messages (Intel SDM vol. 3A, 10.11).
const MESSAGE_BASE: u64 = 0xfee0_0000;

#[derive(Clone, Copy)]
struct Line {
    /// Polarity and trigger mode; with vector and mask once it is routed.
    low: u32,
    vector: u8,
}

struct Lines {
    io_apics: [Option<IoApic>; MOST_IO_APICS],
    lines: [Line; MOST_LINES],
    /// Global number of each ISA interrupt.
    isa: [u32; 16],
    /// One bit for each vector in use.
    vectors: [u64; 4],
}

static LINES: IrqLock<Lines> = IrqLock::new(Lines {
    io_apics: [None; MOST_IO_APICS],
    lines: [Line { low: 0, vector: 0 }; MOST_LINES],
    isa: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    vectors: [0; 4],
});

/// How a line signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal {
    /// A level, not an edge.
    pub level: bool,
    /// Active low, not high.
    pub active_low: bool,
}

/// Adds an I/O APIC and masks its lines.
pub fn add_io_apic<M: Machine>(io_apic: IoApic) {
    LINES.with::<M, _>(|lines| {
        for n in 0..io_apic.lines {
            io_apic.redirect(n, MASKED, 0);
            // What firmware does not describe: ISA's edges, and PCI's levels behind them.
            if let Some(line) = lines.lines.get_mut((io_apic.first + n) as usize)
                && io_apic.first + n >= 16
            {
                line.low = LEVEL | ACTIVE_LOW;
            }
        }
        if let Some(slot) = lines.io_apics.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some(io_apic);
        }
    });
}

/// Says that ISA interrupt `irq` is line `line` and how it signals.
pub fn override_isa<M: Machine>(irq: u8, line: u32, signal: Signal) {
    LINES.with::<M, _>(|lines| {
        if let Some(number) = lines.isa.get_mut(usize::from(irq)) {
            *number = line;
        }
        if let Some(entry) = lines.lines.get_mut(line as usize) {
            entry.low = if signal.level { LEVEL } else { 0 } | if signal.active_low { ACTIVE_LOW } else { 0 };
        }
    });
}

/// The line of ISA interrupt `irq`, if an I/O APIC has it.
pub fn isa<M: Machine>(irq: u8) -> Option<IrqLine> {
    LINES.with::<M, _>(|lines| {
        let number = *lines.isa.get(usize::from(irq))?;
        lines.find(number).map(|_| IrqLine(number))
    })
}

impl Lines {
    /// The I/O APIC of a line, and the line's number there.
    fn find(&self, line: u32) -> Option<(IoApic, u32)> {
        if line as usize >= MOST_LINES {
            return None;
        }
        let io_apic = self
            .io_apics
            .iter()
            .flatten()
            .find(|io_apic| io_apic.first <= line && line - io_apic.first < io_apic.lines)?;
        Some((*io_apic, line - io_apic.first))
    }

    fn allocate_vector(&mut self, line: impl FnOnce(u8) -> IrqLine) -> Result<u8, InterruptError> {
        let free = (FIRST_LINE..LINES_END)
            .find(|&vector| self.vectors[usize::from(vector / 64)] & 1 << (vector % 64) == 0)
            .ok_or(InterruptError::Exhausted)?;
        self.vectors[usize::from(free / 64)] |= 1 << (free % 64);
        vectors::assign(free, Some(line(free)));
        Ok(free)
    }

    fn free_vector(&mut self, vector: u8) {
        vectors::assign(vector, None);
        self.vectors[usize::from(vector / 64)] &= !(1 << (vector % 64));
    }

    /// Sets or clears the mask of an I/O APIC's line.
    fn set_mask(&mut self, line: IrqLine, masked: bool) {
        let Some((io_apic, number)) = self.find(line.0) else { return };
        let entry = &mut self.lines[line.0 as usize];
        if entry.vector == 0 {
            return;
        }
        let low = if masked { entry.low | MASKED } else { entry.low & !MASKED };
        if low != entry.low {
            entry.low = low;
            io_apic.set(number, low);
        }
    }
}

/// The identity of `cpu`, if a line or message can name it.
fn destination(cpu: CpuId) -> Result<u8, InterruptError> {
    u8::try_from(local_apic::id(cpu)).ok().filter(|&id| id != u8::MAX).ok_or(InterruptError::Unsupported)
}

/// [`platform::Interrupts::route`].
pub fn route<M: Machine>(line: IrqLine, cpu: CpuId) -> Result<(), InterruptError> {
    if let Some(message) = message_vector(line) {
        // The device knows the address: it stays where it is.
        let at = MESSAGE_CPU[usize::from(message)].load(Ordering::Relaxed);
        return if u32::from(at) == cpu.0 { Ok(()) } else { Err(InterruptError::Unsupported) };
    }
    let destination = destination(cpu)?;
    LINES.with::<M, _>(|lines| {
        let (io_apic, number) = lines.find(line.0).ok_or(InterruptError::NoSuchLine)?;
        let at = line.0 as usize;
        if lines.lines[at].vector == 0 {
            let vector = lines.allocate_vector(|_| line)?;
            lines.lines[at].vector = vector;
            lines.lines[at].low |= u32::from(vector);
        }
        lines.lines[at].low |= MASKED;
        // Masked first: the destination must not change under an interrupt on its way.
        io_apic.set(number, lines.lines[at].low);
        io_apic.redirect(number, lines.lines[at].low, destination);
        Ok(())
    })
}

const MESSAGE_MASKED: u8 = 1;
const MESSAGE_PENDING: u8 = 2;

static MESSAGES: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
static MESSAGE_CPU: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];

fn message_vector(line: IrqLine) -> Option<u8> {
    u8::try_from(line.0.checked_sub(FIRST_MESSAGE)?).ok()
}

/// Whether a message that arrived is masked; it is then remembered.
#[inline(always)]
pub fn is_held_back(line: IrqLine, vector: u8) -> bool {
    if line.0 < FIRST_MESSAGE {
        return false;
    }
    let state = &MESSAGES[usize::from(vector)];
    state.load(Ordering::Acquire) != 0
        && state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state & MESSAGE_MASKED != 0).then_some(state | MESSAGE_PENDING)
            })
            .is_ok()
}

/// [`platform::Interrupts::mask`].
pub fn mask<M: Machine>(line: IrqLine) {
    match message_vector(line) {
        Some(vector) => {
            MESSAGES[usize::from(vector)].fetch_or(MESSAGE_MASKED, Ordering::AcqRel);
        }
        None => LINES.with::<M, _>(|lines| lines.set_mask(line, true)),
    }
}

/// [`platform::Interrupts::unmask`].
pub fn unmask<M: Machine>(line: IrqLine) {
    match message_vector(line) {
        Some(vector) => {
            if MESSAGES[usize::from(vector)].swap(0, Ordering::AcqRel) & MESSAGE_PENDING != 0 {
                let cpu = MESSAGE_CPU[usize::from(vector)].load(Ordering::Relaxed);
                local_apic::send::<M>(CpuSet::one(CpuId(u32::from(cpu))), vector);
            }
        }
        None => LINES.with::<M, _>(|lines| lines.set_mask(line, false)),
    }
}

/// [`platform::Interrupts::allocate_message`].
pub fn allocate_message<M: Machine>(cpu: CpuId) -> Result<(IrqLine, MessageAddress), InterruptError> {
    let destination = destination(cpu)?;
    let line = |vector: u8| IrqLine(FIRST_MESSAGE + u32::from(vector));
    let vector = LINES.with::<M, _>(|lines| {
        let vector = lines.allocate_vector(line)?;
        MESSAGES[usize::from(vector)].store(MESSAGE_MASKED, Ordering::Release);
        MESSAGE_CPU[usize::from(vector)].store(cpu.0 as u8, Ordering::Release);
        Ok(vector)
    })?;
    let address = MESSAGE_BASE | u64::from(destination) << 12;
    Ok((line(vector), MessageAddress { address, data: u32::from(vector) }))
}

/// [`platform::Interrupts::free_message`].
pub fn free_message<M: Machine>(line: IrqLine) {
    if let Some(vector) = message_vector(line) {
        LINES.with::<M, _>(|lines| lines.free_vector(vector));
    }
}
