//! TCP sockets: what Linux's have beyond a protocol machine. Listening with a queue, ports, errors, and an end that takes
//! its time after the program is gone.

mod block;
mod flow;
mod operations;
mod ports;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::net::SocketAddrV4;

use platform::Nanoseconds;

pub use block::{Attempt, Block, Options, State};
pub use operations::{Directions, Sent};
pub use ports::in_turn as ports_in_turn;

/// Names a socket, and a connection nobody has accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TcpId(u64);

/// Both ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ends {
    /// This end.
    pub local: SocketAddrV4,
    /// The other one.
    pub remote: SocketAddrV4,
}

/// All TCP sockets.
#[derive(Default)]
pub struct Table {
    blocks: BTreeMap<TcpId, Box<Block>>,
    last: u64,
    /// Which of them a packet is for.
    connections: BTreeMap<Ends, TcpId>,
    ports: ports::Ports,
    deadlines: BTreeSet<(Nanoseconds, TcpId)>,
    /// Connections that no program has any more, in the order they were let go.
    orphans: VecDeque<TcpId>,
}

impl Table {
    fn add(&mut self, block: Block) -> TcpId {
        self.last += 1;
        let id = TcpId(self.last);
        self.blocks.insert(id, Box::new(block));
        id
    }

    /// What is known of a socket.
    pub fn get(&self, id: TcpId) -> Option<&Block> {
        self.blocks.get(&id).map(|block| &**block)
    }

    /// What is known of a socket, to be changed.
    pub fn get_mut(&mut self, id: TcpId) -> Option<&mut Block> {
        self.blocks.get_mut(&id).map(|block| &mut **block)
    }

    /// All of them, orphans included.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.values().map(|block| &**block)
    }

    fn set_deadline(&mut self, id: TcpId, deadline: Option<Nanoseconds>) {
        let Some(block) = self.blocks.get_mut(&id) else { return };
        if block.deadline == deadline {
            return;
        }
        if let Some(before) = core::mem::replace(&mut block.deadline, deadline) {
            self.deadlines.remove(&(before, id));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
    }

    /// Takes away the connection, if there is one; the socket stays.
    fn disconnect(&mut self, id: TcpId) {
        self.set_deadline(id, None);
        let Some(block) = self.blocks.get_mut(&id) else { return };
        if block.connection.take().is_some()
            && let Some(remote) = block.remote
        {
            self.connections.remove(&Ends { local: block.local, remote });
        }
    }

    fn remove(&mut self, id: TcpId) {
        self.disconnect(id);
        self.ports.leave(id);
        self.orphans.retain(|&other| other != id);
        self.blocks.remove(&id);
    }

    /// When something is to be done next though nothing comes in.
    pub fn deadline(&self) -> Option<Nanoseconds> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }
}
