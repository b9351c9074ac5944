//! Streams over a wire that is well, and over one that is not.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use platform::Nanoseconds;

use super::super::tcp::{Directions, State, TcpId};
use super::world::{A, B, Mishaps, NONE, World, at, byte, seconds};
use crate::errno::Errno;
use crate::fs::poll::PollEvents;

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
    let keep = |options: &mut super::super::tcp::Options| {
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
    let buffers = super::super::tcp::Options::default();
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
