//! A guest's memory, as the host sees it: a block of RAM that every access is checked against.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lguest_abi::{DevicePage, LguestData};
use platform::{PAGE_SIZE, PhysAddr, PhysRange};

use crate::rule::{Broken, Rule};

/// Alignment of a guest's memory.
pub const LARGE_PAGE: u64 = 2 << 20;

/// A guest-physical address: what the guest takes for a physical one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct GuestPhys(pub u64);

/// The memory of one guest.
#[derive(Clone, Copy, Debug)]
pub struct GuestMemory {
    words: &'static [AtomicU64],
    host: PhysAddr,
}

impl GuestMemory {
    /// The memory of `words`, which lies at host-physical address `host` (on a boundary of 2 MiB, so that the guest's large
    /// pages are the host's) and is of whole pages.
    ///
    /// # Panics
    /// If it is not.
    pub fn new(words: &'static [AtomicU64], host: PhysAddr) -> Self {
        assert!(host.0.is_multiple_of(LARGE_PAGE) && (size_of_val(words) as u64).is_multiple_of(PAGE_SIZE));
        assert!((words.as_ptr() as u64).is_multiple_of(PAGE_SIZE));
        Self { words, host }
    }

    /// Bytes.
    pub fn bytes(&self) -> u64 {
        size_of_val(self.words) as u64
    }

    /// Checks that `bytes` bytes from `address` on lie in memory.
    pub fn check(&self, address: GuestPhys, bytes: u64) -> Result<(), Broken> {
        match address.0.checked_add(bytes) {
            Some(end) if end <= self.bytes() => Ok(()),
            _ => Err(Rule::AddressOutsideMemory.broken_by(address.0)),
        }
    }

    /// Where the frame at `frame` really is, if it is in memory.
    #[inline]
    pub fn host_address(&self, frame: GuestPhys) -> Option<PhysAddr> {
        (frame.0 < self.bytes()).then(|| PhysAddr(self.host.0 + frame.0))
    }

    /// Where `bytes` bytes from `address` on really are: memory is in one piece.
    pub fn host_range(&self, address: GuestPhys, bytes: u64) -> Result<PhysRange, Broken> {
        self.check(address, bytes)?;
        let start = self.host + address.0;
        Ok(PhysRange { start, end: start + bytes })
    }

    #[inline]
    fn word(&self, address: GuestPhys) -> Option<&'static AtomicU64> {
        self.words.get((address.0 / 8) as usize)
    }

    /// The word that holds `address` (a multiple of 8).
    #[inline]
    pub fn read(&self, address: GuestPhys) -> Result<u64, Broken> {
        let word = self.word(address).ok_or(Rule::AddressOutsideMemory.broken_by(address.0))?;
        Ok(word.load(Relaxed))
    }

    /// Writes the word that holds `address` (a multiple of 8).
    #[inline]
    pub fn write(&self, address: GuestPhys, value: u64) -> Result<(), Broken> {
        let word = self.word(address).ok_or(Rule::AddressOutsideMemory.broken_by(address.0))?;
        word.store(value, Relaxed);
        Ok(())
    }

    /// Sets bits in the word that holds `address`.
    #[inline]
    pub fn set_bits(&self, address: GuestPhys, bits: u64) -> Result<(), Broken> {
        let word = self.word(address).ok_or(Rule::AddressOutsideMemory.broken_by(address.0))?;
        word.store(word.load(Relaxed) | bits, Relaxed);
        Ok(())
    }

    /// Fills `to` with the bytes from `from` on.
    pub fn copy_out(&self, from: GuestPhys, to: &mut [u8]) -> Result<(), Broken> {
        self.check(from, to.len() as u64)?;
        let mut address = from.0;
        let mut left = to;
        while !left.is_empty() {
            let at = (address % 8) as usize;
            let bytes = self.words[(address / 8) as usize].load(Relaxed).to_le_bytes();
            let count = (8 - at).min(left.len());
            let (now, rest) = left.split_at_mut(count);
            now.copy_from_slice(&bytes[at..at + count]);
            (address, left) = (address + count as u64, rest);
        }
        Ok(())
    }

    /// Writes `from` to the bytes from `to` on. The bytes around them may change at the same time.
    pub fn copy_in(&self, to: GuestPhys, from: &[u8]) -> Result<(), Broken> {
        self.check(to, from.len() as u64)?;
        let mut address = to.0;
        let mut left = from;
        while !left.is_empty() {
            let at = (address % 8) as usize;
            let word = &self.words[(address / 8) as usize];
            let (now, rest) = left.split_at((8 - at).min(left.len()));
            if let Ok(eight) = now.try_into() {
                word.store(u64::from_le_bytes(eight), Relaxed);
            } else {
                let with = |word: u64| {
                    let mut bytes = word.to_le_bytes();
                    bytes[at..at + now.len()].copy_from_slice(now);
                    u64::from_le_bytes(bytes)
                };
                let _ = word.fetch_update(Relaxed, Relaxed, |word| Some(with(word)));
            }
            (address, left) = (address + now.len() as u64, rest);
        }
        Ok(())
    }

    /// Makes all of it zero. Only what is not is written: below an emulator, memory that was never written costs nothing.
    pub fn clear(&self) {
        for line in self.words.chunks_exact(8) {
            if line.iter().fold(0, |bits, word| bits | word.load(Relaxed)) != 0 {
                line.iter().for_each(|word| word.store(0, Relaxed));
            }
        }
    }

    /// The shared page at `address`.
    pub fn shared_page(&self, address: GuestPhys) -> Result<&'static LguestData, Broken> {
        let page = self.page(address)?.cast::<LguestData>();
        // SAFETY: a page that lives for ever; any bytes are an `LguestData`, which is of atomics.
        #[expect(unsafe_code, reason = "the page is a structure of atomics in memory that is checked")]
        Ok(unsafe { &*page })
    }

    /// The page at `address`, as one that describes devices.
    pub fn device_page(&self, address: GuestPhys) -> Result<&'static DevicePage, Broken> {
        let page = self.page(address)?.cast::<DevicePage>();
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "the page is a structure of atomics in memory that is checked")]
        Ok(unsafe { &*page })
    }

    /// A page of memory: 4096 bytes of atomics, page aligned because the block and `address` are.
    fn page(&self, address: GuestPhys) -> Result<*const AtomicU64, Broken> {
        if !address.0.is_multiple_of(PAGE_SIZE) {
            return Err(Rule::UnalignedAddress.broken_by(address.0));
        }
        self.check(address, PAGE_SIZE)?;
        Ok(self.words[(address.0 / 8) as usize..][..512].as_ptr())
    }
}

#[cfg(test)]
pub mod testing {
    //! Memory on the build machine.

    use std::alloc::{Layout, alloc_zeroed};
    use std::slice;

    use super::*;

    /// Zeroed, page-aligned memory that is never freed.
    #[expect(unsafe_code, reason = "an aligned block of atomics has no safe constructor")]
    pub fn words(pages: usize) -> &'static [AtomicU64] {
        let layout = Layout::from_size_align(pages * 4096, 4096).unwrap();
        // SAFETY: zeroed words are atomics, and the block is as large as its layout says.
        unsafe { slice::from_raw_parts(alloc_zeroed(layout).cast(), pages * 512) }
    }

    /// A guest's memory of `pages` pages that says it lies at `host`.
    pub fn memory(pages: usize, host: u64) -> GuestMemory {
        GuestMemory::new(words(pages), PhysAddr(host))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::memory;
    use super::*;

    #[test]
    fn borders_are_checked_and_sums_do_not_wrap() {
        let memory = memory(2, 0x20_0000);
        assert!(memory.check(GuestPhys(0), 8192).is_ok());
        assert!(memory.check(GuestPhys(8192), 0).is_ok());
        for (address, bytes) in [(0, 8193), (8192, 1), (u64::MAX, 1), (u64::MAX, 2), (1, u64::MAX)] {
            assert_eq!(
                memory.check(GuestPhys(address), bytes).unwrap_err().rule,
                Rule::AddressOutsideMemory,
                "{address:#x} {bytes:#x}"
            );
        }
        assert!(memory.read(GuestPhys(8184)).is_ok());
        assert!(memory.read(GuestPhys(8192)).is_err());
        assert_eq!(memory.host_address(GuestPhys(4096)), Some(PhysAddr(0x20_1000)));
        assert_eq!(memory.host_address(GuestPhys(8192)), None);
        assert_eq!(memory.shared_page(GuestPhys(8)).unwrap_err().rule, Rule::UnalignedAddress);
        assert_eq!(memory.shared_page(GuestPhys(8192)).unwrap_err().rule, Rule::AddressOutsideMemory);
    }

    proptest! {
        #[test]
        fn what_is_copied_in_comes_out(at in 0u64..4000, bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            let memory = memory(1, 0);
            memory.copy_in(GuestPhys(at), &bytes).unwrap();
            let mut back = vec![0; bytes.len()];
            memory.copy_out(GuestPhys(at), &mut back).unwrap();
            prop_assert_eq!(&back, &bytes);
            let mut before = vec![1; at as usize];
            memory.copy_out(GuestPhys(0), &mut before).unwrap();
            prop_assert!(before.iter().all(|&byte| byte == 0));
            let mut after = vec![1; 4096 - at as usize - bytes.len()];
            memory.copy_out(GuestPhys(at + bytes.len() as u64), &mut after).unwrap();
            prop_assert!(after.iter().all(|&byte| byte == 0));
        }
    }
}
