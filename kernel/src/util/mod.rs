//! Small containers used in several places.

pub mod ids;
pub mod ring;
