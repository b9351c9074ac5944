//! A network card (virtio 1.2, section 5.1), without any offload: a port of the [`super::switch`].

use lguest_abi::MOST_CONFIG;

use super::bus::Kind;
use super::port::MOST_FRAME;
use super::queue::{Queue, read, write};
use super::switch::{ETHERNET_HEADER, MacAddress};
use super::{Served, With};
use crate::guest::Host;
use crate::rule::Broken;

/// VIRTIO_NET_F_…
const MTU: u64 = 1 << 3;
const MAC: u64 = 1 << 5;
/// Bytes of `virtio_net_hdr`.
const HEADER: usize = 12;
/// Of those, where `num_buffers` is.
const BUFFERS_AT: usize = 10;

/// What the guest sees.
pub fn kind(address: MacAddress) -> Kind {
    let mut config = [0; MOST_CONFIG];
    config[..6].copy_from_slice(&address.0);
    config[10..12].copy_from_slice(&((MOST_FRAME - ETHERNET_HEADER) as u16).to_le_bytes());
    Kind { id: 1, queues: 2, features: MAC | MTU, config, config_bytes: 12 }
}

/// Gives a buffer the next frame.
pub fn receive<H: Host>(queue: &mut Queue, with: &mut With<'_, H>) -> Result<Served, Broken> {
    let Some(chain) = queue.pop(&with.memory)? else { return Ok(Served::Nothing) };
    chain.only_writable((HEADER + MOST_FRAME) as u64)?;
    let mut frame = [0; MOST_FRAME];
    let Some(length) = with.host.receive_frame(with.number, &mut frame) else {
        queue.put_back();
        return Ok(Served::Nothing);
    };
    let mut header = [0; HEADER];
    header[BUFFERS_AT] = 1;
    write(&with.memory, chain.writable(), 0, &header)?;
    write(&with.memory, chain.writable(), HEADER as u64, &frame[..length])?;
    queue.push(&with.memory, chain.head, (HEADER + length) as u32)?;
    with.counters.frames_received += 1;
    Ok(Served::Used)
}

/// Sends a buffer.
pub fn transmit<H: Host>(queue: &mut Queue, with: &mut With<'_, H>) -> Result<Served, Broken> {
    let Some(chain) = queue.pop(&with.memory)? else { return Ok(Served::Nothing) };
    let (least, most) = (HEADER + ETHERNET_HEADER, HEADER + MOST_FRAME);
    chain.only_readable(least as u64, most as u64)?;
    let mut frame = [0; MOST_FRAME];
    let length = read(&with.memory, chain.readable(), HEADER as u64, &mut frame)?;
    with.host.send_frame(with.number, &frame[..length]);
    queue.push(&with.memory, chain.head, 0)?;
    with.counters.frames_sent += 1;
    Ok(Served::Used)
}
