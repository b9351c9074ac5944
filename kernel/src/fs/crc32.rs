//! The checksum that gzip uses: CRC-32 with the reflected polynomial 0xedb88320.

/// Bytes taken at a step.
const SLICE: usize = 8;

/// `TABLES[n][b]`: what byte `b` contributes when `n` more bytes follow it within the step.
static TABLES: [[u32; 256]; SLICE] = {
    let mut tables = [[0u32; 256]; SLICE];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut n = 1;
    while n < SLICE {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[n - 1][byte];
            tables[n][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        n += 1;
    }
    tables
};

/// A checksum under way.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(u32);

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32 {
    /// The checksum of nothing.
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Takes more data in.
    pub fn update(&mut self, data: &[u8]) {
        let (steps, rest) = data.as_chunks::<SLICE>();
        for step in steps {
            let word = u64::from_le_bytes(*step) ^ u64::from(self.0);
            self.0 =
                (0..SLICE).fold(0, |crc, n| crc ^ TABLES[SLICE - 1 - n][(word >> (8 * n)) as usize & 0xff]);
        }
        for byte in rest {
            self.0 = self.0 >> 8 ^ TABLES[0][usize::from(self.0 as u8 ^ byte)];
        }
    }

    /// The checksum of what was taken in.
    pub const fn value(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc(data: &[u8]) -> u32 {
        let mut crc = Crc32::new();
        crc.update(data);
        crc.value()
    }

    #[test]
    fn agrees_with_known_values() {
        assert_eq!(crc(b""), 0);
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc(b"The quick brown fox jumps over the lazy dog"), 0x414f_a339);
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_one_bit_at_a_time(data: std::vec::Vec<u8>, cut: usize) {
            let mut expected = !0u32;
            for bit in data.iter().flat_map(|&byte| (0..8).map(move |n| u32::from(byte) >> n & 1)) {
                expected = if (expected ^ bit) & 1 != 0 { expected >> 1 ^ 0xedb8_8320 } else { expected >> 1 };
            }
            let (first, second) = data.split_at(cut % (data.len() + 1));
            let mut crc = Crc32::new();
            crc.update(first);
            crc.update(second);
            proptest::prop_assert_eq!(crc.value(), !expected);
        }
    }
}
