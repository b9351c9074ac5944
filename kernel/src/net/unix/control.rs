//! What goes with a message, as user programs write it: `struct cmsghdr` and what follows.

use alloc::sync::Arc;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::message::{Ancillary, Sender};
use super::rights::{MAX_FILES, Rights};
use crate::errno::{Errno, KResult};
use crate::fs::file::OpenFile;
use crate::fs::table::{Fd, OnExec, close, install, usable_file};
use crate::mm::UserAddr;
use crate::net::flags;
use crate::process::credentials::{Gid, Uid};
use crate::process::{Pid, current};

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const SCM_CREDENTIALS: i32 = 2;
/// Longest control data that is taken (`net.core.optmem_max`).
const LONGEST: usize = 20_480;

/// `struct cmsghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    /// Bytes, the header included.
    length: u64,
    level: i32,
    kind: i32,
}

const HEADER: usize = size_of::<Header>();

/// Where the next header may begin.
const fn align(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// Control data taken apart: level, kind and content of each part.
///
/// # Errors
/// EINVAL if a part is longer than what is there.
fn parts(bytes: &[u8]) -> KResult<Vec<(i32, i32, &[u8])>> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Ok((header, content)) = Header::read_from_prefix(rest) {
        let length = usize::try_from(header.length).map_err(|_| Errno::EINVAL)?;
        if length < HEADER || length > rest.len() {
            return Err(Errno::EINVAL);
        }
        parts.push((header.level, header.kind, &content[..length - HEADER]));
        rest = rest.get(align(length)..).unwrap_or(&[]);
    }
    Ok(parts)
}

fn word(bytes: &[u8], index: usize) -> i32 {
    let at = index * 4;
    i32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Reads what is to go with a message.
///
/// # Errors
/// EINVAL, EBADF for files that are none, EPERM for a false sender, ETOOMANYREFS, ENOBUFS, EFAULT.
pub fn read(from: UserAddr, length: u64) -> KResult<Ancillary> {
    let mut ancillary = Ancillary::default();
    let length = usize::try_from(length).map_err(|_| Errno::ENOBUFS)?;
    if from.is_null() || length == 0 {
        return Ok(ancillary);
    }
    if length > LONGEST {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
    bytes.resize(length, 0);
    from.read_bytes(&mut bytes)?;
    let mut files = Vec::new();
    for (level, kind, content) in parts(&bytes)? {
        match (level, kind) {
            (SOL_SOCKET, SCM_RIGHTS) => read_files(content, &mut files)?,
            (SOL_SOCKET, SCM_CREDENTIALS) => ancillary.sender = Some(read_sender(content)?),
            (SOL_SOCKET, _) => return Err(Errno::EINVAL),
            // For protocols that are not there.
            _ => {}
        }
    }
    if !files.is_empty() {
        ancillary.rights = Some(Rights::new(files)?);
    }
    Ok(ancillary)
}

fn read_files(content: &[u8], files: &mut Vec<Arc<OpenFile>>) -> KResult<()> {
    let count = content.len() / 4;
    if files.len() + count > MAX_FILES {
        return Err(Errno::EINVAL);
    }
    for index in 0..count {
        files.push(usable_file(Fd(word(content, index)))?);
    }
    Ok(())
}

fn read_sender(content: &[u8]) -> KResult<Sender> {
    if content.len() != 12 {
        return Err(Errno::EINVAL);
    }
    let sender = Sender {
        pid: Pid(word(content, 0)),
        uid: Uid(word(content, 1) as u32),
        gid: Gid(word(content, 2) as u32),
    };
    let process = &current().process;
    let who = process.credentials();
    let own_uid = [who.uid, who.euid, who.suid].contains(&sender.uid);
    let own_gid = [who.gid, who.egid, who.sgid].contains(&sender.gid);
    let honest = sender.pid == process.pid && own_uid && own_gid;
    if honest || who.is_privileged() { Ok(sender) } else { Err(Errno::EPERM) }
}

/// The room a program has for control data.
pub struct Room {
    at: UserAddr,
    left: usize,
    /// Bytes used.
    pub used: usize,
    /// [`flags::CONTROL_TRUNCATED`] once something did not fit.
    pub flags: u32,
}

impl Room {
    /// `length` bytes at `at`; none for a null pointer.
    pub fn new(at: UserAddr, length: u64) -> Self {
        let left = if at.is_null() { 0 } else { usize::try_from(length).unwrap_or(usize::MAX) };
        Self { at, left, used: 0, flags: 0 }
    }

    /// Writes who sent the message, as far as it fits.
    ///
    /// # Errors
    /// EFAULT.
    pub fn put_sender(&mut self, sender: Sender) -> KResult<()> {
        let content = sender.encode();
        let whole = HEADER + content.len();
        let fits = whole.min(self.left);
        if fits < whole {
            self.flags |= flags::CONTROL_TRUNCATED;
        }
        if fits < HEADER {
            return Ok(());
        }
        self.at.write(&Header { length: fits as u64, level: SOL_SOCKET, kind: SCM_CREDENTIALS })?;
        self.at.offset(HEADER as u64).write_bytes(&content[..fits - HEADER])?;
        self.advance(align(whole));
        Ok(())
    }

    /// Gives the running process descriptors for files, as many as fit.
    ///
    /// # Errors
    /// EFAULT.
    pub fn put_files(&mut self, rights: &Rights, on_exec: OnExec) -> KResult<()> {
        let files = rights.files();
        let fit = self.left.saturating_sub(HEADER) / 4;
        let mut given = 0;
        for file in &files[..files.len().min(fit)] {
            let Ok(fd) = install(file.clone(), on_exec) else { break };
            if self.at.offset((HEADER + given * 4) as u64).write(&fd.0).is_err() {
                // It was never told, so it is not kept.
                let _closed = close(fd);
                break;
            }
            given += 1;
        }
        if given < files.len() {
            self.flags |= flags::CONTROL_TRUNCATED;
        }
        if given > 0 {
            let length = HEADER + given * 4;
            self.at.write(&Header { length: length as u64, level: SOL_SOCKET, kind: SCM_RIGHTS })?;
            self.advance(align(length));
        }
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.left);
        self.at = self.at.offset(bytes as u64);
        self.left -= bytes;
        self.used += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(length: u64, level: i32, kind: i32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::from(Header { length, level, kind }.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    #[test]
    fn parts_are_found_at_aligned_places() {
        let mut bytes = part(20, SOL_SOCKET, SCM_RIGHTS, &[1, 0, 0, 0]);
        bytes.extend(part(28, SOL_SOCKET, SCM_CREDENTIALS, &[7; 12]));
        // The end needs no padding.
        bytes.truncate(24 + 28);
        let expected: [(i32, i32, &[u8]); 2] =
            [(SOL_SOCKET, SCM_RIGHTS, &[1, 0, 0, 0]), (SOL_SOCKET, SCM_CREDENTIALS, &[7; 12])];
        assert_eq!(parts(&bytes).as_deref(), Ok(&expected[..]));
        assert_eq!(parts(&[]).as_deref(), Ok(&[][..]));
        assert_eq!(parts(&bytes[..HEADER - 1]).as_deref(), Ok(&[][..]));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for length in [0, HEADER as u64 - 1, HEADER as u64 + 9, u64::MAX] {
            assert_eq!(parts(&part(length, SOL_SOCKET, SCM_RIGHTS, &[0; 8])), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn words_are_native() {
        assert_eq!(word(&[1, 0, 0, 0, 255, 255, 255, 255], 1), -1);
    }
}
