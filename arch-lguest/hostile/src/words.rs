//! The command line: `name=value` words.

use lguest_abi::BootInfo;

/// The value of the word `name=…`.
pub fn word(facts: &BootInfo, name: &[u8]) -> Option<&'static [u8]> {
    // SAFETY: the host put the text there, where it stays, and the boot map shows it.
    let line = unsafe {
        core::slice::from_raw_parts(facts.command_line as *const u8, facts.command_line_bytes as usize)
    };
    line.split(|&byte| byte == b' ').find_map(|word| word.strip_prefix(name)?.strip_prefix(b"="))
}

/// The number in the word `name=…`.
pub fn parameter(facts: &BootInfo, name: &[u8]) -> Option<u64> {
    word(facts, name)?.iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?))
    })
}
