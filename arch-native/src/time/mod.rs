//! Clock and timer.

#[cfg(feature = "pc")]
pub(crate) mod calibrate;
#[cfg(feature = "pc")]
mod hooks;
#[cfg(feature = "pc")]
pub(crate) mod rtc;
pub mod scale;
#[cfg(feature = "pc")]
pub(crate) mod timer;
pub mod tsc;
pub mod user_clock;

#[cfg(feature = "pc")]
pub use hooks::{NativeClock, NativeTimer};
