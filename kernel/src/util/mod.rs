//! Small containers, and whole-word copies, used in several places.

pub mod ids;
pub mod ring;
pub mod words;
