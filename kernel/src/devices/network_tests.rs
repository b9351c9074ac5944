//! A network device on the simulated machine.

use alloc::vec;
use alloc::vec::Vec;
use std::sync::Mutex;

use platform::{DeviceId, End, Nanoseconds};
use sim::Machine;
use sim::devices::{Action, Model, configuration_changed, supply};

use super::network::{self, MOST_FRAME, Network};
use crate::net::inet::wire::Wire;
use crate::testing;
use crate::time::{now, sleep_until};

const MS: Nanoseconds = Nanoseconds::MILLISECOND;
const ADDRESS: [u8; 6] = [0x52, 0x54, 0, 0x6c, 0x67, 3];
const CARD: DeviceId = DeviceId(0);
/// Bytes of `struct virtio_net_hdr`.
const HEADER: [u8; 12] = [0; 12];

/// What was sent.
static SENT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A card that takes a millisecond for each frame, and breaks when it is told to send one of ones.
struct Card;

impl Model for Card {
    fn kind(&self) -> u32 {
        1
    }

    fn features(&self) -> u64 {
        1 << 5
    }

    fn queues(&self) -> u16 {
        2
    }

    fn configuration(&self) -> Vec<u8> {
        ADDRESS.to_vec()
    }

    fn take(&mut self, queue: u16, read: &[u8], room: usize) -> Action {
        if queue == 0 {
            assert!(read.is_empty() && room >= HEADER.len() + MOST_FRAME);
            return Action::Keep;
        }
        assert_eq!(read[..HEADER.len()], HEADER);
        let frame = read[HEADER.len()..].to_vec();
        if frame.iter().all(|byte| *byte == 1) {
            return Action::Break;
        }
        SENT.lock().unwrap().push(frame);
        Action::Use(MS, Vec::new())
    }
}

#[track_caller]
fn run(name: &str, body: fn()) {
    let name = std::format!("devices::network_tests::{name}");
    sim::in_fresh_process(&name, || {
        testing::outcome(Machine::new().device(Card), body).expect(End::PowerOff);
    });
}

fn start() -> Network {
    super::start();
    let network = network::take().expect("there is a card");
    assert!(network::take().is_none(), "a card is taken twice");
    assert_eq!(network.address(), ADDRESS);
    network
}

fn frame(number: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at + number) as u8).collect()
}

fn receive(network: &mut Network) -> Option<Vec<u8>> {
    network.receive(|frame| frame.to_vec())
}

#[test]
fn frames_are_sent_as_they_are_while_there_is_room() {
    run("frames_are_sent_as_they_are_while_there_is_room", || {
        let mut network = start();
        assert!(!network.transmit(&vec![0; MOST_FRAME + 1]), "a frame is too long");
        for number in 0..32 {
            assert!(network.transmit(&frame(number, 60 + number * 40)));
        }
        assert!(!network.transmit(&frame(32, 60)), "there was room for 32");
        sleep_until(now() + MS + MS).expect("no signals");
        assert!(network.transmit(&frame(32, MOST_FRAME)));
        let expected: Vec<_> =
            (0..32).map(|number| frame(number, 60 + number * 40)).chain([frame(32, MOST_FRAME)]).collect();
        assert!(*SENT.lock().unwrap() == expected);
    });
}

#[test]
fn frames_are_received_in_order_and_their_buffers_given_back() {
    run("frames_are_received_in_order_and_their_buffers_given_back", || {
        let mut network = start();
        let mut next = 0;
        for round in 0..20 {
            assert_eq!(receive(&mut network), None);
            let burst = 1 + round * 7 % 32;
            for number in next..next + burst {
                let bytes = [&HEADER[..], &frame(number, 60 + number % 1400)].concat();
                assert!(supply(CARD, 0, &bytes), "the card has no buffer for frame {number}");
            }
            // Too short to have a frame in it.
            supply(CARD, 0, &HEADER[..7]);
            for number in next..next + burst {
                assert_eq!(receive(&mut network), Some(frame(number, 60 + number % 1400)));
            }
            next += burst;
        }
    });
}

#[test]
fn a_card_that_breaks_is_left_alone() {
    run("a_card_that_breaks_is_left_alone", || {
        let mut network = start();
        configuration_changed(CARD);
        assert!(network.transmit(&frame(0, 60)), "nothing is wrong with it yet");
        assert!(network.transmit(&[1; 60]));
        sleep_until(now() + MS).expect("no signals");
        assert!(!network.transmit(&frame(1, 60)));
        assert_eq!(receive(&mut network), None);
        assert_eq!(SENT.lock().unwrap().len(), 1);
    });
}
