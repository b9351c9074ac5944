//! A disk among the devices.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platform::Nanoseconds;

use crate::devices::{Action, Model};

const SECTOR: usize = 512;
const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// What a test sees and changes of a disk while it is in use.
#[derive(Default)]
pub struct DiskState {
    /// What is on it.
    pub bytes: Vec<u8>,
    /// How often it was told to keep what was written.
    pub flushes: usize,
    /// Requests so far.
    pub requests: usize,
    /// What it does from now on.
    pub behaviour: Behaviour,
}

/// How a disk behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Behaviour {
    /// As it should.
    #[default]
    Good,
    /// Every request ends with an error.
    Errors,
    /// It gives back requests that it has not got.
    Forges,
    /// It says that it must be reset, at the next request.
    Breaks,
}

/// A virtio block device (virtio 1.2, 5.2).
#[derive(Clone)]
pub struct Disk {
    state: Arc<Mutex<DiskState>>,
    latency: Nanoseconds,
    block_bytes: u32,
    read_only: bool,
}

impl Disk {
    /// A disk with this content, in blocks of 512 bytes, that takes no time.
    pub fn new(bytes: Vec<u8>) -> Self {
        let state = DiskState { bytes, ..DiskState::default() };
        Self {
            state: Arc::new(Mutex::new(state)),
            latency: Nanoseconds::ZERO,
            block_bytes: SECTOR as u32,
            read_only: false,
        }
    }

    /// Each request takes so long; any number are under way at a time.
    #[must_use]
    pub fn latency(mut self, latency: Nanoseconds) -> Self {
        self.latency = latency;
        self
    }

    /// Its blocks have so many bytes.
    #[must_use]
    pub fn block_bytes(mut self, bytes: u32) -> Self {
        self.block_bytes = bytes;
        self
    }

    /// Nothing can be written.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// What is on it, and how it behaves.
    pub fn state(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Outcome of a request, and what it reads.
    fn carry_out(&self, state: &mut DiskState, request: &[u8], room: usize) -> (Vec<u8>, u8) {
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap_or_default());
        let sector = u64::from(word(8)) | u64::from(word(12)) << 32;
        let data = &request[16..];
        let length = if word(0) == 0 { room - 1 } else { data.len() };
        let start = sector as usize * SECTOR;
        let fits = start + length <= state.bytes.len()
            && start.is_multiple_of(self.block_bytes as usize)
            && length.is_multiple_of(self.block_bytes as usize);
        match word(0) {
            0 | 1 if !fits || state.behaviour == Behaviour::Errors => (vec![0; room - 1], IO_ERROR),
            0 => (state.bytes[start..start + length].to_vec(), OK),
            1 if self.read_only => (Vec::new(), IO_ERROR),
            1 => {
                state.bytes[start..start + length].copy_from_slice(data);
                (Vec::new(), OK)
            }
            4 if state.behaviour == Behaviour::Errors => (Vec::new(), IO_ERROR),
            4 => {
                state.flushes += 1;
                (Vec::new(), OK)
            }
            _ => (vec![0; room - 1], UNSUPPORTED),
        }
    }
}

impl Model for Disk {
    fn kind(&self) -> u32 {
        2
    }

    fn features(&self) -> u64 {
        // BLK_SIZE, FLUSH, RO.
        1 << 6 | 1 << 9 | u64::from(self.read_only) << 5
    }

    fn queues(&self) -> u16 {
        1
    }

    fn configuration(&self) -> Vec<u8> {
        let mut bytes = ((self.state().bytes.len() / SECTOR) as u64).to_le_bytes().to_vec();
        bytes.resize(20, 0);
        bytes.extend_from_slice(&self.block_bytes.to_le_bytes());
        bytes
    }

    fn take(&mut self, _queue: u16, read: &[u8], room: usize) -> Action {
        let mut state = self.state();
        state.requests += 1;
        match state.behaviour {
            Behaviour::Forges => Action::Forge,
            Behaviour::Breaks => Action::Break,
            Behaviour::Good | Behaviour::Errors => {
                let (mut bytes, outcome) = self.carry_out(&mut state, read, room);
                bytes.push(outcome);
                Action::Use(self.latency, bytes)
            }
        }
    }
}
