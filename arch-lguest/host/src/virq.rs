//! Virtual interrupts of a guest: which are pending, and which may be delivered.

use core::sync::atomic::Ordering::Relaxed;

use lguest_abi::{IRQ_ENABLED, LguestData, MOST_INTERRUPTS};

/// A virtual interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Virq(pub u32);

/// Interrupts that have been raised and not delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pending(u32);

impl Pending {
    /// As bits: bit n stands for interrupt n.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Raises `virq`.
    pub fn raise(&mut self, virq: Virq) {
        assert!(virq.0 < MOST_INTERRUPTS);
        self.0 |= 1 << virq.0;
    }

    /// The lowest that the guest has not blocked.
    pub fn next(self, data: &LguestData) -> Option<Virq> {
        let unblocked = self.0 & !data.blocked_interrupts.load(Relaxed);
        (unblocked != 0).then(|| Virq(unblocked.trailing_zeros()))
    }

    /// It has been delivered.
    pub fn delivered(&mut self, virq: Virq) {
        self.0 &= !(1 << virq.0);
    }

    /// Tells the guest whether something waits for its interrupt flag.
    pub fn announce(self, data: &LguestData) {
        let waits = if self.next(data).is_some() { IRQ_ENABLED } else { 0 };
        data.irq_pending.store(waits, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_unblocked_comes_first() {
        let data = LguestData::new();
        let mut pending = Pending::default();
        pending.raise(Virq(5));
        pending.raise(Virq(1));
        pending.announce(&data);
        assert_eq!((pending.next(&data), data.irq_pending.load(Relaxed)), (None, 0));
        data.blocked_interrupts.store(1 << 1, Relaxed);
        assert_eq!(pending.next(&data), Some(Virq(5)));
        data.blocked_interrupts.store(0, Relaxed);
        pending.announce(&data);
        assert_eq!(data.irq_pending.load(Relaxed), IRQ_ENABLED);
        assert_eq!(pending.next(&data), Some(Virq(1)));
        pending.delivered(Virq(1));
        pending.delivered(Virq(5));
        pending.announce(&data);
        assert_eq!((pending.bits(), data.irq_pending.load(Relaxed)), (0, 0));
    }
}
