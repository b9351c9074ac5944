//! From a path's bytes to a place in the tree (`path_resolution(7)`).

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::context::FsContext;
use super::dentry::Dentry;
use super::inode::{Access, InodeKind};
use super::name::{NAME_MAX, Name};
use super::path::Path;
use crate::errno::{Errno, KResult};
use crate::process::Credentials;

/// Symbolic links followed in one walk before it is taken for a loop.
const MAX_LINKS: u32 = 40;

/// What to do about a symbolic link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Final {
    /// Go where it leads.
    Follow,
    /// Stop at the link itself.
    Stay,
}

/// The last part of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Last<'p> {
    /// A name.
    Name(Cow<'p, [u8]>),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// Nothing: the path is all slashes.
    Root,
}

/// A path but for its last part, which may not exist.
pub struct ParentOf<'p> {
    /// The directory that part is in; for `.` and `..` the one they start from.
    pub directory: Path,
    /// That part.
    pub last: Last<'p>,
    /// A slash followed, so only a directory will do.
    pub wants_directory: bool,
}

/// Walks on behalf of one process.
pub struct Walker<'a> {
    context: &'a FsContext,
    who: &'a Credentials,
    links: u32,
}

/// What one part of a path led to.
enum Step {
    /// A place.
    To(Path),
    /// A link's target, to be walked from the directory the link is in, or the root.
    Through(Vec<u8>),
}

impl<'a> Walker<'a> {
    /// Walks as seen from `context`, with the rights of `who`.
    pub fn new(context: &'a FsContext, who: &'a Credentials) -> Self {
        Self { context, who, links: 0 }
    }

    /// The place that `path`, seen from `start` (or the working directory), leads to.
    ///
    /// # Errors
    /// ENOENT (also for an empty path), ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, ENOMEM.
    pub fn walk(&mut self, start: Option<&Path>, path: &[u8], end: Final) -> KResult<Path> {
        match self.go(start, path, Some(end))? {
            Arrived::At(place) => Ok(place),
            Arrived::Before(_) => unreachable!("the walk was to go to the end"),
        }
    }

    /// As [`Self::walk`], but stops before the last part.
    pub fn walk_to_parent<'p>(&mut self, start: Option<&Path>, path: &'p [u8]) -> KResult<ParentOf<'p>> {
        match self.go(start, path, None)? {
            Arrived::Before(parent) => Ok(parent),
            Arrived::At(_) => unreachable!("the walk was to stop before the end"),
        }
    }

    fn start(&self, start: Option<&Path>, path: &[u8]) -> Path {
        match start {
            _ if path.first() == Some(&b'/') => self.context.root(),
            Some(start) => start.clone(),
            None => self.context.cwd(),
        }
    }

    fn go<'p>(&mut self, start: Option<&Path>, path: &'p [u8], end: Option<Final>) -> KResult<Arrived<'p>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let mut at = self.start(start, path);
        let mut text: Cow<'p, [u8]> = Cow::Borrowed(path);
        let mut position = 0;
        loop {
            let part = next_part(&text, position);
            if part.is_empty() {
                // Only slashes were left, so there was no part at all.
                return Ok(match end {
                    Some(_) => Arrived::At(at),
                    None => {
                        Arrived::Before(ParentOf { directory: at, last: Last::Root, wants_directory: true })
                    }
                });
            }
            let rest = skip_slashes(&text, part.end);
            let is_last = rest == text.len();
            let wants_directory = rest > part.end;
            if !at.inode().is_directory() {
                return Err(Errno::ENOTDIR);
            }
            at.inode().check(Access::EXECUTE, self.who)?;
            let name = &text[part.clone()];
            if name.len() > NAME_MAX {
                return Err(Errno::ENAMETOOLONG);
            }
            if is_last && end.is_none() {
                let last = match name {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    _ => Last::Name(cut(text, part)),
                };
                return Ok(Arrived::Before(ParentOf { directory: at, last, wants_directory }));
            }
            match name {
                b"." => {}
                b".." => at.go_up(&self.context.root()),
                _ => {
                    let follow = !is_last || wants_directory || end == Some(Final::Follow);
                    let dentry = lookup(&at.dentry, name)?.ok_or(Errno::ENOENT)?;
                    let stops = dentry.is_mount_point() || (follow && dentry.inode.is_symlink());
                    if !stops {
                        at.dentry = dentry;
                    } else {
                        match self.step(&at, dentry, follow)? {
                            Step::To(place) => at = place,
                            Step::Through(mut target) => {
                                if target.first() == Some(&b'/') {
                                    at = self.context.root();
                                }
                                let rest = &text[part.end..];
                                target.try_reserve(rest.len()).map_err(|_| Errno::ENOMEM)?;
                                target.extend_from_slice(rest);
                                text = Cow::Owned(target);
                                position = 0;
                                continue;
                            }
                        }
                    }
                }
            }
            if is_last {
                if wants_directory && !at.inode().is_directory() {
                    return Err(Errno::ENOTDIR);
                }
                return Ok(Arrived::At(at));
            }
            position = rest;
        }
    }

    /// Goes on to `dentry`, where something is mounted or which may be a link to follow.
    fn step(&mut self, at: &Path, dentry: Arc<Dentry>, follow: bool) -> KResult<Step> {
        let mut place = Path { mount: at.mount.clone(), dentry };
        place.cross_mounts();
        if follow && place.inode().is_symlink() { self.follow(&place) } else { Ok(Step::To(place)) }
    }

    /// Goes through the link at `place`.
    fn follow(&mut self, place: &Path) -> KResult<Step> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let target = match &place.inode().kind {
            InodeKind::Symlink(target) => {
                let mut copy = Vec::new();
                copy.try_reserve(target.len()).map_err(|_| Errno::ENOMEM)?;
                copy.extend_from_slice(target);
                copy
            }
            InodeKind::DynamicLink(link) => match link.follow()? {
                Some(place) => return Ok(Step::To(place)),
                None => link.target()?,
            },
            _ => return Ok(Step::To(place.clone())),
        };
        if target.is_empty() { Err(Errno::ENOENT) } else { Ok(Step::Through(target)) }
    }

    /// Where the link at `place` in `directory` leads, for a caller that looked its name up itself.
    pub fn follow_from(&mut self, directory: &Path, place: &Path) -> KResult<Followed> {
        Ok(match self.follow(place)? {
            Step::To(place) => Followed::To(place),
            Step::Through(target) => Followed::Through(directory.clone(), target),
        })
    }
}

/// Where a link leads.
pub enum Followed {
    /// To this place.
    To(Path),
    /// To what this path means in this directory.
    Through(Path, Vec<u8>),
}

enum Arrived<'p> {
    At(Path),
    Before(ParentOf<'p>),
}

/// What `name` in the directory `at` leads to, mounts left aside.
///
/// # Errors
/// ENOTDIR; whatever a directory of files made on demand says.
#[inline]
pub fn lookup(at: &Arc<Dentry>, name: &[u8]) -> KResult<Option<Arc<Dentry>>> {
    match &at.inode.kind {
        InodeKind::Directory(directory) => Ok(directory.get(name)),
        InodeKind::DynamicDirectory(directory) => match directory.lookup(name)? {
            Some(inode) => Ok(Some(Dentry::new(at, Name::new(name)?, inode))),
            None => Ok(None),
        },
        _ => Err(Errno::ENOTDIR),
    }
}

fn skip_slashes(text: &[u8], from: usize) -> usize {
    text[from..].iter().position(|&byte| byte != b'/').map_or(text.len(), |skip| from + skip)
}

/// The next part from `from` on, slashes left out; empty at the end.
#[inline]
fn next_part(text: &[u8], from: usize) -> core::ops::Range<usize> {
    let start = skip_slashes(text, from);
    let end = text[start..].iter().position(|&byte| byte == b'/').map_or(text.len(), |length| start + length);
    start..end
}

fn cut(text: Cow<'_, [u8]>, part: core::ops::Range<usize>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[part]),
        Cow::Owned(mut text) => {
            text.truncate(part.end);
            text.drain(..part.start);
            Cow::Owned(text)
        }
    }
}
