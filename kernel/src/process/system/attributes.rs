//! Settings of a process that `prctl(2)` and `personality(2)` reach.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Settings that few programs touch.
pub struct Attributes {
    /// `PR_SET_NO_NEW_PRIVS`: an executed program gains no rights by its owner.
    pub no_new_privileges: AtomicBool,
    /// `personality(2)`.
    pub personality: AtomicU32,
    /// Commands of `membarrier(2)` it has registered for.
    pub barriers: AtomicU32,
}

impl Attributes {
    /// Bit of [`Self::personality`]: addresses are not chosen at random.
    pub const ADDR_NO_RANDOMIZE: u32 = 0x004_0000;

    /// The defaults.
    pub const fn new() -> Self {
        Self {
            no_new_privileges: AtomicBool::new(false),
            personality: AtomicU32::new(0),
            barriers: AtomicU32::new(0),
        }
    }

    /// A new process takes over what its parent has.
    pub fn inherit(&self, parent: &Self) {
        let relaxed = Ordering::Relaxed;
        self.no_new_privileges.store(parent.no_new_privileges.load(relaxed), relaxed);
        self.personality.store(parent.personality.load(relaxed), relaxed);
        self.barriers.store(parent.barriers.load(relaxed), relaxed);
    }

    /// The process starts another program, which has registered for nothing yet.
    pub fn on_exec(&self) {
        self.barriers.store(0, Ordering::Relaxed);
    }

    /// Whether addresses are to be chosen at random.
    pub fn randomizes_addresses(&self) -> bool {
        self.personality.load(Ordering::Relaxed) & Self::ADDR_NO_RANDOMIZE == 0
    }
}

impl Default for Attributes {
    fn default() -> Self {
        Self::new()
    }
}
