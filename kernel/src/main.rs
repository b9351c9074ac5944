//! The image: what QEMU or a hypervisor loads.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

#[cfg(target_os = "none")]
mod image {
    use kernel::hook::Backend;
    use platform::{ImageNote, Platform};

    kernel::hook::backend::boot_entry!(kernel::trap::Upcalls);

    /// What this image says of itself.
    #[used]
    #[unsafe(link_section = ".note.monoguest")]
    static NOTE: ImageNote = ImageNote::new(<Backend as Platform>::NAME);

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        kernel::boot::end::panicked(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a kernel: build and boot it with `cargo xtask boot --features native`");
    std::process::exit(2);
}
