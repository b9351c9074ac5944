//! What xtask needs to know of ELF files.

/// True for a 64-bit little-endian ELF file with a PT_INTERP program header.
pub fn has_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: [u8; 4] = 3u32.to_le_bytes();
    let half = |at: usize| elf.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(offset), Some(size), Some(count)) =
        (elf.get(32..40).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes), half(54), half(56))
    else {
        return false;
    };
    let Ok(offset) = usize::try_from(offset) else { return false };
    (0..count)
        .filter_map(|index| offset.checked_add(index * size))
        .any(|header| elf.get(header..).is_some_and(|rest| rest.starts_with(&PT_INTERP)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_dynamic_program_is_known() {
        let this = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(has_interpreter(&this));
        let mut without = this.clone();
        let headers = usize::try_from(u64::from_le_bytes(this[32..40].try_into().unwrap())).unwrap();
        let interpreter = (0..).map(|index| headers + index * 56).find(|at| this[*at] == 3).unwrap();
        without[interpreter] = 0;
        assert!(!has_interpreter(&without));
        for length in 0..64 {
            has_interpreter(&this[..length]);
        }
    }
}
