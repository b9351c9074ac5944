//! A client of QEMU's gdb server: stops a guest at an address and reads its clock there.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guest::Qemu;

/// x86-64 registers by gdb's numbers.
mod register {
    pub const RAX: u32 = 0;
    pub const RDX: u32 = 3;
    pub const RIP: u32 = 16;
}

/// `rdtsc`
pub const RDTSC: [u8; 2] = [0x0f, 0x31];

/// A guest's time stamp counter; under an instruction-counting clock it counts the instructions and the idle nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticks(pub u64);

/// A connection to a guest that is stopped, unless a call here lets it run.
#[derive(Debug)]
pub struct Gdb {
    stream: UnixStream,
    /// Received and not yet used
    received: Vec<u8>,
}

impl Gdb {
    /// Connects to a QEMU that was just started.
    pub fn connect(qemu: &mut Qemu, socket: &Path, limit: Duration) -> Result<Self> {
        let deadline = Instant::now() + limit;
        loop {
            qemu.wait_for_socket(socket, deadline)?;
            match UnixStream::connect(socket) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(limit)).context("cannot limit a socket's time")?;
                    let mut gdb = Self { stream, received: Vec::new() };
                    // QEMU gives single registers only to a client that has asked which there are.
                    gdb.call("qXfer:features:read:target.xml:0,ffb")?;
                    return Ok(gdb);
                }
                // It has its name before it listens.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < deadline => {}
                Err(error) => return Err(error).context("cannot reach QEMU's gdb server"),
            }
        }
    }

    /// Lets the guest run until it is about to execute the instruction at `address`; returns when it started and when
    /// it stopped.
    pub fn run_to(&mut self, address: u64) -> Result<(Instant, Instant)> {
        // Kind 1: by the CPU itself, nothing is written to memory.
        self.expect_ok(&format!("Z1,{address:x},1"))?;
        let started = Instant::now();
        self.send("c")?;
        let reply = self.receive()?;
        let stopped = Instant::now();
        if !reply.starts_with('T') && !reply.starts_with('S') {
            bail!("the guest ended before it reached {address:#x} (gdb server: {reply})");
        }
        self.expect_ok(&format!("z1,{address:x},1"))?;
        let at = self.register(register::RIP)?;
        if at != address {
            bail!("the guest stopped at {at:#x}, not at {address:#x}");
        }
        Ok((started, stopped))
    }

    /// The guest's time stamp counter, where it is stopped in flat mode without paging: an instruction that reads it is
    /// put there, executed and taken away again.
    pub fn ticks_by_patching(&mut self) -> Result<Ticks> {
        let at = self.register(register::RIP)?;
        let saved = [register::RAX, register::RDX].map(|register| self.register(register));
        let code = self.call(&format!("m{at:x},{}", RDTSC.len()))?;
        let patch: String = RDTSC.iter().map(|byte| format!("{byte:02x}")).collect();
        self.expect_ok(&format!("M{at:x},{}:{patch}", RDTSC.len()))?;
        let reply = self.call("s")?;
        let now = self.register(register::RIP)?;
        if now != at + RDTSC.len() as u64 {
            bail!("a single step led from {at:#x} to {now:#x} (gdb server: {reply})");
        }
        let ticks = self.ticks_read()?;
        self.expect_ok(&format!("M{at:x},{}:{code}", RDTSC.len()))?;
        for (register, value) in [register::RAX, register::RDX].into_iter().zip(saved) {
            self.set_register(register, value?)?;
        }
        self.set_register(register::RIP, at)?;
        Ok(ticks)
    }

    /// The guest's time stamp counter, where it is stopped behind an instruction that read it.
    pub fn ticks_read(&mut self) -> Result<Ticks> {
        let half = |value: u64| value & 0xffff_ffff;
        Ok(Ticks(half(self.register(register::RDX)?) << 32 | half(self.register(register::RAX)?)))
    }

    fn register(&mut self, number: u32) -> Result<u64> {
        let reply = self.call(&format!("p{number:x}"))?;
        little_endian(&reply).with_context(|| format!("the gdb server gave no register but {reply:?}"))
    }

    fn set_register(&mut self, number: u32, value: u64) -> Result<()> {
        self.expect_ok(&format!("P{number:x}={:016x}", value.swap_bytes()))
    }

    fn expect_ok(&mut self, command: &str) -> Result<()> {
        match self.call(command)?.as_str() {
            "OK" => Ok(()),
            reply => bail!("the gdb server answered {command:?} with {reply:?}"),
        }
    }

    fn call(&mut self, command: &str) -> Result<String> {
        self.send(command)?;
        self.receive()
    }

    fn send(&mut self, command: &str) -> Result<()> {
        self.stream.write_all(packet(command).as_bytes()).context("cannot write to QEMU's gdb server")
    }

    fn receive(&mut self) -> Result<String> {
        loop {
            if let Some(body) = take_packet(&mut self.received) {
                self.stream.write_all(b"+").context("cannot write to QEMU's gdb server")?;
                return Ok(body);
            }
            let mut buffer = [0; 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("QEMU ended while the guest was measured"),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    bail!("the guest did not get there within its time limit")
                }
                Err(error) => return Err(error).context("cannot read from QEMU's gdb server"),
            }
        }
    }
}

/// A command as it goes over the wire.
fn packet(body: &str) -> String {
    let sum = body.bytes().fold(0u8, u8::wrapping_add);
    format!("${body}#{sum:02x}")
}

/// Takes the first whole packet's body; what comes before it are acknowledgements.
fn take_packet(received: &mut Vec<u8>) -> Option<String> {
    let start = received.iter().position(|&byte| byte == b'$')?;
    let end = start + received[start..].iter().position(|&byte| byte == b'#')?;
    // Two digits of the sum follow; the connection is a local one, which does not garble.
    if received.len() < end + 3 {
        return None;
    }
    let body = String::from_utf8_lossy(&received[start + 1..end]).into_owned();
    received.drain(..end + 3);
    Some(body)
}

/// A register's bytes, in the guest's order.
fn little_endian(hex: &str) -> Option<u64> {
    if hex.is_empty() || hex.len() > 16 || !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    (0..hex.len())
        .step_by(2)
        .rev()
        .try_fold(0, |value, at| Some(value << 8 | u64::from(u8::from_str_radix(&hex[at..at + 2], 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        assert_eq!(packet("c"), "$c#63");
        let mut received = b"+$T05thread:01;#07+$OK#9a$par".to_vec();
        assert_eq!(take_packet(&mut received).as_deref(), Some("T05thread:01;"));
        assert_eq!(take_packet(&mut received).as_deref(), Some("OK"));
        assert_eq!(take_packet(&mut received), None);
        received.extend_from_slice(b"tial#");
        assert_eq!(take_packet(&mut received), None);
        received.extend_from_slice(b"00");
        assert_eq!(take_packet(&mut received).as_deref(), Some("partial"));
    }

    #[test]
    fn registers() {
        assert_eq!(little_endian("5008000100000000"), Some(0x0100_0850));
        assert_eq!(little_endian("E01"), None);
        assert_eq!(little_endian("zz"), None);
        assert_eq!(little_endian(""), None);
    }
}
