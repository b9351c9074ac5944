//! An Internet socket as an open file.

use alloc::sync::Arc;
use core::any::Any;
use core::net::SocketAddrV4;
use core::sync::atomic::{AtomicU32, Ordering};

use smoltcp::wire::IpProtocol;

use super::address::{Address, NOWHERE};
use super::datagram::{DatagramId, Kind};
use super::ioctl;
use super::service::with;
use super::shared::Shared;
use super::tcp::{Attempt, Directions, Sent, State, TcpId};
use crate::errno::{Errno, KResult};
use crate::fs::anonymous;
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::flags::{O_NONBLOCK, O_RDWR};
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::mm::UserAddr;
use crate::net::flags;
use crate::net::waiting::{TimeLimit, Wait, Waiting};
use crate::process::current;
use crate::signal::{SIGPIPE, send_to_current};
use crate::sync::WaitQueue;
use crate::syscall::SysResult;

/// Which of the stack's sockets it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// TCP.
    Stream(TcpId),
    /// Anything else.
    Datagram(DatagramId, Kind),
}

/// A socket.
pub struct Socket {
    which: Which,
    shared: Arc<Shared>,
    /// `SO_RCVTIMEO`
    pub receive_limit: TimeLimit,
    /// `SO_SNDTIMEO`
    pub send_limit: TimeLimit,
    /// Options that are remembered for those who ask, a bit each; those that mean something to the stack are there.
    pub remembered: AtomicU32,
}

/// What was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    /// Bytes, as the call returns them.
    pub length: usize,
    /// [`flags::TRUNCATED`] or none.
    pub flags: u32,
    /// From where a datagram came.
    pub from: Option<SocketAddrV4>,
}

impl Received {
    /// As much of a stream.
    fn stream(length: usize) -> Self {
        Self { length, flags: 0, from: None }
    }
}

impl Socket {
    fn new(which: Which, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            which,
            shared,
            receive_limit: TimeLimit::none(),
            send_limit: TimeLimit::none(),
            remembered: AtomicU32::new(0),
        })
    }

    /// A new TCP socket.
    ///
    /// # Errors
    /// Those of [`with`].
    pub fn stream() -> KResult<Arc<Self>> {
        let user = current().process.credentials().uid.0;
        let (id, shared) = with(|stack| Ok(stack.tcp_open(user)))?;
        Ok(Self::new(Which::Stream(id), shared))
    }

    /// A new socket for datagrams.
    ///
    /// # Errors
    /// EPERM for the unprivileged who want IP packets, and those of [`with`].
    pub fn datagram(kind: Kind) -> KResult<Arc<Self>> {
        let (user, privileged) = {
            let who = current().process.credentials();
            (who.uid.0, who.is_privileged())
        };
        if matches!(kind, Kind::Raw(_)) && !privileged {
            return Err(Errno::EPERM);
        }
        let (id, shared) = with(|stack| Ok(stack.datagram_open(kind, user)))?;
        Ok(Self::new(Which::Datagram(id, kind), shared))
    }

    /// As an open file.
    pub fn open(self: Arc<Self>, flags: u32) -> Arc<OpenFile> {
        anonymous::socket(self, O_RDWR | (flags & O_NONBLOCK))
    }

    /// Which of the stack's sockets it is.
    pub fn which(&self) -> Which {
        self.which
    }

    /// What is known of it without the stack's lock.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// `SO_TYPE` and `SO_PROTOCOL`.
    pub fn numbers(&self) -> (i32, i32) {
        match self.which {
            Which::Stream(_) => (1, u8::from(IpProtocol::Tcp).into()),
            Which::Datagram(_, Kind::Udp) => (2, u8::from(IpProtocol::Udp).into()),
            Which::Datagram(_, Kind::Ping) => (2, u8::from(IpProtocol::Icmp).into()),
            Which::Datagram(_, Kind::Raw(protocol)) => (3, u8::from(protocol).into()),
        }
    }

    /// Gives it an address (`bind(2)`).
    ///
    /// # Errors
    /// EAFNOSUPPORT, EACCES for a low port and no privilege, and those of the stack.
    pub fn bind(&self, address: Address) -> KResult<()> {
        let address = match address {
            Address::Inet(address) => address,
            // Some programs are sloppy, and Linux lets them.
            Address::NoFamily(address) if address.ip().is_unspecified() => address,
            Address::NoFamily(_) => return Err(Errno::EAFNOSUPPORT),
        };
        let low =
            (1..1024).contains(&address.port()) && !matches!(self.which, Which::Datagram(_, Kind::Raw(_)));
        if low && !current().process.credentials().is_privileged() {
            return Err(Errno::EACCES);
        }
        with(|stack| match self.which {
            Which::Stream(id) => stack.tcp_bind(id, address),
            Which::Datagram(id, _) => stack.datagram_bind(id, address),
        })
    }

    /// Has it wait for connections (`listen(2)`).
    ///
    /// # Errors
    /// EOPNOTSUPP for datagrams, and those of the stack.
    pub fn listen(&self, backlog: i32) -> KResult<()> {
        match self.which {
            Which::Stream(id) => with(|stack| stack.tcp_listen(id, backlog)),
            Which::Datagram(..) => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Takes a connection that waits to be accepted (`accept(2)`); returns whose it is too.
    ///
    /// # Errors
    /// EOPNOTSUPP for datagrams, EINVAL if it does not listen, EAGAIN, ERESTARTSYS, EINTR.
    pub fn accept(&self, waiting: Waiting) -> KResult<(Arc<Self>, SocketAddrV4)> {
        let Which::Stream(id) = self.which else { return Err(Errno::EOPNOTSUPP) };
        let mut wait = Wait::new(&self.receive_limit);
        loop {
            match with(|stack| stack.tcp_accept(id)) {
                Ok((child, shared, from)) => {
                    let child = Self::new(Which::Stream(child), shared);
                    // What the stack knows of options it has handed on already.
                    child.receive_limit.set(self.receive_limit.get());
                    child.send_limit.set(self.send_limit.get());
                    child.remembered.store(self.remembered.load(Ordering::Relaxed), Ordering::Relaxed);
                    return Ok((child, from));
                }
                Err(Errno::EAGAIN) => {}
                Err(error) => return Err(error),
            }
            // An error is for others, whom it stays for: it is no reason to look again.
            let ends = PollEvents::READABLE | PollEvents::HUP;
            wait.until(waiting, &self.shared.can_read, || self.shared.events().intersects(ends))?;
        }
    }

    /// Connects it (`connect(2)`).
    ///
    /// # Errors
    /// EINPROGRESS if it may not wait, and those of the stack.
    pub fn connect(&self, address: Address, waiting: Waiting) -> KResult<()> {
        let id = match (self.which, address) {
            (Which::Datagram(id, _), Address::Inet(address)) => {
                return with(|stack| stack.datagram_connect(id, Some(address)));
            }
            (Which::Datagram(id, _), Address::NoFamily(_)) => {
                return with(|stack| stack.datagram_connect(id, None));
            }
            (Which::Stream(id), Address::NoFamily(_)) => return with(|stack| stack.tcp_disconnect(id)),
            (Which::Stream(id), Address::Inet(_)) => id,
        };
        let Address::Inet(address) = address else { return Err(Errno::EINVAL) };
        let begun = with(|stack| stack.tcp_connect(id, address));
        match (begun, waiting) {
            (Err(Errno::EINPROGRESS | Errno::EALREADY), Waiting::Yes) => {}
            (result, _) => return result,
        }
        let mut wait = Wait::new(&self.send_limit);
        loop {
            match with(|stack| stack.tcp_attempt_result(id)) {
                Err(Errno::EINPROGRESS) => {}
                result => return result,
            }
            let ends = PollEvents::WRITABLE | PollEvents::HUP;
            let waited = wait.until(Waiting::Yes, &self.shared.can_write, || self.shared.has(ends));
            match waited {
                // The time is up; the attempt goes on.
                Err(Errno::EAGAIN) => return Err(Errno::EINPROGRESS),
                result => result?,
            }
        }
    }

    /// Shuts directions (`shutdown(2)`).
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn shut_down(&self, directions: Directions) -> KResult<()> {
        with(|stack| match self.which {
            Which::Stream(id) => stack.tcp_shut_down(id, directions),
            Which::Datagram(id, _) => stack.datagram_shut_down(id, directions),
        })
    }

    /// Its address.
    ///
    /// # Errors
    /// EBADF.
    pub fn local(&self) -> KResult<SocketAddrV4> {
        with(|stack| {
            match self.which {
                Which::Stream(id) => stack.tcp.get(id).map(|block| block.local),
                Which::Datagram(id, _) => stack.datagrams.get(id).map(|block| block.local),
            }
            .ok_or(Errno::EBADF)
        })
    }

    /// The address of the other end.
    ///
    /// # Errors
    /// ENOTCONN.
    pub fn remote(&self) -> KResult<SocketAddrV4> {
        with(|stack| match self.which {
            Which::Stream(id) => {
                let block = stack.tcp.get(id).ok_or(Errno::EBADF)?;
                let gone = matches!(block.state(), State::SynSent | State::Closed);
                block.remote.filter(|_| !gone).ok_or(Errno::ENOTCONN)
            }
            Which::Datagram(id, _) => {
                stack.datagrams.get(id).and_then(|block| block.remote).ok_or(Errno::ENOTCONN)
            }
        })
    }

    /// Sends everything, or as much as can be sent without waiting.
    ///
    /// # Errors
    /// Those of `send(2)`.
    pub fn send(
        &self,
        from: &mut IoSrc<'_>,
        waiting: Waiting,
        flags: u32,
        to: Option<Address>,
    ) -> KResult<usize> {
        if flags & flags::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.which {
            Which::Stream(id) => {
                let result = self.send_stream(id, from, waiting);
                if result == Err(Errno::EPIPE) && flags & flags::NO_SIGNAL == 0 {
                    send_to_current(SIGPIPE);
                }
                result
            }
            Which::Datagram(id, _) => {
                let to = match to {
                    None => None,
                    Some(Address::Inet(to) | Address::NoFamily(to)) => Some(to),
                };
                with(|stack| stack.datagram_send(id, from, to))
            }
        }
    }

    fn send_stream(&self, id: TcpId, from: &mut IoSrc<'_>, waiting: Waiting) -> KResult<usize> {
        let mut wait = Wait::new(&self.send_limit);
        let mut sent = 0;
        loop {
            if sent > 0 && self.shared.events().contains(PollEvents::ERR) {
                // The next call reports it.
                return Ok(sent);
            }
            let result = with(|stack| stack.tcp_send(id, from));
            let next = match result {
                Ok(Sent { bytes, ends }) => {
                    sent += bytes;
                    if from.remaining() == 0 || ends {
                        return Ok(sent);
                    }
                    self.wait_for_room(waiting, &mut wait)
                }
                Err(Errno::EAGAIN) => self.wait_for_room(waiting, &mut wait),
                Err(error) => Err(error),
            };
            match next {
                Ok(()) => {}
                Err(_) if sent > 0 => return Ok(sent),
                Err(error) => return Err(error),
            }
        }
    }

    fn wait_for_room(&self, waiting: Waiting, wait: &mut Wait<'_>) -> KResult<()> {
        let ends = PollEvents::WRITABLE | PollEvents::HUP;
        wait.until(waiting, &self.shared.can_write, || self.shared.has(ends))
    }

    /// Receives what there is, waiting for it if there is nothing.
    ///
    /// # Errors
    /// Those of `recv(2)`.
    pub fn receive(&self, to: &mut IoDst<'_>, waiting: Waiting, flags: u32) -> KResult<Received> {
        if flags & flags::OUT_OF_BAND != 0 {
            return Err(Errno::EINVAL);
        }
        match self.which {
            Which::Stream(id) => self.receive_stream(id, to, waiting, flags),
            Which::Datagram(id, _) => self.receive_datagram(id, to, waiting, flags),
        }
    }

    fn wait_for_data(&self, waiting: Waiting, wait: &mut Wait<'_>) -> KResult<()> {
        let ends = PollEvents::READABLE | PollEvents::HUP;
        wait.until(waiting, &self.shared.can_read, || self.shared.has(ends))
    }

    fn receive_stream(
        &self,
        id: TcpId,
        to: &mut IoDst<'_>,
        waiting: Waiting,
        flags: u32,
    ) -> KResult<Received> {
        let keep = flags & flags::PEEK != 0;
        let all = flags & flags::WAIT_FOR_ALL != 0 && !keep;
        let mut wait = Wait::new(&self.receive_limit);
        let mut received = 0;
        loop {
            if received > 0 && self.shared.unread() == 0 && self.shared.events().contains(PollEvents::ERR) {
                // The next call reports it.
                return Ok(Received::stream(received));
            }
            let next = match with(|stack| stack.tcp_receive(id, to, keep)) {
                Ok(Some(count)) => {
                    received += count;
                    if count == 0 || to.remaining() == 0 || !all {
                        return Ok(Received::stream(received));
                    }
                    self.wait_for_data(waiting, &mut wait)
                }
                Ok(None) => self.wait_for_data(waiting, &mut wait),
                Err(error) => Err(error),
            };
            match next {
                Ok(()) => {}
                Err(_) if received > 0 => return Ok(Received::stream(received)),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive_datagram(
        &self,
        id: DatagramId,
        to: &mut IoDst<'_>,
        waiting: Waiting,
        flags: u32,
    ) -> KResult<Received> {
        let keep = flags & flags::PEEK != 0;
        let mut wait = Wait::new(&self.receive_limit);
        loop {
            if let Some(received) = with(|stack| stack.datagram_receive(id, to, keep))? {
                let short = received.copied < received.whole;
                let whole = flags & flags::TRUNCATED != 0;
                return Ok(Received {
                    length: if whole { received.whole } else { received.copied },
                    flags: if short { flags::TRUNCATED } else { 0 },
                    from: (received.from != NOWHERE).then_some(received.from),
                });
            }
            self.wait_for_data(waiting, &mut wait)?;
        }
    }

    /// The error that is reported by `SO_ERROR`. That of an attempt to connect is told by this or by `connect(2)`, not by both.
    pub fn take_error(&self) -> i32 {
        self.shared.take_error()
    }

    /// Whether it waits for connections.
    ///
    /// # Errors
    /// EBADF.
    pub fn listens(&self) -> KResult<bool> {
        match self.which {
            Which::Datagram(..) => Ok(false),
            Which::Stream(id) => with(|stack| {
                let block = stack.tcp.get(id).ok_or(Errno::EBADF)?;
                Ok(block.listener.is_some())
            }),
        }
    }

    /// Waits at the end for what is still on its way, as far as `SO_LINGER` says.
    fn linger(&self, id: TcpId) {
        let asked = with(|stack| {
            let block = stack.tcp.get(id).ok_or(Errno::EBADF)?;
            Ok(block.options.linger.filter(|_| block.attempt != Attempt::Made && block.queues().1 > 0))
        });
        let Ok(Some(seconds @ 1..)) = asked else { return };
        let limit = TimeLimit::none();
        limit.set(Some(platform::Nanoseconds::from_seconds(seconds.into())));
        let shut = with(|stack| stack.tcp_shut_down(id, Directions { receive: false, send: true }));
        if shut.is_ok() {
            // In time or not, the end comes now.
            let _ =
                Wait::new(&limit).until(Waiting::Yes, &self.shared.can_write, || self.shared.unsent() == 0);
        }
    }
}

impl FileOps for Socket {
    fn read(&self, file: &OpenFile, to: &mut IoDst<'_>) -> KResult<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        Ok(self.receive(to, Waiting::of(file), 0)?.length)
    }

    fn write(&self, file: &OpenFile, from: &mut IoSrc<'_>) -> KResult<usize> {
        self.send(from, Waiting::of(file), 0, None)
    }

    fn poll(&self) -> PollEvents {
        self.shared.events()
    }

    fn queues(&self, visit: &mut dyn FnMut(&WaitQueue)) {
        visit(&self.shared.can_read);
        visit(&self.shared.can_write);
    }

    fn ioctl(&self, _file: &OpenFile, request: u32, argument: UserAddr) -> SysResult {
        ioctl::ioctl(self, request, argument)
    }

    fn released(&self, _file: &OpenFile) {
        if let Which::Stream(id) = self.which {
            self.linger(id);
        }
        let closed = with(|stack| {
            match self.which {
                Which::Stream(id) => stack.tcp_close(id),
                Which::Datagram(id, _) => stack.datagram_close(id),
            }
            Ok(())
        });
        debug_assert!(closed.is_ok(), "a socket that was opened is closed");
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}
