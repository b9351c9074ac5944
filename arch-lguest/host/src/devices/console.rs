//! The console (virtio 1.2, section 5.3), without its port for emergencies and its size.

use lguest_abi::{MOST_CONFIG, MOST_TEXT};

use super::bus::Kind;
use super::queue::{Queue, read, write};
use super::{Served, With};
use crate::guest::Host;
use crate::rule::Broken;

/// What the guest sees.
pub const KIND: Kind = Kind { id: 3, queues: 2, features: 0, config: [0; MOST_CONFIG], config_bytes: 0 };

/// Gives a buffer what input there is.
pub fn receive<H: Host>(queue: &mut Queue, with: &mut With<'_, H>) -> Result<Served, Broken> {
    if with.input.is_empty() {
        return Ok(Served::Nothing);
    }
    let Some(chain) = queue.pop(&with.memory)? else { return Ok(Served::Nothing) };
    let room = chain.only_writable(1)?;
    let mut written = 0;
    while written < room
        && let Some(byte) = with.input.pop()
    {
        write(&with.memory, chain.writable(), written, &[byte])?;
        written += 1;
    }
    queue.push(&with.memory, chain.head, written as u32)?;
    Ok(Served::Used)
}

/// Prints a buffer.
pub fn transmit<H: Host>(queue: &mut Queue, with: &mut With<'_, H>) -> Result<Served, Broken> {
    let Some(chain) = queue.pop(&with.memory)? else { return Ok(Served::Nothing) };
    let bytes = chain.only_readable(1, MOST_TEXT)?;
    let mut piece = [0; 128];
    let mut done = 0;
    while done < bytes {
        let length = read(&with.memory, chain.readable(), done, &mut piece)?;
        with.host.print(with.number, &piece[..length]);
        done += length as u64;
    }
    queue.push(&with.memory, chain.head, 0)?;
    Ok(Served::Used)
}
