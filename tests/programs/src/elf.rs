//! The smallest ELF programs, built byte by byte, to be executed whole or damaged.

/// Where the image of `tiny` is linked to.
pub const BASE: u64 = 0x40_0000;
/// Size of the file header.
pub const EHDR: usize = 64;
/// Size of a program header.
pub const PHDR: usize = 56;

/// x86-64 code that exits with `status`.
pub fn exit_code(status: u8) -> Vec<u8> {
    // mov edi, status; mov eax, 60; syscall
    vec![0xbf, status, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]
}

/// One program header.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// p_type.
    pub kind: u32,
    /// p_flags.
    pub flags: u32,
    /// p_offset.
    pub offset: u64,
    /// p_vaddr.
    pub addr: u64,
    /// p_filesz.
    pub file_size: u64,
    /// p_memsz.
    pub mem_size: u64,
}

/// An executable with these segments; `code` follows the headers.
pub fn with_segments(kind: u16, entry: u64, segments: &[Segment], code: &[u8]) -> Vec<u8> {
    let mut image = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    image.extend(kind.to_le_bytes());
    image.extend(62u16.to_le_bytes());
    image.extend(1u32.to_le_bytes());
    image.extend(entry.to_le_bytes());
    image.extend((EHDR as u64).to_le_bytes());
    image.extend(0u64.to_le_bytes());
    image.extend(0u32.to_le_bytes());
    for half in [EHDR as u16, PHDR as u16, segments.len() as u16, 64, 0, 0] {
        image.extend(half.to_le_bytes());
    }
    for s in segments {
        image.extend(s.kind.to_le_bytes());
        image.extend(s.flags.to_le_bytes());
        for word in [s.offset, s.addr, s.addr, s.file_size, s.mem_size, 4096] {
            image.extend(word.to_le_bytes());
        }
    }
    image.extend(code);
    image
}

/// A static executable of one read-execute segment that runs `code`.
pub fn tiny(code: &[u8]) -> Vec<u8> {
    let size = (EHDR + PHDR + code.len()) as u64;
    let text = Segment { kind: 1, flags: 5, offset: 0, addr: BASE, file_size: size, mem_size: size };
    with_segments(2, BASE + (EHDR + PHDR) as u64, &[text], code)
}
