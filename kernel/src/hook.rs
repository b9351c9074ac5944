//! The one file that names the platform: which backend is below, and how its hooks are reached.
//!
//! On the build machine the kernel stands on the simulated platform, whatever is asked for.

use crate::trap::Upcalls;

#[cfg(not(target_os = "none"))]
pub type Backend = sim::Sim<Upcalls>;
#[cfg(all(target_os = "none", feature = "native"))]
pub type Backend = arch_native::Native<Upcalls>;
#[cfg(all(target_os = "none", feature = "native"))]
pub use arch_native as backend;
#[cfg(all(target_os = "none", not(feature = "native"), feature = "vmi"))]
pub type Backend = arch_vmi::Vmi<Upcalls>;
#[cfg(all(target_os = "none", not(feature = "native"), feature = "vmi"))]
pub use arch_vmi as backend;
#[cfg(all(target_os = "none", not(any(feature = "native", feature = "vmi")), feature = "lguest"))]
pub type Backend = arch_lguest::Lguest<Upcalls>;
#[cfg(all(target_os = "none", not(any(feature = "native", feature = "vmi")), feature = "lguest"))]
pub use arch_lguest as backend;
#[cfg(all(target_os = "none", not(any(feature = "native", feature = "vmi", feature = "lguest"))))]
compile_error!("name a backend: --features native, vmi or lguest");
#[cfg(all(
    target_os = "none",
    any(
        all(feature = "native", any(feature = "vmi", feature = "lguest")),
        all(feature = "vmi", feature = "lguest")
    )
))]
compile_error!("name one backend: there is only one in an image");

/// Whether there can be devices below.
pub const DEVICES: platform::DeviceBus = <Backend as platform::Platform>::DEVICES;

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
    feature = "dispatch-patched"
)))]
platform::hooks!(static Backend);
