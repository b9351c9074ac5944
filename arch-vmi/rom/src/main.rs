//! The ROM as a program: all of it is in the library. On the build machine there is nothing to run.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod panic {
    use core::panic::PanicInfo;

    use vmi_rom as _;

    /// The code has no panics; this satisfies the compiler.
    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        loop {
            core::hint::spin_loop();
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("the VMI ROM runs below a guest: cargo xtask boot --features vmi");
}
