//! QEMU's network card: virtio 1.2, 5.1, with no offloads.

use platform::Unusable;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::Transport;
use zerocopy::FromBytes;

use super::super::frames::Frames;
use super::dma::Pool;
use super::{Common, Device, buffers, taken};
use crate::devices::port::{Busy, CARD_BUFFER, CARD_BYTES, CARD_FRAMES as FRAMES, MOST_FRAME, Uplink};

const RECEIVE: u16 = 0;
const SEND: u16 = 1;
/// Bytes of `struct virtio_net_hdr` before each frame; all zero, for there are no offloads.
const HEADER: usize = 12;

type Buffer = [u8; CARD_BUFFER];

#[derive(FromBytes)]
#[repr(C)]
struct Buffers {
    receive: [Buffer; FRAMES],
    send: [Buffer; FRAMES],
}

const _: () = assert!(taken::<Buffers>() == CARD_BYTES);

/// A card. Each queue has a buffer for each of its descriptors.
pub struct VirtioCard {
    pub(super) device: Device,
    receive: VirtQueue<Pool, FRAMES>,
    send: VirtQueue<Pool, FRAMES>,
    /// Which buffer the device has by the descriptor of this number.
    sent: [Option<u8>; FRAMES],
    buffers: &'static mut Buffers,
}

impl VirtioCard {
    pub(super) fn start(mut device: Device, frames: &mut Frames) -> Result<Self, Unusable> {
        device.begin(Common::all())?;
        let receive = device.queue(RECEIVE)?;
        let mut send = device.queue(SEND)?;
        // What has been sent is taken back when there is more to send.
        send.set_dev_notify(false);
        device.transport.finish_init();
        let mut card = Self { device, receive, send, sent: [None; FRAMES], buffers: buffers(frames)? };
        for buffer in 0..FRAMES {
            card.lend(buffer);
        }
        card.device.notify(&card.receive, RECEIVE);
        Ok(card)
    }

    /// Lends a buffer to the device to receive into.
    fn lend(&mut self, buffer: usize) {
        // SAFETY: nobody touches it before it is taken back.
        let token = unsafe { self.receive.add(&[], &mut [&mut self.buffers.receive[buffer]]) };
        // Descriptors come back in the order in which they are taken: one after the other at first, then the one given back
        // last.
        assert_eq!(token.map(usize::from), Ok(buffer), "a descriptor a buffer");
    }

    fn take_back_sent(&mut self) {
        while let Some(token) = self.send.peek_used() {
            let buffer = self.sent[usize::from(token)].take().expect("a card gives back what it was given");
            let frame = &self.buffers.send[usize::from(buffer)];
            // SAFETY: the buffer of `send`; of its length only the number of pieces matters.
            unsafe { self.send.pop_used(token, &[frame], &mut []) }.expect("the token is that of the next");
        }
    }
}

impl Uplink for VirtioCard {
    fn send(&mut self, frame: &[u8]) -> Result<(), Busy> {
        self.take_back_sent();
        let free = (0..FRAMES).find(|&buffer| !self.sent.contains(&Some(buffer as u8))).ok_or(Busy)?;
        let buffer = &mut self.buffers.send[free][..HEADER + frame.len()];
        buffer[..HEADER].fill(0);
        buffer[HEADER..].copy_from_slice(frame);
        // SAFETY: nobody touches it before it is taken back.
        let token = unsafe { self.send.add(&[buffer], &mut []) }.map_err(|_| Busy)?;
        self.sent[usize::from(token)] = Some(free as u8);
        self.device.notify(&self.send, SEND);
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8; MOST_FRAME]) -> Option<usize> {
        loop {
            let token = self.receive.peek_used()?;
            let buffer = usize::from(token);
            // SAFETY: the buffer of `lend`.
            let taken =
                unsafe { self.receive.pop_used(token, &[], &mut [&mut self.buffers.receive[buffer]]) };
            let bytes = taken.expect("the token is that of the next") as usize;
            let received =
                self.buffers.receive[buffer].get(HEADER..bytes).filter(|one| one.len() <= MOST_FRAME);
            let length = received.map(|received| {
                frame[..received.len()].copy_from_slice(received);
                received.len()
            });
            self.lend(buffer);
            self.device.notify(&self.receive, RECEIVE);
            // A frame that is none is dropped.
            if length.is_some() {
                return length;
            }
        }
    }
}
