//! What the system is called.

use zerocopy::{Immutable, IntoBytes};

use crate::errno::{Errno, KResult};
use crate::mm::UserAddr;
use crate::process::current;
use crate::sync::SpinLock;
use crate::syscall::{Call, SysResult};

/// The version of Linux whose interface this is.
pub const RELEASE: &str = concat!("6.1.0-monoguest-", env!("CARGO_PKG_VERSION"));
/// As `/proc/version` and `uname -v` show it.
pub const VERSION: &str = "#1 SMP Monoguest";

const FIELD: usize = 65;

/// `struct new_utsname` (include/uapi/linux/utsname.h).
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct Utsname {
    system: [u8; FIELD],
    node: [u8; FIELD],
    release: [u8; FIELD],
    version: [u8; FIELD],
    machine: [u8; FIELD],
    domain: [u8; FIELD],
}

const fn field(text: &[u8]) -> [u8; FIELD] {
    let mut field = [0; FIELD];
    let mut index = 0;
    while index < text.len() {
        field[index] = text[index];
        index += 1;
    }
    field
}

static NAMES: SpinLock<Utsname> = SpinLock::new(Utsname {
    system: field(b"Linux"),
    node: field(b"monoguest"),
    release: field(RELEASE.as_bytes()),
    version: field(VERSION.as_bytes()),
    machine: field(b"x86_64"),
    domain: field(b"(none)"),
});

/// The host's name, padded with NULs.
pub fn host_name() -> [u8; FIELD] {
    NAMES.lock().node
}

/// The domain's name, padded with NULs.
pub fn domain_name() -> [u8; FIELD] {
    NAMES.lock().domain
}

/// Sets the host's name (64 bytes at most; more are cut off).
pub fn set_host_name(name: &[u8]) {
    NAMES.lock().node = field(&name[..name.len().min(FIELD - 1)]);
}

/// `uname(2)`
pub(super) fn uname(call: &mut Call<'_>) -> SysResult {
    let names = *NAMES.lock();
    call.user(0).write(&names)?;
    Ok(0)
}

fn read_name(from: UserAddr, length: i32) -> KResult<[u8; FIELD]> {
    if !current().process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let length = usize::try_from(length).ok().filter(|&length| length < FIELD).ok_or(Errno::EINVAL)?;
    let mut name = [0; FIELD];
    from.read_bytes(&mut name[..length])?;
    Ok(name)
}

/// `sethostname(2)`
pub(super) fn sethostname(call: &mut Call<'_>) -> SysResult {
    let name = read_name(call.user(0), call.int(1))?;
    NAMES.lock().node = name;
    Ok(0)
}

/// `setdomainname(2)`
pub(super) fn setdomainname(call: &mut Call<'_>) -> SysResult {
    let name = read_name(call.user(0), call.int(1))?;
    NAMES.lock().domain = name;
    Ok(0)
}
