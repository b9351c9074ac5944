//! `/proc/sys`: settings, most of which are as they are.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::fixed::{Fixed, Item, What};
use super::text::{Text, put};
use crate::errno::{Errno, KResult};
use crate::fs::dynamic::DynamicDirectory;
use crate::fs::pipe::MAX_CAPACITY;
use crate::fs::table::MAX_FILES;
use crate::process::ids::PID_MAX;
use crate::process::system::names;
use crate::random;
use crate::sync::Once;

/// The directory, whose inode is `number`.
pub fn directory(number: u64) -> Box<dyn DynamicDirectory> {
    below(number, TOP)
}

fn below(number: u64, items: &'static [Item<()>]) -> Box<dyn DynamicDirectory> {
    Box::new(Fixed::new((), number * 64, items))
}

const TOP: &[Item<()>] = &[
    Item { name: "fs", permissions: 0o555, what: What::Directory(|(), number| below(number, FS)) },
    Item { name: "kernel", permissions: 0o555, what: What::Directory(|(), number| below(number, KERNEL)) },
    Item { name: "vm", permissions: 0o555, what: What::Directory(|(), number| below(number, VM)) },
];

const FS: &[Item<()>] = &[
    Item { name: "file-max", permissions: 0o444, what: What::Text(|()| number(i64::MAX as u64)) },
    Item { name: "nr_open", permissions: 0o444, what: What::Text(|()| number(MAX_FILES)) },
    Item { name: "pipe-max-size", permissions: 0o444, what: What::Text(|()| number(MAX_CAPACITY as u64)) },
];

const KERNEL: &[Item<()>] = &[
    Item { name: "cap_last_cap", permissions: 0o444, what: What::Text(|()| number(40)) },
    Item { name: "core_pattern", permissions: 0o444, what: What::Text(|()| Ok(b"core\n".to_vec())) },
    Item { name: "domainname", permissions: 0o444, what: What::Text(|()| name(&names::domain_name())) },
    Item {
        name: "hostname",
        permissions: 0o644,
        what: What::Settable(|()| name(&names::host_name()), set_host_name),
    },
    Item { name: "ngroups_max", permissions: 0o444, what: What::Text(|()| number(65536)) },
    Item { name: "osrelease", permissions: 0o444, what: What::Text(|()| line(names::RELEASE)) },
    Item { name: "ostype", permissions: 0o444, what: What::Text(|()| line("Linux")) },
    Item { name: "overflowgid", permissions: 0o444, what: What::Text(|()| number(65534)) },
    Item { name: "overflowuid", permissions: 0o444, what: What::Text(|()| number(65534)) },
    Item { name: "pid_max", permissions: 0o444, what: What::Text(|()| number(PID_MAX.into())) },
    Item { name: "random", permissions: 0o555, what: What::Directory(|(), number| below(number, RANDOM)) },
    Item { name: "randomize_va_space", permissions: 0o444, what: What::Text(|()| number(2)) },
    Item { name: "threads-max", permissions: 0o444, what: What::Text(|()| number(PID_MAX.into())) },
    Item { name: "version", permissions: 0o444, what: What::Text(|()| line(names::VERSION)) },
];

const RANDOM: &[Item<()>] = &[
    Item { name: "boot_id", permissions: 0o444, what: What::Text(boot_id) },
    Item { name: "entropy_avail", permissions: 0o444, what: What::Text(|()| number(256)) },
    Item { name: "poolsize", permissions: 0o444, what: What::Text(|()| number(256)) },
    Item { name: "uuid", permissions: 0o444, what: What::Text(|()| uuid(fresh_uuid())) },
];

const VM: &[Item<()>] = &[
    Item { name: "max_map_count", permissions: 0o444, what: What::Text(|()| number(65530)) },
    Item { name: "mmap_min_addr", permissions: 0o444, what: What::Text(|()| number(65536)) },
    Item { name: "overcommit_memory", permissions: 0o444, what: What::Text(|()| number(0)) },
    Item { name: "overcommit_ratio", permissions: 0o444, what: What::Text(|()| number(50)) },
    Item { name: "swappiness", permissions: 0o444, what: What::Text(|()| number(0)) },
];

fn number(value: u64) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    put!(text, "{value}\n");
    text.finish()
}

fn line(value: &str) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    put!(text, "{value}\n");
    text.finish()
}

fn name(field: &[u8]) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    text.bytes(field.split(|&byte| byte == 0).next().unwrap_or_default());
    text.bytes(b"\n");
    text.finish()
}

fn set_host_name(_: &(), bytes: &[u8]) -> KResult<()> {
    let name = bytes.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or_default();
    if name.len() > 64 {
        return Err(Errno::EINVAL);
    }
    names::set_host_name(name);
    Ok(())
}

/// A random UUID of version 4.
fn fresh_uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    random::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

fn uuid(bytes: [u8; 16]) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.bytes(b"-");
        }
        put!(text, "{byte:02x}");
    }
    text.bytes(b"\n");
    text.finish()
}

fn boot_id(_: &()) -> KResult<Vec<u8>> {
    static BOOT: Once<[u8; 16]> = Once::new();
    uuid(*BOOT.call_once(fresh_uuid))
}
