//! `/proc/PID/fd` and `/proc/PID/fdinfo`

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::fixed::{About, inode};
use super::parse_number;
use super::subject::{Subject, decimal, process_base};
use super::text::{Text, put};
use crate::errno::{Errno, KResult};
use crate::fs::dynamic::{DynamicDirectory, DynamicFile, DynamicLink, Listed};
use crate::fs::file::{OpenFile, Place};
use crate::fs::flags::{O_CLOEXEC, O_RDONLY, O_WRONLY};
use crate::fs::inode::{Inode, InodeKind, mode};
use crate::fs::path::Path;
use crate::fs::table::{Fd, OnExec};
use crate::fs::{anonymous, mapping};
use crate::process::current;

/// Links to what the descriptors stand for.
pub fn links(subject: &Subject) -> Box<dyn DynamicDirectory> {
    Box::new(Descriptors { subject: subject.clone(), details: false })
}

/// What is known of each descriptor.
pub fn details(subject: &Subject) -> Box<dyn DynamicDirectory> {
    Box::new(Descriptors { subject: subject.clone(), details: true })
}

struct Descriptors {
    subject: Subject,
    /// Files that tell, not links.
    details: bool,
}

impl Descriptors {
    fn number(&self, fd: Fd) -> u64 {
        let part = if self.details { 0xc000 } else { 0x8000 };
        process_base(self.subject.number) + part + (fd.0 as u64 & 0x3fff)
    }

    fn mode(&self) -> u32 {
        if self.details { mode::REGULAR | 0o444 } else { mode::SYMLINK | 0o700 }
    }
}

fn number_or_zero(name: &[u8]) -> Option<Fd> {
    if name == b"0" { Some(Fd(0)) } else { parse_number(name).map(|number| Fd(number.0)) }
}

impl DynamicDirectory for Descriptors {
    fn lookup(&self, name: &[u8]) -> KResult<Option<Arc<Inode>>> {
        let Some(fd) = number_or_zero(name) else { return Ok(None) };
        let Ok(file) = self.subject.inspected()?.files().get(fd) else { return Ok(None) };
        let descriptor = Descriptor { subject: self.subject.clone(), fd };
        let (kind, mode) = if self.details {
            (InodeKind::Dynamic(Box::new(descriptor)), self.mode())
        } else {
            let mut mode = mode::SYMLINK | 0o100;
            let access = file.flags() & 3;
            mode |= if access != O_WRONLY { 0o400 } else { 0 };
            mode |= if access != O_RDONLY { 0o200 } else { 0 };
            (InodeKind::DynamicLink(Box::new(descriptor)), mode)
        };
        Ok(Some(inode(self.number(fd), kind, mode, self.subject.owner())))
    }

    fn list(&self, from: u64, emit: &mut dyn FnMut(&Listed<'_>) -> bool) -> KResult<()> {
        for fd in self.subject.inspected()?.files().list((from - 2) as usize) {
            let name = decimal(fd.0);
            let next = fd.0 as u64 + 3;
            if !emit(&Listed { name: &name, inode: self.number(fd), mode: self.mode(), next }) {
                break;
            }
        }
        Ok(())
    }
}

struct Descriptor {
    subject: Subject,
    fd: Fd,
}

impl Descriptor {
    fn file(&self) -> KResult<Arc<OpenFile>> {
        self.subject.inspected()?.files().get(self.fd).map_err(|_| Errno::ENOENT)
    }
}

impl DynamicLink for Descriptor {
    fn target(&self) -> KResult<Vec<u8>> {
        let task = current();
        mapping::describe(&*self.file()?, &task.process.fs().root())
    }

    fn follow(&self) -> KResult<Option<Path>> {
        Ok(Some(match self.file()?.place() {
            Place::Named(path) => path.clone(),
            Place::Nameless(inode, _) => anonymous::place_for(inode),
        }))
    }
}

impl DynamicFile for Descriptor {
    fn content(&self) -> KResult<Vec<u8>> {
        let file = self.file()?;
        let close = self.subject.process()?.files().on_exec(self.fd) == Ok(OnExec::Close);
        let flags = file.flags() | if close { O_CLOEXEC } else { 0 };
        let mut text = Text::new();
        put!(text, "pos:\t{}\nflags:\t0{flags:o}\n", *file.position.lock());
        put!(
            text,
            "mnt_id:\t{}\nino:\t{}\n",
            file.path().map_or(0, |path| path.mount.id),
            file.inode().number
        );
        if let Some(ops) = file.ops() {
            ops.describe(&mut text);
        }
        text.finish()
    }
}
