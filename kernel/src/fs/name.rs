//! Names of directory entries.

use alloc::boxed::Box;
use core::fmt;

use crate::errno::{Errno, KResult};

/// The longest name, in bytes.
pub const NAME_MAX: usize = 255;

const INLINE: usize = 22;

/// A name; short ones need no memory of their own.
#[derive(Clone)]
pub enum Name {
    /// Length and bytes.
    Short(u8, [u8; INLINE]),
    /// A longer one.
    Long(Box<[u8]>),
}

impl Name {
    /// No name.
    pub const EMPTY: Self = Self::Short(0, [0; INLINE]);

    /// A copy of `name`.
    ///
    /// # Errors
    /// ENAMETOOLONG beyond [`NAME_MAX`].
    pub fn new(name: &[u8]) -> KResult<Self> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if name.len() > INLINE {
            return Ok(Self::Long(Box::from(name)));
        }
        let mut bytes = [0; INLINE];
        bytes[..name.len()].copy_from_slice(name);
        Ok(Self::Short(name.len() as u8, bytes))
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length).min(INLINE)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// The hash by which names are found in their directory.
#[inline]
pub fn hash(name: &[u8]) -> u32 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = name.as_chunks::<8>();
    let mut state = name.len() as u64;
    for word in words {
        state = (state.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(MULTIPLIER);
    }
    let mut last = 0u64;
    for &byte in rest {
        last = last << 8 | u64::from(byte);
    }
    state = (state.rotate_left(5) ^ last).wrapping_mul(MULTIPLIER);
    (state >> 32) as u32
}
