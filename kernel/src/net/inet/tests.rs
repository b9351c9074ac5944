//! Two machines with a wire between them that loses, doubles and reorders frames, in a time of its own.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Mutex;
use std::vec;

use platform::Nanoseconds;

use super::datagram::{DatagramId, Kind, Received};
use super::interface::{Link, Network};
use super::shared::Shared;
use super::stack::Stack;
use super::tcp::{Directions, State, TcpId};
use super::wire::Wire;
use crate::errno::{Errno, KResult};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;

type Frames = Arc<Mutex<VecDeque<Vec<u8>>>>;

struct Cable {
    address: [u8; 6],
    sent: Frames,
    come: Frames,
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
struct Mishaps {
    lost: u64,
    doubled: u64,
    late: u64,
}

const NONE: Mishaps = Mishaps { lost: 0, doubled: 0, late: 0 };

struct World {
    machines: [Stack<Cable>; 2],
    sent: [Frames; 2],
    come: [Frames; 2],
    /// When, to which machine, what; in the order it was sent.
    on_the_way: Vec<(Nanoseconds, usize, Vec<u8>)>,
    mishaps: Mishaps,
    seed: u64,
    now: Nanoseconds,
}

const A: usize = 0;
const B: usize = 1;
const DELAY: Nanoseconds = Nanoseconds::from_millis(1);

fn address(machine: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1 + machine as u8)
}

fn at(machine: usize, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address(machine), port)
}

impl World {
    fn new(mishaps: Mishaps, seed: u64) -> Self {
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

    fn chance(&mut self, hundredths: u64) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % 100 < hundredths
    }

    /// Frames that were sent go their ways.
    fn carry(&mut self) {
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

    fn next(&self) -> Option<Nanoseconds> {
        let arrivals = self.on_the_way.iter().map(|(when, _, _)| *when);
        arrivals.chain(self.machines.iter().filter_map(Stack::deadline)).min()
    }

    /// Goes on to when something happens next; false if nothing ever does, or not before `end`.
    fn step(&mut self, end: Nanoseconds) -> bool {
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
    fn pass(&mut self, time: Nanoseconds) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
        for machine in &mut self.machines {
            machine.begin(end);
        }
    }

    fn listen(&mut self, machine: usize, port: u16, backlog: i32) -> (TcpId, Arc<Shared>) {
        let stack = &mut self.machines[machine];
        let (id, shared) = stack.tcp_open(0);
        stack.tcp_bind(id, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).unwrap();
        stack.tcp_listen(id, backlog).unwrap();
        (id, shared)
    }

    fn connect(&mut self, machine: usize, to: SocketAddrV4) -> (TcpId, Arc<Shared>) {
        let (id, shared) = self.machines[machine].tcp_open(0);
        assert_eq!(self.machines[machine].tcp_connect(id, to), Err(Errno::EINPROGRESS));
        self.machines[machine].settle();
        (id, shared)
    }

    /// A connection from A to B, its ends, and what listens.
    fn pair(&mut self) -> (TcpId, TcpId, TcpId) {
        let (listener, _) = self.listen(B, 80, 5);
        let (client, _) = self.connect(A, at(B, 80));
        self.pass(Nanoseconds::from_seconds(60));
        assert_eq!(self.machines[A].tcp_attempt_result(client), Ok(()));
        let (server, _, from) = self.machines[B].tcp_accept(listener).unwrap();
        assert_eq!(*from.ip(), address(A));
        (client, server, listener)
    }

    fn send(&mut self, machine: usize, id: TcpId, bytes: &[u8]) -> KResult<usize> {
        let result = self.machines[machine].tcp_send(id, &mut IoSrc::kernel(bytes));
        self.machines[machine].settle();
        result.map(|sent| sent.bytes)
    }

    fn receive(&mut self, machine: usize, id: TcpId, room: usize) -> KResult<Option<Vec<u8>>> {
        let mut bytes = vec![0; room];
        let result = self.machines[machine].tcp_receive(id, &mut IoDst::kernel(&mut bytes), false);
        self.machines[machine].settle();
        Ok(result?.map(|count| bytes[..count].to_vec()))
    }

    fn close(&mut self, machine: usize, id: TcpId) {
        self.machines[machine].tcp_close(id);
        self.machines[machine].settle();
    }

    fn state(&self, machine: usize, id: TcpId) -> Option<State> {
        self.machines[machine].tcp.get(id).map(super::tcp::Block::state)
    }

    fn send_datagram(
        &mut self,
        machine: usize,
        id: DatagramId,
        bytes: &[u8],
        to: Option<SocketAddrV4>,
    ) -> KResult<usize> {
        self.machines[machine].datagram_send(id, &mut IoSrc::kernel(bytes), to)
    }

    fn receive_datagram(&mut self, machine: usize, id: DatagramId) -> KResult<Option<(Vec<u8>, Received)>> {
        let mut bytes = vec![0; 70_000];
        let received = self.machines[machine].datagram_receive(id, &mut IoDst::kernel(&mut bytes), false)?;
        Ok(received.map(|received| (bytes[..received.copied].to_vec(), received)))
    }
}

fn seconds(seconds: u64) -> Nanoseconds {
    Nanoseconds::from_seconds(seconds)
}

fn byte(index: usize, salt: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 11) as u8
}

/// Both ends send `bytes` to each other and close; everything must arrive, and nothing stay.
fn exchange(mishaps: Mishaps, seed: u64, bytes: usize) {
    let mut world = World::new(mishaps, seed);
    let (client, server, listener) = world.pair();
    let ends = [(A, client), (B, server)];
    let data: [Vec<u8>; 2] = [A, B].map(|end| (0..bytes).map(|index| byte(index, end)).collect());
    let (mut sent, mut received, mut ended) = ([0; 2], [Vec::new(), Vec::new()], [false; 2]);
    let limit = world.now + seconds(3600);
    while !(ended[A] && ended[B]) {
        for (machine, id) in ends {
            if sent[machine] < bytes {
                sent[machine] += world.send(machine, id, &data[machine][sent[machine]..]).unwrap();
                if sent[machine] == bytes {
                    let directions = Directions { receive: false, send: true };
                    world.machines[machine].tcp_shut_down(id, directions).unwrap();
                }
            }
            while let Some(part) = world.receive(machine, id, 1000).unwrap() {
                if part.is_empty() {
                    ended[machine] = true;
                    break;
                }
                received[machine].extend(part);
            }
        }
        let goes_on = world.step(limit);
        assert!(
            goes_on || (ended[A] && ended[B]),
            "seed {seed}: stuck at {sent:?} {:?}",
            received.map(|r| r.len())
        );
    }
    assert!(
        received[A] == data[B] && received[B] == data[A],
        "seed {seed}: what arrived is not what was sent"
    );
    for (machine, id) in ends {
        world.close(machine, id);
    }
    world.close(B, listener);
    world.pass(seconds(300));
    for machine in &world.machines {
        assert_eq!(machine.tcp.iter().count(), 0, "seed {seed}: something stays");
        assert_eq!(machine.deadline(), None, "seed {seed}");
    }
}

#[test]
fn streams_arrive_whole() {
    exchange(NONE, 1, 1 << 20);
}

#[test]
fn streams_arrive_whole_over_a_bad_wire() {
    for seed in 1..=12 {
        exchange(Mishaps { lost: 3, doubled: 5, late: 20 }, seed, 100_000);
    }
    for seed in 1..=4 {
        exchange(Mishaps { lost: 20, doubled: 20, late: 50 }, seed, 20_000);
    }
}

#[test]
fn a_quiet_connection_costs_nothing() {
    let mut world = World::new(NONE, 3);
    let (client, server, _) = world.pair();
    world.send(A, client, b"hello").unwrap();
    world.pass(seconds(40));
    assert_eq!(world.receive(B, server, 9).unwrap().unwrap(), b"hello");
    world.pass(seconds(40));
    assert!(world.machines.iter().all(|machine| machine.deadline().is_none()));
}

#[test]
fn a_program_that_keeps_a_connection_alive_learns_of_its_end() {
    let mut world = World::new(NONE, 4);
    let (client, _, _) = world.pair();
    let keep = |options: &mut super::tcp::Options| {
        options.keep_alive = true;
        (options.keep_idle, options.keep_interval, options.keep_count) = (10, 2, 3);
    };
    world.machines[A].tcp_set_options(client, keep).unwrap();
    world.pass(seconds(600));
    assert_eq!(world.state(A, client), Some(State::Established), "the other end answers");
    world.mishaps.lost = 100;
    world.pass(seconds(30));
    assert_eq!(world.state(A, client), Some(State::Closed));
    assert_eq!(world.receive(A, client, 1), Err(Errno::ETIMEDOUT));
    assert_eq!(world.receive(A, client, 1), Ok(Some(Vec::new())));
}

#[test]
fn nobody_there_is_told_apart() {
    let mut world = World::new(NONE, 5);
    let (refused, shared) = world.connect(A, at(B, 81));
    assert!(shared.events().is_empty());
    world.pass(seconds(1));
    let all = PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::RDHUP | PollEvents::ALWAYS;
    assert_eq!(shared.events(), all);
    assert_eq!(world.machines[A].tcp_attempt_result(refused), Err(Errno::ECONNREFUSED));
    let nowhere = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 77), 80);
    let (unreachable, _) = world.connect(A, nowhere);
    world.pass(seconds(2));
    assert_eq!(world.machines[A].tcp_attempt_result(unreachable), Err(Errno::EINPROGRESS));
    world.pass(seconds(2));
    assert_eq!(world.machines[A].tcp_attempt_result(unreachable), Err(Errno::EHOSTUNREACH));
    let elsewhere = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 1), 80);
    assert_eq!(world.machines[A].tcp_connect(unreachable, elsewhere), Err(Errno::ENETUNREACH));
    // A host that is there and silent.
    world.listen(B, 80, 5);
    world.pass(seconds(1));
    world.mishaps.lost = 100;
    let (silent, _) = world.connect(A, at(B, 80));
    world.machines[A].begin(world.now);
    world.pass(seconds(126));
    // The neighbour has been forgotten meanwhile.
    assert_eq!(world.machines[A].tcp_attempt_result(silent), Err(Errno::EHOSTUNREACH));
}

#[test]
fn a_full_queue_makes_others_wait() {
    let mut world = World::new(NONE, 6);
    let (listener, shared) = world.listen(B, 80, 1);
    let clients: Vec<TcpId> = (0..4).map(|_| world.connect(A, at(B, 80)).0).collect();
    world.pass(Nanoseconds::from_millis(500));
    let connected =
        |world: &World| clients.iter().filter(|&&id| world.state(A, id) == Some(State::Established)).count();
    assert_eq!(connected(&world), 2);
    assert!(shared.events().contains(PollEvents::READABLE));
    for _ in 0..2 {
        world.machines[B].tcp_accept(listener).unwrap();
    }
    assert_eq!(world.machines[B].tcp_accept(listener).err(), Some(Errno::EAGAIN));
    assert!(!shared.events().contains(PollEvents::READABLE));
    world.pass(seconds(10));
    assert_eq!(connected(&world), 4);
    // Whoever was not accepted is told when the listener goes.
    world.close(B, listener);
    world.pass(seconds(1));
    assert_eq!(connected(&world), 2);
    assert_eq!(world.machines[B].tcp.iter().count(), 2);
}

#[test]
fn what_nobody_read_resets_the_connection() {
    let mut world = World::new(NONE, 7);
    let (client, server, _) = world.pair();
    world.send(A, client, b"lost").unwrap();
    world.send(B, server, b"kept").unwrap();
    world.pass(seconds(1));
    world.close(B, server);
    world.pass(seconds(1));
    assert_eq!(world.receive(A, client, 9).unwrap().unwrap(), b"kept");
    assert_eq!(world.receive(A, client, 9), Err(Errno::ECONNRESET));
    assert_eq!(world.receive(A, client, 9), Ok(Some(Vec::new())));
    assert_eq!(world.send(A, client, b"x"), Err(Errno::EPIPE));
}

#[test]
fn what_comes_after_the_end_is_refused() {
    let mut world = World::new(NONE, 8);
    let (client, server, _) = world.pair();
    world.close(B, server);
    world.pass(seconds(1));
    assert_eq!(world.receive(A, client, 9), Ok(Some(Vec::new())), "the other end is closed");
    assert_eq!(world.send(A, client, b"more"), Ok(4));
    world.pass(seconds(1));
    assert_eq!(world.send(A, client, b"more"), Err(Errno::EPIPE));
    // The listener is all that is left.
    assert_eq!(world.machines[B].tcp.iter().count(), 1);
}

#[test]
fn a_port_is_busy_until_its_connections_are_over() {
    let mut world = World::new(NONE, 9);
    let (client, server, listener) = world.pair();
    world.close(B, listener);
    world.close(B, server);
    world.pass(seconds(1));
    world.close(A, client);
    world.pass(seconds(1));
    let local = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80);
    let (again, _) = world.machines[B].tcp_open(0);
    assert_eq!(world.machines[B].tcp_bind(again, local), Err(Errno::EADDRINUSE));
    world.pass(seconds(20));
    assert_eq!(world.machines[B].tcp_bind(again, local), Ok(()));
    let (other, _) = world.machines[B].tcp_open(0);
    assert_eq!(world.machines[B].tcp_bind(other, local), Err(Errno::EADDRINUSE));
    assert_eq!(world.machines[B].tcp_bind(other, at(A, 80)), Err(Errno::EADDRNOTAVAIL));
    assert_eq!(world.machines[B].tcp_bind(again, at(B, 99)), Err(Errno::EINVAL));
}

#[test]
fn zero_windows_open_again() {
    let mut world = World::new(NONE, 10);
    let (client, server, _) = world.pair();
    let data: Vec<u8> = (0..300_000).map(|index| byte(index, 0)).collect();
    let mut sent = 0;
    for _ in 0..20 {
        sent += world.send(A, client, &data[sent..]).unwrap();
        world.pass(seconds(10));
    }
    let buffers = super::tcp::Options::default();
    assert_eq!(sent, (buffers.send_buffer + buffers.receive_buffer) / 2);
    // Even if the news of it is lost.
    world.mishaps.lost = 100;
    let first = world.receive(B, server, 20_000).unwrap().unwrap();
    world.pass(Nanoseconds::from_millis(10));
    world.mishaps.lost = 0;
    let mut received = first;
    while received.len() < data.len() {
        world.pass(seconds(1));
        sent += world.send(A, client, &data[sent..]).unwrap();
        received.extend(world.receive(B, server, 50_000).unwrap().unwrap_or_default());
        assert!(world.now < seconds(3600), "stuck at {sent}, {}", received.len());
    }
    assert!(received == data);
}

#[test]
fn datagrams_go_both_ways_and_in_parts() {
    let mut world = World::new(NONE, 11);
    let (a, _) = world.machines[A].datagram_open(Kind::Udp, 0);
    let (b, shared) = world.machines[B].datagram_open(Kind::Udp, 0);
    world.machines[B].datagram_bind(b, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 53)).unwrap();
    for length in [0, 1, 1472, 1473, 9000, 65_507] {
        let data: Vec<u8> = (0..length).map(|index| byte(index, 5)).collect();
        assert_eq!(world.send_datagram(A, a, &data, Some(at(B, 53))), Ok(length));
        world.pass(seconds(1));
        assert!(shared.events().contains(PollEvents::READABLE));
        let (bytes, received) = world.receive_datagram(B, b).unwrap().unwrap();
        assert!(bytes == data && *received.from.ip() == address(A), "{length} bytes");
        assert_eq!(world.send_datagram(B, b, &data, Some(received.from)), Ok(length));
        world.pass(seconds(1));
        let (bytes, received) = world.receive_datagram(A, a).unwrap().unwrap();
        assert!(bytes == data && received.from == at(B, 53), "{length} bytes back");
    }
    assert_eq!(world.send_datagram(A, a, &[0; 65_508], Some(at(B, 53))), Err(Errno::EMSGSIZE));
    assert_eq!(world.send_datagram(A, a, b"x", None), Err(Errno::EDESTADDRREQ));
    assert_eq!(world.receive_datagram(A, a), Ok(None));
}

#[test]
fn who_is_connected_learns_that_nobody_is_there() {
    let mut world = World::new(NONE, 12);
    let (a, shared) = world.machines[A].datagram_open(Kind::Udp, 0);
    world.machines[A].datagram_connect(a, Some(at(B, 53))).unwrap();
    world.send_datagram(A, a, b"anybody?", None).unwrap();
    world.pass(seconds(1));
    assert!(shared.events().contains(PollEvents::ERR));
    assert_eq!(world.receive_datagram(A, a), Err(Errno::ECONNREFUSED));
    assert_eq!(world.receive_datagram(A, a), Ok(None));
    let nowhere = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 77), 53);
    world.machines[A].datagram_connect(a, Some(nowhere)).unwrap();
    world.send_datagram(A, a, b"anybody?", None).unwrap();
    world.pass(seconds(5));
    assert_eq!(world.receive_datagram(A, a), Err(Errno::EHOSTUNREACH));
    assert_eq!(
        world.send_datagram(A, a, b"", Some(SocketAddrV4::new(Ipv4Addr::BROADCAST, 1))),
        Err(Errno::EACCES)
    );
}

#[test]
fn broadcasts_reach_everybody_who_wants_them() {
    let mut world = World::new(NONE, 13);
    let (a, _) = world.machines[A].datagram_open(Kind::Udp, 0);
    world.machines[A].datagram_set_options(a, |options| options.broadcast = true).unwrap();
    let others: Vec<DatagramId> = (0..2)
        .map(|_| {
            let (b, _) = world.machines[B].datagram_open(Kind::Udp, 0);
            world.machines[B].datagram_set_options(b, |options| options.reuse_address = true).unwrap();
            world.machines[B].datagram_bind(b, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 9)).unwrap();
            b
        })
        .collect();
    for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 255)] {
        world.send_datagram(A, a, b"all", Some(SocketAddrV4::new(to, 9))).unwrap();
        world.pass(seconds(1));
        for &other in &others {
            assert_eq!(world.receive_datagram(B, other).unwrap().unwrap().0, b"all");
        }
    }
}

#[test]
fn echoes_come_back() {
    let mut world = World::new(NONE, 14);
    let (ping, _) = world.machines[A].datagram_open(Kind::Ping, 0);
    let icmp = smoltcp::wire::IpProtocol::Icmp;
    let (raw, _) = world.machines[A].datagram_open(Kind::Raw(icmp), 0);
    let mut request = vec![8, 0, 0, 0, 0, 0, 0, 1];
    request.extend(0..100);
    for length in [8, 108] {
        world.send_datagram(A, ping, &request[..length], Some(at(B, 0))).unwrap();
        world.pass(seconds(1));
        let (answer, received) = world.receive_datagram(A, ping).unwrap().unwrap();
        assert_eq!((answer[0], &answer[6..]), (0, &request[6..length]));
        assert_eq!(*received.from.ip(), address(B));
        let (packet, _) = world.receive_datagram(A, raw).unwrap().unwrap();
        assert_eq!(packet[20..], answer, "a raw socket gets the header too");
    }
    assert_eq!(world.send_datagram(A, ping, &[0; 8], Some(at(B, 0))), Err(Errno::EINVAL));
    // To itself, too.
    world.send_datagram(A, ping, &request, Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))).unwrap();
    assert!(world.receive_datagram(A, ping).unwrap().is_some());
}

#[test]
fn a_machine_talks_to_itself_at_once() {
    let mut world = World::new(NONE, 15);
    let (listener, _) = world.listen(A, 80, 5);
    for host in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9), address(A), Ipv4Addr::UNSPECIFIED] {
        let (client, _) = world.connect(A, SocketAddrV4::new(host, 80));
        assert_eq!(world.machines[A].tcp_attempt_result(client), Ok(()));
        let (server, _, _) = world.machines[A].tcp_accept(listener).unwrap();
        let data: Vec<u8> = (0..40_000).map(|index| byte(index, 1)).collect();
        assert_eq!(world.send(A, client, &data), Ok(40_000));
        assert!(world.receive(A, server, 50_000).unwrap().unwrap() == data);
        world.close(A, client);
        assert_eq!(world.receive(A, server, 1), Ok(Some(Vec::new())));
        world.close(A, server);
    }
    assert!(world.sent[A].lock().unwrap().is_empty(), "nothing leaves the machine");
    world.pass(seconds(60));
    assert_eq!(world.machines[A].tcp.iter().count(), 1);
}

#[test]
fn frames_of_any_content_do_no_harm() {
    let mut world = World::new(NONE, 16);
    let (_, _, _) = world.pair();
    let (udp, _) = world.machines[B].datagram_open(Kind::Udp, 0);
    world.machines[B].datagram_bind(udp, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    world.send_datagram(A, udp, b"", None).unwrap_err();
    let mut seed = 99u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    for _ in 0..20_000 {
        let mut frame = vec![0u8; 14 + random() % 80];
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame[12..14].copy_from_slice(if random() % 8 == 0 { &[8, 6] } else { &[8, 0] });
        frame[14..].iter_mut().for_each(|byte| *byte = random() as u8);
        if frame.len() >= 34 && random() % 8 != 0 {
            // Likely enough to be looked at further.
            let length = frame.len() - 14;
            frame[14] = if random() % 8 == 0 { 0x40 | random() as u8 & 15 } else { 0x45 };
            frame[16..18].copy_from_slice(&(length as u16).to_be_bytes());
            frame[20..22].copy_from_slice(&[if random() % 8 == 0 { random() as u8 & 0x3f } else { 0 }, 0]);
            frame[23] = [1, 6, 17, 2][random() % 4];
            frame[26..30].copy_from_slice(&address(A).octets());
            frame[30..34].copy_from_slice(&address(B).octets());
            let mut packet = smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]);
            if usize::from(packet.header_len()) <= length {
                packet.fill_checksum();
            }
        }
        world.come[B].lock().unwrap().push_back(frame);
        world.machines[B].receive();
        world.sent[B].lock().unwrap().clear();
    }
    world.pass(seconds(60));
}

#[test]
fn segments_of_any_content_do_no_harm() {
    segments(17, 3_000);
}

/// Takes a connection's own segments, changes them, and gives them to it, in whatever state it comes to.
fn segments(seed: u64, count: usize) {
    let mut state = seed;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut world = World::new(NONE, seed);
    let mut pair = world.pair();
    for round in 0..count {
        let (client, server, listener) = pair;
        let old = round % 50 == 49;
        match random() % 8 {
            0 => drop(world.send(B, server, &[7; 5000])),
            1 => drop(world.receive(B, server, 3000)),
            2 if old => world.close(B, server),
            3 if old => {
                let directions = Directions { receive: false, send: true };
                let _ = world.machines[B].tcp_shut_down(server, directions);
            }
            _ => drop(world.send(A, client, &[9; 100])),
        }
        world.carry();
        let mut frames: Vec<Vec<u8>> = world.on_the_way.iter().map(|(_, _, frame)| frame.clone()).collect();
        frames.retain(|frame| frame.len() >= 54 && frame[23] == 6);
        if let Some(mut frame) = frames.into_iter().nth(random() % 3) {
            let to = usize::from(frame[5]);
            for _ in 0..1 + random() % 3 {
                match random() % 5 {
                    // Sequence and acknowledgement a little off, flags, window, anything.
                    0 => frame[38 + random() % 4] ^= 1 << (random() % 8),
                    1 => frame[42 + random() % 4] ^= 1 << (random() % 8),
                    2 => frame[47] = random() as u8,
                    3 => frame[48 + random() % 2] = random() as u8,
                    _ => {
                        let at = 46 + random() % (frame.len() - 46);
                        frame[at] = random() as u8;
                    }
                }
            }
            let packet = smoltcp::wire::Ipv4Packet::new_unchecked(&frame[14..]);
            let (from, destination) = (packet.src_addr().into(), packet.dst_addr().into());
            let mut segment = smoltcp::wire::TcpPacket::new_unchecked(&mut frame[34..]);
            segment.fill_checksum(&from, &destination);
            world.come[to].lock().unwrap().push_back(frame);
            world.machines[to].receive();
        }
        world.pass(Nanoseconds::from_millis(random() as u64 % 40));
        let is_over = |machine, id| world.state(machine, id).is_none_or(|state| state != State::Established);
        if old || (is_over(A, client) && random() % 4 == 0) {
            for (machine, id) in [(A, client), (B, server), (B, listener)] {
                world.close(machine, id);
            }
            world.pass(seconds(2000));
            for machine in &world.machines {
                let left: Vec<_> =
                    machine.tcp.iter().map(|block| (block.state(), block.queues(), block.give_up)).collect();
                assert!(left.is_empty(), "seed {seed}, round {round}, {:?}: {left:?} stay", world.now);
            }
            pair = world.pair();
        }
    }
}
