//! Frames and segments of any content.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use std::vec;

use platform::Nanoseconds;

use super::super::datagram::Kind;
use super::super::tcp::{Directions, State};
use super::world::{A, B, NONE, World, address, at, seconds};

#[test]
fn frames_of_any_content_do_no_harm() {
    let mut world = World::new(NONE, 16);
    let (_, _, _) = world.pair();
    let (udp, _) = world.machines[B].datagram_open(Kind::Udp, 0);
    world.machines[B].datagram_bind(udp, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80)).unwrap();
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
    // It is as well as before.
    let (client, _) = world.connect(A, at(B, 80));
    let (sender, _) = world.machines[A].datagram_open(Kind::Udp, 0);
    while world.receive_datagram(B, udp).unwrap().is_some() {}
    world.send_datagram(A, sender, b"still there", Some(at(B, 80))).unwrap();
    world.pass(seconds(30));
    assert_eq!(world.machines[A].tcp_attempt_result(client), Ok(()));
    assert_eq!(world.receive_datagram(B, udp).unwrap().unwrap().0, b"still there");
}

#[test]
fn nobody_else_speaks_in_our_name() {
    let mut world = World::new(NONE, 27);
    let (sender, _) = world.machines[A].datagram_open(Kind::Udp, 0);
    let (udp, _) = world.machines[B].datagram_open(Kind::Udp, 0);
    world.machines[B].datagram_bind(udp, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    world.send_datagram(A, sender, b"hello", Some(at(B, 80))).unwrap();
    world.pass(seconds(1));
    assert_eq!(world.receive_datagram(B, udp).unwrap().unwrap().0, b"hello");
    world.send_datagram(A, sender, b"hello", Some(at(B, 80))).unwrap();
    let mut frame = world.sent[A].lock().unwrap().pop_back().unwrap();
    for (from, comes) in [
        (Ipv4Addr::new(10, 0, 0, 9), true),
        (address(B), false),
        (Ipv4Addr::LOCALHOST, false),
        (Ipv4Addr::new(10, 0, 0, 255), false),
    ] {
        let mut packet = smoltcp::wire::Ipv4Packet::new_unchecked(&mut frame[14..]);
        packet.set_src_addr(from);
        packet.fill_checksum();
        // No checksum.
        packet.payload_mut()[6..8].fill(0);
        world.come[B].lock().unwrap().push_back(frame.clone());
        world.machines[B].receive();
        assert_eq!(world.receive_datagram(B, udp).unwrap().is_some(), comes, "from {from}");
    }
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
