//! How connections end, and what is left of them.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use platform::Nanoseconds;

use super::super::tcp::{Directions, Options, State, TcpId};
use super::world::{A, B, NONE, World, at, byte, seconds};
use crate::errno::Errno;

const SEND: Directions = Directions { receive: false, send: true };
const NO_NAME: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

fn local(world: &World, machine: usize, id: TcpId) -> SocketAddrV4 {
    world.machines[machine].tcp.get(id).unwrap().local
}

/// A's `client` has ended with data that were not sent: `error` is told once, and nothing is waited for any more.
fn has_ended(world: &mut World, client: TcpId, error: Errno) {
    assert_eq!(world.state(A, client), Some(State::Closed));
    let block = world.machines[A].tcp.get(client).unwrap();
    assert_eq!((block.queues(), block.shared.unsent()), ((0, 0), 0));
    assert_eq!(world.machines[A].tcp.deadline(), None);
    assert_eq!(world.receive(A, client, 1), Err(error));
    assert_eq!(world.receive(A, client, 1), Ok(Some(Vec::new())));
    assert_eq!(world.send(A, client, b"x"), Err(Errno::EPIPE));
    world.close(A, client);
    assert_eq!(world.machines[A].tcp.iter().count(), 0);
}

#[test]
fn unsent_data_end_with_their_connection() {
    for (user_timeout, wait) in [(1, seconds(5)), (30_000, seconds(60)), (0, seconds(1000))] {
        let mut world = World::new(NONE, 20);
        let (client, _, _) = world.pair();
        let change = |options: &mut Options| options.user_timeout = user_timeout;
        world.machines[A].tcp_set_options(client, change).unwrap();
        world.mishaps.lost = 100;
        assert_eq!(world.send(A, client, &[7; 1000]), Ok(1000));
        world.pass(wait);
        world.pass(seconds(1000));
        has_ended(&mut world, client, Errno::ETIMEDOUT);
    }
}

#[test]
fn unsent_data_end_with_a_reset() {
    let mut world = World::new(NONE, 21);
    let (client, server, _) = world.pair();
    world.send(A, client, b"never read").unwrap();
    world.pass(seconds(1));
    world.mishaps.lost = 100;
    world.send(A, client, &[7; 1000]).unwrap();
    world.pass(Nanoseconds::from_millis(10));
    world.mishaps.lost = 0;
    world.close(B, server);
    world.pass(Nanoseconds::from_millis(10));
    assert_eq!(world.state(A, client), Some(State::Closed));
    world.pass(seconds(2000));
    has_ended(&mut world, client, Errno::ECONNRESET);
}

#[test]
fn an_answer_is_kept_though_nobody_asked_whether_the_connection_came_about() {
    let mut world = World::new(NONE, 22);
    let (listener, _) = world.listen(B, 80, 5);
    let (client, _) = world.connect(A, at(B, 80));
    world.pass(seconds(1));
    let (server, _, _) = world.machines[B].tcp_accept(listener).unwrap();
    assert_eq!(world.send(A, client, b"question"), Ok(8));
    world.pass(seconds(1));
    assert_eq!(world.receive(B, server, 99).unwrap().unwrap(), b"question");
    assert_eq!(world.send(B, server, b"answer"), Ok(6));
    world.close(B, server);
    world.pass(seconds(1));
    world.machines[A].tcp_shut_down(client, SEND).unwrap();
    world.pass(seconds(1));
    assert_eq!(world.state(A, client), Some(State::Closed));
    assert_eq!(world.receive(A, client, 99).unwrap().unwrap(), b"answer");
    assert_eq!(world.receive(A, client, 99), Ok(Some(Vec::new())));
    // Whoever asks now is told what is, and may connect anew.
    assert_eq!(world.machines[A].tcp_connect(client, at(B, 80)), Err(Errno::ECONNABORTED));
    assert_eq!(world.machines[A].tcp_connect(client, at(B, 80)), Err(Errno::EINPROGRESS));
    world.pass(seconds(1));
    assert_eq!(world.machines[A].tcp_connect(client, at(B, 80)), Ok(()));
    assert_eq!(world.machines[A].tcp_connect(client, at(B, 80)), Err(Errno::EISCONN));
}

#[test]
fn an_answer_waits_longer_than_time_wait() {
    let mut world = World::new(NONE, 23);
    let (client, server, listener) = world.pair();
    world.machines[A].tcp_shut_down(client, SEND).unwrap();
    world.pass(seconds(1));
    let answer: Vec<u8> = (0..20_000).map(|index| byte(index, 3)).collect();
    assert_eq!(world.send(B, server, &answer), Ok(answer.len()));
    world.close(B, server);
    world.close(B, listener);
    world.pass(seconds(300));
    assert_eq!(world.state(A, client), Some(State::TimeWait));
    assert_eq!(world.machines[B].tcp.iter().count(), 0, "the other end is done");
    assert_eq!(world.machines[A].tcp.deadline(), None);
    let mut received = world.receive(A, client, 3).unwrap().unwrap();
    received.extend(world.receive(A, client, 10_000).unwrap().unwrap());
    world.pass(seconds(300));
    received.extend(world.receive(A, client, 20_000).unwrap().unwrap());
    assert!(received == answer);
    assert_eq!(world.receive(A, client, 1), Ok(Some(Vec::new())));
    world.close(A, client);
    world.pass(seconds(60));
    assert_eq!(world.machines[A].tcp.iter().count(), 0);
}

#[test]
fn who_is_not_connected_any_more_has_the_name_that_was_bound() {
    let mut world = World::new(NONE, 24);
    world.listen(B, 80, 5);
    for bound in [None, Some(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 1234)), Some(at(A, 1235))] {
        let (client, _) = world.machines[A].tcp_open(0);
        if let Some(bound) = bound {
            world.machines[A].tcp_bind(client, bound).unwrap();
        }
        // One attempt that comes about, and one that does not.
        for port in [80, 81] {
            assert_eq!(world.machines[A].tcp_connect(client, at(B, port)), Err(Errno::EINPROGRESS));
            world.pass(seconds(1));
            let connected = local(&world, A, client);
            assert_eq!(*connected.ip(), *at(A, 0).ip());
            match port {
                80 => world.machines[A].tcp_disconnect(client).unwrap(),
                _ => {
                    let result = world.machines[A].tcp_attempt_result(client);
                    assert_eq!(result, Err(Errno::ECONNREFUSED));
                }
            }
            assert_eq!(local(&world, A, client), bound.unwrap_or(NO_NAME));
            let (other, _) = world.machines[A].tcp_open(0);
            let taken = world.machines[A].tcp_bind(other, connected);
            assert_eq!(taken, if bound.is_some() { Err(Errno::EADDRINUSE) } else { Ok(()) });
            world.close(A, other);
        }
        world.close(A, client);
    }
}

#[test]
fn who_was_refused_can_listen_when_he_knows() {
    let mut world = World::new(NONE, 25);
    let (id, _) = world.connect(A, at(B, 81));
    world.pass(seconds(1));
    assert_eq!(world.machines[A].tcp_listen(id, 5), Err(Errno::EINVAL));
    assert_eq!(world.machines[A].tcp_attempt_result(id), Err(Errno::ECONNREFUSED));
    assert_eq!(world.machines[A].tcp_listen(id, 5), Ok(()));
    assert_eq!(world.machines[A].tcp_connect(id, at(B, 81)), Err(Errno::EISCONN));
    let port = local(&world, A, id).port();
    assert!(local(&world, A, id).ip().is_unspecified() && port != 0);
    world.connect(B, at(A, port));
    world.pass(seconds(1));
    assert!(world.machines[A].tcp_accept(id).is_ok());
}

#[test]
fn those_that_are_over_make_room_for_those_that_are_not() {
    let mut world = World::new(NONE, 26);
    let (slow, reader, listener) = world.pair();
    let data: Vec<u8> = (0..60_000).map(|index| byte(index, 4)).collect();
    assert!(world.send(A, slow, &data).unwrap() >= 32 << 10);
    world.pass(seconds(1));
    let sent = 60_000.min(world.machines[A].tcp.get(slow).unwrap().queues().1 + (32 << 10));
    world.close(A, slow);
    for _ in 0..200 {
        let (client, _) = world.connect(A, at(B, 80));
        world.pass(Nanoseconds::from_millis(10));
        let (server, _, _) = world.machines[B].tcp_accept(listener).unwrap();
        world.close(A, client);
        world.pass(Nanoseconds::from_millis(10));
        world.close(B, server);
        world.pass(Nanoseconds::from_millis(10));
    }
    let over = world.machines[A].tcp.iter().filter(|block| block.state() == State::TimeWait).count();
    assert_eq!(over, 63, "no more are kept");
    let mut received = Vec::new();
    while let Some(part) = world.receive(B, reader, 10_000).unwrap().filter(|part| !part.is_empty()) {
        received.extend(part);
        world.pass(seconds(1));
    }
    assert!(received.len() >= sent && received[..] == data[..received.len()]);
    assert_eq!(world.receive(B, reader, 1), Ok(Some(Vec::new())));
    // So many at once, none of which is over.
    let (mut clients, mut readers) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let (client, _) = world.connect(A, at(B, 80));
        world.pass(Nanoseconds::from_millis(10));
        readers.push(world.machines[B].tcp_accept(listener).unwrap().0);
        world.send(A, client, b"last words").unwrap();
        clients.push(client);
    }
    world.mishaps.lost = 100;
    clients.into_iter().for_each(|client| world.close(A, client));
    world.pass(seconds(1));
    world.mishaps.lost = 0;
    world.pass(seconds(10));
    for reader in readers {
        assert_eq!(world.receive(B, reader, 99).unwrap().unwrap(), b"last words");
        assert_eq!(world.receive(B, reader, 99), Ok(Some(Vec::new())));
    }
}
