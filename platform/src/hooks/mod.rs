//! The part traits: every hook of the contract.

pub mod boot;
pub mod clock;
pub mod console;
#[expect(unsafe_code, reason = "a hook may ask its caller for a promise")]
pub mod cpu;
pub mod devices;
pub mod interrupts;
#[expect(unsafe_code, reason = "a hook may ask its caller for a promise")]
pub mod paging;
pub mod power;
pub mod smp;
pub mod timer;
