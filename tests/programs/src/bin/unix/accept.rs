//! Listeners: how many wait, and what whoever is accepted gets.

use guest_programs::descriptors::{accept_with_the_last, with_limit};
use guest_programs::sys::{read, write};
use guest_programs::{Case, call, cases, check, eq, err, fs, ok};

use super::{STREAM, bind, connect, socket};

pub const CASES: &[Case] = cases![
    accept_flags_and_backlog,
    without_a_descriptor_nothing_is_accepted,
    a_waiting_accept_has_its_descriptor,
];

fn accept_flags_and_backlog() {
    fs::scratch();
    let server = socket(STREAM | libc::SOCK_NONBLOCK);
    ok!(bind(server, b"sock"));
    err!(call!(SYS_accept, server, 0, 0), EINVAL);
    ok!(call!(SYS_listen, server, 2));
    err!(call!(SYS_accept, server, 0, 0), EAGAIN);
    let mut clients = vec![];
    // The queue has an end.
    loop {
        let client = socket(STREAM | libc::SOCK_NONBLOCK);
        match connect(client, b"sock") {
            Ok(_) => clients.push(client),
            Err(e) => {
                err!(Err::<usize, _>(e), EAGAIN);
                break;
            }
        }
        check!(clients.len() < 100);
    }
    check!(clients.len() >= 2);
    let accepted = ok!(call!(SYS_accept4, server, 0, 0, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)) as i32;
    eq!(call!(SYS_fcntl, accepted, libc::F_GETFD), Ok(1));
    err!(read(accepted, &mut [0]), EAGAIN);
    err!(call!(SYS_accept4, server, 0, 0, 0x1), EINVAL);
    err!(call!(SYS_accept, accepted, 0, 0), EINVAL);
    err!(call!(SYS_listen, accepted, 1), EINVAL);
}

/// A listener at an address of its own.
fn listener() -> i32 {
    fs::scratch();
    let listener = socket(STREAM);
    ok!(bind(listener, b"sock"));
    ok!(call!(SYS_listen, listener, 2));
    listener
}

fn without_a_descriptor_nothing_is_accepted() {
    let (listener, client) = (listener(), socket(STREAM));
    ok!(connect(client, b"sock"));
    eq!(write(client, b"still"), Ok(5));
    err!(with_limit(3, || call!(SYS_accept, listener, 0, 0)), EMFILE);
    let server = ok!(call!(SYS_accept, listener, 0, 0)) as i32;
    let mut text = [0; 8];
    eq!((read(server, &mut text), &text[..5]), (Ok(5), &b"still"[..]));
}

fn a_waiting_accept_has_its_descriptor() {
    let (listener, client) = (listener(), socket(STREAM));
    accept_with_the_last(listener, || {
        ok!(connect(client, b"sock"));
    });
    eq!(read(client, &mut [0]), Ok(0));
}
