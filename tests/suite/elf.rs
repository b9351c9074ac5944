//! The smallest ELF files, whole and wrong in one place.

/// A program header.
#[derive(Clone, Debug)]
pub struct Segment {
    /// PT_LOAD is 1, PT_INTERP is 3
    pub kind: u32,
    /// Offset in the file
    pub offset: u64,
    /// Virtual address
    pub address: u64,
    /// Bytes in the file
    pub in_file: u64,
    /// Bytes in memory
    pub in_memory: u64,
}

/// An ELF file with a few instructions and no library.
#[derive(Clone, Debug)]
pub struct TinyElf {
    /// 2 is 64-bit
    pub class: u8,
    /// 1 is little-endian
    pub byte_order: u8,
    /// 2 is a fixed-address executable
    pub kind: u16,
    /// 62 is x86-64
    pub machine: u16,
    /// 56 for 64-bit files
    pub header_size: u16,
    /// Where it starts; 0 stands for its first instruction
    pub entry: u64,
    /// The program headers
    pub segments: Vec<Segment>,
    /// What follows them
    pub code: Vec<u8>,
}

const BASE: u64 = 0x40_0000;
const FILE_HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;

impl TinyElf {
    /// A correct file that runs these instructions.
    pub fn running(code: &[u8]) -> Self {
        Self {
            class: 2,
            byte_order: 1,
            kind: 2,
            machine: 62,
            header_size: 56,
            entry: 0,
            segments: vec![Segment { kind: 1, offset: 0, address: BASE, in_file: 0x1000, in_memory: 0x1000 }],
            code: code.to_vec(),
        }
    }

    /// A correct file whose program exits with this status.
    pub fn exiting(status: u8) -> Self {
        // mov edi, status; mov eax, 60 (exit); syscall
        Self::running(&[0xbf, status, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05])
    }

    /// The same, changed.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The file: one page.
    pub fn bytes(&self) -> Vec<u8> {
        let code_offset = FILE_HEADER + PROGRAM_HEADER * self.segments.len() as u64;
        let entry = if self.entry == 0 { BASE + code_offset } else { self.entry };
        let mut file = vec![0x7f, b'E', b'L', b'F', self.class, self.byte_order, 1, 0];
        file.resize(16, 0);
        for half in [self.kind, self.machine] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        for word in [entry, FILE_HEADER, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64, self.header_size, self.segments.len() as u16, 0, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for segment in &self.segments {
            // Readable and executable.
            for word in [segment.kind, 5] {
                file.extend(word.to_le_bytes());
            }
            for word in
                [segment.offset, segment.address, segment.address, segment.in_file, segment.in_memory, 0x1000]
            {
                file.extend(word.to_le_bytes());
            }
        }
        file.extend(&self.code);
        file.resize(0x1000, 0);
        file
    }
}
