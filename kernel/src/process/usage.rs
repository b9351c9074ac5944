//! `struct rusage` (Linux include/uapi/linux/resource.h).

use platform::Nanoseconds;
use zerocopy::{Immutable, IntoBytes};

use super::Usage;

/// Resource usage as user programs see it.
#[derive(Clone, Copy, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct RawUsage {
    user: [i64; 2],
    system: [i64; 2],
    max_resident_kib: i64,
    shared_text: i64,
    unshared_data: i64,
    unshared_stack: i64,
    minor_faults: i64,
    major_faults: i64,
    swaps: i64,
    blocks_in: i64,
    blocks_out: i64,
    messages_sent: i64,
    messages_received: i64,
    signals: i64,
    voluntary_switches: i64,
    involuntary_switches: i64,
}

const _: () = assert!(size_of::<RawUsage>() == 144);

fn timeval(time: Nanoseconds) -> [i64; 2] {
    [time.seconds() as i64, i64::from(time.subsec() / 1000)]
}

impl From<&Usage> for RawUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            user: timeval(usage.user),
            system: timeval(usage.system),
            max_resident_kib: usage.max_resident_kib as i64,
            minor_faults: usage.minor_faults as i64,
            major_faults: usage.major_faults as i64,
            voluntary_switches: usage.voluntary_switches as i64,
            involuntary_switches: usage.involuntary_switches as i64,
            ..Self::default()
        }
    }
}
