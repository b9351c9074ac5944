//! Sends datagrams to an address as fast as it can: `flood ADDRESS:PORT COUNT`.

use std::net::UdpSocket;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, count] = &arguments[..] else { panic!("flood ADDRESS:PORT COUNT") };
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let count: u32 = count.parse().expect("a count");
    let mut sent = 0;
    for _ in 0..count {
        // Where there is no room a datagram is lost, as on any network.
        sent += u32::from(socket.send_to(&[0; 1400], address).is_ok());
    }
    println!("sent {sent}");
}
