//! Access to user memory: `stac` and `clac`, where the CPU has them.
//!
//! Each site is a no-operation of three bytes until [`enable`] writes the instruction over it, once, before the image
//! becomes read-only. The linker gathers the sites' addresses.

/// Expands to a site that becomes `stac` (user memory may be accessed) or `clac` (it may not), for use among the
/// templates of assembly.
macro_rules! smap_site {
    ($which:literal) => {
        concat!(
            "9: .byte 0x0f, 0x1f, 0x00\n",
            ".pushsection .smap_sites.",
            $which,
            ", \"a\", @progbits\n",
            ".quad 9b\n",
            ".popsection\n"
        )
    };
}
pub(crate) use smap_site;

/// Writes the instructions.
///
/// # Safety
/// On the boot CPU, before any other runs, with the image writable.
#[cfg(target_os = "none")]
pub unsafe fn enable() {
    unsafe extern "C" {
        static stac_sites_start: [*mut [u8; 3]; 0];
        static stac_sites_end: [*mut [u8; 3]; 0];
        static clac_sites_start: [*mut [u8; 3]; 0];
        static clac_sites_end: [*mut [u8; 3]; 0];
    }
    let tables = [
        (&raw const stac_sites_start, &raw const stac_sites_end, [0x0f, 0x01, 0xcb]),
        (&raw const clac_sites_start, &raw const clac_sites_end, [0x0f, 0x01, 0xca]),
    ];
    for (start, end, instruction) in tables {
        let mut at = start.cast::<*mut [u8; 3]>();
        while at < end.cast() {
            // SAFETY: the linker script puts these symbols around whole addresses of sites in the image.
            unsafe {
                at.read().write_unaligned(instruction);
                at = at.add(1);
            }
        }
    }
}
