//! Numbers and layouts of the 64-bit VMI profile: what a guest and a ROM agree on. `arch-vmi/ABI.md` says what they mean.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod call;
mod convention;
mod flags;
mod header;
mod parameters;
mod relocation;
mod state;

pub use call::{CALLS, Call};
pub use convention::Convention;
pub use flags::{Alarm, Counter, FlushTlb, LazyMode, PageLevel, PageUse, PteUpdate, RebootKind, SegmentBase};
pub use header::{
    API_MAJOR, API_MINOR, HEADER_BYTES, Header, LICENSES, MAGIC, PCI_DEVICE, PCI_VENDOR, PciHeader,
    ROM_SIGNATURE, ROM_UNIT, SCAN_END, SCAN_START, SCAN_STEP, checksum,
};
pub use parameters::{InitParameters, InitStatus, MOST_CPU_BYTES, WORDS_PER_CPU};
pub use relocation::{Allowed, RelocationType};
pub use state::{ApState, SetInitialApStateError, TablePointer};
