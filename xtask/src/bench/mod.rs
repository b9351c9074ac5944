//! What the cut costs: instructions per hook, per operation and per phase of the boot, in every variant of the image.

pub mod compare;
pub mod exits;
pub mod measure;
pub mod page;
pub mod render;
pub mod results;
