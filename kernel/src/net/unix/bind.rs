//! Names, connections and those who wait for them.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use super::address::{Address, Name};
use super::endpoint::{Arrival, Endpoint, Shut, SocketType, State};
use super::message::Sender;
use super::names;
use super::socket::Socket;
use crate::errno::{Errno, KResult};
use crate::net::waiting::{Wait, Waiting};
use crate::sync::Mutex;

/// Most connections that may wait to be accepted (`net.core.somaxconn`).
const MAX_BACKLOG: u32 = 4096;
/// Names of five hexadecimal digits.
const CHOSEN_NAMES: u32 = 1 << 20;

/// Held while an endpoint gets its name, which it does once.
static NAMING: Mutex<()> = Mutex::new(());

/// Gives the endpoint a name that nobody has, unless it has one.
///
/// # Errors
/// ENOSPC if there is none left.
pub fn choose_name(endpoint: &Arc<Endpoint>) -> KResult<()> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let _naming = NAMING.lock();
    if endpoint.name().is_some() {
        return Ok(());
    }
    for _ in 0..CHOSEN_NAMES {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % CHOSEN_NAMES;
        let digits = core::array::from_fn::<u8, 5, _>(|place| {
            b"0123456789abcdef"[(number >> (16 - 4 * place)) as usize & 15]
        });
        let name = Arc::new(Name::Abstract(Box::from(digits)));
        match names::enter(&name, endpoint) {
            Err(Errno::EADDRINUSE) => {}
            Ok(()) => {
                endpoint.set_name(name);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ENOSPC)
}

impl Socket {
    /// Gives it a name (`bind(2)`).
    ///
    /// # Errors
    /// EINVAL if it has one, and those of [`names::enter`].
    pub fn bind(&self, address: Address) -> KResult<()> {
        let name = match address {
            Address::Named(name) => Arc::new(name),
            Address::Unnamed => return choose_name(self.endpoint()),
            Address::NoFamily => return Err(Errno::EINVAL),
        };
        let _naming = NAMING.lock();
        if self.endpoint().name().is_some() {
            return Err(Errno::EINVAL);
        }
        names::enter(&name, self.endpoint())?;
        self.endpoint().set_name(name);
        Ok(())
    }

    /// Has it wait for connections (`listen(2)`).
    ///
    /// # Errors
    /// EOPNOTSUPP for datagrams, EINVAL without a name or when it is connected.
    pub fn listen(&self, backlog: i32) -> KResult<()> {
        let own = self.endpoint();
        if !self.kind().is_connected() {
            return Err(Errno::EOPNOTSUPP);
        }
        if own.name().is_none() {
            return Err(Errno::EINVAL);
        }
        let began = own.change_state(State::Fresh, State::Listening);
        if !began && own.state() != State::Listening {
            return Err(Errno::EINVAL);
        }
        // A negative number is a large one, as always.
        own.set_backlog((backlog as u32).min(MAX_BACKLOG) as usize);
        *own.peer_owner.lock() = Some(Sender::current_effective());
        Ok(())
    }

    /// Connects it (`connect(2)`).
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn connect(&self, address: &Address, waiting: Waiting) -> KResult<()> {
        match (address, self.kind()) {
            (Address::NoFamily, SocketType::Datagram) => {
                self.redirect(None);
                Ok(())
            }
            (Address::Named(name), SocketType::Datagram) => self.connect_datagrams(name),
            (Address::Named(name), _) => self.connect_to_listener(name, waiting),
            _ => Err(Errno::EINVAL),
        }
    }

    fn name_if_wanted(&self) -> KResult<()> {
        let own = self.endpoint();
        if own.wants_sender() && own.name().is_none() { choose_name(own) } else { Ok(()) }
    }

    fn connect_datagrams(&self, name: &Name) -> KResult<()> {
        self.name_if_wanted()?;
        let peer = names::find(name, SocketType::Datagram)?;
        if !peer.accepts_from(self.endpoint()) {
            return Err(Errno::EPERM);
        }
        self.redirect(Some(peer));
        Ok(())
    }

    /// Sends datagrams elsewhere from now on. What came from the one they went to is dropped.
    fn redirect(&self, peer: Option<Arc<Endpoint>>) {
        let own = self.endpoint();
        let stays = |before: &Arc<Endpoint>| peer.as_ref().is_some_and(|peer| Arc::ptr_eq(before, peer));
        let unchanged = self.destination().as_ref().is_some_and(stays);
        let before = self.set_destination(peer);
        let Some(before) = before.filter(|_| !unchanged) else { return };
        if own.purge() && before.state() != State::Closed && before.is_connected_to(own) {
            before.set_error(Errno::ECONNRESET);
            before.can_read.wake_all();
            before.can_write.wake_all();
        }
    }

    fn connect_to_listener(&self, name: &Name, waiting: Waiting) -> KResult<()> {
        let own = self.endpoint();
        self.name_if_wanted()?;
        let mut wait = Wait::new(&self.send_limit);
        loop {
            let listener = names::find(name, self.kind())?;
            if listener.state() != State::Listening {
                return Err(Errno::ECONNREFUSED);
            }
            check_fresh(own)?;
            let server = Endpoint::new(self.kind());
            server.change_state(State::Fresh, State::Connected);
            if let Some(name) = listener.name() {
                server.set_name(name.clone());
            }
            // Until it is accepted, whoever does may still want to know.
            server.set_wants_sender(true);
            *server.peer_owner.lock() = Some(Sender::current_effective());
            let arrival = Arrival { endpoint: server.clone(), client: own.clone() };
            let arrived = listener.arrive(arrival, || {
                if !own.change_state(State::Fresh, State::Connected) {
                    return check_fresh(own);
                }
                let owner = *listener.peer_owner.lock();
                *own.peer_owner.lock() = owner;
                self.set_connection(server);
                Ok(())
            });
            match arrived {
                Err(Errno::EAGAIN) => {
                    wait.until(waiting, &listener.can_write, || listener.admits_arrival())?
                }
                result => return result,
            }
        }
    }

    /// Takes a connection that waits to be accepted (`accept(2)`); returns its other end too.
    ///
    /// # Errors
    /// EOPNOTSUPP for datagrams, EINVAL if it does not listen, EAGAIN, ERESTARTSYS, EINTR.
    pub fn accept(&self, waiting: Waiting) -> KResult<(Arc<Self>, Arc<Endpoint>)> {
        let own = self.endpoint();
        if !self.kind().is_connected() {
            return Err(Errno::EOPNOTSUPP);
        }
        if own.state() != State::Listening {
            return Err(Errno::EINVAL);
        }
        let mut wait = Wait::new(&self.receive_limit);
        loop {
            if let Some(Arrival { endpoint, client }) = own.take_arrival() {
                endpoint.set_wants_sender(own.wants_sender());
                return Ok((Self::connected(endpoint, client.clone()), client));
            }
            if own.shut().contains(Shut::RECEIVE) {
                return Err(Errno::EINVAL);
            }
            wait.until(waiting, &own.can_read, || own.may_read())?;
        }
    }
}

/// Says why a socket cannot be connected, unless it can.
fn check_fresh(endpoint: &Endpoint) -> KResult<()> {
    match endpoint.state() {
        State::Fresh => Ok(()),
        State::Connected => Err(Errno::EISCONN),
        State::Listening | State::Closed => Err(Errno::EINVAL),
    }
}

/// Both ends of a new connection (`socketpair(2)`).
pub fn pair(kind: SocketType) -> [Arc<Socket>; 2] {
    let (first, second) = (Endpoint::new(kind), Endpoint::new(kind));
    let owner = Sender::current_effective();
    for end in [&first, &second] {
        *end.peer_owner.lock() = Some(owner);
    }
    [Socket::connected(first.clone(), second.clone()), Socket::connected(second, first)]
}
