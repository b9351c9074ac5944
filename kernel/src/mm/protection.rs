//! What may be done with user memory.

bitflags::bitflags! {
    /// Access that a program has to its memory; the bits are those of `PROT_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Protection: u8 {
        /// May be read.
        const READ = 1;
        /// May be written.
        const WRITE = 2;
        /// May be executed.
        const EXECUTE = 4;
    }
}
