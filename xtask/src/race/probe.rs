//! The smallest process 1: it notes the time, says that it runs, and waits.

use crate::race::gdb::RDTSC;

/// What it says.
pub const GREETING: &str = "process 1 runs\n";

/// The address of its second instruction, which comes after it has read the time stamp counter: one that no kernel,
/// firmware or boot code runs at. (At the first one its page is not in memory yet.)
pub const SECOND: u64 = ENTRY + RDTSC.len() as u64;

const ENTRY: u64 = BASE + HEADERS;

const BASE: u64 = 0x20_0000_0000;
/// One ELF header and one program header.
const HEADERS: u64 = 64 + 56;

/// The program, a static ELF file.
pub fn program() -> Vec<u8> {
    let code = code();
    let length = HEADERS + (code.len() + GREETING.len()) as u64;
    let mut file = Vec::new();
    file.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend_from_slice(&[2, 0, 62, 0, 1, 0, 0, 0]); // ET_EXEC, x86-64, version 1
    for word in [ENTRY, 64, 0] {
        file.extend_from_slice(&word.to_le_bytes()); // entry, program headers, no section headers
    }
    for half in [0u16, 0, 64, 56, 1, 64, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes()); // flags, sizes and counts of headers
    }
    file.extend_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, readable and executable
    for word in [0, BASE, BASE, length, length, 4096] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&code);
    file.extend_from_slice(GREETING.as_bytes());
    file
}

fn code() -> Vec<u8> {
    /// From the end of the instruction that has it to the greeting.
    const TO_GREETING: u8 = 5 + 2 + 5 + 2 + 2;
    let greeting = u8::try_from(GREETING.len()).expect("the greeting is short");
    let mut code = RDTSC.to_vec();
    code.extend_from_slice(&[0xb8, 1, 0, 0, 0]); // mov eax, 1: write
    code.extend_from_slice(&[0xbf, 1, 0, 0, 0]); // mov edi, 1
    code.extend_from_slice(&[0x48, 0x8d, 0x35, TO_GREETING, 0, 0, 0]); // lea rsi, [rip + TO_GREETING]
    code.extend_from_slice(&[0xba, greeting, 0, 0, 0]); // mov edx, greeting
    code.extend_from_slice(&[0x0f, 0x05]); // syscall
    code.extend_from_slice(&[0xb8, 34, 0, 0, 0]); // mov eax, 34: pause
    code.extend_from_slice(&[0x0f, 0x05]); // syscall
    code.extend_from_slice(&[0xeb, 0xf7]); // jmp to the mov before
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::{Command, Stdio};

    #[test]
    fn it_runs_here_too() {
        let path = std::env::temp_dir().join(format!("monoguest-{}.probe", std::process::id()));
        let mut file = std::fs::File::options();
        let mut file = file.write(true).create_new(true).mode(0o700).open(&path).unwrap();
        file.write_all(&program()).unwrap();
        drop(file);
        let spawned = loop {
            match Command::new(&path).stdout(Stdio::piped()).spawn() {
                // Another test's child may hold the file open for writing until it starts its program.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {}
                other => break other,
            }
        };
        std::fs::remove_file(&path).unwrap();
        let mut child = spawned.unwrap();
        let mut said = vec![0; GREETING.len()];
        child.stdout.take().unwrap().read_exact(&mut said).unwrap();
        let still_there = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(said, GREETING.as_bytes());
        assert!(still_there);
    }
}
