//! Memory: physical frames, the kernel heap, and the map of a user address space.

pub mod buddy;
pub mod frame;
pub mod frame_cache;
pub mod frame_table;
pub mod protection;
pub mod slab;
pub mod vma;
