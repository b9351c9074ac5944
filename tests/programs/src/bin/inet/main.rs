//! Sockets of AF_INET over the loopback interface: TCP, UDP, ICMP, and what `ifconfig` and `route` ask.

mod accept;
mod connect;
mod datagram;
mod settings;
mod socket;
mod stream;
mod waiting;

fn main() {
    guest_programs::run(
        &[connect::CASES, stream::CASES, accept::CASES, waiting::CASES, datagram::CASES, settings::CASES],
        &[],
    )
}
