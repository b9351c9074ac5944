//! What a thread is called.

use core::fmt;

/// At most 15 bytes, as `PR_SET_NAME` sets them and `ps` shows them (Linux's `TASK_COMM_LEN` counts the NUL).
#[derive(Clone, Copy, Default)]
pub struct TaskName([u8; 16]);

impl TaskName {
    /// The first 15 bytes of `name`.
    pub fn new(name: &[u8]) -> Self {
        let mut field = [0; 16];
        let length = name.len().min(field.len() - 1);
        field[..length].copy_from_slice(&name[..length]);
        Self(field)
    }

    /// Without NULs.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// With NULs up to its full length, as `PR_GET_NAME` gives it.
    pub fn padded(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}
