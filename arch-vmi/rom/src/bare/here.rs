//! Where things in the image are now.

/// The address of a symbol.
macro_rules! here {
    ($symbol:literal) => {{
        let address: u64;
        // SAFETY: takes an address.
        unsafe {
            core::arch::asm!(
                concat!("lea {}, [rip + ", $symbol, "]"),
                out(reg) address,
                options(nomem, nostack, preserves_flags)
            );
        }
        address
    }};
}
pub(super) use here;
