//! `/dev/tty`: whatever terminal controls the process that opens it.

use alloc::sync::Arc;

use super::device::{CharDevice, DeviceNumber, FileOps, register_char};
use crate::errno::KResult;
use crate::process::current;

struct OwnTerminal;

impl CharDevice for OwnTerminal {
    fn open(&self, _number: DeviceNumber, _flags: u32) -> KResult<Arc<dyn FileOps>> {
        crate::tty::controlling(&current())
    }
}

/// Makes it known.
pub fn register() {
    register_char(5, 0..1, Arc::new(OwnTerminal));
}
