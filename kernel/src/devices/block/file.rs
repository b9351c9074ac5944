//! A disk, opened: bytes at any place, though the device moves whole blocks.
//!
//! Nothing is kept in memory: what was read comes from the disk each time, and what was written is the disk's when
//! `write(2)` returns.

use alloc::sync::Arc;

use super::disk::Disk;
use super::ioctl;
use crate::devices::memory::Buffer;
use crate::errno::{Errno, KResult};
use crate::fs::device::{FileOps, Seek};
use crate::fs::file::OpenFile;
use crate::fs::flags::O_DSYNC;
use crate::fs::io::{IoDst, IoSrc};
use crate::mm::UserAddr;
use crate::process::current;
use crate::signal;
use crate::syscall::SysResult;

/// A disk, opened once.
pub struct BlockFile(Arc<Disk>);

/// Bytes of a disk in whole blocks, and which of them somebody is concerned with.
#[derive(Clone, Copy)]
struct Piece {
    /// First byte of the first block.
    start: u64,
    /// Bytes of that block before those concerned.
    before: usize,
    /// Bytes concerned.
    length: usize,
    /// Bytes of all the blocks.
    whole: usize,
}

impl Piece {
    /// The piece of `wanted` bytes from `at` on, or of fewer if its blocks have more than `most` bytes.
    fn new(at: u64, wanted: usize, block: usize, most: usize) -> Self {
        let before = (at % block as u64) as usize;
        let length = wanted.min(most - before);
        Self { start: at - before as u64, before, length, whole: (before + length).next_multiple_of(block) }
    }
}

impl BlockFile {
    /// `disk`, opened.
    pub fn new(disk: Arc<Disk>) -> Self {
        Self(disk)
    }

    fn buffer(&self, wanted: usize) -> KResult<Buffer> {
        let block = self.0.block_bytes();
        let wanted = wanted.next_multiple_of(block).min(self.0.most_bytes());
        Buffer::of_at_most(wanted, block).ok_or(Errno::ENOMEM)
    }

    /// Reads what `to` takes, which the disk has from `offset` on.
    fn read_pieces(&self, mut offset: u64, to: &mut IoDst<'_>) -> KResult<()> {
        let disk = &*self.0;
        let block = disk.block_bytes();
        let mut buffer = self.buffer(to.remaining().saturating_add(block))?;
        let most = buffer.len().min(disk.most_bytes());
        while to.remaining() > 0 && !is_being_killed() {
            let piece = Piece::new(offset, to.remaining(), block, most);
            buffer = disk.read(piece.start, buffer, piece.whole)?;
            let moved = to.write(&buffer.bytes()[piece.before..piece.before + piece.length])?;
            offset += moved as u64;
            if moved < piece.length {
                break;
            }
        }
        Ok(())
    }

    /// Writes what `from` has to where the disk has room for it, from `offset` on. Returns how many bytes were written
    /// before something went wrong.
    fn write_pieces(&self, offset: u64, from: &mut IoSrc<'_>) -> (u64, KResult<()>) {
        let mut written = 0;
        let result = self.write_each(offset, from, &mut written);
        (written, result)
    }

    fn write_each(&self, mut offset: u64, from: &mut IoSrc<'_>, written: &mut u64) -> KResult<()> {
        let disk = &*self.0;
        let block = disk.block_bytes();
        let mut buffer = self.buffer(from.remaining().saturating_add(block))?;
        let most = buffer.len().min(disk.most_bytes());
        while from.remaining() > 0 && !is_being_killed() {
            let wanted = Piece::new(offset, from.remaining(), block, most);
            let moved = from.read(&mut buffer.bytes_mut()[wanted.before..wanted.before + wanted.length])?;
            if moved == 0 {
                break;
            }
            // A fault may have cut it short.
            let piece = Piece::new(offset, moved, block, most);
            // Between the reading of a block and its writing nobody else may change it.
            let _turn = disk.writing.lock();
            self.complete(&mut buffer, piece)?;
            buffer = disk.write(piece.start, buffer, piece.whole)?;
            *written += moved as u64;
            offset += moved as u64;
            if moved < wanted.length {
                break;
            }
        }
        Ok(())
    }

    /// Fills what is not concerned of a piece's first and last block with what the disk has there.
    fn complete(&self, buffer: &mut Buffer, piece: Piece) -> KResult<()> {
        let block = self.0.block_bytes();
        let end = piece.before + piece.length;
        if piece.before > 0 {
            let first = self.0.read(piece.start, self.buffer(block)?, block)?;
            buffer.bytes_mut()[..piece.before].copy_from_slice(&first.bytes()[..piece.before]);
        }
        if end < piece.whole {
            let from = piece.whole - block;
            let last = self.0.read(piece.start + from as u64, self.buffer(block)?, block)?;
            buffer.bytes_mut()[end..piece.whole].copy_from_slice(&last.bytes()[end - from..block]);
        }
        Ok(())
    }
}

/// Whether the running process is to end: then nothing large is gone on with.
fn is_being_killed() -> bool {
    signal::is_being_killed(&current().process)
}

impl FileOps for BlockFile {
    fn read_at(&self, _file: &OpenFile, offset: u64, to: &mut IoDst<'_>) -> KResult<usize> {
        let there = self.0.bytes().saturating_sub(offset);
        to.truncate(usize::try_from(there).unwrap_or(usize::MAX));
        if to.remaining() == 0 {
            return Ok(0);
        }
        let before = to.moved();
        match self.read_pieces(offset, to) {
            Err(error) if to.moved() == before => Err(error),
            _ => Ok(to.moved() - before),
        }
    }

    fn write_at(&self, file: &OpenFile, offset: u64, from: &mut IoSrc<'_>) -> KResult<usize> {
        if self.0.is_read_only() {
            return Err(Errno::EPERM);
        }
        if from.remaining() == 0 {
            return Ok(0);
        }
        let room = self.0.bytes().saturating_sub(offset);
        if room == 0 {
            return Err(Errno::ENOSPC);
        }
        from.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        let (written, result) = self.write_pieces(offset, from);
        if written == 0 {
            result?;
        }
        if file.flags() & O_DSYNC != 0 {
            self.0.flush()?;
        }
        Ok(written as usize)
    }

    fn seek(&self) -> Seek {
        Seek::Kept
    }

    fn end(&self) -> Option<u64> {
        Some(self.0.bytes())
    }

    fn sync(&self) -> KResult<()> {
        self.0.flush()
    }

    fn ioctl(&self, _file: &OpenFile, request: u32, argument: UserAddr) -> SysResult {
        ioctl::ioctl(&self.0, request, argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_of_whole_blocks_around_what_is_concerned() {
        for (at, wanted, start, before, length, whole) in [
            (0, 512, 0, 0, 512, 512),
            (0, 1, 0, 0, 1, 512),
            (511, 2, 0, 511, 2, 1024),
            (513, 511, 512, 1, 511, 512),
            (512, 4096, 512, 0, 4096, 4096),
            (1000, 10_000, 512, 488, 3608, 4096),
        ] {
            let piece = Piece::new(at, wanted, 512, 4096);
            assert_eq!(
                (piece.start, piece.before, piece.length, piece.whole),
                (start, before, length, whole),
                "{wanted} bytes at {at}"
            );
        }
    }
}
