//! Sockets on the simulated machine.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use platform::Nanoseconds;
use sim::Machine;

use super::address::{Address, Name};
use super::bind::pair;
use super::endpoint::{Endpoint, Shut, SocketType};
use super::message::{Ancillary, Sender};
use super::rights::Rights;
use super::socket::Socket;
use super::transfer::Received;
use crate::errno::{Errno, KResult};
use crate::fs::device::FileOps;
use crate::fs::file::OpenFile;
use crate::fs::io::{IoDst, IoSrc};
use crate::fs::poll::PollEvents;
use crate::net::flags;
use crate::net::waiting::Waiting;
use crate::sync::SpinLock;
use crate::{testing, time};

fn send(socket: &Socket, bytes: &[u8], waiting: Waiting) -> KResult<usize> {
    socket.send(&mut IoSrc::kernel(bytes), waiting, 0, None, Ancillary::default())
}

fn receive_with(socket: &Socket, room: usize, flags: u32) -> KResult<(Vec<u8>, Received)> {
    let mut bytes = alloc::vec![0; room];
    let received = socket.receive(&mut IoDst::kernel(&mut bytes), Waiting::No, flags)?;
    bytes.truncate(received.length);
    Ok((bytes, received))
}

fn receive(socket: &Socket, room: usize) -> KResult<Vec<u8>> {
    receive_with(socket, room, 0).map(|(bytes, _)| bytes)
}

fn close(socket: Arc<Socket>) {
    drop(socket.open(0));
}

fn abstract_name(name: &[u8]) -> Name {
    Name::Abstract(Box::from(name))
}

fn files(files: &[&Arc<OpenFile>]) -> Ancillary {
    let rights = Rights::new(files.iter().map(|&file| file.clone()).collect()).unwrap();
    Ancillary { sender: None, rights: Some(rights) }
}

fn socket_of(file: &Arc<OpenFile>) -> &Socket {
    file.ops_as().unwrap()
}

#[test]
fn a_stream_ends_when_its_other_end_does() {
    testing::run("net::unix::tests::a_stream_ends_when_its_other_end_does", Machine::new, || {
        let [a, b] = pair(SocketType::Stream);
        assert_eq!(receive(&b, 4), Err(Errno::EAGAIN));
        assert_eq!(b.poll(), PollEvents::WRITABLE | PollEvents::WRBAND);
        assert_eq!(send(&a, b"hello", Waiting::No), Ok(5));
        assert_eq!(send(&a, b" world", Waiting::No), Ok(6));
        assert!(b.poll().contains(PollEvents::READABLE));
        assert_eq!(receive_with(&b, 20, flags::PEEK).unwrap().0, b"hello world");
        assert_eq!(receive(&b, 7).unwrap(), b"hello w");
        assert_eq!(b.endpoint().readable_bytes(), 4);
        close(a);
        assert!(b.poll().contains(PollEvents::HUP | PollEvents::RDHUP | PollEvents::READABLE));
        assert_eq!(receive(&b, 20).unwrap(), b"orld");
        assert_eq!(receive(&b, 20).unwrap(), b"");
        let mut from = IoSrc::kernel(b"x");
        let sent = b.send(&mut from, Waiting::No, flags::NO_SIGNAL, None, Ancillary::default());
        assert_eq!(sent, Err(Errno::EPIPE));
    });
}

#[test]
fn what_nobody_read_resets_the_connection() {
    testing::run("net::unix::tests::what_nobody_read_resets_the_connection", Machine::new, || {
        let [a, b] = pair(SocketType::Stream);
        send(&a, b"lost", Waiting::No).unwrap();
        send(&b, b"kept", Waiting::No).unwrap();
        close(b);
        assert!(a.poll().contains(PollEvents::ERR | PollEvents::HUP));
        assert_eq!(receive(&a, 9).unwrap(), b"kept");
        assert_eq!(receive(&a, 9), Err(Errno::ECONNRESET));
        assert_eq!(receive(&a, 9).unwrap(), b"");
        assert_eq!(a.endpoint().on_the_way(), 0);
    });
}

#[test]
fn shutting_one_direction_leaves_the_other() {
    testing::run("net::unix::tests::shutting_one_direction_leaves_the_other", Machine::new, || {
        let [a, b] = pair(SocketType::SeqPacket);
        send(&a, b"last", Waiting::No).unwrap();
        a.shut_down(Shut::SEND);
        assert_eq!(send(&a, b"more", Waiting::No), Err(Errno::EPIPE));
        assert_eq!(receive(&b, 9).unwrap(), b"last");
        assert_eq!(receive(&b, 9).unwrap(), b"");
        assert!(b.poll().contains(PollEvents::RDHUP) && !b.poll().contains(PollEvents::HUP));
        assert_eq!(send(&b, b"back", Waiting::No), Ok(4));
        assert_eq!(receive(&a, 9).unwrap(), b"back");
    });
}

static SOCKET: SpinLock<Option<Arc<Socket>>> = SpinLock::new(None);
static DONE: AtomicUsize = AtomicUsize::new(0);
const MANY: usize = 1_000_000;

fn byte(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 13) as u8
}

#[test]
fn a_long_transfer_keeps_every_byte() {
    testing::run(
        "net::unix::tests::a_long_transfer_keeps_every_byte",
        || Machine::new().cpus(2),
        || {
            let [a, b] = pair(SocketType::Stream);
            *SOCKET.lock() = Some(a.clone());
            testing::spawn(|| {
                let socket = SOCKET.lock().take().unwrap();
                let bytes: Vec<u8> = (0..MANY).map(byte).collect();
                assert_eq!(send(&socket, &bytes, Waiting::Yes), Ok(MANY));
                close(socket);
            });
            drop(a);
            let mut total = 0;
            let mut bytes = alloc::vec![0; 50_001];
            loop {
                let received = b.receive(&mut IoDst::kernel(&mut bytes), Waiting::Yes, 0).unwrap().length;
                if received == 0 {
                    break;
                }
                let expected = (total..total + received).map(byte);
                assert!(bytes[..received].iter().copied().eq(expected));
                total += received;
            }
            assert_eq!(total, MANY);
        },
    );
}

#[test]
fn a_full_stream_is_writable_again_once_mostly_read() {
    let name = "net::unix::tests::a_full_stream_is_writable_again_once_mostly_read";
    testing::run(name, Machine::new, || {
        let [a, b] = pair(SocketType::Stream);
        let piece = [7; 4096];
        let mut sent = 0;
        let error = loop {
            match send(&a, &piece, Waiting::No) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(error, Errno::EAGAIN);
        assert!(sent > 100_000 && sent < 300_000, "{sent} bytes were sent");
        assert!(!a.poll().intersects(PollEvents::WRITABLE));
        assert_eq!(receive_with(&b, sent, flags::WAIT_FOR_ALL).unwrap().0.len(), sent);
        assert!(a.poll().contains(PollEvents::WRITABLE));
        assert_eq!(a.endpoint().on_the_way(), 0);
        assert!(!b.endpoint().has_unread());
    });
}

#[test]
fn messages_keep_their_borders() {
    testing::run("net::unix::tests::messages_keep_their_borders", Machine::new, || {
        for kind in [SocketType::Datagram, SocketType::SeqPacket] {
            let [a, b] = pair(kind);
            for message in [&b"one"[..], b"", b"three"] {
                assert_eq!(send(&a, message, Waiting::No), Ok(message.len()));
            }
            let (bytes, peeked) = receive_with(&b, 2, flags::PEEK | flags::TRUNCATED).unwrap();
            assert_eq!((&bytes[..], peeked.length, peeked.flags), (&b"on"[..], 3, flags::TRUNCATED));
            let (bytes, taken) = receive_with(&b, 2, 0).unwrap();
            assert_eq!((&bytes[..], taken.flags), (&b"on"[..], flags::TRUNCATED));
            assert_eq!(receive(&b, 9).unwrap(), b"");
            assert_eq!(receive(&b, 9).unwrap(), b"three");
            assert_eq!(receive(&b, 9), Err(Errno::EAGAIN));
            assert_eq!(a.endpoint().on_the_way(), 0);
            let long = alloc::vec![0; a.endpoint().send_buffer()];
            assert_eq!(send(&a, &long, Waiting::No), Err(Errno::EMSGSIZE));
        }
    });
}

#[test]
fn connections_are_made_by_name() {
    testing::run("net::unix::tests::connections_are_made_by_name", Machine::new, || {
        let name = Address::Named(abstract_name(b"service"));
        let listener = Socket::new(SocketType::Stream);
        let client = Socket::new(SocketType::Stream);
        assert_eq!(client.poll() & PollEvents::HUP, PollEvents::HUP);
        assert_eq!(client.connect(&name, Waiting::No), Err(Errno::ECONNREFUSED));
        assert_eq!(listener.listen(5), Err(Errno::EINVAL));
        assert_eq!(listener.bind(name.clone()), Ok(()));
        assert_eq!(listener.bind(name.clone()), Err(Errno::EINVAL));
        assert_eq!(Socket::new(SocketType::Stream).bind(name.clone()), Err(Errno::EADDRINUSE));
        assert_eq!(client.connect(&name, Waiting::No), Err(Errno::ECONNREFUSED));
        assert_eq!(listener.listen(0), Ok(()));
        assert_eq!(listener.accept(Waiting::No).err(), Some(Errno::EAGAIN));
        assert_eq!(client.connect(&name, Waiting::No), Ok(()));
        assert_eq!(client.connect(&name, Waiting::No), Err(Errno::EISCONN));
        let another = Socket::new(SocketType::Stream);
        assert_eq!(another.connect(&name, Waiting::No), Err(Errno::EAGAIN));
        assert!(listener.poll().contains(PollEvents::READABLE));
        send(&client, b"early", Waiting::No).unwrap();
        let (server, _) = listener.accept(Waiting::No).unwrap();
        assert_eq!(receive(&server, 9).unwrap(), b"early");
        assert_eq!(server.endpoint().name().map(|name| &**name), Some(&abstract_name(b"service")));
        send(&server, b"reply", Waiting::No).unwrap();
        assert_eq!(receive(&client, 9).unwrap(), b"reply");

        assert_eq!(another.connect(&name, Waiting::No), Ok(()));
        close(listener);
        assert_eq!(receive(&another, 9), Err(Errno::ECONNRESET), "nobody accepted it");
        assert_eq!(receive(&client, 9), Err(Errno::EAGAIN), "this one lives on");
        let again = Socket::new(SocketType::Stream);
        assert_eq!(again.bind(name), Ok(()), "the name is free again");
        close(again);
    });
}

#[test]
fn paths_name_sockets_too() {
    testing::run("net::unix::tests::paths_name_sockets_too", Machine::new, || {
        let path = |path: &[u8]| Address::Named(Name::Path(Box::from(path)));
        let listener = Socket::new(SocketType::SeqPacket);
        assert_eq!(listener.bind(path(b"/nowhere/s")), Err(Errno::ENOENT));
        assert_eq!(listener.bind(path(b"/dev")), Err(Errno::EADDRINUSE));
        assert_eq!(listener.bind(path(b"/s")), Ok(()));
        assert_eq!(listener.listen(1), Ok(()));
        let wrong = Socket::new(SocketType::Stream);
        assert_eq!(wrong.connect(&path(b"/s"), Waiting::No), Err(Errno::EPROTOTYPE));
        assert_eq!(wrong.connect(&path(b"/dev/null"), Waiting::No), Err(Errno::ECONNREFUSED));
        assert_eq!(wrong.connect(&path(b"/t"), Waiting::No), Err(Errno::ENOENT));
        let client = Socket::new(SocketType::SeqPacket);
        assert_eq!(client.connect(&path(b"/s"), Waiting::No), Ok(()));
        close(listener);
        assert_eq!(wrong.bind(path(b"/s")), Err(Errno::EADDRINUSE), "the file is still there");
        let late = Socket::new(SocketType::SeqPacket);
        assert_eq!(late.connect(&path(b"/s"), Waiting::No), Err(Errno::ECONNREFUSED));
    });
}

#[test]
fn datagrams_wait_for_a_place_and_are_refused_by_the_dead() {
    let name = "net::unix::tests::datagrams_wait_for_a_place_and_are_refused_by_the_dead";
    testing::run(name, Machine::new, || {
        let name = abstract_name(b"box");
        let receiver = Socket::new(SocketType::Datagram);
        receiver.bind(Address::Named(name.clone())).unwrap();
        let sender = Socket::new(SocketType::Datagram);
        assert_eq!(send(&sender, b"x", Waiting::No), Err(Errno::ENOTCONN));
        sender.bind(Address::Unnamed).unwrap();
        sender.connect(&Address::Named(name.clone()), Waiting::No).unwrap();
        let fits = (0..).take_while(|_| send(&sender, b"x", Waiting::No).is_ok()).count();
        assert_eq!(fits, 11);
        assert!(!sender.poll().intersects(PollEvents::WRITABLE));

        *SOCKET.lock() = Some(sender.clone());
        testing::spawn(|| {
            let sender = SOCKET.lock().take().unwrap();
            assert_eq!(send(&sender, b"late", Waiting::Yes), Ok(4));
            DONE.store(1, Ordering::Release);
        });
        time::sleep_until(time::now() + Nanoseconds::from_millis(5)).unwrap();
        assert_eq!(DONE.load(Ordering::Acquire), 0, "there is no place yet");
        let (bytes, first) = receive_with(&receiver, 9, 0).unwrap();
        assert_eq!(bytes, b"x");
        assert_eq!(first.from.unwrap().name(), sender.endpoint().name());
        time::sleep_until(time::now() + Nanoseconds::from_millis(5)).unwrap();
        assert_eq!(DONE.load(Ordering::Acquire), 1);

        close(receiver);
        assert_eq!(sender.endpoint().on_the_way(), 0);
        assert_eq!(send(&sender, b"x", Waiting::No), Err(Errno::ECONNREFUSED));
        assert_eq!(send(&sender, b"x", Waiting::No), Err(Errno::ENOTCONN));
        let sent = sender.send(&mut IoSrc::kernel(b"x"), Waiting::No, 0, Some(&name), Ancillary::default());
        assert_eq!(sent, Err(Errno::ECONNREFUSED));
    });
}

#[test]
fn a_connected_datagram_socket_takes_from_its_peer_only() {
    let name = "net::unix::tests::a_connected_datagram_socket_takes_from_its_peer_only";
    testing::run(name, Machine::new, || {
        let bound = |name: &[u8]| {
            let socket = Socket::new(SocketType::Datagram);
            socket.bind(Address::Named(abstract_name(name))).unwrap();
            socket
        };
        let (a, b, c) = (bound(b"a"), bound(b"b"), bound(b"c"));
        let to = |name: &[u8]| Address::Named(abstract_name(name));
        a.connect(&to(b"b"), Waiting::No).unwrap();
        assert_eq!(c.connect(&to(b"a"), Waiting::No), Err(Errno::EPERM));
        b.connect(&to(b"a"), Waiting::No).unwrap();
        send(&b, b"from b", Waiting::No).unwrap();
        a.connect(&Address::NoFamily, Waiting::No).unwrap();
        assert_eq!(receive(&a, 9), Err(Errno::EAGAIN), "what came from the old peer is dropped");
        assert_eq!(receive(&b, 9), Err(Errno::ECONNRESET));
        assert_eq!(c.connect(&to(b"a"), Waiting::No), Ok(()));
        for socket in [a, b, c] {
            close(socket);
        }
    });
}

#[test]
fn time_limits_end_waits() {
    testing::run("net::unix::tests::time_limits_end_waits", Machine::new, || {
        let [a, b] = pair(SocketType::Stream);
        b.receive_limit.set(Some(Nanoseconds::from_millis(30)));
        let before = time::now();
        let mut bytes = [0; 4];
        let received = b.receive(&mut IoDst::kernel(&mut bytes), Waiting::Yes, 0);
        assert_eq!(received.err(), Some(Errno::EAGAIN));
        assert!(time::now() - before >= Nanoseconds::from_millis(30));
        drop(a);
    });
}

#[test]
fn senders_are_told_to_those_who_ask() {
    testing::run("net::unix::tests::senders_are_told_to_those_who_ask", Machine::new, || {
        let [a, b] = pair(SocketType::Stream);
        send(&a, b"one", Waiting::No).unwrap();
        b.endpoint().set_wants_sender(true);
        send(&a, b"two", Waiting::No).unwrap();
        let (bytes, received) = receive_with(&b, 9, 0).unwrap();
        assert_eq!((&bytes[..], received.sender), (&b"one"[..], Some(Sender::UNKNOWN)));
        let (bytes, received) = receive_with(&b, 9, 0).unwrap();
        assert_eq!((&bytes[..], received.sender), (&b"two"[..], Some(Sender::current())));
    });
}

#[test]
fn files_travel_with_the_bytes_they_were_sent_with() {
    let name = "net::unix::tests::files_travel_with_the_bytes_they_were_sent_with";
    testing::run(name, Machine::new, || {
        let [a, b] = pair(SocketType::Stream);
        let [c, d] = pair(SocketType::Stream);
        let c = c.open(0);
        let seen = Arc::downgrade(&c);
        send(&a, b"before", Waiting::No).unwrap();
        a.send(&mut IoSrc::kernel(b"with"), Waiting::No, 0, None, files(&[&c])).unwrap();
        send(&a, b"after", Waiting::No).unwrap();
        drop(c);
        let peeked = receive_with(&b, 99, flags::PEEK).unwrap();
        assert_eq!(peeked.0, b"beforewith");
        assert_eq!(peeked.1.rights.map(|rights| rights.files().len()), Some(1));
        let (bytes, received) = receive_with(&b, 99, 0).unwrap();
        assert_eq!(bytes, b"beforewith");
        let rights = received.rights.unwrap();
        send(socket_of(&rights.files()[0]), b"hi", Waiting::No).unwrap();
        assert_eq!(receive(&d, 9).unwrap(), b"hi");
        drop(rights);
        assert_eq!(seen.strong_count(), 0);
        assert_eq!(receive(&d, 9).unwrap(), b"");
        assert_eq!(receive(&b, 99).unwrap(), b"after");
    });
}

fn gone(files: &[Weak<OpenFile>]) -> bool {
    files.iter().all(|file| file.strong_count() == 0)
}

#[test]
fn circles_of_files_in_messages_are_freed() {
    testing::run("net::unix::tests::circles_of_files_in_messages_are_freed", Machine::new, || {
        // Each end in the other's queue, and a pipe beside them.
        let [a, b] = pair(SocketType::Stream).map(|socket| socket.open(0));
        let [reader, writer] = crate::fs::anonymous::pipe(0);
        let watched = [&a, &b, &writer].map(Arc::downgrade);
        let give = |to: &Arc<OpenFile>, what: &[&Arc<OpenFile>]| {
            let sent = socket_of(to).send(&mut IoSrc::kernel(b"x"), Waiting::No, 0, None, files(what));
            assert_eq!(sent, Ok(1));
        };
        give(&a, &[&a, &writer]);
        give(&b, &[&b]);
        drop(writer);
        drop(a);
        assert!(watched[0].strong_count() > 0, "its other end is open and may receive it");
        drop(b);
        // Looked for when any socket is closed.
        drop(pair(SocketType::Stream).map(|socket| socket.open(0)));
        assert!(gone(&watched));
        assert!(reader.poll().contains(PollEvents::HUP));

        // A socket within a socket within an open one is no circle, however closed the inner ones are.
        let [open, other] = pair(SocketType::Datagram).map(|socket| socket.open(0));
        let [c, d] = pair(SocketType::Stream).map(|socket| socket.open(0));
        let watched = [&c, &d].map(Arc::downgrade);
        give(&c, &[&c]);
        give(&other, &[&d]);
        drop(c);
        drop(d);
        drop(pair(SocketType::Stream).map(|socket| socket.open(0)));
        assert!(watched.iter().all(|file| file.strong_count() > 0));
        drop(open);
        assert!(gone(&watched));
        drop(other);
    });
}

#[test]
fn circles_do_not_pile_up() {
    testing::run("net::unix::tests::circles_do_not_pile_up", Machine::new, || {
        let watched: Vec<_> = (0..1000)
            .map(|_| {
                let [a, b] = pair(SocketType::Stream).map(|socket| socket.open(0));
                for end in [&a, &b] {
                    let ancillary = files(&[&a, &b]);
                    socket_of(end).send(&mut IoSrc::kernel(b"x"), Waiting::No, 0, None, ancillary).unwrap();
                }
                Arc::downgrade(&a)
            })
            .collect();
        let left = watched.iter().filter(|file| file.strong_count() > 0).count();
        assert!(left < 500, "{left} circles are left although no socket was closed in between");
    });
}

#[test]
fn deep_nests_of_sockets_are_closed_one_by_one() {
    let name = "net::unix::tests::deep_nests_of_sockets_are_closed_one_by_one";
    testing::run(name, Machine::new, || {
        let mut watched = Vec::new();
        let [mut outer, mut peer] = pair(SocketType::Stream).map(|socket| socket.open(0));
        for _ in 0..2000 {
            let [a, b] = pair(SocketType::Stream).map(|socket| socket.open(0));
            let sent = socket_of(&a).send(&mut IoSrc::kernel(b"x"), Waiting::No, 0, None, files(&[&outer]));
            assert_eq!(sent, Ok(1));
            watched.push(Arc::downgrade(&outer));
            (outer, peer) = (b, a);
        }
        drop(peer);
        assert!(watched.iter().all(|file| file.strong_count() == 1));
        drop(outer);
        assert!(gone(&watched));
    });
}

#[test]
fn endpoints_of_closed_sockets_are_freed() {
    testing::run("net::unix::tests::endpoints_of_closed_sockets_are_freed", Machine::new, || {
        let [a, b] = pair(SocketType::Datagram);
        let watched: [Weak<Endpoint>; 2] = [Arc::downgrade(a.endpoint()), Arc::downgrade(b.endpoint())];
        send(&a, b"to b", Waiting::No).unwrap();
        send(&b, b"to a", Waiting::No).unwrap();
        close(a);
        close(b);
        assert!(watched.iter().all(|endpoint| endpoint.strong_count() == 0));
    });
}
