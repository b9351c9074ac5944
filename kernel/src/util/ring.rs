//! A ring buffer of bytes with a fixed capacity, as pipes and terminals use.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// Bytes in the order they came in. The free part can be filled, and the used part read, in place.
#[derive(Debug)]
pub struct ByteRing {
    /// Its length is the capacity, a power of two.
    bytes: Vec<u8>,
    /// Bytes taken out in all, wrapping.
    read: usize,
    /// Bytes put in in all, wrapping.
    written: usize,
}

impl ByteRing {
    /// An empty ring for at least `capacity` bytes, rounded up to a power of two.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn with_capacity(capacity: usize) -> Result<Self, TryReserveError> {
        let capacity = capacity.max(1).checked_next_power_of_two().unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(capacity)?;
        bytes.resize(capacity, 0);
        Ok(Self { bytes, read: 0, written: 0 })
    }

    /// How many bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.written.wrapping_sub(self.read)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.read == self.written
    }

    /// How many more bytes it can take.
    pub fn free(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Whether it can take nothing more.
    pub fn is_full(&self) -> bool {
        self.free() == 0
    }

    /// The bytes it holds, oldest first: the second part follows the first.
    pub fn readable(&self) -> (&[u8], &[u8]) {
        let start = self.index(self.read);
        let length = self.len();
        let first = length.min(self.capacity() - start);
        (&self.bytes[start..start + first], &self.bytes[..length - first])
    }

    /// Drops up to `count` of the oldest bytes.
    pub fn consume(&mut self, count: usize) {
        self.read = self.read.wrapping_add(count.min(self.len()));
        if self.is_empty() {
            // The next bytes then lie in one piece.
            self.clear();
        }
    }

    /// The room for more bytes: the second part follows the first. What is there is arbitrary.
    pub fn writable(&mut self) -> (&mut [u8], &mut [u8]) {
        let start = self.index(self.written);
        let free = self.free();
        let first = free.min(self.capacity() - start);
        let (front, back) = self.bytes.split_at_mut(start);
        (&mut back[..first], &mut front[..free - first])
    }

    /// Takes in `count` bytes, at most the room there is, that were written through [`Self::writable`].
    pub fn commit(&mut self, count: usize) {
        self.written = self.written.wrapping_add(count.min(self.free()));
    }

    /// Puts in as much of `data` as fits; says how much.
    pub fn write(&mut self, data: &[u8]) -> usize {
        let (first, second) = self.writable();
        let (count, rest) = copy(first, data);
        let count = count + copy(second, rest).0;
        self.commit(count);
        count
    }

    /// Takes out as much as is there and `buffer` holds; says how much.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.peek(buffer);
        self.consume(count);
        count
    }

    /// Like [`Self::read`], but leaves the bytes where they are.
    pub fn peek(&self, buffer: &mut [u8]) -> usize {
        let (first, second) = self.readable();
        let count = first.len().min(buffer.len());
        let (front, back) = buffer.split_at_mut(count);
        front.copy_from_slice(&first[..count]);
        count + copy(back, second).0
    }

    /// Takes out the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        let byte = *self.readable().0.first()?;
        self.consume(1);
        Some(byte)
    }

    /// Puts in one byte; false if there is no room.
    pub fn push(&mut self, byte: u8) -> bool {
        self.write(&[byte]) == 1
    }

    /// Takes back the newest byte, as when a line is edited.
    pub fn unpush(&mut self) -> Option<u8> {
        if self.is_empty() {
            return None;
        }
        self.written = self.written.wrapping_sub(1);
        Some(self.bytes[self.index(self.written)])
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.read = 0;
        self.written = 0;
    }

    fn index(&self, position: usize) -> usize {
        position & (self.capacity() - 1)
    }
}

/// Copies as much of `from` as fits into `to`; how much, and what is left.
fn copy<'a>(to: &mut [u8], from: &'a [u8]) -> (usize, &'a [u8]) {
    let count = to.len().min(from.len());
    let (now, rest) = from.split_at(count);
    to[..count].copy_from_slice(now);
    (count, rest)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(Vec<u8>),
        Read(usize),
        InPlace(usize, u8),
        Consume(usize),
        Pop,
        Push(u8),
        Unpush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(Step::Write),
            4 => (0usize..20).prop_map(Step::Read),
            1 => (0usize..20, any::<u8>()).prop_map(|(count, byte)| Step::InPlace(count, byte)),
            1 => (0usize..20).prop_map(Step::Consume),
            1 => Just(Step::Pop),
            1 => any::<u8>().prop_map(Step::Push),
            1 => Just(Step::Unpush),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn agrees_with_a_queue(capacity in 0usize..20, steps in steps(), start in prop_oneof![Just(0), Just(usize::MAX - 7)]) {
            let mut ring = ByteRing::with_capacity(capacity).unwrap();
            let capacity = ring.capacity();
            prop_assert!(capacity.is_power_of_two() && capacity < 40);
            // The counts may wrap.
            (ring.read, ring.written) = (start, start);
            let mut queue: VecDeque<u8> = VecDeque::new();
            for step in steps {
                match step {
                    Step::Write(data) => {
                        let count = data.len().min(capacity - queue.len());
                        prop_assert_eq!(ring.write(&data), count);
                        queue.extend(&data[..count]);
                    }
                    Step::Read(length) => {
                        let mut buffer = vec![0; length];
                        let mut peeked = vec![0; length];
                        let count = length.min(queue.len());
                        prop_assert_eq!(ring.peek(&mut peeked), count);
                        prop_assert_eq!(ring.read(&mut buffer), count);
                        prop_assert_eq!(&peeked, &buffer);
                        buffer.truncate(count);
                        prop_assert_eq!(buffer, queue.drain(..count).collect::<Vec<u8>>());
                    }
                    Step::InPlace(count, byte) => {
                        let (first, second) = ring.writable();
                        prop_assert_eq!(first.len() + second.len(), capacity - queue.len());
                        first.iter_mut().chain(second).take(count).for_each(|room| *room = byte);
                        ring.commit(count);
                        queue.extend(vec![byte; count.min(capacity - queue.len())]);
                    }
                    Step::Consume(count) => {
                        ring.consume(count);
                        queue.drain(..count.min(queue.len()));
                    }
                    Step::Pop => prop_assert_eq!(ring.pop(), queue.pop_front()),
                    Step::Push(byte) => if ring.push(byte) {
                        queue.push_back(byte);
                    } else {
                        prop_assert_eq!(queue.len(), capacity);
                    },
                    Step::Unpush => prop_assert_eq!(ring.unpush(), queue.pop_back()),
                }
                let (first, second) = ring.readable();
                prop_assert_eq!([first, second].concat(), queue.iter().copied().collect::<Vec<u8>>());
                prop_assert_eq!((ring.len(), ring.free()), (queue.len(), capacity - queue.len()));
                prop_assert_eq!((ring.is_empty(), ring.is_full()), (queue.is_empty(), queue.len() == capacity));
            }
        }
    }

    #[test]
    fn an_impossible_capacity_is_an_error() {
        assert!(ByteRing::with_capacity(usize::MAX).is_err());
        assert_eq!(ByteRing::with_capacity(1000).unwrap().capacity(), 1024);
    }
}
