//! What an image says of itself to whoever loads it.

/// Owner of the ELF note.
pub const NOTE_NAME: [u8; 12] = *b"Monoguest\0\0\0";
/// Type of the ELF note.
pub const NOTE_TYPE: u32 = 1;

/// An ELF note that names the platform an image was built for and the contract it follows. The kernel puts one in
/// section `.note.monoguest`; a loader of ours refuses an image whose note does not fit.
#[derive(Debug)]
#[repr(C, align(4))]
pub struct ImageNote {
    name_size: u32,
    description_size: u32,
    note_type: u32,
    name: [u8; 12],
    /// [`crate::CONTRACT_VERSION`] of the image.
    pub contract: u32,
    /// [`crate::Platform::NAME`], padded with NULs.
    pub platform: [u8; 16],
}

impl ImageNote {
    /// The note of an image for `platform` (at most 16 bytes).
    pub const fn new(platform: &str) -> Self {
        let bytes = platform.as_bytes();
        let mut padded = [0; 16];
        let mut i = 0;
        while i < bytes.len() {
            padded[i] = bytes[i];
            i += 1;
        }
        Self {
            name_size: 10,
            description_size: 20,
            note_type: NOTE_TYPE,
            name: NOTE_NAME,
            contract: crate::CONTRACT_VERSION,
            platform: padded,
        }
    }
}
