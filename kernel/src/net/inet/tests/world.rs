//! Two machines with a wire between them that loses, doubles and reorders frames, in a time of its own.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;
use std::vec;

use platform::Nanoseconds;

use super::super::datagram::{DatagramId, Received};
use super::super::interface::{Link, Network};
use super::super::shared::Shared;
use super::super::stack::Stack;
use super::super::tcp::{State, TcpId};
use super::super::wire::Wire;
use crate::errno::{Errno, KResult};
use crate::fs::io::{IoDst, IoSrc};

pub type Frames = Arc<Mutex<VecDeque<Vec<u8>>>>;

pub struct Cable {
    pub address: [u8; 6],
    pub sent: Frames,
    pub come: Frames,
}

impl Wire for Cable {
    fn address(&self) -> [u8; 6] {
        self.address
    }

    fn transmit(&mut self, frame: &[u8]) -> bool {
        self.sent.lock().unwrap().push_back(frame.to_vec());
        true
    }

    fn receive<R>(&mut self, take: impl FnOnce(&mut [u8]) -> R) -> Option<R> {
        let mut frame = self.come.lock().unwrap().pop_front()?;
        Some(take(&mut frame))
    }
}

/// What may happen to a frame, in hundredths.
#[derive(Clone, Copy)]
pub struct Mishaps {
    pub lost: u64,
    pub doubled: u64,
    pub late: u64,
}

pub const NONE: Mishaps = Mishaps { lost: 0, doubled: 0, late: 0 };

pub struct World {
    pub machines: [Stack<Cable>; 2],
    pub sent: [Frames; 2],
    pub come: [Frames; 2],
    /// When, to which machine, what; in the order it was sent.
    pub on_the_way: Vec<(Nanoseconds, usize, Vec<u8>)>,
    pub mishaps: Mishaps,
    pub seed: u64,
    pub now: Nanoseconds,
}

pub const A: usize = 0;

pub const B: usize = 1;

pub const DELAY: Nanoseconds = Nanoseconds::from_millis(1);

pub fn address(machine: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1 + machine as u8)
}

pub fn at(machine: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address(machine), port)
}

impl World {
    pub fn new(mishaps: Mishaps, seed: u64) -> Self {
        let frames = || [Frames::default(), Frames::default()];
        let (sent, come) = (frames(), frames());
        let machine = |index: usize| {
            let cable = Cable {
                address: [2, 0, 0, 0, 0, index as u8],
                sent: sent[index].clone(),
                come: come[index].clone(),
            };
            let mut stack = Stack::new(Some(cable), Nanoseconds::ZERO, seed ^ index as u64);
            let network = Network { address: address(index), prefix: 24 };
            stack.links.set_network(Link::Ethernet, Some(network)).unwrap();
            stack.links.set_up(Link::Ethernet, true).unwrap();
            stack
        };
        let machines = [machine(A), machine(B)];
        Self { machines, sent, come, on_the_way: Vec::new(), mishaps, seed, now: Nanoseconds::ZERO }
    }

    pub fn chance(&mut self, hundredths: u64) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % 100 < hundredths
    }

    /// Frames that were sent go their ways.
    pub fn carry(&mut self) {
        for machine in [A, B] {
            let frames: Vec<_> = self.sent[machine].lock().unwrap().drain(..).collect();
            for frame in frames {
                if self.chance(self.mishaps.lost) {
                    continue;
                }
                let late = if self.chance(self.mishaps.late) { 4 } else { 1 };
                let when = self.now + Nanoseconds(DELAY.0 * late);
                if self.chance(self.mishaps.doubled) {
                    self.on_the_way.push((when, 1 - machine, frame.clone()));
                }
                self.on_the_way.push((when, 1 - machine, frame));
            }
        }
    }

    pub fn next(&self) -> Option<Nanoseconds> {
        let arrivals = self.on_the_way.iter().map(|(when, _, _)| *when);
        arrivals.chain(self.machines.iter().filter_map(Stack::deadline)).min()
    }

    /// Goes on to when something happens next; false if nothing ever does, or not before `end`.
    pub fn step(&mut self, end: Nanoseconds) -> bool {
        self.carry();
        let Some(next) = self.next().filter(|next| *next <= end) else { return false };
        self.now = self.now.max(next);
        let now = self.now;
        let (come, rest) =
            core::mem::take(&mut self.on_the_way).into_iter().partition(|(when, ..)| *when <= now);
        self.on_the_way = rest;
        let come: Vec<(Nanoseconds, usize, Vec<u8>)> = come;
        for (_, machine, frame) in come {
            self.come[machine].lock().unwrap().push_back(frame);
        }
        for machine in &mut self.machines {
            machine.begin(now);
            while machine.receive() {}
            machine.run();
        }
        true
    }

    /// Goes on for so long.
    pub fn pass(&mut self, time: Nanoseconds) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
        for machine in &mut self.machines {
            machine.begin(end);
        }
    }

    pub fn listen(&mut self, machine: usize, port: u16, backlog: i32) -> (TcpId, Arc<Shared>) {
        let stack = &mut self.machines[machine];
        let (id, shared) = stack.tcp_open(0);
        stack.tcp_bind(id, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).unwrap();
        stack.tcp_listen(id, backlog).unwrap();
        (id, shared)
    }

    pub fn connect(&mut self, machine: usize, to: SocketAddrV4) -> (TcpId, Arc<Shared>) {
        let (id, shared) = self.machines[machine].tcp_open(0);
        assert_eq!(self.machines[machine].tcp_connect(id, to), Err(Errno::EINPROGRESS));
        self.machines[machine].settle();
        (id, shared)
    }

    /// A connection from A to B, its ends, and what listens.
    pub fn pair(&mut self) -> (TcpId, TcpId, TcpId) {
        let (listener, _) = self.listen(B, 80, 5);
        let (client, _) = self.connect(A, at(B, 80));
        self.pass(Nanoseconds::from_seconds(60));
        assert_eq!(self.machines[A].tcp_attempt_result(client), Ok(()));
        let (server, _, from) = self.machines[B].tcp_accept(listener).unwrap();
        assert_eq!(*from.ip(), address(A));
        (client, server, listener)
    }

    pub fn send(&mut self, machine: usize, id: TcpId, bytes: &[u8]) -> KResult<usize> {
        let result = self.machines[machine].tcp_send(id, &mut IoSrc::kernel(bytes));
        self.machines[machine].settle();
        result.map(|sent| sent.bytes)
    }

    pub fn receive(&mut self, machine: usize, id: TcpId, room: usize) -> KResult<Option<Vec<u8>>> {
        let mut bytes = vec![0; room];
        let result = self.machines[machine].tcp_receive(id, &mut IoDst::kernel(&mut bytes), false);
        self.machines[machine].settle();
        Ok(result?.map(|count| bytes[..count].to_vec()))
    }

    pub fn close(&mut self, machine: usize, id: TcpId) {
        self.machines[machine].tcp_close(id);
        self.machines[machine].settle();
    }

    pub fn state(&self, machine: usize, id: TcpId) -> Option<State> {
        self.machines[machine].tcp.get(id).map(super::super::tcp::Block::state)
    }

    pub fn send_datagram(
        &mut self,
        machine: usize,
        id: DatagramId,
        bytes: &[u8],
        to: Option<SocketAddrV4>,
    ) -> KResult<usize> {
        self.machines[machine].datagram_send(id, &mut IoSrc::kernel(bytes), to)
    }

    pub fn receive_datagram(
        &mut self,
        machine: usize,
        id: DatagramId,
    ) -> KResult<Option<(Vec<u8>, Received)>> {
        let mut bytes = vec![0; 70_000];
        let received = self.machines[machine].datagram_receive(id, &mut IoDst::kernel(&mut bytes), false)?;
        Ok(received.map(|received| (bytes[..received.copied].to_vec(), received)))
    }
}

pub fn seconds(seconds: u64) -> Nanoseconds {
    Nanoseconds::from_seconds(seconds)
}

pub fn byte(index: usize, salt: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 11) as u8
}
