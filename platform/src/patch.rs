//! The `patched` dispatch control: call sites that the build records, rewritten at boot.
//!
//! As Linux does with its paravirt operations: a site is compiled as `call [slot]`, six bytes, and `apply_alternatives`
//! makes it a direct call of what the slot holds, or the native instructions where there are some for the operation.
//! Linux's sites are listed by assembler directives and by objtool, which reads the linked code. Here each site
//! reserves an entry of the section `.hook_sites` when it is compiled, and the build fills the entries from the linked
//! code. The instructions that may stand in a site's place are no list of their own: they are the backend's function,
//! where that is short and straight.

use core::fmt;

/// Bytes of `call [rip + slot]`.
pub const SITE_BYTES: usize = 6;
/// What those begin with.
pub const INDIRECT_CALL: [u8; 2] = [0xff, 0x15];
/// The section the sites are recorded in.
pub const SECTION: &str = ".hook_sites";

/// No operation, in each length that a site can have left.
const NOTHING: [&[u8]; SITE_BYTES + 1] = [
    &[],
    &[0x90],
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
];

/// A recorded site; all zeros until the build fills it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Site {
    /// The lower half of the instruction's address; the image lies in the top 2 GiB
    pub address: u32,
    /// 0 if the site becomes a direct call; else one more than the bytes of the backend's function that are to stand
    /// in its place
    pub code: u32,
}

/// What became of the sites.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Patched {
    /// Sites that the build recorded
    pub recorded: usize,
    /// Those that became direct calls
    pub calls: usize,
    /// Those that became the backend's own instructions
    pub instructions: usize,
    /// Indirect calls and jumps through a slot that are left in the text, recorded or not. One whose target was loaded
    /// into a register is not seen here: the build refuses those
    pub left: usize,
}

impl Patched {
    /// Whether every site was recorded and is direct now.
    pub fn is_complete(&self) -> bool {
        self.recorded > 0 && self.calls + self.instructions == self.recorded && self.left == 0
    }
}

impl fmt::Display for Patched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recorded, calls, instructions, left } = self;
        write!(
            f,
            "hook call sites: {recorded} recorded, {calls} patched to direct calls, {instructions} to native \
             instructions, {left} left indirect"
        )
    }
}

/// The bytes for a site at `address`: a call of `target`, or what `code` has.
pub fn replacement(address: u64, target: u64, code: Option<&[u8]>) -> [u8; SITE_BYTES] {
    let mut bytes = [0; SITE_BYTES];
    let length = match code {
        Some(code) => {
            let length = code.len().min(SITE_BYTES);
            bytes[..length].copy_from_slice(&code[..length]);
            length
        }
        None => {
            bytes[0] = 0xe8;
            bytes[1..5].copy_from_slice(&(target.wrapping_sub(address + 5) as u32).to_le_bytes());
            5
        }
    };
    bytes[length..].copy_from_slice(NOTHING[SITE_BYTES - length]);
    bytes
}

/// The address that a `call [rip + …]` or `jmp [rip + …]` at `address` takes its target from.
pub fn slot(address: u64, bytes: &[u8; SITE_BYTES]) -> Option<u64> {
    let [0xff, 0x15 | 0x25, distance @ ..] = bytes else { return None };
    let distance = i32::from_le_bytes(*distance);
    Some(address.wrapping_add(SITE_BYTES as u64).wrapping_add_signed(distance.into()))
}

#[cfg(target_os = "none")]
pub use image::apply;

#[cfg(target_os = "none")]
#[expect(unsafe_code, reason = "it writes code")]
mod image {
    use core::ops::Range;

    use super::{INDIRECT_CALL, Patched, SITE_BYTES, Site, replacement, slot};
    use crate::BootInfo;

    // `kernel/link.ld` has these.
    unsafe extern "C" {
        static IMAGE_BASE: [u8; 0];
        static text_start: [u8; 0];
        static text_end: [u8; 0];
        static hook_sites_start: [Site; 0];
        static hook_sites_end: [Site; 0];
    }

    /// Rewrites all sites whose slot is in one of `tables`.
    ///
    /// The text stays read-only: the sites are written through the direct map, as Linux's `text_poke` writes through an
    /// alias.
    ///
    /// # Safety
    /// The slots are filled. No other CPU runs, and no site is being executed.
    #[cold]
    pub unsafe fn apply(info: &BootInfo, tables: &[Range<u64>]) -> Patched {
        let (start, end) = (&raw const hook_sites_start, &raw const hook_sites_end);
        // SAFETY: the linker script puts these symbols around whole entries, which nothing writes.
        let sites = unsafe {
            core::slice::from_raw_parts(start.cast::<Site>(), (end.addr() - start.addr()) / size_of::<Site>())
        };
        let text = (&raw const text_start).addr() as u64..(&raw const text_end).addr() as u64;
        let mut patched = Patched::default();
        for site in sites {
            // Volatile, for the build wrote the entries when the compiler was done.
            // SAFETY: an entry.
            let site = unsafe { core::ptr::read_volatile(site) };
            let address = 0xffff_ffff_0000_0000 | u64::from(site.address);
            if !text.contains(&address) || text.end - address < SITE_BYTES as u64 {
                continue;
            }
            patched.recorded += 1;
            // SAFETY: inside of the text.
            let found = unsafe { (address as *const [u8; SITE_BYTES]).read_volatile() };
            let slot = slot(address, &found).filter(|slot| tables.iter().any(|table| table.contains(slot)));
            let (Some(slot), true) = (slot, found.starts_with(&INDIRECT_CALL)) else { continue };
            // SAFETY: a slot, which the caller has filled.
            let target = unsafe { (slot as *const u64).read_volatile() };
            // SAFETY: the build counted the function's bytes.
            let code = site.code.checked_sub(1).map(|bytes| unsafe {
                core::slice::from_raw_parts(target as *const u8, (bytes as usize).min(SITE_BYTES))
            });
            let alias = info.direct_map + (address - (&raw const IMAGE_BASE).addr() as u64);
            // SAFETY: the image's own memory by another address, and nothing is executed there now.
            unsafe {
                alias.as_mut_ptr::<[u8; SITE_BYTES]>().write_volatile(replacement(address, target, code));
            }
            match code {
                Some(_) => patched.instructions += 1,
                None => patched.calls += 1,
            }
        }
        // Code that was written at another address than it is executed at: the SDM (volume 3A, 8.1.3) wants a serializing
        // instruction, and this one is allowed at every privilege level.
        core::hint::black_box(core::arch::x86_64::__cpuid(0));
        patched.left = left(text, tables);
        patched
    }

    /// How many calls and jumps through a slot the text has.
    fn left(text: Range<u64>, tables: &[Range<u64>]) -> usize {
        let last = text.end - SITE_BYTES as u64;
        (text.start..=last)
            .filter(|&address| {
                // SAFETY: inside of the text, read-only.
                let bytes = unsafe { &*(address as *const [u8; SITE_BYTES]) };
                slot(address, bytes).is_some_and(|slot| tables.iter().any(|table| table.contains(&slot)))
            })
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 0xffff_ffff_8010_0000;

    #[test]
    fn a_site_becomes_a_call_of_the_target() {
        assert_eq!(replacement(AT, AT + 0x105, None), [0xe8, 0, 1, 0, 0, 0x90]);
        assert_eq!(replacement(AT, AT - 0xb, None), [0xe8, 0xf0, 0xff, 0xff, 0xff, 0x90]);
    }

    #[test]
    fn a_site_becomes_the_function_s_instructions_and_nothing_else() {
        assert_eq!(replacement(AT, 0, Some(&[0xfa])), [0xfa, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
        assert_eq!(replacement(AT, 0, Some(&[0x9c, 0xfa, 0x58])), [0x9c, 0xfa, 0x58, 0x0f, 0x1f, 0x00]);
        assert_eq!(replacement(AT, 0, Some(&[])), [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00]);
        assert_eq!(replacement(AT, 0, Some(&[1, 2, 3, 4, 5, 6])), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn slots_of_calls_and_jumps() {
        assert_eq!(slot(AT, &[0xff, 0x15, 0x10, 0, 0, 0]), Some(AT + 0x16));
        assert_eq!(slot(AT, &[0xff, 0x25, 0xfa, 0xff, 0xff, 0xff]), Some(AT));
        assert_eq!(slot(AT, &[0xff, 0x14, 0x25, 0, 0, 0]), None);
        assert_eq!(slot(AT, &[0xe8, 0, 0, 0, 0, 0x90]), None);
    }

    #[test]
    fn nothing_recorded_is_not_complete() {
        assert!(!Patched::default().is_complete());
        assert!(Patched { recorded: 2, calls: 1, instructions: 1, left: 0 }.is_complete());
        assert!(!Patched { recorded: 2, calls: 1, instructions: 0, left: 1 }.is_complete());
    }
}
