//! The image: what QEMU loads by `-kernel`.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

#[cfg(target_os = "none")]
mod image {
    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        lguest_host::machine::panicked(info)
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a hypervisor: `cargo xtask boot --features lguest` starts it with a guest");
    std::process::exit(2);
}
