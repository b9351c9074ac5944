//! What the stack needs of an Ethernet device.

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// Most bytes of an IP packet on Ethernet.
pub const ETHERNET_MTU: usize = 1500;

/// An Ethernet device. All of it is called by tasks, one at a time.
pub trait Wire: Send + 'static {
    /// Its address.
    fn address(&self) -> [u8; 6];

    /// Sends a frame, Ethernet header included, of at most [`ETHERNET_HEADER`] and [`ETHERNET_MTU`] bytes. Says whether there
    /// was room for it; if not, it is lost.
    fn transmit(&mut self, frame: &[u8]) -> bool;

    /// Calls `take` with the next frame that has come, if there is one.
    fn receive<R>(&mut self, take: impl FnOnce(&mut [u8]) -> R) -> Option<R>;
}
