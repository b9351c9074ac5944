//! Reading and writing in one piece, and moving about in a file.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::errno::{Errno, KResult};
use crate::fs::device::Seek;
use crate::fs::file::{FileKind, OpenFile};
use crate::fs::io::{IoDst, IoSrc, MAX_TRANSFER};
use crate::fs::regular::MAX_FILE_SIZE;
use crate::fs::table::{Fd, open_file};
use crate::mm::UserAddr;
use crate::process::current;
use crate::syscall::{Call, SysResult};

pub fn read(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    file.check_readable()?;
    file.read(&mut IoDst::user(call.user(1), call.size(2))?).map(|moved| moved as u64)
}

pub fn write(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    file.check_writable()?;
    file.write(&mut IoSrc::user(call.user(1), call.size(2))?).map(|moved| moved as u64)
}

/// A place in a file from an argument.
pub fn offset(value: i64) -> KResult<u64> {
    u64::try_from(value).map_err(|_| Errno::EINVAL)
}

pub fn pread64(call: &mut Call<'_>) -> SysResult {
    let offset = offset(call.long(3))?;
    let file = open_file(Fd(call.int(0)))?;
    file.check_readable()?;
    file.read_at(offset, &mut IoDst::user(call.user(1), call.size(2))?).map(|moved| moved as u64)
}

pub fn pwrite64(call: &mut Call<'_>) -> SysResult {
    let offset = offset(call.long(3))?;
    let file = open_file(Fd(call.int(0)))?;
    file.check_writable()?;
    file.write_at(offset, &mut IoSrc::user(call.user(1), call.size(2))?).map(|moved| moved as u64)
}

pub fn lseek(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    seek(&file, call.long(1), call.uint(2))
}

const SEEK_SET: u32 = 0;
const SEEK_CUR: u32 = 1;
const SEEK_END: u32 = 2;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

fn seek(file: &OpenFile, offset: i64, whence: u32) -> SysResult {
    let end = match file.kind() {
        FileKind::Regular => file.inode().size(),
        FileKind::Directory => MAX_FILE_SIZE,
        FileKind::Seekable(ops) => ops.end().unwrap_or(0),
        FileKind::Device(ops) if ops.seek() == Seek::Ignored => return Ok(0),
        FileKind::Path => return Err(Errno::EBADF),
        FileKind::Pipe | FileKind::Device(_) => return Err(Errno::ESPIPE),
    };
    let limit = file.ops().and_then(|ops| ops.end());
    let mut position = file.position.lock();
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => *position,
        SEEK_END if matches!(file.kind(), FileKind::Regular) || limit.is_some() => end,
        SEEK_DATA | SEEK_HOLE => {
            let regular = file.regular().ok_or(Errno::EINVAL)?;
            let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            *position = regular.seek(from, whence == SEEK_DATA)?;
            return Ok(*position);
        }
        _ => return Err(Errno::EINVAL),
    };
    let sum = i64::try_from(base).ok().and_then(|base| base.checked_add(offset)).ok_or(Errno::EOVERFLOW)?;
    let wanted = u64::try_from(sum).map_err(|_| Errno::EINVAL)?;
    if limit.is_some_and(|limit| wanted > limit) {
        return Err(Errno::EINVAL);
    }
    *position = wanted;
    Ok(*position)
}

/// Bytes moved at a time between two files.
const CHUNK: usize = 16 * 1024;

/// One side of a transfer between files: a place of the caller's choice, or where the file is.
struct Side {
    file: Arc<OpenFile>,
    offset: Option<u64>,
}

impl Side {
    fn read(&mut self, to: &mut [u8]) -> KResult<usize> {
        let mut to = IoDst::kernel(to);
        match &mut self.offset {
            Some(offset) => {
                let moved = self.file.read_at(*offset, &mut to)?;
                *offset += moved as u64;
                Ok(moved)
            }
            None => self.file.read(&mut to),
        }
    }

    fn write(&mut self, from: &[u8]) -> KResult<usize> {
        let mut from = IoSrc::kernel(from);
        match &mut self.offset {
            Some(offset) => {
                let moved = self.file.write_at(*offset, &mut from)?;
                *offset += moved as u64;
                Ok(moved)
            }
            None => self.file.write(&mut from),
        }
    }

    /// Takes back what was read but could not be written.
    fn unread(&mut self, count: usize) {
        match &mut self.offset {
            Some(offset) => *offset -= count as u64,
            None => {
                let mut position = self.file.position.lock();
                *position = position.saturating_sub(count as u64);
            }
        }
    }

    fn is_stream(&self) -> bool {
        !matches!(self.file.kind(), FileKind::Regular | FileKind::Seekable(_))
    }
}

fn transfer(from: &mut Side, to: &mut Side, count: usize) -> KResult<usize> {
    let count = count.min(MAX_TRANSFER);
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(count.min(CHUNK)).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(count.min(CHUNK), 0);
    let mut done = 0;
    while done < count {
        let part = (count - done).min(CHUNK);
        let read = match from.read(&mut buffer[..part]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        };
        let mut written = 0;
        let mut failed = None;
        while written < read && failed.is_none() {
            match to.write(&buffer[written..read]) {
                Ok(0) => failed = Some(Errno::EIO),
                Ok(more) => written += more,
                Err(error) => failed = Some(error),
            }
        }
        done += written;
        if let Some(error) = failed {
            from.unread(read - written);
            return if done == 0 { Err(error) } else { Ok(done) };
        }
        if from.is_stream() || current().has_signal_work() {
            break;
        }
    }
    Ok(done)
}

fn read_offset(at: UserAddr) -> KResult<Option<u64>> {
    if at.is_null() { Ok(None) } else { offset(at.read::<i64>()?).map(Some) }
}

fn write_offset(at: UserAddr, side: &Side) -> KResult<()> {
    match side.offset {
        Some(offset) => at.write(&offset),
        None => Ok(()),
    }
}

pub fn sendfile(call: &mut Call<'_>) -> SysResult {
    let (out, input, at) = (open_file(Fd(call.int(0)))?, open_file(Fd(call.int(1)))?, call.user(2));
    out.check_writable()?;
    input.check_readable()?;
    let mut from = Side { file: input, offset: read_offset(at)? };
    if from.is_stream() {
        return Err(Errno::EINVAL);
    }
    if out.flags() & crate::fs::flags::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let mut to = Side { file: out, offset: None };
    let moved = transfer(&mut from, &mut to, call.size(3))?;
    write_offset(at, &from)?;
    Ok(moved as u64)
}

pub fn copy_file_range(call: &mut Call<'_>) -> SysResult {
    let (input, out) = (open_file(Fd(call.int(0)))?, open_file(Fd(call.int(2)))?);
    if call.uint(5) != 0 {
        return Err(Errno::EINVAL);
    }
    input.check_readable()?;
    out.check_writable()?;
    if input.inode().is_directory() || out.inode().is_directory() {
        return Err(Errno::EISDIR);
    }
    if input.regular().is_none() || out.regular().is_none() {
        return Err(Errno::EINVAL);
    }
    if out.flags() & crate::fs::flags::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    if input.inode().superblock.device != out.inode().superblock.device {
        return Err(Errno::EXDEV);
    }
    let (from_at, to_at) = (call.user(1), call.user(3));
    let mut from = Side { file: input, offset: read_offset(from_at)? };
    let mut to = Side { file: out, offset: read_offset(to_at)? };
    let count = call.size(4);
    if Arc::ptr_eq(from.file.inode(), to.file.inode()) {
        let place = |side: &Side| side.offset.unwrap_or_else(|| *side.file.position.lock());
        let (a, b) = (place(&from), place(&to));
        if a < b.saturating_add(count as u64) && b < a.saturating_add(count as u64) {
            return Err(Errno::EINVAL);
        }
    }
    let moved = transfer(&mut from, &mut to, count)?;
    write_offset(from_at, &from)?;
    write_offset(to_at, &to)?;
    Ok(moved as u64)
}

const SPLICE_NONBLOCK: u32 = 2;

pub fn splice(call: &mut Call<'_>) -> SysResult {
    let (input, out) = (open_file(Fd(call.int(0)))?, open_file(Fd(call.int(2)))?);
    if call.uint(5) & !0xf != 0 {
        return Err(Errno::EINVAL);
    }
    input.check_readable()?;
    out.check_writable()?;
    let (from_at, to_at) = (call.user(1), call.user(3));
    if (input.pipe().is_some() && !from_at.is_null()) || (out.pipe().is_some() && !to_at.is_null()) {
        return Err(Errno::ESPIPE);
    }
    if input.pipe().is_none() && out.pipe().is_none() {
        return Err(Errno::EINVAL);
    }
    let mut count = call.size(4);
    if count == 0 {
        return Ok(0);
    }
    if let Some(pipe) = out.pipe() {
        // What was taken from the other side must find room.
        let room = pipe.capacity() - pipe.used().min(pipe.capacity());
        if room == 0 && (call.uint(5) & SPLICE_NONBLOCK != 0 || out.is_nonblocking()) {
            return Err(Errno::EAGAIN);
        }
        count = count.min(room.max(1));
    }
    if let Some(pipe) = input.pipe()
        && pipe.used() == 0
        && (call.uint(5) & SPLICE_NONBLOCK != 0 || input.is_nonblocking())
    {
        return Err(Errno::EAGAIN);
    }
    let mut from = Side { file: input, offset: read_offset(from_at)? };
    let mut to = Side { file: out, offset: read_offset(to_at)? };
    let moved = transfer(&mut from, &mut to, count)?;
    write_offset(from_at, &from)?;
    write_offset(to_at, &to)?;
    Ok(moved as u64)
}
