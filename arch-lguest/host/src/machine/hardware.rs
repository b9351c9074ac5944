//! The machine's own disks and network card, for guests to use. There are none yet that the host can drive.

use crate::devices::port::{Busy, Drive, Failed, MOST_FRAME, Ticket, Transfer, Uplink};

/// The most drives.
pub const MOST_DRIVES: usize = 8;

/// A disk of the machine.
#[derive(Debug)]
pub enum MachineDrive {}

impl Drive for MachineDrive {
    fn sectors(&self) -> u64 {
        match *self {}
    }

    fn is_read_only(&self) -> bool {
        match *self {}
    }

    fn begin(&mut self, _: &Transfer<'_>, _: Ticket) -> Result<(), Busy> {
        match *self {}
    }

    fn completed(&mut self) -> Option<(Ticket, Result<(), Failed>)> {
        match *self {}
    }
}

/// The machine's network card.
#[derive(Debug)]
pub enum MachineCard {}

impl Uplink for MachineCard {
    fn send(&mut self, _: &[u8]) -> Result<(), Busy> {
        match *self {}
    }

    fn receive(&mut self, _: &mut [u8; MOST_FRAME]) -> Option<usize> {
        match *self {}
    }
}

/// What the machine has.
#[derive(Debug, Default)]
pub struct Hardware {
    /// Its drives, in the order of the PCI bus.
    pub drives: [Option<MachineDrive>; MOST_DRIVES],
    /// Its network card.
    pub card: Option<MachineCard>,
}

impl Hardware {
    /// Looks for it.
    pub fn find() -> Self {
        Self::default()
    }
}
