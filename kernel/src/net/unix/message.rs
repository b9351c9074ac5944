//! What lies in a socket's queue.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use platform::PAGE_SIZE;

use super::endpoint::Endpoint;
use super::rights::Rights;
use crate::errno::{Errno, KResult};
use crate::fs::io::{IoDst, IoSrc};
use crate::mm::{Page, frames};
use crate::process::credentials::{Gid, Uid};
use crate::process::{Pid, current};

const PAGE: usize = PAGE_SIZE as usize;
/// As many bytes lie in the message itself.
const INLINE: usize = 64;
/// As many bytes lie in the heap, more in pages of their own.
const LARGEST_IN_HEAP: usize = 2048;
/// What a message costs its sender beside its bytes.
const OVERHEAD: usize = 256;

/// Who sent a message (`SCM_CREDENTIALS`, `SO_PEERCRED`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sender {
    /// Process.
    pub pid: Pid,
    /// User.
    pub uid: Uid,
    /// Group.
    pub gid: Gid,
}

impl Sender {
    /// Somebody unknown to a receiver of messages.
    pub const UNKNOWN: Self = Self { pid: Pid(0), uid: Uid(65534), gid: Gid(65534) };

    /// The running process as messages name it: by its real numbers.
    pub fn current() -> Self {
        let process = &current().process;
        let who = process.credentials.lock();
        Self { pid: process.pid, uid: who.uid, gid: who.gid }
    }

    /// The running process as `SO_PEERCRED` names it: by its effective numbers.
    pub fn current_effective() -> Self {
        let process = &current().process;
        let who = process.credentials.lock();
        Self { pid: process.pid, uid: who.euid, gid: who.egid }
    }

    /// As `struct ucred`.
    pub fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.pid.0.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.uid.0.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.gid.0.to_ne_bytes());
        bytes
    }
}

/// What goes with a message beside its bytes.
#[derive(Default)]
pub struct Ancillary {
    /// Who sent it, if that was asked for.
    pub sender: Option<Sender>,
    /// Open files.
    pub rights: Option<Rights>,
}

impl Ancillary {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.sender.is_none() && self.rights.is_none()
    }
}

enum Bytes {
    Inline([u8; INLINE]),
    Heap(Box<[u8]>),
    Pages(Vec<Page>),
}

/// A message, or a piece of a stream.
pub struct Message {
    bytes: Bytes,
    /// Bytes already taken.
    start: usize,
    length: usize,
    /// What goes with it.
    pub ancillary: Option<Box<Ancillary>>,
    /// Who sent it, where that is not known from the connection.
    pub from: Option<Arc<Endpoint>>,
}

impl Message {
    /// A message of the next `length` bytes of `from`.
    ///
    /// # Errors
    /// EFAULT, ENOBUFS.
    #[inline]
    pub fn read(from: &mut IoSrc<'_>, length: usize) -> KResult<Self> {
        let bytes = if length <= INLINE {
            let mut bytes = [0; INLINE];
            read_all(from, &mut bytes[..length])?;
            Bytes::Inline(bytes)
        } else if length <= LARGEST_IN_HEAP {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
            bytes.resize(length, 0);
            read_all(from, &mut bytes)?;
            Bytes::Heap(bytes.into_boxed_slice())
        } else {
            Bytes::Pages(read_pages(from, length)?)
        };
        Ok(Self { bytes, start: 0, length, ancillary: None, from: None })
    }

    /// Bytes left in it.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.length - self.start
    }

    /// What it costs its sender until it is taken.
    #[inline]
    pub fn cost(&self) -> usize {
        OVERHEAD + self.length
    }

    /// Copies bytes to `to`, from `skip` bytes further on; returns how many. They stay in the message.
    ///
    /// # Errors
    /// EFAULT if nothing was copied.
    #[inline]
    pub fn copy(&self, skip: usize, to: &mut IoDst<'_>) -> KResult<usize> {
        let from = (self.start + skip).min(self.length);
        match &self.bytes {
            Bytes::Inline(bytes) => to.write(&bytes[from..self.length]),
            Bytes::Heap(bytes) => to.write(&bytes[from..]),
            Bytes::Pages(pages) => copy_pages(pages, from, self.length, to),
        }
    }

    /// Drops the first `count` bytes.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.length);
    }

    /// Who sent it, as far as it says so.
    #[inline]
    pub fn sender(&self) -> Option<Sender> {
        self.ancillary.as_ref()?.sender
    }

    /// The files that go with it.
    #[inline]
    pub fn rights(&self) -> Option<&Rights> {
        self.ancillary.as_ref()?.rights.as_ref()
    }

    /// Takes the files that go with it.
    #[inline]
    pub fn take_rights(&mut self) -> Option<Rights> {
        self.ancillary.as_mut()?.rights.take()
    }
}

fn read_all(from: &mut IoSrc<'_>, to: &mut [u8]) -> KResult<()> {
    // A message is sent whole or not at all.
    if from.read(to)? == to.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

fn read_pages(from: &mut IoSrc<'_>, length: usize) -> KResult<Vec<Page>> {
    let mut pages = Vec::new();
    pages.try_reserve_exact(length.div_ceil(PAGE)).map_err(|_| Errno::ENOBUFS)?;
    let mut done = 0;
    while done < length {
        let part = (length - done).min(PAGE);
        let page = Page::from_held(frames::allocate_user().ok_or(Errno::ENOBUFS)?);
        page.with_bytes_mut(0, part, |bytes| read_all(from, bytes))?;
        pages.push(page);
        done += part;
    }
    Ok(pages)
}

fn copy_pages(pages: &[Page], from: usize, end: usize, to: &mut IoDst<'_>) -> KResult<usize> {
    let mut at = from;
    while at < end && to.remaining() > 0 {
        let part = (PAGE - at % PAGE).min(end - at).min(to.remaining());
        let moved = match pages[at / PAGE].with_bytes(at % PAGE, part, |bytes| to.write(bytes)) {
            Ok(moved) => moved,
            Err(error) if at == from => return Err(error),
            Err(_) => break,
        };
        at += moved;
        if moved < part {
            break;
        }
    }
    Ok(at - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        for length in [0, 1, INLINE, INLINE + 1, LARGEST_IN_HEAP] {
            let sent: Vec<u8> = (0..length).map(|index| index as u8).collect();
            let mut message = match Message::read(&mut IoSrc::kernel(&sent), length) {
                Ok(message) => message,
                Err(error) => panic!("{error}"),
            };
            assert_eq!((message.remaining(), message.cost()), (length, OVERHEAD + length));
            let mut received = alloc::vec![0; length + 3];
            assert_eq!(message.copy(0, &mut IoDst::kernel(&mut received)), Ok(length));
            assert_eq!(received[..length], sent);
            let taken = length / 3;
            message.consume(taken);
            assert_eq!(message.remaining(), length - taken);
            assert_eq!(message.copy(0, &mut IoDst::kernel(&mut received)), Ok(length - taken));
            assert_eq!(received[..length - taken], sent[taken..]);
            assert_eq!(message.copy(length, &mut IoDst::kernel(&mut received)), Ok(0));
        }
    }
}
