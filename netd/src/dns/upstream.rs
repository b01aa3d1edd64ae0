//! One exchange with the node's nameservers: in the client's words, and again without EDNS where a server does not
//! understand it or nothing comes back.
//!
//! Attempts begin one after the other, and all are listened to until the end: a slow answer is as good as a quick
//! one. Each has a socket of its own, so that its port is as hard to guess as its identifier.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::Instant,
};

use super::wire::{Query, Response, code};

/// Clients give up after five seconds: they are told before.
const PATIENCE: Duration = Duration::from_millis(4_500);
/// After so long without an answer the next attempt begins.
const STAGGER: Duration = Duration::from_millis(800);
/// Attempts for one question.
const ATTEMPTS: usize = 4;
/// Nameservers that are asked, as many as a resolv.conf may name.
const MOST_SERVERS: usize = 3;
/// For so long a server that did not answer, or answers only without EDNS, is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
const LARGEST: usize = 65_535;

/// A nameserver, and how it behaved.
#[derive(Debug, Clone, Copy)]
struct Server {
    address: SocketAddr,
    /// When it last did not answer.
    silent: Option<Instant>,
    /// When it last answered only without EDNS.
    plain: Option<Instant>,
}

impl Server {
    fn lately(moment: Option<Instant>) -> bool {
        moment.is_some_and(|moment| moment.elapsed() < REMEMBERED)
    }
}

/// The node's nameservers.
#[derive(Default)]
pub(super) struct Servers(Mutex<Vec<Server>>);

/// One way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Attempt {
    server: SocketAddr,
    /// As the client asked, or without EDNS.
    plain: bool,
}

/// How an attempt ended.
enum Outcome {
    /// With an answer, perhaps that the server cannot tell.
    Said(Response),
    Failed(io::Error),
}

impl Servers {
    /// Takes other servers. Returns whether they are others.
    pub(super) fn set(&self, addresses: &[SocketAddr]) -> bool {
        let addresses = &addresses[..addresses.len().min(MOST_SERVERS)];
        let mut servers = self.0.lock();
        if servers.iter().map(|server| server.address).eq(addresses.iter().copied()) {
            return false;
        }
        let server = |address: &SocketAddr| Server { address: *address, silent: None, plain: None };
        *servers = addresses.iter().map(server).collect();
        true
    }

    /// The ways to ask, the most promising first.
    fn attempts(&self, has_edns: bool) -> VecDeque<Attempt> {
        let mut servers = self.0.lock().clone();
        servers.sort_by_key(|server| Server::lately(server.silent));
        let mut attempts = VecDeque::new();
        for server in &servers {
            let ways = match has_edns {
                false => [Some(false), None],
                true if Server::lately(server.plain) => [Some(true), None],
                true => [Some(false), Some(true)],
            };
            let attempt = |plain| Attempt { server: server.address, plain };
            attempts.extend(ways.into_iter().flatten().map(attempt));
        }
        // A packet may be lost: all once more.
        attempts.extend(attempts.clone());
        attempts.truncate(ATTEMPTS);
        attempts
    }

    fn note(&self, address: SocketAddr, change: impl Fn(&mut Server)) {
        self.0.lock().iter_mut().filter(|server| server.address == address).for_each(change);
    }

    /// Asks until a server knows; `None` when none answers. An answer that a server cannot tell is better than none.
    pub(super) async fn ask(&self, query: &Query, by_tcp: bool) -> Option<Response> {
        let plain = query.without_edns();
        let mut attempts = self.attempts(plain.is_some());
        let mut running = FuturesUnordered::new();
        let (mut excuse, mut silent) = (None, Vec::new());
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(attempt) = attempts.pop_front() {
                let words = plain.as_ref().filter(|_| attempt.plain).unwrap_or(query);
                silent.push(attempt);
                running.push(async move { (attempt, attempt.make(words, by_tcp).await) });
            } else if running.is_empty() {
                break;
            }
            let next = if attempts.is_empty() { end } else { end.min(Instant::now() + STAGGER) };
            match tokio::time::timeout_at(next, running.next()).await {
                Ok(Some((attempt, outcome))) => {
                    silent.retain(|other| *other != attempt);
                    if let Some(response) = self.judge(attempt, outcome, &mut attempts, &mut excuse, &silent)
                    {
                        return Some(response);
                    }
                }
                Ok(None) => {}
                Err(_) if Instant::now() >= end => break,
                Err(_) => {}
            }
        }
        for attempt in silent {
            self.note(attempt.server, |server| server.silent = Some(Instant::now()));
        }
        excuse
    }

    /// The answer, if this is one; else what to do instead.
    fn judge(
        &self,
        attempt: Attempt,
        outcome: Outcome,
        attempts: &mut VecDeque<Attempt>,
        excuse: &mut Option<Response>,
        silent: &[Attempt],
    ) -> Option<Response> {
        let response = match outcome {
            Outcome::Said(response) => response,
            Outcome::Failed(error) => {
                tracing::debug!(server = %attempt.server, %error, "a nameserver cannot be asked");
                self.note(attempt.server, |server| server.silent = Some(Instant::now()));
                return None;
            }
        };
        let in_vain = |other: &Attempt| other.server == attempt.server && other.plain != attempt.plain;
        match response.code {
            code::NO_ERROR | code::NO_NAME => {
                // It did not answer the same with EDNS, or could not.
                if attempt.plain && (silent.iter().any(in_vain) || excuse.is_some()) {
                    self.note(attempt.server, |server| server.plain = Some(Instant::now()));
                }
                self.note(attempt.server, |server| server.silent = None);
                for other in silent.iter().filter(|other| other.server != attempt.server) {
                    self.note(other.server, |server| server.silent = Some(Instant::now()));
                }
                return Some(response);
            }
            // It does not understand the question: perhaps it does without EDNS, which comes next.
            code::FORMAT_ERROR | code::NOT_IMPLEMENTED => {}
            // It understands, and cannot tell: another one may.
            _ => attempts.retain(|other| other.server != attempt.server),
        }
        excuse.get_or_insert(response);
        None
    }
}

impl Attempt {
    async fn make(self, query: &Query, by_tcp: bool) -> Outcome {
        match self.exchange(query, by_tcp).await {
            Ok(response) => Outcome::Said(response),
            Err(error) => Outcome::Failed(error),
        }
    }

    async fn exchange(self, query: &Query, by_tcp: bool) -> io::Result<Response> {
        let short = self.by_datagram(query).await?;
        if !(by_tcp && short.truncated) {
            return Ok(short);
        }
        // A server without TCP has told what it can.
        Ok(self.by_stream(query).await.unwrap_or(short))
    }

    async fn by_datagram(self, query: &Query) -> io::Result<Response> {
        let any: IpAddr = match self.server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        // Only the server's own answers are received.
        socket.connect(self.server).await?;
        let id = rand::random();
        socket.send(&query.with_id(id)).await?;
        loop {
            socket.readable().await?;
            // Those who wait hold no buffer.
            let mut buffer = vec![0; LARGEST];
            match socket.try_recv(&mut buffer) {
                Ok(length) => buffer.truncate(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            buffer.shrink_to_fit();
            if let Some(response) = Response::read(buffer, query, id) {
                return Ok(response);
            }
        }
    }

    async fn by_stream(self, query: &Query) -> io::Result<Response> {
        let mut stream = TcpStream::connect(self.server).await?;
        let id = rand::random();
        write_message(&mut stream, &query.with_id(id)).await?;
        let bytes = read_message(&mut stream).await?;
        Response::read(bytes, query, id)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not the answer to the question"))
    }
}

/// A message as streams carry it: its length first, all in one segment where it fits.
pub(super) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a message of more than 65,535 bytes"))?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message);
    stream.write_all(&bytes).await
}

pub(super) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_comes_last_and_edns_is_not_tried_where_it_is_lost() {
        let [a, b] = [1, 2].map(|n| SocketAddr::from(([192, 0, 2, n], 53)));
        let servers = Servers::default();
        assert!(servers.set(&[a, b]) && !servers.set(&[a, b]));
        let many: Vec<_> = (1..9).map(|n| SocketAddr::from(([198, 51, 100, n], 53))).collect();
        assert!(servers.set(&many) && !servers.set(&many) && servers.set(&[a, b]));
        let ways = |has_edns| servers.attempts(has_edns).into_iter().map(|way| (way.server, way.plain));
        assert!(ways(false).eq([(a, false), (b, false), (a, false), (b, false)]));
        assert!(ways(true).take(4).eq([(a, false), (a, true), (b, false), (b, true)]));
        servers.note(a, |server| server.silent = Some(Instant::now()));
        servers.note(b, |server| server.plain = Some(Instant::now()));
        assert!(ways(true).take(3).eq([(b, true), (a, false), (a, true)]));
    }
}
