//! The gates: what must hold of every image, of the contract and of the source, checked on each.

pub mod arrows;
pub mod calls;
pub mod contract;
pub mod image;
pub mod lock;
pub mod sensitive;
pub mod size;
pub mod source;
pub mod words;

use std::fmt;

/// Something that must not be, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Where: a function, a source line, a crate
    pub place: String,
    /// What is wrong there
    pub what: String,
}

impl Violation {
    /// A violation at a place.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}
