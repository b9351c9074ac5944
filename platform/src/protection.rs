//! What may be done through a translation.

bitflags::bitflags! {
    /// Rights of a mapping. The platform enforces at least these limits; reading is always allowed, except that no
    /// rights at all means that every access faults.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
    pub struct Protection: u8 {
        /// May be read.
        const READ = 1 << 0;
        /// May be written.
        const WRITE = 1 << 1;
        /// May be executed.
        const EXECUTE = 1 << 2;
        /// User mode may use it within the other rights. Implied by user hooks, refused by kernel hooks.
        const USER = 1 << 3;
    }
}

/// How the caches treat a kernel mapping (Intel SDM vol. 3A, 11.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheMode {
    /// Ordinary memory.
    WriteBack,
    /// Device registers.
    Uncacheable,
}
