//! Files about the memory of a process.

use alloc::sync::Arc;
use alloc::vec::Vec;

use platform::{PAGE_SIZE, Protection, VirtAddr};

use super::subject::Subject;
use super::text::{Text, put};
use crate::errno::{Errno, KResult};
use crate::fs::caller::Caller;
use crate::fs::path::Path;
use crate::fs::walk::Final;
use crate::mm::vma::VmaFlags;
use crate::mm::{AddressSpace, Backing};
use crate::process::Process;

/// The most that is read of another process's strings.
const LONGEST: usize = 2 << 20;

fn space(process: &Process) -> KResult<Option<Arc<AddressSpace>>> {
    Ok(process.space())
}

/// Copies `range` of a process's memory, as far as it is there.
fn read(space: &AddressSpace, range: (u64, u64)) -> KResult<Vec<u8>> {
    let length = usize::try_from(range.1.saturating_sub(range.0)).unwrap_or(0).min(LONGEST);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(length, 0);
    let mut done = 0;
    while done < length {
        let address = VirtAddr(range.0 + done as u64);
        let in_page = (address.0 % PAGE_SIZE) as usize;
        let part = (PAGE_SIZE as usize - in_page).min(length - done);
        let Some(page) = space.page_at(address) else { break };
        page.read(in_page, &mut bytes[done..done + part]);
        done += part;
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// `cmdline`
pub fn command_line(subject: &Subject) -> KResult<Vec<u8>> {
    let Some(space) = space(&*subject.process()?)? else { return Ok(Vec::new()) };
    let program = space.layout().program;
    read(&space, program.arguments)
}

/// `environ`
pub fn environment(subject: &Subject) -> KResult<Vec<u8>> {
    let Some(space) = space(&*subject.inspected()?)? else { return Ok(Vec::new()) };
    let program = space.layout().program;
    read(&space, program.environment)
}

/// `auxv`
pub fn auxiliary(subject: &Subject) -> KResult<Vec<u8>> {
    let Some(space) = space(&*subject.inspected()?)? else { return Ok(Vec::new()) };
    let program = space.layout().program;
    read(&space, program.auxiliary)
}

/// The target of `exe`.
pub fn executable(subject: &Subject) -> KResult<Vec<u8>> {
    let space = space(&*subject.inspected()?)?.ok_or(Errno::ENOENT)?;
    let file = space.layout().executable.clone().ok_or(Errno::ENOENT)?;
    Ok(file.path().into_owned())
}

/// Where `exe` leads: where the program's file is now, if it still has a name.
pub fn executable_place(subject: &Subject) -> KResult<Option<Path>> {
    let path = executable(subject)?;
    let caller = Caller::current();
    caller.walker().walk(Some(&crate::fs::tree::root()), &path, Final::Follow).map(Some)
}

struct Line {
    start: u64,
    end: u64,
    protection: Protection,
    shared: bool,
    offset: u64,
    identity: (u64, u64),
    name: Vec<u8>,
}

fn lines(space: &AddressSpace) -> Vec<Line> {
    let layout = space.layout();
    layout
        .vmas
        .as_slice()
        .iter()
        .map(|vma| {
            let (offset, identity, name) = match &vma.backing {
                Backing::File { file, offset } => (*offset, file.identity(), file.path().into_owned()),
                Backing::Special { name, .. } => (0, (0, 0), name.as_bytes().to_vec()),
                Backing::Anonymous => {
                    let name: &[u8] = if vma.flags.contains(VmaFlags::HEAP) {
                        b"[heap]"
                    } else if vma.flags.contains(VmaFlags::GROWS_DOWN) {
                        b"[stack]"
                    } else {
                        b""
                    };
                    (0, (0, 0), name.to_vec())
                }
            };
            Line {
                start: vma.range.start(),
                end: vma.range.end(),
                protection: vma.protection,
                shared: vma.flags.contains(VmaFlags::SHARED),
                offset,
                identity,
                name,
            }
        })
        .collect()
}

fn put_line(text: &mut Text, line: &Line) {
    let flag = |right, letter| if line.protection.contains(right) { letter } else { '-' };
    let width = if line.name.is_empty() { 0 } else { 73 };
    text.put_padded(
        width,
        format_args!(
            "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
            line.start,
            line.end,
            flag(Protection::READ, 'r'),
            flag(Protection::WRITE, 'w'),
            flag(Protection::EXECUTE, 'x'),
            if line.shared { 's' } else { 'p' },
            line.offset,
            (line.identity.0 >> 8) & 0xfff,
            line.identity.0 & 0xff,
            line.identity.1,
        ),
    );
    text.escaped_newlines(&line.name);
    text.bytes(b"\n");
}

/// `maps`
pub fn maps(subject: &Subject) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    if let Some(space) = space(&*subject.inspected()?)? {
        for line in lines(&space) {
            put_line(&mut text, &line);
        }
    }
    text.finish()
}

/// `smaps`
pub fn detailed_maps(subject: &Subject) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    if let Some(space) = space(&*subject.inspected()?)? {
        for line in lines(&space) {
            put_line(&mut text, &line);
            let pages = (line.start..line.end).step_by(PAGE_SIZE as usize);
            let resident = pages.filter(|&page| space.is_resident(VirtAddr(page))).count() as u64 * 4;
            let size = (line.end - line.start) / 1024;
            put!(
                text,
                "Size:           {size:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
            );
            put!(text, "Rss:            {resident:>8} kB\nPss:            {resident:>8} kB\n");
            put!(
                text,
                "Swap:                  0 kB\nSwapPss:               0 kB\nLocked:                0 kB\n"
            );
        }
    }
    text.finish()
}
