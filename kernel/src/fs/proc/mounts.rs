//! Mounts, as `/proc/PID/mounts` and `mountinfo` list them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::text::{Text, put};
use crate::errno::KResult;
use crate::fs::mount::{self, Mount};
use crate::fs::path::Path;

/// Where a mount is seen from `root`; none if it is not.
fn place(mount: &Arc<Mount>, root: &Path) -> KResult<Option<Vec<u8>>> {
    let spelled = mount.top().spell(root)?;
    Ok(spelled.reachable.then_some(spelled.bytes))
}

/// `mounts`
pub fn list(root: &Path) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    for mount in mount::all() {
        let Some(at) = place(&mount, root)? else { continue };
        text.escaped(&mount.source);
        text.bytes(b" ");
        text.escaped(&at);
        put!(text, " {} {} 0 0\n", mount.superblock.kind.name(), mount.options());
    }
    text.finish()
}

/// `mountinfo`
pub fn list_details(root: &Path) -> KResult<Vec<u8>> {
    let mut text = Text::new();
    for mount in mount::all() {
        let Some(at) = place(&mount, root)? else { continue };
        let parent = mount.mounted_at().map_or(mount.id, |below| below.mount.id);
        let device = mount.superblock.device;
        put!(text, "{} {parent} {}:{} ", mount.id, device.major, device.minor);
        let mut top = mount.top();
        let mut names = Vec::new();
        while let Some(parent) = top.dentry.parent() {
            names.push(top.dentry.name());
            top.dentry = parent;
        }
        if names.is_empty() {
            text.bytes(b"/");
        }
        for name in names.iter().rev() {
            text.bytes(b"/");
            text.escaped(name.as_bytes());
        }
        text.bytes(b" ");
        text.escaped(&at);
        put!(text, " {} - {} ", mount.options(), mount.superblock.kind.name());
        text.escaped(&mount.source);
        put!(text, " {}\n", if mount.check_writable().is_ok() { "rw" } else { "ro" });
    }
    text.finish()
}

/// Pages of files in memory: those that Linux would count as shared memory, and all.
pub fn pages_in_files() -> (u64, u64) {
    let mut seen = Vec::new();
    let mut pages = crate::fs::anonymous::memory_pages();
    for mount in mount::all() {
        if !seen.contains(&mount.superblock.device) {
            seen.push(mount.superblock.device);
            pages += mount.superblock.page_usage().0;
        }
    }
    (pages, pages)
}
