//! What programs do with TCP sockets.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddrV4;

use super::block::{Attempt, Block, Listener, Options, State};
use super::flow::configure;
use super::{Ends, TcpId, ports};
use crate::errno::{Errno, KResult};
use crate::fs::io::{IoDst, IoSrc};
use crate::net::inet::address::NOWHERE;
use crate::net::inet::engine::Connection;
use crate::net::inet::shared::Shared;
use crate::net::inet::stack::Stack;
use crate::net::inet::wire::Wire;

/// Most connections that may wait to be accepted (`net.core.somaxconn`).
const MOST_WAITING: u32 = 4096;

/// Directions of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Directions {
    /// What comes in.
    pub receive: bool,
    /// What goes out.
    pub send: bool,
}

/// What was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Bytes there was room for.
    pub bytes: usize,
    /// The rest cannot be read.
    pub ends: bool,
}

impl<W: Wire> Stack<W> {
    fn block(&mut self, id: TcpId) -> KResult<&mut Block> {
        self.tcp.get_mut(id).ok_or(Errno::EBADF)
    }

    /// A new socket of `user`'s.
    pub fn tcp_open(&mut self, user: u32) -> (TcpId, Arc<Shared>) {
        let block = Block::new(Options::default(), user);
        let shared = block.shared.clone();
        (self.tcp.add(block), shared)
    }

    /// Whether `id` may use `local` beside those who do.
    fn may_bind(&self, id: TcpId, local: SocketAddrV4) -> bool {
        let Some(own) = self.tcp.get(id) else { return false };
        self.tcp.ports.users(local.port()).iter().filter(|&&other| other != id).all(|&other| {
            let Some(other) = self.tcp.get(other) else { return true };
            let (a, b) = (local.ip(), other.local.ip());
            let apart = !a.is_unspecified() && !b.is_unspecified() && a != b;
            let both = |option: fn(&Options) -> bool| option(&own.options) && option(&other.options);
            apart
                || (both(|options| options.reuse_address) && other.listener.is_none())
                || (both(|options| options.reuse_port) && own.user == other.user)
        })
    }

    /// Gives it an address (`bind(2)`).
    ///
    /// # Errors
    /// EINVAL if it has one, EADDRNOTAVAIL, EADDRINUSE.
    pub fn tcp_bind(&mut self, id: TcpId, mut local: SocketAddrV4) -> KResult<()> {
        let block = self.block(id)?;
        if block.local.port() != 0 || block.connection.is_some() {
            return Err(Errno::EINVAL);
        }
        if !local.ip().is_unspecified() && !self.links.is_own(*local.ip()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if local.port() == 0 {
            let seed = self.random();
            let is_free = |&port: &u16| self.may_bind(id, SocketAddrV4::new(*local.ip(), port));
            let port = ports::in_turn(seed).find(is_free).ok_or(Errno::EADDRINUSE)?;
            local.set_port(port);
        } else if !self.may_bind(id, local) {
            return Err(Errno::EADDRINUSE);
        }
        self.tcp.ports.enter(id, local.port());
        let block = self.block(id)?;
        block.local = local;
        block.bound = local;
        Ok(())
    }

    /// Has it wait for connections (`listen(2)`).
    ///
    /// # Errors
    /// EINVAL if it is connected, or has not told what became of an attempt to be; EADDRINUSE.
    pub fn tcp_listen(&mut self, id: TcpId, backlog: i32) -> KResult<()> {
        // A negative number is a large one, as always.
        let backlog = (backlog as u32).min(MOST_WAITING) as usize;
        let block = self.block(id)?;
        if let Some(listener) = &mut block.listener {
            listener.backlog = backlog;
            return Ok(());
        }
        if block.connection.is_some() || block.attempt != Attempt::None {
            return Err(Errno::EINVAL);
        }
        block.failed = false;
        let local = block.local;
        if local.port() == 0 {
            self.tcp_bind(id, local)?;
        } else {
            // Others may have begun to listen since it was bound.
            let other_listens = |&other: &TcpId| {
                other != id
                    && self.tcp.get(other).is_some_and(|block| {
                        let (a, b) = (local.ip(), block.local.ip());
                        block.listener.is_some()
                            && !block.options.reuse_port
                            && (a == b || a.is_unspecified() || b.is_unspecified())
                    })
            };
            if self.tcp.ports.users(local.port()).iter().any(other_listens) {
                return Err(Errno::EADDRINUSE);
            }
        }
        let block = self.block(id)?;
        block.listener = Some(Listener { backlog, coming: 0, ready: VecDeque::new() });
        block.publish();
        Ok(())
    }

    /// Starts to connect (`connect(2)`).
    ///
    /// # Errors
    /// EINPROGRESS if the end is not known yet, EALREADY, EISCONN, ENETUNREACH, EADDRNOTAVAIL, EADDRINUSE, ENOBUFS, and what became
    /// of an attempt.
    pub fn tcp_connect(&mut self, id: TcpId, mut remote: SocketAddrV4) -> KResult<()> {
        let block = self.block(id)?;
        if block.attempt != Attempt::None {
            if block.is_connecting() {
                return Err(Errno::EALREADY);
            }
            return self.tcp_attempt_result(id);
        }
        if block.connection.is_some() || block.listener.is_some() {
            return Err(Errno::EISCONN);
        }
        let mut local = block.local;
        let hop = self.links.hop(*remote.ip())?;
        if hop.broadcast || remote.ip().is_multicast() {
            return Err(Errno::ENETUNREACH);
        }
        if remote.ip().is_unspecified() {
            remote.set_ip(hop.next);
        }
        if remote.port() == 0 {
            return Err(Errno::ECONNREFUSED);
        }
        if local.ip().is_unspecified() {
            // Who is on this machine is reached from the same address.
            local.set_ip(hop.source);
        }
        if local.port() == 0 {
            let seed = self.random();
            let taken = |port: u16| {
                let ends = Ends { local: SocketAddrV4::new(*local.ip(), port), remote };
                let users = self.tcp.ports.users(port);
                self.tcp.connections.contains_key(&ends)
                    || users
                        .iter()
                        .any(|&user| self.tcp.get(user).is_some_and(|block| block.bound != NOWHERE))
            };
            let port = ports::in_turn(seed).find(|&port| !taken(port)).ok_or(Errno::EADDRNOTAVAIL)?;
            local.set_port(port);
        }
        let ends = Ends { local, remote };
        if self.tcp.connections.contains_key(&ends) || local == remote {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let block = self.block(id)?;
        // What became of the last attempt is of no interest any more.
        block.shared.take_error();
        let options = block.options;
        let mut connection = Connection::new(options.receive_buffer / 2, options.send_buffer / 2)?;
        configure(&mut connection, &options, hop.link);
        self.engines[hop.link as usize].connect(&mut connection, local, remote)?;
        if self.tcp.ports.users(local.port()).iter().all(|&user| user != id) {
            self.tcp.ports.enter(id, local.port());
        }
        self.tcp.connections.insert(ends, id);
        let now = self.now;
        let block = self.block(id)?;
        block.local = local;
        block.remote = Some(remote);
        block.way = (hop.link, hop.next);
        block.connection = Some(connection);
        block.attempt = Attempt::Made;
        block.failed = false;
        block.shut_receive = false;
        block.shut_send = false;
        block.heard = now;
        block.give_up = None;
        self.tcp_pump(id);
        Err(Errno::EINPROGRESS)
    }

    /// What became of an attempt to connect; it is told once.
    ///
    /// # Errors
    /// EINPROGRESS, or why it failed.
    pub fn tcp_attempt_result(&mut self, id: TcpId) -> KResult<()> {
        let block = self.block(id)?;
        if block.is_connecting() {
            return Err(Errno::EINPROGRESS);
        }
        let is_over = block.failed || (block.attempt == Attempt::Succeeded && block.state() == State::Closed);
        block.attempt = Attempt::None;
        if !is_over {
            return Ok(());
        }
        let result = block.shared.check_error();
        self.tcp.disconnect(id);
        self.unname(id);
        if let Some(block) = self.tcp.get(id) {
            block.publish();
        }
        result.and(Err(Errno::ECONNABORTED))
    }

    /// Without a connection it has no other end, and this one is as `bind(2)` made it.
    fn unname(&mut self, id: TcpId) {
        let Some(block) = self.tcp.get_mut(id) else { return };
        block.remote = None;
        block.local = block.bound;
        if block.bound == NOWHERE {
            self.tcp.ports.leave(id);
        }
    }

    /// Takes a connection that waits to be accepted.
    ///
    /// # Errors
    /// EINVAL if it does not listen, EAGAIN.
    pub fn tcp_accept(&mut self, id: TcpId) -> KResult<(TcpId, Arc<Shared>, SocketAddrV4)> {
        let listening = self.block(id)?;
        let listener = listening.listener.as_mut().ok_or(Errno::EINVAL)?;
        let child = listener.ready.pop_front().ok_or(Errno::EAGAIN)?;
        listening.publish();
        let block = self.block(child)?;
        block.parent = None;
        let remote = block.remote.ok_or(Errno::ECONNABORTED)?;
        Ok((child, block.shared.clone(), remote))
    }

    /// Sends what there is room for.
    ///
    /// # Errors
    /// EPIPE, EAGAIN while it is being connected, EFAULT, and what has become of the connection.
    pub fn tcp_send(&mut self, id: TcpId, from: &mut IoSrc<'_>) -> KResult<Sent> {
        let mut sent = 0;
        let mut ends = false;
        while from.remaining() > 0 || sent == 0 {
            let block = self.block(id)?;
            if sent == 0 {
                block.shared.check_error()?;
            }
            if block.shut_send {
                return if sent > 0 { Ok(Sent { bytes: sent, ends }) } else { Err(Errno::EPIPE) };
            }
            if block.is_connecting() {
                return Err(Errno::EAGAIN);
            }
            let Some(connection) = block.connection.as_mut().filter(|c| c.socket().may_send()) else {
                return if sent > 0 { Ok(Sent { bytes: sent, ends }) } else { Err(Errno::EPIPE) };
            };
            let moved = connection.socket_mut().send(|room| {
                let wanted = room.len().min(from.remaining());
                match from.read(room) {
                    Ok(count) => (count, Ok((count, count < wanted))),
                    Err(error) => (0, Err(error)),
                }
            });
            let (count, fault) = match moved {
                Ok(Ok(moved)) => moved,
                Ok(Err(error)) if sent == 0 => return Err(error),
                Ok(Err(_)) | Err(_) => (0, true),
            };
            sent += count;
            ends |= fault;
            if count == 0 {
                break;
            }
            self.tcp_pump(id);
            self.settle();
            if ends {
                break;
            }
        }
        Ok(Sent { bytes: sent, ends })
    }

    /// Receives what there is; none if nothing has come yet. If `keep`, it stays.
    ///
    /// # Errors
    /// ENOTCONN, EFAULT, and what has become of the connection.
    pub fn tcp_receive(&mut self, id: TcpId, to: &mut IoDst<'_>, keep: bool) -> KResult<Option<usize>> {
        let block = self.block(id)?;
        if block.listener.is_some() {
            return Err(Errno::ENOTCONN);
        }
        let unread = block.queues().0;
        if unread > 0 {
            return if keep { peek(block, to, unread) } else { self.take(id, to) }.map(Some);
        }
        block.shared.check_error()?;
        if block.is_connecting() {
            return Ok(None);
        }
        if block.shut_receive || block.failed {
            return Ok(Some(0));
        }
        if block.connection.is_none() {
            return Err(Errno::ENOTCONN);
        }
        Ok(block.has_ended().then_some(0))
    }

    fn take(&mut self, id: TcpId, to: &mut IoDst<'_>) -> KResult<usize> {
        let mut taken = 0;
        while to.remaining() > 0 {
            let Some(connection) = &mut self.block(id)?.connection else { break };
            let moved = connection.socket_mut().recv(|bytes| match to.write(bytes) {
                Ok(count) => (count, Ok(count)),
                Err(error) => (0, Err(error)),
            });
            match moved {
                Ok(Ok(0)) | Err(_) => break,
                Ok(Ok(count)) => taken += count,
                Ok(Err(error)) if taken == 0 => return Err(error),
                Ok(Err(_)) => break,
            }
            // The other end may want to know that there is room.
            self.tcp_pump(id);
            self.settle();
        }
        Ok(taken)
    }

    /// Shuts directions (`shutdown(2)`).
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn tcp_shut_down(&mut self, id: TcpId, directions: Directions) -> KResult<()> {
        let block = self.block(id)?;
        if block.listener.is_some() {
            if directions.receive {
                self.stop_listening(id);
            }
            return Ok(());
        }
        if block.connection.is_none() || block.state() == State::Closed {
            return Err(Errno::ENOTCONN);
        }
        block.shut_receive |= directions.receive;
        if directions.send && !block.shut_send {
            block.shut_send = true;
            if let Some(connection) = &mut block.connection {
                connection.socket_mut().close();
            }
        }
        self.tcp_pump(id);
        Ok(())
    }

    fn stop_listening(&mut self, id: TcpId) {
        let Ok(block) = self.block(id) else { return };
        block.listener = None;
        block.publish();
        // Nobody will accept them.
        let children: Vec<TcpId> =
            self.tcp.blocks.iter().filter(|(_, block)| block.parent == Some(id)).map(|(&id, _)| id).collect();
        for child in children {
            self.abort(child);
        }
    }

    /// Ends a connection at once, and forgets it.
    fn abort(&mut self, id: TcpId) {
        if let Some(block) = self.tcp.get_mut(id) {
            block.parent = None;
            if let Some(connection) = &mut block.connection {
                connection.socket_mut().abort();
            }
        }
        self.tcp_pump(id);
        self.tcp.remove(id);
    }

    /// The program has no descriptor for it any more.
    pub fn tcp_close(&mut self, id: TcpId) {
        let Ok(block) = self.block(id) else { return };
        if block.listener.is_some() {
            self.stop_listening(id);
            self.tcp.remove(id);
            return;
        }
        let unread = block.queues().0 > 0;
        let quits = unread || block.options.linger == Some(0);
        let connecting = block.state() == State::SynSent;
        let Some(connection) = &mut block.connection else {
            self.tcp.remove(id);
            return;
        };
        if connecting {
            self.tcp.remove(id);
        } else if quits {
            self.abort(id);
        } else {
            connection.socket_mut().close();
            self.orphan(id);
            self.tcp_pump(id);
        }
    }

    /// Takes a connection back (`connect(2)` with `AF_UNSPEC`).
    ///
    /// # Errors
    /// EBADF.
    pub fn tcp_disconnect(&mut self, id: TcpId) -> KResult<()> {
        self.stop_listening(id);
        let block = self.block(id)?;
        if let Some(connection) = &mut block.connection {
            connection.socket_mut().abort();
        }
        self.tcp_pump(id);
        self.tcp.disconnect(id);
        self.unname(id);
        let block = self.block(id)?;
        block.attempt = Attempt::None;
        block.failed = false;
        block.shut_receive = false;
        block.shut_send = false;
        block.publish();
        Ok(())
    }

    /// Sets options; those of a connection take effect at once.
    ///
    /// # Errors
    /// EBADF.
    pub fn tcp_set_options(&mut self, id: TcpId, change: impl FnOnce(&mut Options)) -> KResult<()> {
        let now = self.now;
        let block = self.block(id)?;
        let kept_alive = block.options.keep_alive;
        change(&mut block.options);
        let options = block.options;
        if options.keep_alive && !kept_alive {
            // It is not to be blamed for its silence before.
            block.heard = now;
        }
        if let Some(connection) = &mut block.connection {
            let socket = connection.socket_mut();
            socket.set_nagle_enabled(!options.no_delay);
            socket.set_hop_limit(Some(options.time_to_live.max(1)));
            if !options.keep_alive {
                socket.set_keep_alive(None);
            }
            self.tcp_pump(id);
        }
        Ok(())
    }
}

/// Copies what there is and leaves it there.
fn peek(block: &mut Block, to: &mut IoDst<'_>, unread: usize) -> KResult<usize> {
    let Some(connection) = &mut block.connection else { return Ok(0) };
    let mut bytes = Vec::new();
    let length = unread.min(to.remaining());
    bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
    bytes.resize(length, 0);
    let length = connection.socket_mut().peek_slice(&mut bytes).unwrap_or(0);
    to.write(&bytes[..length])
}
