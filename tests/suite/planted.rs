//! Conformance can fail: each case here breaks one promise of the contract on purpose (`tests/conformance/src/planted.rs`),
//! and the promise's own case must pass before and fail then.

use crate::testing::case::{Case, Files, case};
use crate::variant::Product;

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

/// The cases.
pub fn cases() -> Vec<Case> {
    let planted = |(name, promise, said): (&str, &str, &str)| {
        let only = promise.replace(' ', "_");
        case(format!("planted/{name}"))
            .product(Product::Planted)
            .files(Files::None)
            .cpus(2)
            .append(&format!("break={name} only={only}"))
            .prints(&format!("ok {promise} ("))
            .prints(" passed, 0 failed")
            .prints(&format!("FAILED {promise}: "))
            .prints(said)
            .prints("conformance: 0 passed, ")
            .never_prints("conformance: panic")
            .exits(1)
    };
    VIOLATIONS.into_iter().map(planted).collect()
}
