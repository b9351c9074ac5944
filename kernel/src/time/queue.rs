//! The timers that are armed, ordered by deadline.
//!
//! A heap with four children per node over compact keys (a node's children share a cache line and a half), with the
//! timers' values beside it. Timers of the same deadline expire in the order they were armed. Not locked.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

use platform::{Nanoseconds, PAGE_SIZE};

/// Children of a heap node.
const FAN_OUT: usize = 4;
/// "No slot" in the list of free slots.
const NO_SLOT: u32 = u32::MAX;

/// Names one armed timer. A handle whose timer expired or was cancelled names nothing, for good: its slot's
/// generation moves on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimerHandle {
    slot: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Key {
    deadline: Nanoseconds,
    /// Order of arming, for timers of the same deadline.
    sequence: u64,
    slot: u32,
}

impl Key {
    fn before(&self, other: &Self) -> bool {
        (self.deadline, self.sequence) < (other.deadline, other.sequence)
    }
}

#[derive(Debug)]
enum Place<T> {
    /// In the heap at this position.
    Armed { position: u32, value: T },
    /// In the list of free slots.
    Free { next: u32 },
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    place: Place<T>,
}

/// Armed timers, each with a value of type `T`.
#[derive(Debug)]
pub struct TimerQueue<T> {
    heap: Vec<Key>,
    slots: Vec<Slot<T>>,
    free: u32,
    sequence: u64,
    /// What the generation of a slot begins with: more than that of any slot given back.
    first_generation: u32,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> TimerQueue<T> {
    /// An empty queue; it takes no memory.
    pub const fn new() -> Self {
        Self { heap: Vec::new(), slots: Vec::new(), free: NO_SLOT, sequence: 0, first_generation: 0 }
    }

    /// Timers armed now.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Makes sure that `additional` more timers can be armed without memory.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        let timers = self.heap.len() + additional;
        grow(&mut self.heap, timers)?;
        grow(&mut self.slots, timers)
    }

    /// Gives back memory that the timers armed now do not need, but for what [`Self::reserve`] takes at first.
    pub fn shrink(&mut self) {
        // Slots in use do not move, for handles name them.
        let used = self.slots.iter().rposition(|slot| matches!(slot.place, Place::Armed { .. }));
        let slots = used.map_or(0, |last| last + 1);
        if room::<Slot<T>>(slots) < self.slots.capacity() {
            self.drop_slots(slots);
            shrink(&mut self.slots);
        }
        if room::<Key>(self.heap.len()) < self.heap.capacity() {
            shrink(&mut self.heap);
        }
    }

    /// Forgets the slots from `end` on, which are free.
    fn drop_slots(&mut self, end: usize) {
        let newest = self.slots[end..].iter().map(|slot| slot.generation).max();
        self.first_generation = self.first_generation.max(newest.map_or(0, |newest| newest.wrapping_add(1)));
        self.slots.truncate(end);
        self.free = NO_SLOT;
        for number in (0..self.slots.len()).rev() {
            if let Place::Free { next } = &mut self.slots[number].place {
                *next = self.free;
                self.free = number as u32;
            }
        }
    }

    /// Arms a timer for an absolute time. O(log n).
    ///
    /// # Errors
    /// If there is no memory; cannot happen after [`Self::reserve`].
    pub fn arm(&mut self, deadline: Nanoseconds, value: T) -> Result<TimerHandle, TryReserveError> {
        self.reserve(1)?;
        let position = self.heap.len();
        let place = Place::Armed { position: position as u32, value };
        let slot = if self.free == NO_SLOT {
            self.slots.push(Slot { generation: self.first_generation, place });
            self.slots.len() as u32 - 1
        } else {
            let slot = self.free;
            let freed = &mut self.slots[slot as usize];
            if let Place::Free { next } = freed.place {
                self.free = next;
            }
            freed.place = place;
            slot
        };
        let sequence = self.next_sequence();
        self.heap.push(Key { deadline, sequence, slot });
        self.sift_up(position);
        Ok(TimerHandle { slot, generation: self.slots[slot as usize].generation })
    }

    /// Disarms a timer and returns its value; `None` if it expired or was cancelled. O(log n).
    pub fn cancel(&mut self, handle: TimerHandle) -> Option<T> {
        let position = self.position(handle)?;
        Some(self.remove(position))
    }

    /// Moves a timer to another deadline, behind those already armed for it. False if it expired or was cancelled.
    pub fn rearm(&mut self, handle: TimerHandle, deadline: Nanoseconds) -> bool {
        let Some(position) = self.position(handle) else { return false };
        let sequence = self.next_sequence();
        let key = &mut self.heap[position];
        key.deadline = deadline;
        key.sequence = sequence;
        self.settle(position);
        true
    }

    /// The deadline of an armed timer.
    pub fn deadline(&self, handle: TimerHandle) -> Option<Nanoseconds> {
        self.position(handle).map(|position| self.heap[position].deadline)
    }

    /// The earliest deadline. O(1).
    pub fn next_deadline(&self) -> Option<Nanoseconds> {
        self.heap.first().map(|key| key.deadline)
    }

    /// Takes the earliest timer whose deadline is not after `now`. O(log n).
    pub fn pop_expired(&mut self, now: Nanoseconds) -> Option<(Nanoseconds, T)> {
        let deadline = self.next_deadline().filter(|&deadline| deadline <= now)?;
        Some((deadline, self.remove(0)))
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn position(&self, handle: TimerHandle) -> Option<usize> {
        let slot =
            self.slots.get(handle.slot as usize).filter(|slot| slot.generation == handle.generation)?;
        match slot.place {
            Place::Armed { position, .. } => Some(position as usize),
            Place::Free { .. } => None,
        }
    }

    fn remove(&mut self, position: usize) -> T {
        let key = self.heap.swap_remove(position);
        if position < self.heap.len() {
            self.settle(position);
        }
        let slot = &mut self.slots[key.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        match core::mem::replace(&mut slot.place, Place::Free { next: self.free }) {
            Place::Armed { value, .. } => {
                self.free = key.slot;
                value
            }
            Place::Free { .. } => unreachable!("a key in the heap names an armed slot"),
        }
    }

    /// Moves the key at `position`, which may be out of order both ways, to its place.
    fn settle(&mut self, position: usize) {
        let settled = self.sift_up(position);
        if settled == position {
            self.sift_down(position);
        }
    }

    fn sift_up(&mut self, mut position: usize) -> usize {
        let key = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / FAN_OUT;
            if !key.before(&self.heap[parent]) {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, key);
        position
    }

    fn sift_down(&mut self, mut position: usize) {
        let key = self.heap[position];
        loop {
            let first = position * FAN_OUT + 1;
            let last = (first + FAN_OUT).min(self.heap.len());
            if first >= last {
                break;
            }
            let mut least = first;
            for child in first + 1..last {
                if self.heap[child].before(&self.heap[least]) {
                    least = child;
                }
            }
            if !self.heap[least].before(&key) {
                break;
            }
            self.place(position, self.heap[least]);
            position = least;
        }
        self.place(position, key);
    }

    fn place(&mut self, at: usize, key: Key) {
        self.heap[at] = key;
        if let Place::Armed { position, .. } = &mut self.slots[key.slot as usize].place {
            *position = at as u32;
        }
    }
}

/// How many elements there is room for if there are to be at least `count`: memory is taken by whole pages, which it fills, and
/// twice as much each time. So no half-used page of the kernel heap is held for a timer.
fn room<E>(count: usize) -> usize {
    let pages = (count * size_of::<E>()).div_ceil(PAGE_SIZE as usize).next_power_of_two();
    pages * PAGE_SIZE as usize / size_of::<E>()
}

fn grow<E>(list: &mut Vec<E>, count: usize) -> Result<(), TryReserveError> {
    if count > list.capacity() { list.try_reserve_exact(room::<E>(count) - list.len()) } else { Ok(()) }
}

/// Gives back what `list` does not need. If there is no memory to move it to, it stays as it is.
fn shrink<E>(list: &mut Vec<E>) {
    let mut smaller = Vec::new();
    if smaller.try_reserve_exact(room::<E>(list.len())).is_ok() {
        smaller.append(list);
        *list = smaller;
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u64),
        Cancel(usize),
        Rearm(usize, u64),
        Expire(u64),
        Shrink,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (0u64..100).prop_map(Step::Arm),
            2 => any::<usize>().prop_map(Step::Cancel),
            2 => (any::<usize>(), 0u64..100).prop_map(|(n, deadline)| Step::Rearm(n, deadline)),
            1 => (0u64..100).prop_map(Step::Expire),
            1 => Just(Step::Shrink),
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(steps in steps()) {
            let mut queue = TimerQueue::new();
            // Deadline, order of arming, value; and every handle ever given with its value.
            let mut armed: Vec<(u64, usize, usize)> = Vec::new();
            let mut handles = Vec::new();
            for (order, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Arm(deadline) => {
                        handles.push((queue.arm(Nanoseconds(deadline), order).unwrap(), order));
                        armed.push((deadline, order, order));
                    }
                    Step::Cancel(n) => if !handles.is_empty() {
                        let (handle, value) = handles[n % handles.len()];
                        let found = armed.iter().position(|timer| timer.2 == value);
                        prop_assert_eq!(queue.deadline(handle), found.map(|at| Nanoseconds(armed[at].0)));
                        prop_assert_eq!(queue.cancel(handle), found.map(|at| armed.remove(at).2));
                    },
                    Step::Rearm(n, deadline) => if !handles.is_empty() {
                        let (handle, value) = handles[n % handles.len()];
                        let found = armed.iter().position(|timer| timer.2 == value);
                        prop_assert_eq!(queue.rearm(handle, Nanoseconds(deadline)), found.is_some());
                        if let Some(at) = found {
                            armed[at] = (deadline, order, value);
                        }
                    },
                    Step::Shrink => {
                        queue.shrink();
                        prop_assert!(queue.heap.capacity() <= room::<Key>(armed.len()));
                    }
                    Step::Expire(now) => {
                        armed.sort_unstable();
                        while let Some((deadline, value)) = queue.pop_expired(Nanoseconds(now)) {
                            prop_assert!(deadline.0 <= now);
                            let first = armed.remove(0);
                            prop_assert_eq!((deadline.0, value), (first.0, first.2));
                        }
                        prop_assert!(armed.first().is_none_or(|first| first.0 > now));
                    }
                }
                prop_assert_eq!(queue.len(), armed.len());
                prop_assert_eq!(queue.next_deadline(), armed.iter().map(|timer| Nanoseconds(timer.0)).min());
            }
        }
    }

    #[test]
    fn a_stale_handle_does_not_reach_the_next_timer_in_its_slot() {
        let mut queue = TimerQueue::new();
        let first = queue.arm(Nanoseconds(5), 'a').unwrap();
        assert_eq!(queue.pop_expired(Nanoseconds(4)), None);
        assert_eq!(queue.pop_expired(Nanoseconds(5)), Some((Nanoseconds(5), 'a')));
        let second = queue.arm(Nanoseconds(9), 'b').unwrap();
        assert_eq!(first.slot, second.slot);
        assert_eq!(queue.cancel(first), None);
        assert!(!queue.rearm(first, Nanoseconds(1)));
        assert_eq!(queue.deadline(second), Some(Nanoseconds(9)));
        assert_eq!(queue.cancel(second), Some('b'));
        assert!(queue.is_empty() && queue.next_deadline().is_none());
    }

    #[test]
    fn what_many_timers_took_is_given_back() {
        let mut queue = TimerQueue::new();
        queue.reserve(1).unwrap();
        let first = (queue.heap.capacity(), queue.slots.capacity());
        let handles: Vec<_> = (0..1000).map(|n| queue.arm(Nanoseconds(n), n).unwrap()).collect();
        assert!(queue.heap.capacity() > first.0 && queue.slots.capacity() > first.1);
        for (value, handle) in (0..).zip(&handles) {
            assert_eq!(queue.cancel(*handle), Some(value));
        }
        queue.shrink();
        assert_eq!((queue.heap.capacity(), queue.slots.capacity()), first);
        // What is armed anew is not taken for what was armed before.
        let again: Vec<_> = (0..1000).map(|n| queue.arm(Nanoseconds(n), n).unwrap()).collect();
        assert!(handles.into_iter().all(|handle| queue.deadline(handle).is_none()));
        assert!(again.into_iter().all(|handle| queue.deadline(handle).is_some()));
    }

    #[test]
    fn reserved_room_is_enough() {
        let mut queue = TimerQueue::new();
        queue.reserve(1000).unwrap();
        let room = (queue.heap.capacity(), queue.slots.capacity());
        for round in 0..3 {
            let handles: Vec<_> = (0..1000).map(|n| queue.arm(Nanoseconds(n ^ round), n).unwrap()).collect();
            assert!(handles.into_iter().all(|handle| queue.cancel(handle).is_some()));
        }
        assert_eq!((queue.heap.capacity(), queue.slots.capacity()), room);
    }
}
