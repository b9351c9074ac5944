//! Files in memory without a name.

use alloc::vec::Vec;

use crate::errno::Errno;
use crate::fs::open::memory_file;
use crate::fs::regular::seal;
use crate::fs::table::{OnExec, install};
use crate::syscall::{Call, SysResult};

const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 16;
/// The longest name; with what is put before it, it is as long as a file name may be.
const LONGEST_NAME: usize = 249;

pub fn memfd_create(call: &mut Call<'_>) -> SysResult {
    let flags = call.uint(1);
    let known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
    let both = MFD_NOEXEC_SEAL | MFD_EXEC;
    if flags & !known != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let name = call.user(0).read_string(LONGEST_NAME + 1, Errno::EINVAL)?;
    let mut full = Vec::new();
    full.try_reserve(name.len() + 6).map_err(|_| Errno::ENOMEM)?;
    full.extend_from_slice(b"memfd:");
    full.extend_from_slice(&name);
    let (mut seals, mut permissions) = (seal::SEAL, 0o777);
    if flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL) != 0 {
        seals = 0;
    }
    if flags & MFD_NOEXEC_SEAL != 0 {
        seals |= seal::EXEC;
        permissions = 0o666;
    }
    let file = memory_file(&full, seals, permissions)?;
    install(file, OnExec::close_if(flags & MFD_CLOEXEC != 0)).map(|fd| fd.0 as u64)
}
