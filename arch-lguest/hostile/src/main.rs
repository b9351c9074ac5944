//! Guests for the lguest host that mean it no good. The command line says which one this is:
//!
//! - `role=attack`, or nothing: guest 0 is hostile: in each of its lives it makes hypercalls, tables, frames, rings and requests
//!   to devices from a seed (`seed=`, `lives=`), among them a few that a host must answer with its death; the host, asked by
//!   `restart=N`, starts it again with the next seed. It finds out by itself if it reaches memory that is not its own. The
//!   others watch their memory, and end when a key is pressed.
//! - `role=breach`: guest 0 breaks one rule of the interface a life, in an order, and the others watch.
//! - `role=report`: reports that it has ended with status 0, and breaks a rule.
//! - `role=spin`: never gives the processor up and takes no interrupt, until its clock has `until=` milliseconds.
//! - `role=state`: looks whether what it has in registers stays there, until its clock has `until=` milliseconds.
//!
//! With `beside=other` nobody watches: the guest beside this one is none of these.
#![cfg_attr(target_os = "none", no_std)]
#![cfg_attr(target_os = "none", no_main)]

#[cfg(target_os = "none")]
mod attack;
#[cfg(target_os = "none")]
mod breach;
#[cfg(target_os = "none")]
mod call;
#[cfg(target_os = "none")]
mod devices;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod space;
#[cfg(target_os = "none")]
mod spin;
#[cfg(target_os = "none")]
mod state;
#[cfg(target_os = "none")]
mod watch;
#[cfg(target_os = "none")]
mod words;

#[cfg(target_os = "none")]
mod image {
    use platform::ImageNote;

    #[used]
    #[unsafe(link_section = ".note.monoguest")]
    static NOTE: ImageNote = ImageNote::new("lguest");

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        crate::call::failed(b"hostile: panic\r\n\0")
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a guest for the lguest host: `cargo xtask test lguest/` runs it");
    std::process::exit(2);
}
