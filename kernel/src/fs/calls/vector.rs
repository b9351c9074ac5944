//! Reading and writing in several pieces.

use crate::errno::{Errno, KResult};
use crate::fs::file::OpenFile;
use crate::fs::io::{IoDst, IoSrc, UserVector};
use crate::fs::table::{Fd, open_file};
use crate::syscall::{Call, SysResult};

use super::transfer::offset;

pub fn readv(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    file.check_readable()?;
    let vector = UserVector::read(call.user(1), call.size(2))?;
    file.read(&mut vector.destination()).map(|moved| moved as u64)
}

pub fn writev(call: &mut Call<'_>) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    file.check_writable()?;
    let vector = UserVector::read(call.user(1), call.size(2))?;
    file.write(&mut vector.source()).map(|moved| moved as u64)
}

pub fn preadv(call: &mut Call<'_>) -> SysResult {
    read_with(call, Place::At(offset(call.long(3))?), 0)
}

pub fn pwritev(call: &mut Call<'_>) -> SysResult {
    write_with(call, Place::At(offset(call.long(3))?), 0)
}

pub fn preadv2(call: &mut Call<'_>) -> SysResult {
    read_with(call, Place::or_current(call.long(3))?, call.uint(5))
}

pub fn pwritev2(call: &mut Call<'_>) -> SysResult {
    write_with(call, Place::or_current(call.long(3))?, call.uint(5))
}

enum Place {
    At(u64),
    Current,
}

impl Place {
    fn or_current(value: i64) -> KResult<Self> {
        if value == -1 { Ok(Self::Current) } else { offset(value).map(Self::At) }
    }
}

/// What `preadv2(2)` may be told (include/uapi/linux/fs.h).
const RWF_HIPRI: u32 = 1;
const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
const RWF_NOWAIT: u32 = 8;
const RWF_APPEND: u32 = 0x10;

fn read_with(call: &Call<'_>, place: Place, flags: u32) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    file.check_readable()?;
    check_flags(&file, flags, RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT)?;
    let vector = UserVector::read(call.user(1), call.size(2))?;
    let to: &mut IoDst<'_> = &mut vector.destination();
    match place {
        Place::At(offset) => file.read_at(offset, to),
        Place::Current => file.read(to),
    }
    .map(|moved| moved as u64)
}

fn write_with(call: &Call<'_>, place: Place, flags: u32) -> SysResult {
    let file = open_file(Fd(call.int(0)))?;
    file.check_writable()?;
    check_flags(&file, flags, RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND)?;
    let vector = UserVector::read(call.user(1), call.size(2))?;
    let from: &mut IoSrc<'_> = &mut vector.source();
    match place {
        _ if flags & RWF_APPEND != 0 => file.append(from),
        Place::At(offset) => file.write_at(offset, from),
        Place::Current => file.write(from),
    }
    .map(|moved| moved as u64)
}

fn check_flags(file: &OpenFile, flags: u32, known: u32) -> KResult<()> {
    if flags & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    // Files in memory never wait; for others there is no way to say "not now" for one call only.
    if flags & RWF_NOWAIT != 0 && file.regular().is_none() {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(())
}
