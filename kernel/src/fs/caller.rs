//! On whose behalf files are looked for, and what paths a program hands in.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::CStr;

use super::anonymous;
use super::context::FsContext;
use super::file::Place;
use super::path::Path;
use super::table::{Fd, open_file};
use super::walk::{Final, ParentOf, Walker};
use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::{Credentials, current};

/// The descriptor that means the working directory.
pub const AT_FDCWD: i32 = -100;
/// The path may be empty: then the descriptor's own file is meant.
pub const AT_EMPTY_PATH: u32 = 0x1000;
/// A symbolic link at the end is not followed.
pub const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
/// A symbolic link at the end is followed.
pub const AT_SYMLINK_FOLLOW: u32 = 0x400;
/// Nothing is mounted on demand, which never happens here anyway.
pub const AT_NO_AUTOMOUNT: u32 = 0x800;

/// The longest path with its NUL.
pub const PATH_MAX: usize = 4096;

/// View and rights of the running process.
pub struct Caller {
    /// Root, working directory, mask.
    pub context: Arc<FsContext>,
    /// Rights.
    pub who: Arc<Credentials>,
}

impl Caller {
    /// Of the running task.
    #[inline]
    pub fn current() -> Self {
        let task = current();
        Self { context: task.process.fs(), who: task.process.credentials() }
    }

    /// Walks with them.
    #[inline]
    pub fn walker(&self) -> Walker<'_> {
        Walker::new(&self.context, &self.who)
    }

    /// Where a relative path starts; none for the working directory.
    ///
    /// # Errors
    /// EBADF; ENOTDIR for a descriptor of something without a place.
    #[inline]
    pub fn start(&self, directory: i32, path: &[u8]) -> KResult<Option<Path>> {
        if directory == AT_FDCWD || path.first() == Some(&b'/') {
            return Ok(None);
        }
        match open_file(Fd(directory))?.place() {
            Place::Named(path) => Ok(Some(path.clone())),
            Place::Nameless(..) => Err(Errno::ENOTDIR),
        }
    }

    /// The place `path` leads to.
    ///
    /// # Errors
    /// EBADF, and those of [`Walker::walk`].
    pub fn resolve(&self, directory: i32, path: &[u8], end: Final) -> KResult<Path> {
        let start = self.start(directory, path)?;
        self.walker().walk(start.as_ref(), path, end)
    }

    /// As [`Self::resolve`], by `AT_*` flags; with [`AT_EMPTY_PATH`] an empty path means the descriptor's file.
    pub fn resolve_flags(&self, directory: i32, path: &[u8], flags: u32) -> KResult<Path> {
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 {
            if directory == AT_FDCWD {
                return Ok(self.context.cwd());
            }
            let file = open_file(Fd(directory))?;
            return Ok(match file.place() {
                Place::Named(path) => path.clone(),
                Place::Nameless(inode, _) => anonymous::place_for(inode),
            });
        }
        let end = if flags & AT_SYMLINK_NOFOLLOW != 0 { Final::Stay } else { Final::Follow };
        self.resolve(directory, path, end)
    }

    /// The directory that the last part of `path` is in, and that part.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn parent<'p>(&self, directory: i32, path: &'p [u8]) -> KResult<ParentOf<'p>> {
        let start = self.start(directory, path)?;
        self.walker().walk_to_parent(start.as_ref(), path)
    }
}

const INLINE: usize = 128;

/// A path that a program handed in; short ones need no memory of their own.
pub struct UserPath {
    inline: [u8; INLINE],
    length: usize,
    long: Vec<u8>,
}

impl UserPath {
    /// Copies the string at `address`.
    ///
    /// # Errors
    /// EFAULT; ENAMETOOLONG beyond [`PATH_MAX`].
    #[inline]
    pub fn read(address: UserAddr) -> KResult<Self> {
        let mut inline = [0; INLINE];
        // Not past the end of the page, for what lies behind the string may be out of reach.
        let part = INLINE.min(4096 - (address.0 & 4095) as usize);
        let read = address.read_partial(&mut inline[..part])?;
        match CStr::from_bytes_until_nul(&inline[..read]) {
            Ok(string) => {
                let length = string.to_bytes().len();
                Ok(Self { inline, length, long: Vec::new() })
            }
            Err(_) => Self::read_long(address),
        }
    }

    #[cold]
    fn read_long(address: UserAddr) -> KResult<Self> {
        let long = address.read_string(PATH_MAX, Errno::ENAMETOOLONG)?;
        Ok(Self { inline: [0; INLINE], length: usize::MAX, long })
    }

    /// The path, without its NUL.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        if self.length == usize::MAX { &self.long } else { &self.inline[..self.length] }
    }
}
