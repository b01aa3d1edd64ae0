//! Everything that crosses the underlay, seen from the router.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Space;

const ETH_P_ALL: u16 = 3;
const UDP: u8 = 17;

/// One IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CapturedPacket {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) ports: (u16, u16),
}

impl CapturedPacket {
    pub(crate) fn is_wireguard(&self) -> bool {
        self.protocol == UDP && self.ports == (51_820, 51_820)
    }
}

/// A running capture.
pub(crate) struct Capture {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<CapturedPacket>>>,
    thread: JoinHandle<()>,
}

impl Capture {
    pub(crate) fn start(space: &Space) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let socket = space.run(|| {
            let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).expect("a packet socket");
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
            socket.set_recv_buffer_size(8 << 20).expect("a buffer");
            socket
        });
        let (stopped, packets) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || record(socket, &stopped, &packets));
        Self { stop, seen, thread }
    }

    /// Whether such a packet was seen until now.
    pub(crate) fn has(&self, wanted: impl Fn(&CapturedPacket) -> bool) -> bool {
        self.seen.lock().expect("not poisoned").iter().any(wanted)
    }

    /// Ends the capture. Every IPv4 packet with distinct headers, once.
    pub(crate) fn finish(self) -> Vec<CapturedPacket> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the capture ends");
        let mut seen = std::mem::take(&mut *self.seen.lock().expect("not poisoned"));
        seen.sort();
        seen.dedup();
        seen
    }
}

fn record(mut socket: Socket, stop: &AtomicBool, seen: &Mutex<Vec<CapturedPacket>>) {
    use std::io::Read as _;
    let mut buffer = [0; 65_536];
    loop {
        match socket.read(&mut buffer) {
            Ok(length) => seen.lock().expect("not poisoned").extend(parse(&buffer[..length])),
            Err(_) if stop.load(Ordering::SeqCst) => return,
            Err(_) => {}
        }
    }
}

fn parse(frame: &[u8]) -> Option<CapturedPacket> {
    let packet = frame.get(14..).filter(|_| frame[12..14] == [0x08, 0x00])?;
    let address =
        |at: usize| -> Option<Ipv4Addr> { Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into()) };
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let port = |at: usize| packet.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    Some(CapturedPacket {
        from: address(12)?,
        to: address(16)?,
        protocol: *packet.get(9)?,
        ports: (port(header), port(header + 2)),
    })
}

/// Whether an address is of the overlay or of services.
pub(crate) fn is_inside(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    a == 10 && (b == 42 || b == 43)
}

/// For assertions about sources.
pub(crate) fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("{address} is IPv6"),
    }
}
