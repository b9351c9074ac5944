//! Page-table updates that wait.

/// Updates that can wait on one CPU.
pub const CAPACITY: usize = 128;

/// An entry to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Update {
    /// Linear address of the entry.
    pub entry: u64,
    /// What it becomes.
    pub value: u64,
    /// The flags the guest gave.
    pub flags: u64,
}

/// One CPU's queue. All zero is empty.
#[derive(Debug)]
#[repr(C)]
pub struct UpdateQueue {
    length: usize,
    updates: [Update; CAPACITY],
}

impl UpdateQueue {
    /// Adds an update; gives it back if the queue is full.
    pub fn push(&mut self, update: Update) -> Result<(), Update> {
        match self.updates.get_mut(self.length) {
            Some(slot) => {
                *slot = update;
                self.length += 1;
                Ok(())
            }
            None => Err(update),
        }
    }

    /// Whether nothing waits.
    #[cfg(any(test, feature = "strict"))]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes all updates, in the order they came.
    pub fn drain(&mut self, mut apply: impl FnMut(Update)) {
        for update in self.updates.iter().take(self.length) {
            apply(*update);
        }
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const NOTHING: Update = Update { entry: 0, value: 0, flags: 0 };

    #[test]
    fn updates_keep_their_order_and_a_full_queue_says_so() {
        let mut queue = UpdateQueue { length: 0, updates: [NOTHING; CAPACITY] };
        for value in 0..CAPACITY as u64 {
            assert_eq!(queue.push(Update { value, ..NOTHING }), Ok(()));
        }
        let one_more = Update { value: 99, ..NOTHING };
        assert_eq!(queue.push(one_more), Err(one_more));
        let mut seen = Vec::new();
        queue.drain(|update| seen.push(update.value));
        assert_eq!(seen, (0..CAPACITY as u64).collect::<Vec<_>>());
        assert!(queue.is_empty());
        assert_eq!(queue.push(one_more), Ok(()));
    }
}
