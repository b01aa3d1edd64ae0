//! Round-trip times over the overlay, by ICMP echo on a raw socket.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{Result, io};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// Asks each address for an echo from `source` and waits for answers until all are there or `patience` ends.
/// Blocks.
pub fn round_trips(
    source: Ipv4Addr,
    addresses: &[Ipv4Addr],
    patience: Duration,
) -> Result<BTreeMap<Ipv4Addr, Duration>> {
    let mut answers = BTreeMap::new();
    if addresses.is_empty() {
        return Ok(answers);
    }
    let what = || "open a socket for echo requests".to_owned();
    let mut socket = io(what, Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))?;
    io(what, socket.bind(&SocketAddrV4::new(source, 0).into()))?;
    let identifier: u16 = rand::random();
    let start = Instant::now();
    let mut asked = BTreeMap::new();
    for (sequence, address) in addresses.iter().enumerate() {
        let sequence = sequence as u16;
        let sent = socket.send_to(&request(identifier, sequence), &SocketAddrV4::new(*address, 0).into());
        // An address without a route is not answered; the others still are.
        if sent.is_ok() {
            asked.insert(sequence, (*address, Instant::now()));
        }
    }
    let mut buffer = [0; 1500];
    while answers.len() < asked.len() {
        let left = patience.saturating_sub(start.elapsed());
        if left.is_zero() {
            break;
        }
        io(what, socket.set_read_timeout(Some(left)))?;
        let Ok(length) = socket.read(&mut buffer) else { break };
        let Some((from, sequence)) = reply(&buffer[..length], identifier) else { continue };
        if let Some((address, sent)) = asked.get(&sequence)
            && *address == from
        {
            answers.entry(from).or_insert_with(|| sent.elapsed());
        }
    }
    Ok(answers)
}

fn request(identifier: u16, sequence: u16) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = ECHO_REQUEST;
    packet[4..6].copy_from_slice(&identifier.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    packet[8..].copy_from_slice(b"warren\0\0");
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The sender and sequence of an answer to one of our requests; the packet has its IP header.
fn reply(packet: &[u8], identifier: u16) -> Option<(Ipv4Addr, u16)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let from: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let icmp = packet.get(header..header + 8)?;
    let ours = icmp[0] == ECHO_REPLY && icmp[4..6] == identifier.to_be_bytes();
    ours.then(|| (from.into(), u16::from_be_bytes([icmp[6], icmp[7]])))
}

fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_request_sums_to_zero(identifier: u16, sequence: u16) {
            prop_assert_eq!(checksum(&request(identifier, sequence)), 0);
        }
        #[test]
        fn reading_a_packet_never_panics(packet in proptest::collection::vec(any::<u8>(), 0..64), identifier: u16) {
            let _ = reply(&packet, identifier);
        }
    }
}
