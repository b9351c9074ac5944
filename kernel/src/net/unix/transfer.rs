//! Sending and receiving.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::address::Name;
use super::endpoint::{Endpoint, Shut, SocketType, State};
use super::message::{Ancillary, Message, Sender};
use super::rights::Rights;
use super::socket::Socket;
use super::{bind, names};
use crate::errno::{Errno, KResult};
use crate::fs::io::{IoDst, IoSrc};
use crate::net::flags;
use crate::net::waiting::{Wait, Waiting};
use crate::signal::{SIGPIPE, send_to_current};

/// Most bytes in one piece of a stream.
const LARGEST_PIECE: usize = 32 * 1024;
/// What a message must leave free of its sender's buffer.
const SLACK: usize = 32;

/// What was received.
#[derive(Default)]
pub struct Received {
    /// Bytes, as the call returns them.
    pub length: usize,
    /// [`flags::TRUNCATED`] or none.
    pub flags: u32,
    /// Who sent it, for sockets that want to know.
    pub sender: Option<Sender>,
    /// Files that came with it.
    pub rights: Option<Rights>,
    /// From where it came, for datagrams.
    pub from: Option<Arc<Endpoint>>,
    /// A piece of a stream has been received, and the next must be of the same sender.
    has_piece: bool,
}

impl Received {
    #[inline]
    fn add_piece(&mut self, own: &Endpoint, message: &Message) {
        if !self.has_piece {
            self.has_piece = true;
            self.sender = sender_for(own, message);
        }
    }
}

/// How far a look into the queue came.
#[derive(PartialEq, Eq)]
enum Progress {
    /// More could be taken when it comes.
    More,
    /// The call is to end.
    Complete,
}

impl Socket {
    /// Sends everything, or as much as can be sent without waiting.
    ///
    /// # Errors
    /// Those of `send(2)`.
    #[inline]
    pub fn send(
        &self,
        from: &mut IoSrc<'_>,
        waiting: Waiting,
        flags: u32,
        to: Option<&Name>,
        ancillary: Ancillary,
    ) -> KResult<usize> {
        if flags & flags::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.kind() {
            SocketType::Stream => {
                let result = self.send_stream(from, waiting, to, ancillary);
                if result == Err(Errno::EPIPE) && flags & flags::NO_SIGNAL == 0 {
                    send_to_current(SIGPIPE);
                }
                result
            }
            SocketType::SeqPacket => self.send_packet(from, waiting, ancillary),
            SocketType::Datagram => self.send_datagram(from, waiting, to, ancillary),
        }
    }

    fn send_stream(
        &self,
        from: &mut IoSrc<'_>,
        waiting: Waiting,
        to: Option<&Name>,
        ancillary: Ancillary,
    ) -> KResult<usize> {
        let own = &**self.endpoint();
        if to.is_some() {
            return Err(if own.state() == State::Connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let peer = self.connection().ok_or(Errno::ENOTCONN)?;
        let mut wait = Wait::new(&self.send_limit);
        let mut ancillary = with_sender(ancillary, own, peer);
        let mut sent = 0;
        while from.remaining() > 0 || own.shut().contains(Shut::SEND) {
            match self.send_piece(from, waiting, &mut wait, &mut ancillary, peer) {
                Ok(count) => sent += count,
                Err(_) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    #[inline]
    fn send_piece(
        &self,
        from: &mut IoSrc<'_>,
        waiting: Waiting,
        wait: &mut Wait<'_>,
        ancillary: &mut Ancillary,
        peer: &Endpoint,
    ) -> KResult<usize> {
        let own = &**self.endpoint();
        self.wait_for_room(waiting, wait)?;
        let length = from.remaining().min(LARGEST_PIECE).min(own.send_buffer() / 2);
        let mut message = Message::read(from, length)?;
        message.ancillary = boxed(Ancillary { sender: ancillary.sender, rights: ancillary.rights.take() });
        peer.deliver(message, own)?;
        Ok(length)
    }

    /// Waits until there is room for one more message.
    #[inline]
    fn wait_for_room(&self, waiting: Waiting, wait: &mut Wait<'_>) -> KResult<()> {
        let own = &**self.endpoint();
        loop {
            if own.shut().contains(Shut::SEND) {
                return Err(Errno::EPIPE);
            }
            if own.has_room() {
                return Ok(());
            }
            wait.until(waiting, &own.can_write, || own.has_room() || own.shut().contains(Shut::SEND))?;
        }
    }

    fn send_packet(&self, from: &mut IoSrc<'_>, waiting: Waiting, ancillary: Ancillary) -> KResult<usize> {
        let own = &**self.endpoint();
        let peer = self.connection().ok_or(Errno::ENOTCONN)?;
        let length = self.check_length(from)?;
        let ancillary = with_sender(ancillary, own, peer);
        own.check_error()?;
        self.wait_for_room(waiting, &mut Wait::new(&self.send_limit))?;
        let mut message = Message::read(from, length)?;
        message.ancillary = boxed(ancillary);
        peer.deliver(message, own)?;
        Ok(length)
    }

    fn send_datagram(
        &self,
        from: &mut IoSrc<'_>,
        waiting: Waiting,
        to: Option<&Name>,
        ancillary: Ancillary,
    ) -> KResult<usize> {
        let own = self.endpoint();
        let peer = match to {
            Some(_) => None,
            None => Some(self.destination().ok_or(Errno::ENOTCONN)?),
        };
        if own.wants_sender() && own.name().is_none() {
            bind::choose_name(own)?;
        }
        let length = self.check_length(from)?;
        own.check_error()?;
        let mut wait = Wait::new(&self.send_limit);
        self.wait_for_room(waiting, &mut wait)?;
        let mut message = Message::read(from, length)?;
        let peer = match (peer, to) {
            (Some(peer), _) => peer,
            (None, Some(name)) => names::find(name, SocketType::Datagram)?,
            (None, None) => return Err(Errno::ENOTCONN),
        };
        message.ancillary = boxed(with_sender(ancillary, own, &peer));
        message.from = Some(own.clone());
        loop {
            if !peer.accepts_from(own) {
                return Err(Errno::EPERM);
            }
            if peer.admits(own) {
                break;
            }
            let may_go_on = || own.shut().contains(Shut::SEND) || peer.admits(own);
            wait.until(waiting, &own.can_write, may_go_on)?;
            if own.shut().contains(Shut::SEND) {
                return Err(Errno::EPIPE);
            }
        }
        let delivered = peer.deliver(message, own);
        if delivered == Err(Errno::ECONNREFUSED) && to.is_none() {
            // Nobody is there any more.
            drop(self.set_destination(None));
        }
        delivered.map(|()| length)
    }

    fn check_length(&self, from: &IoSrc<'_>) -> KResult<usize> {
        let length = from.remaining();
        if length > self.endpoint().send_buffer().saturating_sub(SLACK) {
            Err(Errno::EMSGSIZE)
        } else {
            Ok(length)
        }
    }

    /// Receives what there is, waiting for it if there is nothing.
    ///
    /// # Errors
    /// Those of `recv(2)`.
    #[inline]
    pub fn receive(&self, to: &mut IoDst<'_>, waiting: Waiting, flags: u32) -> KResult<Received> {
        if flags & flags::OUT_OF_BAND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.kind() == SocketType::Stream {
            self.receive_stream(to, waiting, flags)
        } else {
            self.receive_message(to, waiting, flags)
        }
    }

    fn receive_stream(&self, to: &mut IoDst<'_>, waiting: Waiting, flags: u32) -> KResult<Received> {
        let peer = self.connection().ok_or(Errno::EINVAL)?;
        let own = &**self.endpoint();
        let peek = flags & flags::PEEK != 0;
        let target = if flags & flags::WAIT_FOR_ALL != 0 && !peek { to.remaining() } else { 1 };
        let mut received = Received::default();
        let mut wait = Wait::new(&self.receive_limit);
        loop {
            // Asked before the queue is looked at: what came in before the end is not missed.
            let ended = own.shut().contains(Shut::RECEIVE);
            let progress = {
                let _reader = own.reader.lock();
                if peek {
                    peek_stream(own, to, &mut received)
                } else {
                    take_stream(own, peer, to, &mut received)
                }
            }?;
            if progress == Progress::Complete || (received.length > 0 && received.length >= target) {
                return Ok(received);
            }
            let failed = own.has_error();
            if failed && own.has_unread() {
                // What came in meanwhile came before the error.
                continue;
            }
            // An error that is not seen yet may have something before it: it ends the wait, and both are looked at again.
            let next = match if failed { own.check_error() } else { Ok(()) } {
                Ok(()) if ended => return Ok(received),
                Ok(()) => wait.until(waiting, &own.can_read, || own.may_read()),
                Err(error) => Err(error),
            };
            match next {
                Ok(()) => {}
                Err(_) if received.length > 0 => return Ok(received),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive_message(&self, to: &mut IoDst<'_>, waiting: Waiting, flags: u32) -> KResult<Received> {
        let own = &**self.endpoint();
        let sequence = self.kind() == SocketType::SeqPacket;
        if sequence && self.connection().is_none() {
            return Err(Errno::ENOTCONN);
        }
        let mut wait = Wait::new(&self.receive_limit);
        loop {
            let ended = own.shut().contains(Shut::RECEIVE);
            own.check_error()?;
            {
                let _reader = own.reader.lock();
                if let Some(message) = own.take_in_hand() {
                    return self.receive_in_hand(message, to, flags);
                }
            }
            if ended && (sequence || waiting == Waiting::Yes) {
                return Ok(Received::default());
            }
            wait.until(waiting, &own.can_read, || own.may_read())?;
        }
    }

    fn receive_in_hand(&self, mut message: Message, to: &mut IoDst<'_>, flags: u32) -> KResult<Received> {
        let own = &**self.endpoint();
        let whole = message.remaining();
        let wanted = whole.min(to.remaining());
        let copied = match message.copy(0, to) {
            Ok(copied) if copied == wanted => copied,
            _ => {
                own.put_back(message);
                return Err(Errno::EFAULT);
            }
        };
        let mut received = Received {
            length: if flags & flags::TRUNCATED != 0 { whole } else { copied },
            flags: if copied < whole { flags::TRUNCATED } else { 0 },
            sender: sender_for(own, &message),
            from: message.from.clone(),
            ..Received::default()
        };
        if flags & flags::PEEK != 0 {
            received.rights = message.rights().map(Rights::peek);
            own.put_back(message);
        } else {
            received.rights = message.take_rights();
            own.finish(message, self.connection().map(|peer| &**peer));
        }
        Ok(received)
    }
}

/// Who sent the message, if `own` wants to know.
#[inline]
fn sender_for(own: &Endpoint, message: &Message) -> Option<Sender> {
    own.wants_sender().then(|| message.sender().unwrap_or(Sender::UNKNOWN))
}

/// Adds who sends, if either side wants to know.
#[inline]
fn with_sender(mut ancillary: Ancillary, own: &Endpoint, peer: &Endpoint) -> Ancillary {
    if ancillary.sender.is_none() && (own.wants_sender() || peer.wants_sender()) {
        ancillary.sender = Some(Sender::current());
    }
    ancillary
}

#[inline]
fn boxed(ancillary: Ancillary) -> Option<Box<Ancillary>> {
    if ancillary.is_empty() { None } else { Some(Box::new(ancillary)) }
}

/// Whether `message` may not follow in one call what has been received: it is somebody else's.
#[inline]
fn is_from_another(own: &Endpoint, message: &Message, received: &Received) -> bool {
    received.has_piece && sender_for(own, message) != received.sender
}

/// Takes pieces until `to` is full or there are no more that belong together.
#[inline]
fn take_stream(
    own: &Endpoint,
    peer: &Endpoint,
    to: &mut IoDst<'_>,
    received: &mut Received,
) -> KResult<Progress> {
    loop {
        let Some(mut message) = (if own.has_unread() { own.take_in_hand() } else { None }) else {
            return Ok(Progress::More);
        };
        if is_from_another(own, &message, received) {
            own.put_back(message);
            return Ok(Progress::Complete);
        }
        let copied = match message.copy(0, to) {
            Ok(copied) => copied,
            Err(error) => {
                own.put_back(message);
                return if received.length > 0 { Ok(Progress::Complete) } else { Err(error) };
            }
        };
        received.add_piece(own, &message);
        received.length += copied;
        message.consume(copied);
        received.rights = message.take_rights();
        if message.remaining() > 0 {
            own.put_back(message);
            return Ok(Progress::Complete);
        }
        own.finish(message, Some(peer));
        if received.rights.is_some() || to.remaining() == 0 {
            return Ok(Progress::Complete);
        }
    }
}

/// As [`take_stream`], but everything stays where it is.
fn peek_stream(own: &Endpoint, to: &mut IoDst<'_>, received: &mut Received) -> KResult<Progress> {
    let mut in_hand: Vec<Message> = Vec::new();
    let mut result = Ok(Progress::More);
    while let Some(message) = own.take_in_hand() {
        if is_from_another(own, &message, received) {
            own.put_back(message);
            result = Ok(Progress::Complete);
            break;
        }
        let copied = message.copy(0, to);
        let whole = copied == Ok(message.remaining());
        if let Ok(copied) = copied {
            received.add_piece(own, &message);
            received.length += copied;
            received.rights = message.rights().map(Rights::peek);
        }
        in_hand.push(message);
        if let Err(error) = copied
            && received.length == 0
        {
            result = Err(error);
            break;
        }
        if !whole || received.rights.is_some() || to.remaining() == 0 {
            result = Ok(Progress::Complete);
            break;
        }
    }
    while let Some(message) = in_hand.pop() {
        own.put_back(message);
    }
    result
}
