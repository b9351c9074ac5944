//! The one file that names the backend under test, and how its hooks are reached.

#[cfg(not(feature = "planted"))]
pub use crate::machine::Upcalls;
#[cfg(feature = "planted")]
pub use crate::planted::Upcalls;

#[cfg(feature = "native")]
pub type Backend = arch_native::Native<Upcalls>;
#[cfg(feature = "native")]
pub use arch_native as backend;
#[cfg(all(not(feature = "native"), feature = "vmi"))]
pub type Backend = arch_vmi::Vmi<Upcalls>;
#[cfg(all(not(feature = "native"), feature = "vmi"))]
pub use arch_vmi as backend;
#[cfg(all(not(any(feature = "native", feature = "vmi")), feature = "lguest"))]
pub type Backend = arch_lguest::Lguest<Upcalls>;
#[cfg(all(not(any(feature = "native", feature = "vmi")), feature = "lguest"))]
pub use arch_lguest as backend;
#[cfg(not(any(feature = "native", feature = "vmi", feature = "lguest")))]
compile_error!("name a backend: --features native");

#[cfg(feature = "dispatch-table")]
platform::hooks!(table Backend);
#[cfg(all(feature = "dispatch-direct", not(feature = "dispatch-table")))]
platform::hooks!(direct Backend);
#[cfg(all(feature = "dispatch-dyn", not(any(feature = "dispatch-direct", feature = "dispatch-table"))))]
platform::hooks!(dyn Backend);
#[cfg(all(
    feature = "dispatch-patched",
    not(any(feature = "dispatch-direct", feature = "dispatch-table", feature = "dispatch-dyn"))
))]
platform::hooks!(patched Backend);
#[cfg(not(any(
    feature = "dispatch-direct",
    feature = "dispatch-table",
    feature = "dispatch-dyn",
    feature = "dispatch-patched",
    feature = "planted"
)))]
platform::hooks!(static Backend);

/// The backend's hooks as they are.
#[cfg(feature = "planted")]
pub mod sound {
    use super::Backend;
    platform::hooks!(static Backend);
}
#[cfg(feature = "planted")]
pub use crate::planted::{clock, cpu, devices, interrupts, paging, smp, timer};
#[cfg(feature = "planted")]
pub use sound::*;
