//! A guest without a kernel that makes the calls of a VMI ROM as `arch-vmi/ABI.md` has them, and says whether they do what they
//! should. With `break=RULE` on its command line it breaks a rule that the strict ROM must see.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    mod calls;
    mod checks;
    mod console;
    mod entry;
    mod memory;
    mod rules;
    mod traps;
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this runs in a guest: cargo xtask test rom/");
}
