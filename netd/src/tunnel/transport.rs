//! How the embedded WireGuard reads and writes packets: whole bursts at a time, in and out of the TUN device
//! (virtio headers) and out of the UDP socket (`UDP_SEGMENT`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    sync::Arc,
};

use gotatun::{
    packet::{Ip, Packet, PacketBufPool},
    tun::{IpRecv, IpSend, MtuWatcher},
    udp::{UdpRecv, UdpSend, UdpTransportFactory, UdpTransportFactoryParams},
};
use nix::{
    cmsg_space,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrStorage, recvmsg, sendmsg,
        setsockopt, sockopt,
    },
};
use tokio::{io::Interest, net::UdpSocket, sync::mpsc};
use tun_rs::{AsyncDevice, GROTable, IDEAL_BATCH_SIZE, VIRTIO_NET_HDR_LEN};
use warren_runtime::descriptors::Descriptors;

/// The default holds three bursts; with this much, a burst is never lost to a busy processor.
const SOCKET_BUFFER: usize = 4 << 20;
/// Packets that wait for the TUN device.
const QUEUE: usize = 1_024;
/// The kernel's limits for one segmented datagram.
const MOST_SEGMENTS: usize = 64;
const MOST_BYTES: usize = 65_000;
/// Bursts that are received before others get their turn.
const MOST_BURSTS: usize = 64;
/// The socket's name among those that the supervisor holds.
const SOCKET: &str = "wireguard.udp";

/// Packets from the machine, into the tunnel.
pub(super) struct TunReceiver {
    device: Arc<AsyncDevice>,
    mtu: u16,
    burst: Vec<u8>,
    segments: Vec<Vec<u8>>,
    sizes: Vec<usize>,
}

impl TunReceiver {
    pub(super) fn new(device: Arc<AsyncDevice>, mtu: u16) -> Self {
        let segments = vec![vec![0; usize::from(mtu) + 128]; IDEAL_BATCH_SIZE];
        let burst = vec![0; VIRTIO_NET_HDR_LEN + usize::from(u16::MAX)];
        Self { device, mtu, burst, segments, sizes: vec![0; IDEAL_BATCH_SIZE] }
    }
}

impl IpRecv for TunReceiver {
    async fn recv<'a>(
        &'a mut self,
        pool: &mut PacketBufPool,
    ) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        let count = loop {
            let received =
                self.device.recv_multiple(&mut self.burst, &mut self.segments, &mut self.sizes, 0).await;
            match received {
                Ok(count) => break count,
                // EBADFD: the device is gone. Everything else is about one packet.
                Err(error) if error.raw_os_error() == Some(libc::EBADFD) => return Err(error),
                Err(error) => {
                    metrics::counter!("warren_netd_tunnel_dropped_total", "where" => "tun").increment(1);
                    tracing::debug!(%error, "dropped a burst from the tunnel's device");
                    tokio::task::yield_now().await;
                }
            }
        };
        let mut packets = Vec::with_capacity(count);
        for (segment, size) in self.segments.iter().zip(&self.sizes).take(count) {
            let mut packet = pool.get();
            packet.truncate(0);
            packet.buf_mut().extend_from_slice(&segment[..*size]);
            packets.extend(packet.try_into_ip().ok());
        }
        Ok(packets.into_iter())
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(self.mtu)
    }
}

/// Packets out of the tunnel, to the machine.
pub(super) struct TunSender(mpsc::Sender<Packet<Ip>>);

impl TunSender {
    /// A sender, and the task that writes what it sends.
    pub(super) fn new(device: Arc<AsyncDevice>) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), write_bursts(device, receiver))
    }
}

impl IpSend for TunSender {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        self.0.send(packet).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

async fn write_bursts(device: Arc<AsyncDevice>, mut packets: mpsc::Receiver<Packet<Ip>>) {
    let (mut coalescing, mut waiting) = (GROTable::default(), Vec::with_capacity(IDEAL_BATCH_SIZE));
    let mut spare: Vec<Vec<u8>> = Vec::new();
    while packets.recv_many(&mut waiting, IDEAL_BATCH_SIZE).await > 0 {
        let fill = |packet: Packet<Ip>| {
            let mut buffer = spare.pop().unwrap_or_default();
            buffer.clear();
            buffer.resize(VIRTIO_NET_HDR_LEN, 0);
            buffer.extend_from_slice(&packet.into_bytes());
            buffer
        };
        let mut buffers: Vec<Vec<u8>> = waiting.drain(..).map(fill).collect();
        if let Err(error) = device.send_multiple(&mut coalescing, &mut buffers, VIRTIO_NET_HDR_LEN).await {
            metrics::counter!("warren_netd_tunnel_dropped_total", "where" => "kernel").increment(1);
            tracing::debug!(%error, "the kernel refused a burst");
        }
        spare.append(&mut buffers);
        spare.truncate(2 * IDEAL_BATCH_SIZE);
    }
}

/// Makes the UDP socket: IPv4, with room for bursts. The device asks for it anew whenever it is reconfigured,
/// and gets the same one, so that nothing that is on its way is lost.
pub(super) struct SegmentedFactory {
    descriptors: Descriptors,
    socket: Option<std::net::UdpSocket>,
}

impl SegmentedFactory {
    /// With the socket of an earlier process, if there is one.
    pub(super) fn new(descriptors: Descriptors) -> Self {
        let socket = descriptors.take(SOCKET).map(std::net::UdpSocket::from);
        Self { descriptors, socket }
    }

    fn socket(&mut self, port: u16) -> io::Result<std::net::UdpSocket> {
        let is_meant = |socket: &std::net::UdpSocket| socket.local_addr().is_ok_and(|at| at.port() == port);
        if let Some(socket) = self.socket.as_ref().filter(|socket| port != 0 && is_meant(socket)) {
            return socket.try_clone();
        }
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        socket.set_nonblocking(true)?;
        // Without the right to exceed the system's limit the tunnel still works, with losses under load.
        for option in [
            setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER),
            setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER),
            setsockopt(&socket, sockopt::UdpGroSegment, &true),
        ] {
            if let Err(error) = option {
                tracing::warn!(%error, "cannot prepare the tunnel's socket for bursts");
            }
        }
        self.descriptors.keep(SOCKET, &socket);
        self.socket = Some(socket.try_clone()?);
        Ok(socket)
    }
}

impl UdpTransportFactory for SegmentedFactory {
    type Send = SegmentedSocket;
    type Recv = SegmentedSocket;

    async fn bind(
        &mut self,
        params: &UdpTransportFactoryParams,
    ) -> io::Result<(SegmentedSocket, SegmentedSocket)> {
        let socket = SegmentedSocket(Arc::new(UdpSocket::from_std(self.socket(params.port)?)?));
        if let Some(mark) = params.fwmark {
            socket.set_fwmark(mark)?;
        }
        Ok((socket.clone(), socket))
    }
}

/// The UDP socket. Packets of one size to one place go out in one call, and come in so.
#[derive(Clone)]
pub(super) struct SegmentedSocket(Arc<UdpSocket>);

/// Where the kernel puts a burst.
pub(super) struct Burst {
    bytes: Vec<u8>,
    control: Vec<u8>,
}

impl Default for Burst {
    fn default() -> Self {
        Self { bytes: vec![0; usize::from(u16::MAX)], control: cmsg_space!(i32) }
    }
}

impl SegmentedSocket {
    fn receive_burst(
        &self,
        burst: &mut Burst,
        pool: &PacketBufPool,
        packets: &mut Vec<(Packet, SocketAddr)>,
    ) -> io::Result<()> {
        let (length, from, size) = {
            let mut slices = [IoSliceMut::new(&mut burst.bytes)];
            let (descriptor, control) = (self.0.as_raw_fd(), Some(&mut burst.control[..]));
            let received = recvmsg::<SockaddrIn>(descriptor, &mut slices, control, MsgFlags::MSG_DONTWAIT)?;
            let size = received.cmsgs()?.find_map(|message| match message {
                ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
                _ => None,
            });
            (received.bytes, received.address, size)
        };
        let Some(from) = from.map(|from| SocketAddr::V4(from.into())) else { return Ok(()) };
        let size = size.filter(|size| *size > 0).unwrap_or(length.max(1));
        for segment in burst.bytes[..length].chunks(size) {
            let mut packet = pool.get();
            packet.buf_mut().clear();
            packet.buf_mut().extend_from_slice(segment);
            packets.push((packet, from));
        }
        Ok(())
    }

    fn send_burst(&self, burst: &[(Packet, SocketAddr)], size: u16) -> io::Result<()> {
        let slices: Vec<_> = burst.iter().map(|(packet, _)| IoSlice::new(packet)).collect();
        let to = SockaddrStorage::from(burst[0].1);
        let segmented = [ControlMessage::UdpGsoSegments(&size)];
        let control = if burst.len() > 1 { &segmented[..] } else { &[] };
        sendmsg(self.0.as_raw_fd(), &slices, control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
        Ok(())
    }
}

/// How many of the first packets can go out as one datagram: all but the last are of one size.
fn burst_length(packets: &[(Packet, SocketAddr)]) -> usize {
    let Some(((first, to), rest)) = packets.split_first() else { return 0 };
    let (mut length, mut bytes) = (1, first.len());
    for (packet, destination) in rest {
        bytes += packet.len();
        if length == MOST_SEGMENTS || destination != to || packet.len() > first.len() || bytes > MOST_BYTES {
            break;
        }
        length += 1;
        if packet.len() < first.len() {
            break;
        }
    }
    length
}

impl UdpRecv for SegmentedSocket {
    type RecvManyBuf = Burst;

    async fn recv_from(&mut self, pool: &mut PacketBufPool) -> io::Result<(Packet, SocketAddr)> {
        let mut packet = pool.get();
        let (length, from) = self.0.recv_from(&mut packet).await?;
        packet.truncate(length);
        Ok((packet, from))
    }

    async fn recv_many_from(
        &mut self,
        burst: &mut Burst,
        pool: &mut PacketBufPool,
        packets: &mut Vec<(Packet, SocketAddr)>,
    ) -> io::Result<()> {
        let receive = || {
            for received in 0..MOST_BURSTS {
                match self.receive_burst(burst, pool, packets) {
                    Err(error) if received > 0 && error.kind() == io::ErrorKind::WouldBlock => break,
                    outcome => outcome?,
                }
            }
            Ok(())
        };
        self.0.async_io(Interest::READABLE, receive).await
    }
}

impl UdpSend for SegmentedSocket {
    type SendManyBuf = ();

    async fn send_to(&self, packet: Packet, destination: SocketAddr) -> io::Result<()> {
        self.0.send_to(&packet, destination).await.map(drop)
    }

    fn max_number_of_packets_to_send(&self) -> usize {
        100
    }

    async fn send_many_to(&self, _: &mut (), packets: &mut Vec<(Packet, SocketAddr)>) -> io::Result<()> {
        while !packets.is_empty() {
            let length = burst_length(packets);
            let sent = u16::try_from(packets[0].0.len())
                .map_err(io::Error::other)
                .and_then(|size| self.send_burst(&packets[..length], size));
            let burst = packets.drain(..length);
            if sent.is_ok() {
                continue;
            }
            // A full buffer, or a link without segmentation: one by one, waiting for room.
            for (packet, destination) in burst {
                if let Err(error) = self.0.send_to(&packet, destination).await {
                    metrics::counter!("warren_netd_tunnel_dropped_total", "where" => "udp").increment(1);
                    tracing::debug!(%error, %destination, "dropped a packet to a peer");
                }
            }
        }
        Ok(())
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.0.local_addr().map(Some)
    }

    fn set_fwmark(&self, mark: u32) -> io::Result<()> {
        Ok(setsockopt(&self.0, sockopt::Mark, &mark)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets(shape: &[(usize, u8)]) -> Vec<(Packet, SocketAddr)> {
        shape
            .iter()
            .map(|(size, to)| {
                let to = SocketAddr::from(([192, 0, 2, *to], 1));
                (Packet::copy_from(vec![0u8; *size].as_slice()), to)
            })
            .collect()
    }

    #[test]
    fn a_burst_is_of_one_size_and_one_place() {
        assert_eq!(burst_length(&[]), 0);
        assert_eq!(burst_length(&packets(&[(100, 1), (100, 1), (60, 1), (100, 1)])), 3);
        assert_eq!(burst_length(&packets(&[(100, 1), (100, 2)])), 1);
        assert_eq!(burst_length(&packets(&[(60, 1), (100, 1)])), 1);
    }

    proptest! {
        #[test]
        fn a_burst_always_progresses_within_the_limits(shape in proptest::collection::vec((1usize..1500, 0u8..2), 1..100)) {
            let packets = packets(&shape);
            let length = burst_length(&packets);
            prop_assert!((1..=MOST_SEGMENTS).contains(&length));
            prop_assert!(packets[..length].iter().map(|(packet, _)| packet.len()).sum::<usize>() <= MOST_BYTES.max(packets[0].0.len()));
        }
    }
}
