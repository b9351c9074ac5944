//! Memory: physical frames, the kernel heap, and user address spaces.

pub mod buddy;
pub mod calls;
pub mod direct_map;
pub mod fault;
pub mod frame_cache;
pub mod frame_table;
pub mod frames;
pub mod heap;
pub mod shortage;
pub mod slab;
pub mod space;
pub mod user;
pub mod vma;

pub mod extended;
mod page;
#[cfg(test)]
mod sim_tests;
mod stack;

pub use calls::SYSTEM_CALLS;
pub use direct_map::{direct, set_direct_map};
pub use extended::ExtendedArea;
pub use page::Page;
pub use space::{AddressSpace, Backing, MappedFile};
pub use stack::{KernelStack, init_stacks, set_kernel_window, trim_stacks};
pub use user::UserAddr;
