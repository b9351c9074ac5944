//! The far side of a transfer: where the bytes of a read go, and where those of a write come from.
//!
//! Both keep count of what was moved. A fault on user memory is an error only if nothing was moved before it, as in
//! Linux: otherwise the transfer ends there and counts as short.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;

/// Most bytes one call moves (Linux's `MAX_RW_COUNT`).
pub const MAX_TRANSFER: usize = 0x7fff_f000;
/// Most ranges in a vector (`UIO_MAXIOV`).
pub const MAX_VECTORS: usize = 1024;

/// A range of user memory (`struct iovec`).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UserRange {
    /// First byte.
    pub base: UserAddr,
    /// Bytes.
    pub length: u64,
}

/// How many bytes of a range that a program gave one call moves.
#[inline]
fn checked_length(address: UserAddr, length: usize) -> KResult<usize> {
    address.check(length)?;
    if isize::try_from(length).is_err() {
        return Err(Errno::EINVAL);
    }
    Ok(length.min(MAX_TRANSFER))
}

/// The ranges that `readv(2)` and its kin were given, checked.
pub struct UserVector {
    ranges: Vec<UserRange>,
    total: usize,
}

impl UserVector {
    /// Reads `count` ranges from the user array at `array`.
    ///
    /// # Errors
    /// EINVAL for too many ranges or a length beyond `ssize_t`; EFAULT.
    pub fn read(array: UserAddr, count: usize) -> KResult<Self> {
        if count > MAX_VECTORS {
            return Err(Errno::EINVAL);
        }
        let mut ranges: Vec<UserRange> = array.read_array(count)?;
        let mut total = 0usize;
        for range in &mut ranges {
            let length = usize::try_from(range.length as i64).map_err(|_| Errno::EINVAL)?;
            range.base.check(length)?;
            let length = length.min(MAX_TRANSFER - total);
            range.length = length as u64;
            total += length;
        }
        Ok(Self { ranges, total })
    }

    /// As the destination of a read.
    pub fn destination(&self) -> IoDst<'_> {
        IoDst {
            far: FarDst::Vector { ranges: &self.ranges, done_in_first: 0 },
            remaining: self.total,
            moved: 0,
        }
    }

    /// As the source of a write.
    pub fn source(&self) -> IoSrc<'_> {
        IoSrc {
            far: FarSrc::Vector { ranges: &self.ranges, done_in_first: 0 },
            remaining: self.total,
            moved: 0,
        }
    }
}

enum FarDst<'a> {
    User(UserAddr),
    Vector { ranges: &'a [UserRange], done_in_first: usize },
    Kernel(&'a mut [u8]),
}

/// Where the bytes of a read go.
pub struct IoDst<'a> {
    far: FarDst<'a>,
    remaining: usize,
    moved: usize,
}

impl<'a> IoDst<'a> {
    /// One range of user memory.
    ///
    /// # Errors
    /// EINVAL for a length beyond `ssize_t`, EFAULT if it is not in the user half.
    #[inline]
    pub fn user(address: UserAddr, length: usize) -> KResult<Self> {
        let length = checked_length(address, length)?;
        Ok(Self { far: FarDst::User(address), remaining: length, moved: 0 })
    }

    /// Kernel memory.
    pub fn kernel(bytes: &'a mut [u8]) -> Self {
        let remaining = bytes.len();
        Self { far: FarDst::Kernel(bytes), remaining, moved: 0 }
    }

    /// Bytes there is still room for.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Bytes moved so far.
    #[inline]
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// Takes at most `limit` more bytes.
    pub fn truncate(&mut self, limit: usize) {
        self.remaining = self.remaining.min(limit);
    }

    /// Moves as much of `bytes` as there is room for; returns how much that was. Less than both means a fault, after
    /// which the transfer is to end.
    ///
    /// # Errors
    /// EFAULT if a fault ended the transfer before anything was moved.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> KResult<usize> {
        let length = bytes.len().min(self.remaining);
        let bytes = &bytes[..length];
        let done = match &mut self.far {
            FarDst::User(address) => {
                let done = if length == 0 { 0 } else { address.write_partial(bytes).unwrap_or(0) };
                *address = address.offset(done as u64);
                done
            }
            FarDst::Vector { ranges, done_in_first } => {
                each_part(ranges, done_in_first, length, |address, from, part| {
                    address.write_partial(&bytes[from..from + part]).unwrap_or(0)
                })
            }
            FarDst::Kernel(to) => {
                let (part, rest) = core::mem::take(to).split_at_mut(length);
                part.copy_from_slice(bytes);
                *to = rest;
                length
            }
        };
        self.remaining -= done;
        self.moved += done;
        if done < length && self.moved == 0 { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Moves all of `bytes`, which make sense only together.
    ///
    /// # Errors
    /// EFAULT if they do not all arrive, EINVAL if there is not room for them.
    pub fn write_whole(&mut self, bytes: &[u8]) -> KResult<()> {
        if self.remaining < bytes.len() {
            return Err(Errno::EINVAL);
        }
        if self.write(bytes)? == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Moves zeros, as [`Self::write`] does bytes.
    pub fn write_zeros(&mut self, count: usize) -> KResult<usize> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < count.min(done + self.remaining) {
            let part = (count - done).min(ZEROS.len()).min(self.remaining);
            let moved = self.write(&ZEROS[..part])?;
            done += moved;
            if moved < part {
                break;
            }
        }
        Ok(done)
    }
}

enum FarSrc<'a> {
    User(UserAddr),
    Vector { ranges: &'a [UserRange], done_in_first: usize },
    Kernel(&'a [u8]),
}

/// Where the bytes of a write come from.
pub struct IoSrc<'a> {
    far: FarSrc<'a>,
    remaining: usize,
    moved: usize,
}

impl<'a> IoSrc<'a> {
    /// One range of user memory.
    ///
    /// # Errors
    /// EINVAL for a length beyond `ssize_t`, EFAULT if it is not in the user half.
    #[inline]
    pub fn user(address: UserAddr, length: usize) -> KResult<Self> {
        let length = checked_length(address, length)?;
        Ok(Self { far: FarSrc::User(address), remaining: length, moved: 0 })
    }

    /// Kernel memory.
    pub fn kernel(bytes: &'a [u8]) -> Self {
        Self { far: FarSrc::Kernel(bytes), remaining: bytes.len(), moved: 0 }
    }

    /// Bytes still to come.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Bytes moved so far.
    #[inline]
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// Gives at most `limit` more bytes.
    pub fn truncate(&mut self, limit: usize) {
        self.remaining = self.remaining.min(limit);
    }

    /// Fills as much of `bytes` as there is; returns how much that was. Less than both means a fault, after which the
    /// transfer is to end.
    ///
    /// # Errors
    /// EFAULT if a fault ended the transfer before anything was moved.
    #[inline]
    pub fn read(&mut self, bytes: &mut [u8]) -> KResult<usize> {
        let length = bytes.len().min(self.remaining);
        let bytes = &mut bytes[..length];
        let done = match &mut self.far {
            FarSrc::User(address) => {
                let done = if length == 0 { 0 } else { address.read_partial(bytes).unwrap_or(0) };
                *address = address.offset(done as u64);
                done
            }
            FarSrc::Vector { ranges, done_in_first } => {
                each_part(ranges, done_in_first, length, |address, from, part| {
                    address.read_partial(&mut bytes[from..from + part]).unwrap_or(0)
                })
            }
            FarSrc::Kernel(from) => {
                let (part, rest) = from.split_at(length);
                bytes.copy_from_slice(part);
                *from = rest;
                length
            }
        };
        self.remaining -= done;
        self.moved += done;
        if done < length && self.moved == 0 { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Fills all of `bytes`, which make sense only together.
    ///
    /// # Errors
    /// EFAULT if they cannot all be read, EINVAL if there are fewer.
    pub fn read_whole(&mut self, bytes: &mut [u8]) -> KResult<()> {
        if self.remaining < bytes.len() {
            return Err(Errno::EINVAL);
        }
        if self.read(bytes)? == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

/// Goes through the next `length` bytes of `ranges`, calling `work(address, offset in the transfer, bytes)` for each
/// piece until it does less than it was asked to; returns how many bytes were done.
fn each_part(
    ranges: &mut &[UserRange],
    done_in_first: &mut usize,
    length: usize,
    mut work: impl FnMut(UserAddr, usize, usize) -> usize,
) -> usize {
    let mut done = 0;
    while done < length {
        let Some(first) = ranges.first() else { break };
        let left = first.length as usize - *done_in_first;
        if left == 0 {
            *ranges = &ranges[1..];
            *done_in_first = 0;
            continue;
        }
        let part = left.min(length - done);
        let moved = work(first.base.offset(*done_in_first as u64), done, part);
        *done_in_first += moved;
        done += moved;
        if moved < part {
            break;
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_transfers_stop_at_the_smaller_side() {
        let mut buffer = [0u8; 5];
        let mut to = IoDst::kernel(&mut buffer);
        assert_eq!(to.write(b"abc"), Ok(3));
        assert_eq!(to.remaining(), 2);
        assert_eq!(to.write(b"defg"), Ok(2));
        assert_eq!((to.remaining(), to.moved()), (0, 5));
        assert_eq!(&buffer, b"abcde");
        let mut from = IoSrc::kernel(b"hello");
        let mut part = [0u8; 3];
        assert_eq!(from.read(&mut part), Ok(3));
        assert_eq!(&part, b"hel");
        from.truncate(1);
        assert_eq!(from.read(&mut part), Ok(1));
        assert_eq!(part[0], b'l');
        assert_eq!(from.remaining(), 0);
    }

    #[test]
    fn parts_follow_the_ranges() {
        let ranges = [(0x1000, 3), (0x2000, 0), (0x3000, 4)]
            .map(|(base, length)| UserRange { base: UserAddr(base), length });
        let (mut left, mut done_in_first) = (&ranges[..], 0);
        let mut seen = Vec::new();
        let mut note = |address: UserAddr, offset, part| {
            seen.push((address.0, offset, part));
            part
        };
        assert_eq!(each_part(&mut left, &mut done_in_first, 2, &mut note), 2);
        assert_eq!(each_part(&mut left, &mut done_in_first, 5, &mut note), 5);
        assert_eq!(each_part(&mut left, &mut done_in_first, 5, &mut note), 0);
        assert_eq!(seen, [(0x1000, 0, 2), (0x1002, 0, 1), (0x3000, 1, 4)]);
    }

    #[test]
    fn a_short_part_ends_the_transfer() {
        let ranges =
            [UserRange { base: UserAddr(0), length: 8 }, UserRange { base: UserAddr(64), length: 8 }];
        let (mut left, mut done_in_first) = (&ranges[..], 0);
        assert_eq!(each_part(&mut left, &mut done_in_first, 16, |_, _, part| part.min(5)), 5);
        assert_eq!(done_in_first, 5);
    }
}
