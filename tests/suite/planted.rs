//! Conformance can fail: each case here breaks one promise of the contract on purpose (`tests/conformance/src/planted.rs`),
//! and the promise's own case must pass before and fail then.

use super::conformance::with_devices;
use crate::testing::case::{Case, Files, case};
use crate::variant::{Backend, Product};

/// What is broken, the promise's case, and what the case says.
const VIOLATIONS: [(&str, &str, &str); 16] = [
    ("timer-early", "timer is never early", "the event came"),
    ("timer-doubled", "timer is never doubled", "one deadline made 2 events"),
    ("wait-loses-wake-up", "wait takes what is pending", "the wait ended with"),
    ("restore-enables", "interrupt flag is saved and restored in nests", "saving did not disable"),
    ("clock-back", "clock never goes back", "came after"),
    ("clock-apart", "clock never goes back from one CPU to another", "ns behind another's"),
    (
        "message-twice",
        "messages of each kind reach whom they are meant for",
        "delivered twice or as another kind",
    ),
    (
        "stale-translation",
        "stale translation of this CPU is gone after a flush",
        "the second write: SystemCall",
    ),
    ("map-overwrites", "mapping says which pages it mapped and leaves the others", "page 1 is"),
    ("protect-gives-writing", "rights never gain writing by protect", "writing allowed"),
    ("fork-keeps-writing", "copy-on-write takes the right to write from both", "after fork"),
    ("fault-address", "page fault tells address and access", "was told as"),
    ("fault-access", "page fault tells address and access", "the access was told as"),
    ("call-registers", "system call tells number, arguments, return address and flags", "seen as"),
    ("gs-base", "user bases are kept and told", "told"),
    ("extended-state", "extended state of two programs is kept apart", "instead of"),
];

/// The same of devices, under lguest, where there are some.
const OF_DEVICES: [(&str, &str, &str); 15] = [
    ("device-gone", "devices are the same whenever they are asked for", " became "),
    ("device-without-version", "devices have a kind, a version and a line", "without its version"),
    ("configuration-shifted", CONFIGURATION, "in the whole"),
    ("configuration-past-end", CONFIGURATION, "past the end of"),
    ("status-before", "device status is what was set, and nothing after a reset", "when it is given"),
    ("features-refused", "device takes all that it offers, or the least", "and answers 0x3 to"),
    (
        "queues-without-end",
        "device queues have a limit, and where there is none there is no queue",
        "has a queue of each number",
    ),
    ("queue-size", "device queue of each size is worked off", "gave back"),
    ("notify-lost", "device queue of each size is worked off", "did not use what it was told of"),
    ("queue-stays", "device queue is where it was placed last", "did not use what it was told of"),
    (
        "notify-stale",
        "device sees what was written before it was told, and shows what it wrote",
        "was written, in word 0",
    ),
    (
        "interrupt-lost",
        "device interrupt comes for each request, and is never lost before a wait",
        "no interrupt came for request",
    ),
    ("mask-ignored", "device interrupt stays away while its line is masked", "was masked, and its line came"),
    ("reasons-kept", "device tells once why it raised its line", " of DeviceId("),
    ("reset-late", "device touches no memory after a reset", "of a buffer after its reset"),
];

const CONFIGURATION: &str = "device configuration is the same in any pieces, and zero past its end";

/// The cases.
pub fn cases() -> Vec<Case> {
    let on_native = VIOLATIONS.into_iter().map(|violation| planted(violation).cpus(2));
    let under_lguest =
        OF_DEVICES.into_iter().map(|violation| with_devices(planted(violation).backend(Backend::Lguest)));
    on_native.chain(under_lguest).collect()
}

fn planted((name, promise, said): (&str, &str, &str)) -> Case {
    let only = promise.replace(' ', "_");
    case(format!("planted/{name}"))
        .product(Product::Planted)
        .files(Files::None)
        .append(&format!("break={name} only={only}"))
        .prints(&format!("ok {promise} ("))
        .prints(" passed, 0 failed")
        .prints(&format!("FAILED {promise}: "))
        .prints(said)
        .prints("conformance: 0 passed, ")
        .never_prints("conformance: panic")
        .exits(1)
}
