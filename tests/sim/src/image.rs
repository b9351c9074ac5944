//! Files for the kernel under test.

/// Header sizes of 64-bit ELF.
const FILE_HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const PAGE: u64 = 4096;

/// A static 64-bit x86-64 ELF executable whose entry point is `entry`, for a program registered there with
/// [`crate::Machine::program`]: one readable and executable segment of the pages that hold the address and the next
/// `bytes`, filled with undefined instructions.
///
/// # Panics
/// If the first page is asked for.
pub fn program_image(entry: u64, bytes: u64) -> Vec<u8> {
    let start = entry & !(PAGE - 1);
    assert!(start > 0, "a program does not start in the first page");
    let size = (entry + bytes.max(1)).next_multiple_of(PAGE) - start;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());
    half(&mut file, 2); // ET_EXEC
    half(&mut file, 62); // EM_X86_64
    word(&mut file, 1);
    long(&mut file, entry);
    long(&mut file, FILE_HEADER); // the program headers follow
    long(&mut file, 0); // no sections
    word(&mut file, 0);
    half(&mut file, FILE_HEADER as u16);
    half(&mut file, PROGRAM_HEADER as u16);
    half(&mut file, 1);
    half(&mut file, 0);
    half(&mut file, 0);
    half(&mut file, 0);

    word(&mut file, 1); // PT_LOAD
    word(&mut file, 1 | 4); // executable, readable
    long(&mut file, PAGE); // offset in the file
    long(&mut file, start);
    long(&mut file, start);
    long(&mut file, size);
    long(&mut file, size);
    long(&mut file, PAGE);
    file.resize(PAGE as usize, 0);
    // ud2, over and over.
    file.extend([0x0f, 0x0b].into_iter().cycle().take(size as usize));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(file: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(file[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn the_entry_lies_in_the_segment() {
        let file = program_image(0x40_0ff8, 16);
        assert_eq!(long(&file, 24), 0x40_0ff8);
        let header = long(&file, 32) as usize;
        let [offset, address, size] = [8, 16, 32].map(|field| long(&file, header + field));
        assert_eq!((offset, address, size), (PAGE, 0x40_0000, 2 * PAGE));
        assert_eq!(file.len() as u64, offset + size);
        assert_eq!(file[PAGE as usize..][..2], [0x0f, 0x0b]);
    }
}
