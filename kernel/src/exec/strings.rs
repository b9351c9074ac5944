//! Lists of strings on their way to a new program: its arguments and its environment.

use alloc::vec::Vec;
use core::ffi::CStr;

use platform::PAGE_SIZE;

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;

/// The longest string, its NUL included (Linux's `MAX_ARG_STRLEN`).
pub const MAX_STRING: usize = 128 * 1024;
/// All strings together may have this much, however small the stack (Linux's `ARG_MAX`).
const LEAST_BUDGET: u64 = 128 * 1024;
/// And no more than this, however large the stack: three quarters of Linux's default.
const MOST_BUDGET: u64 = 6 << 20;
/// Bytes of a pointer in the user's array, and on the new program's stack.
const POINTER: usize = size_of::<u64>();

/// How much room the strings of a program may still take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    left: usize,
}

impl Budget {
    /// What a stack limit (in bytes) allows: a quarter of it.
    pub fn for_stack(limit: u64) -> Self {
        Self { left: (limit / 4).clamp(LEAST_BUDGET, MOST_BUDGET) as usize }
    }

    /// Takes room for a string of `bytes`, its NUL included, or a part of one.
    ///
    /// # Errors
    /// E2BIG if there is not as much left.
    pub fn take(&mut self, bytes: usize) -> KResult<()> {
        self.left = self.left.checked_sub(bytes).ok_or(Errno::E2BIG)?;
        Ok(())
    }
}

/// Strings behind one another, each with its NUL.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StringList {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl StringList {
    /// No strings.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), starts: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// All of them with their NULs.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each starts in [`Self::bytes`].
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// Adds a string, which has no NUL.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn push(&mut self, string: &[u8]) -> KResult<()> {
        let start = self.bytes.len() as u32;
        self.bytes.try_reserve(string.len() + 1).map_err(|_| Errno::ENOMEM)?;
        self.starts.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        self.starts.push(start);
        Ok(())
    }

    /// Puts `strings` in the place of the first string, if there is one.
    ///
    /// # Errors
    /// ENOMEM; the list is as it was.
    pub fn replace_first(&mut self, strings: &[&[u8]]) -> KResult<()> {
        let mut new = Self::new();
        new.bytes
            .try_reserve(self.bytes.len() + strings.iter().map(|string| string.len() + 1).sum::<usize>())
            .map_err(|_| Errno::ENOMEM)?;
        new.starts.try_reserve(self.starts.len() + strings.len()).map_err(|_| Errno::ENOMEM)?;
        for string in strings {
            new.push(string)?;
        }
        if let Some(&rest) = self.starts.get(1) {
            let moved_to = new.bytes.len() as u32;
            new.bytes.extend_from_slice(&self.bytes[rest as usize..]);
            new.starts.extend(self.starts[1..].iter().map(|start| start - rest + moved_to));
        }
        *self = new;
        Ok(())
    }

    /// Copies the strings that a user program's array names; a null array is one without strings.
    ///
    /// # Errors
    /// EFAULT; E2BIG for a string that is too long or more than `budget` allows; ENOMEM.
    pub fn from_user(array: UserAddr, budget: &mut Budget) -> KResult<Self> {
        Self::read(array, budget, |from, to| from.read_partial(to))
    }

    /// As [`Self::from_user`]; `read` copies bytes until a fault and returns how many.
    fn read(
        array: UserAddr,
        budget: &mut Budget,
        read: impl Fn(UserAddr, &mut [u8]) -> KResult<usize>,
    ) -> KResult<Self> {
        let mut list = Self::new();
        if array.is_null() {
            return Ok(list);
        }
        let mut window = Window::new(read);
        let mut pointers = [0; 16 * POINTER];
        let mut at = array;
        loop {
            let whole = to_page_end(at) / POINTER * POINTER;
            let length = whole.clamp(POINTER, pointers.len());
            let read = (window.read)(at, &mut pointers[..length])?;
            for pointer in pointers[..read].as_chunks().0 {
                let string = UserAddr(u64::from_ne_bytes(*pointer));
                if string.is_null() {
                    return Ok(list);
                }
                budget.take(POINTER)?;
                list.push_from(string, budget, &mut window)?;
            }
            if read < length {
                return Err(Errno::EFAULT);
            }
            at = at.offset(length as u64);
        }
    }

    fn push_from<R>(&mut self, string: UserAddr, budget: &mut Budget, window: &mut Window<R>) -> KResult<()>
    where
        R: Fn(UserAddr, &mut [u8]) -> KResult<usize>,
    {
        let start = self.bytes.len();
        let mut at = string;
        loop {
            let here = window.at(at)?;
            let end = CStr::from_bytes_until_nul(here).map(CStr::count_bytes);
            let part = match end {
                Ok(end) => &here[..=end],
                Err(_) => here,
            };
            if self.bytes.len() - start + part.len() > MAX_STRING {
                return Err(Errno::E2BIG);
            }
            budget.take(part.len())?;
            self.bytes.try_reserve(part.len()).map_err(|_| Errno::ENOMEM)?;
            self.bytes.extend_from_slice(part);
            if end.is_ok() {
                break;
            }
            at = at.offset(part.len() as u64);
        }
        self.starts.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.starts.push(start as u32);
        Ok(())
    }
}

/// A piece of user memory, copied: strings mostly lie side by side, so that one copy serves several of them.
struct Window<R> {
    read: R,
    start: UserAddr,
    length: usize,
    bytes: [u8; 256],
}

impl<R: Fn(UserAddr, &mut [u8]) -> KResult<usize>> Window<R> {
    fn new(read: R) -> Self {
        Self { read, start: UserAddr::NULL, length: 0, bytes: [0; 256] }
    }

    /// Some bytes from `address` on, at least one.
    fn at(&mut self, address: UserAddr) -> KResult<&[u8]> {
        let inside = address.0.wrapping_sub(self.start.0);
        let mut from = inside as usize;
        if inside >= self.length as u64 {
            // No further than the page goes: the next may not be there, and need not be.
            let length = to_page_end(address).min(self.bytes.len());
            self.length = 0;
            self.length = (self.read)(address, &mut self.bytes[..length])?;
            self.start = address;
            from = 0;
            if self.length == 0 {
                return Err(Errno::EFAULT);
            }
        }
        Ok(&self.bytes[from..self.length])
    }
}

fn to_page_end(address: UserAddr) -> usize {
    (PAGE_SIZE - address.0 % PAGE_SIZE) as usize
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const BASE: u64 = 0x10_0000;

    /// User memory from [`BASE`] on, whole pages, nothing mapped around it.
    struct Memory {
        bytes: Vec<u8>,
        reads: Cell<usize>,
    }

    impl Memory {
        fn new(pages: usize) -> Self {
            Self { bytes: vec![b'x'; pages * PAGE_SIZE as usize], reads: Cell::new(0) }
        }

        fn put(&mut self, at: u64, bytes: &[u8]) -> u64 {
            self.bytes[at as usize..][..bytes.len()].copy_from_slice(bytes);
            BASE + at
        }

        fn put_array(&mut self, at: u64, pointers: &[u64]) -> UserAddr {
            for (index, pointer) in pointers.iter().enumerate() {
                self.put(at + 8 * index as u64, &pointer.to_ne_bytes());
            }
            UserAddr(BASE + at)
        }

        fn list(&self, array: UserAddr, budget: &mut Budget) -> KResult<StringList> {
            StringList::read(array, budget, |from, to| {
                self.reads.set(self.reads.get() + 1);
                let Some(at) = from.0.checked_sub(BASE) else { return Ok(0) };
                let there = self.bytes.get(at as usize..).unwrap_or_default();
                let length = there.len().min(to.len());
                to[..length].copy_from_slice(&there[..length]);
                Ok(length)
            })
        }
    }

    fn strings(list: &StringList) -> Vec<&str> {
        list.starts()
            .iter()
            .map(|&start| {
                CStr::from_bytes_until_nul(&list.bytes()[start as usize..]).unwrap().to_str().unwrap()
            })
            .collect()
    }

    fn budget() -> Budget {
        Budget::for_stack(8 << 20)
    }

    #[test]
    fn copies_strings_from_anywhere() {
        let mut memory = Memory::new(3);
        let a = memory.put(0x800, b"sh\0");
        let b = memory.put(0x803, b"-c\0");
        let c = memory.put(0x1ffd, b"crosses\0");
        let empty = memory.put(0x2fff, b"\0");
        // An array that is not aligned, and crosses a page as well.
        let array = memory.put_array(0xfed, &[a, b, c, empty, a, 0]);
        assert_eq!(strings(&memory.list(array, &mut budget()).unwrap()), ["sh", "-c", "crosses", "", "sh"]);
        assert_eq!(memory.list(UserAddr::NULL, &mut budget()), Ok(StringList::new()));
    }

    #[test]
    fn neighbours_are_copied_at_once() {
        let mut memory = Memory::new(2);
        memory.put(0, b"A=1\0B=2\0C=3\0D=4\0");
        let array = memory.put_array(0x1000, &[BASE, BASE + 4, BASE + 8, BASE + 12, 0]);
        assert_eq!(strings(&memory.list(array, &mut budget()).unwrap()), ["A=1", "B=2", "C=3", "D=4"]);
        assert_eq!(memory.reads.get(), 2, "the array, and all strings");
    }

    #[test]
    fn faults_are_found() {
        let mut memory = Memory::new(1);
        let unterminated = memory.put(0xff0, &[b'y'; 16]);
        let array = memory.put_array(0, &[unterminated, 0]);
        assert_eq!(memory.list(array, &mut budget()), Err(Errno::EFAULT));
        let array = memory.put_array(0, &[BASE - 8, 0]);
        assert_eq!(memory.list(array, &mut budget()), Err(Errno::EFAULT));
        let endless = memory.put_array(0xff8, &[BASE + 0x100]);
        memory.put(0x100, b"z\0");
        assert_eq!(memory.list(endless, &mut budget()), Err(Errno::EFAULT));
        assert_eq!(memory.list(UserAddr(8), &mut budget()), Err(Errno::EFAULT));
    }

    #[test]
    fn too_much_is_refused() {
        let mut memory = Memory::new(40);
        let array = memory.put_array(0, &[BASE + 0x1000, 0]);
        memory.put(0x1000 + MAX_STRING as u64 - 1, b"\0");
        let list = memory.list(array, &mut budget()).unwrap();
        assert_eq!(list.bytes().len(), MAX_STRING);
        memory.put(0x1000 + MAX_STRING as u64 - 1, b"x\0");
        assert_eq!(memory.list(array, &mut budget()), Err(Errno::E2BIG));
        // Pointers count as well as bytes.
        let mut memory = Memory::new(1);
        let string = memory.put(0x800, b"1234567\0");
        let array = memory.put_array(0, &[string, string, 0]);
        assert!(memory.list(array, &mut Budget { left: 32 }).is_ok());
        assert_eq!(memory.list(array, &mut Budget { left: 31 }), Err(Errno::E2BIG));
    }

    #[test]
    fn the_budget_follows_the_stack() {
        assert_eq!(Budget::for_stack(8 << 20).left, 2 << 20);
        assert_eq!(Budget::for_stack(0).left, 128 << 10);
        assert_eq!(Budget::for_stack(u64::MAX).left, 6 << 20);
    }

    #[test]
    fn a_script_takes_the_place_of_its_name() {
        let mut list = StringList::new();
        list.replace_first(&[b"/bin/sh", b"/x"]).unwrap();
        assert_eq!(strings(&list), ["/bin/sh", "/x"], "there was no name");
        for string in [&b"one"[..], b"two"] {
            list.push(string).unwrap();
        }
        list.replace_first(&[b"/bin/env", b"-S sh", b"/bin/sh"]).unwrap();
        assert_eq!(strings(&list), ["/bin/env", "-S sh", "/bin/sh", "/x", "one", "two"]);
        list.replace_first(&[]).unwrap();
        assert_eq!(strings(&list), ["-S sh", "/bin/sh", "/x", "one", "two"]);
    }
}
