//! Datagrams, echoes, and a machine that talks to itself.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::vec;

use super::super::datagram::{DatagramId, Kind};
use super::world::{A, B, NONE, World, address, at, byte, seconds};
use crate::errno::Errno;
use crate::fs::poll::PollEvents;

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
fn packets_with_their_own_header_may_be_as_long_as_there_are() {
    let mut world = World::new(NONE, 18);
    let protocol = smoltcp::wire::IpProtocol::from(200);
    let (raw, _) = world.machines[A].datagram_open(Kind::Raw(protocol), 0);
    world.machines[A].datagram_set_options(raw, |options| options.header_included = true).unwrap();
    let packet = |length: usize, to: Ipv4Addr| {
        let mut bytes: Vec<u8> = (0..length).map(|index| byte(index, 6)).collect();
        bytes[..20].fill(0);
        (bytes[0], bytes[8], bytes[9]) = (0x45, 64, 200);
        bytes[16..20].copy_from_slice(&to.octets());
        bytes
    };
    let own = Ipv4Addr::LOCALHOST;
    for length in [20, 1500, 65_515, 65_516, 65_535] {
        let sent = packet(length, own);
        assert_eq!(world.send_datagram(A, raw, &sent, Some(SocketAddrV4::new(own, 0))), Ok(length));
        let (came, _) = world.receive_datagram(A, raw).unwrap().unwrap();
        assert!(came.len() == length && came[20..] == sent[20..], "{length} bytes");
    }
    for (length, to, error) in [
        (65_536, own, Errno::EMSGSIZE),
        (70_000, own, Errno::EMSGSIZE),
        (1501, address(B), Errno::EMSGSIZE),
        (65_516, address(B), Errno::EMSGSIZE),
    ] {
        let result = world.send_datagram(A, raw, &packet(length, to), Some(SocketAddrV4::new(to, 0)));
        assert_eq!(result, Err(error), "{length} bytes to {to}");
    }
    assert_eq!(world.send_datagram(A, raw, &[0x45; 19], Some(at(B, 0))), Err(Errno::EINVAL));
    assert_eq!(world.send_datagram(A, raw, &[0x4f; 59], Some(at(B, 0))), Err(Errno::EINVAL));
    assert_eq!(world.send_datagram(A, raw, &packet(1500, address(B)), Some(at(B, 0))), Ok(1500));
}

#[test]
fn who_is_not_connected_any_more_has_the_name_that_was_bound() {
    let mut world = World::new(NONE, 19);
    let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    for bound in [None, Some(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 53)), Some(at(A, 54))] {
        let (id, _) = world.machines[A].datagram_open(Kind::Udp, 0);
        if let Some(bound) = bound {
            world.machines[A].datagram_bind(id, bound).unwrap();
        }
        world.machines[A].datagram_connect(id, Some(at(B, 9))).unwrap();
        let local = world.machines[A].datagrams.get(id).unwrap().local;
        assert!(*local.ip() == address(A) && local.port() != 0);
        world.machines[A].datagram_connect(id, None).unwrap();
        assert_eq!(world.machines[A].datagrams.get(id).unwrap().local, bound.unwrap_or(nowhere));
        // The way to itself is another.
        let here = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
        world.machines[A].datagram_connect(id, Some(here)).unwrap();
        let source = bound.map_or(Ipv4Addr::UNSPECIFIED, |bound| *bound.ip());
        let source = if source.is_unspecified() { Ipv4Addr::LOCALHOST } else { source };
        assert_eq!(*world.machines[A].datagrams.get(id).unwrap().local.ip(), source);
    }
}
