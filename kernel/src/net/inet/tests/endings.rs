//! How connections end, and what is left of them.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use super::super::tcp::{Directions, State, TcpId};
use super::world::{A, B, NONE, World, at, seconds};
use crate::errno::Errno;

const SEND: Directions = Directions { receive: false, send: true };
const NO_NAME: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

fn local(world: &World, machine: usize, id: TcpId) -> SocketAddrV4 {
    world.machines[machine].tcp.get(id).unwrap().local
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
