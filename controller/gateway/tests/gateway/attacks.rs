//! Attacks on a real gateway process whose memory is bounded, while an honest client goes on.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    killed::process::{MEMORY, Supervisor},
    protocols::trusting,
    support::{Body, Client, Upstream, full, within},
};

/// A control group with so much memory. Needs root.
struct Group(PathBuf);

impl Group {
    fn of(process: u32) -> Self {
        let version2 = fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false);
        let (root, limit) = if version2 {
            ("/sys/fs/cgroup", "memory.max")
        } else {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        };
        let group = PathBuf::from(root).join(format!("warren-gateway-test-{process}"));
        fs::create_dir(&group).expect("root may make control groups");
        fs::write(group.join(limit), MEMORY.to_string()).expect("a limit");
        fs::write(group.join("cgroup.procs"), process.to_string()).expect("the process is in it");
        Self(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its process has been killed; the kernel needs a moment to see it empty.
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// A gateway under attack. The group goes last.
struct Target {
    supervisor: Supervisor,
    _upstream: Upstream,
    _group: Group,
}

impl Target {
    async fn start() -> Self {
        let upstream = Upstream::start(|request| async move {
            match request.uri().path() {
                "/endless" => Response::new(endless()),
                _ => Response::new(full("fine")),
            }
        })
        .await;
        let supervisor = Supervisor::start_with_https(&upstream).await;
        let group = Group::of(supervisor.id());
        Self { supervisor, _upstream: upstream, _group: group }
    }

    async fn honest(&mut self) {
        for _ in 0..20 {
            self.supervisor.hear();
            assert!(self.supervisor.lives(), "the gateway has ended");
            let answer = Client::connect(self.supervisor.address()).await.get("a.test", "/").await;
            assert_eq!((answer.status, answer.text()), (StatusCode::OK, "fine"));
        }
        let mut client = Client::over(TokioIo::new(self.tls(b"http/1.1").await)).await;
        assert_eq!(client.get("a.test", "/").await.text(), "fine");
    }

    async fn plain(&self) -> TcpStream {
        strange(self.supervisor.address()).await
    }

    async fn tls(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.supervisor.https()).await.expect("the gateway listens");
        Self::secured(stream, protocol).await.expect("a handshake")
    }

    /// Of an attacker: it may be turned away.
    async fn strange_tls(&self, protocol: &[u8]) -> Option<TlsStream<TcpStream>> {
        Self::secured(strange(self.supervisor.https()).await, protocol).await.ok()
    }

    async fn secured(stream: TcpStream, protocol: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let name = rustls::pki_types::ServerName::try_from("a.test").expect("a name");
        let connector = TlsConnector::from(Arc::new(trusting(protocol)));
        within("a handshake", connector.connect(name, stream)).await
    }
}

/// A connection of an attacker, who has another address than honest clients.
async fn strange(gateway: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).expect("a loopback address");
    socket.connect(gateway).await.expect("the gateway listens")
}

fn endless() -> Body {
    let pieces =
        stream::repeat(Bytes::from(vec![7; 64 << 10])).map(|piece| Ok::<_, hyper::Error>(Frame::data(piece)));
    BodyExt::boxed(StreamBody::new(pieces))
}

/// Sends as much as the gateway takes within a moment, and keeps the connection.
async fn push(stream: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) {
    let _ = tokio::time::timeout(Duration::from_millis(200), stream.write_all(bytes)).await;
}

#[tokio::test]
async fn heads_and_bodies_without_an_end_occupy_little() {
    let mut target = Target::start().await;
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".repeat(250));
    let field = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(1 << 20));
    let chunk = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n1;".to_owned()
        + &"e".repeat(100_000);
    let trailers = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n".to_owned()
        + &"X: y\r\n".repeat(50_000);
    let slow = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx".to_owned();
    let upgrade =
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n".repeat(100);
    let pipelined = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let mut kept = Vec::new();
    let mut secure = Vec::new();
    for attack in [&long, &field, &chunk, &trailers, &slow, &upgrade, &pipelined] {
        for _ in 0..60 {
            let mut stream = target.plain().await;
            push(&mut stream, attack.as_bytes()).await;
            kept.push(stream);
        }
        for _ in 0..5 {
            if let Some(mut stream) = target.strange_tls(b"http/1.1").await {
                push(&mut stream, attack.as_bytes()).await;
                secure.push(stream);
            }
        }
        target.honest().await;
    }
}

#[tokio::test]
async fn many_connections_occupy_little_and_sleep() {
    let mut target = Target::start().await;
    let mut kept = Vec::new();
    for _ in 0..3000 {
        let mut stream = target.plain().await;
        let _ = stream.write_all(b"P").await;
        kept.push(stream);
    }
    target.honest().await;
    // Nothing happens, so nothing is done: a thread that looks again and again would give way as often.
    let switches = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", target.supervisor.id())).expect("it runs");
        let count = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        };
        tasks.flatten().filter_map(count).sum::<u64>()
    };
    target.supervisor.settled().await;
    let before = switches();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = switches();
    assert!(after - before < 400, "{} times in a second", after - before);
}

/// Drives a connection for a moment, then keeps it without reading.
async fn stall(mut connection: impl Future + Unpin) {
    let _ = tokio::time::timeout(Duration::from_millis(300), &mut connection).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn http2_floods_occupy_little() {
    let mut target = Target::start().await;
    let mut connections = JoinSet::new();
    let mut senders = Vec::new();
    // Responses that are asked for and not read: the client's kernel takes no more, and hyper's windows are large.
    for secure in [false, false, false, false, false, false, true, true] {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 30).initial_connection_window_size(1 << 30);
        // Read for a moment, then no more.
        let sender = if secure {
            let Some(stream) = target.strange_tls(b"h2").await else { continue };
            let handshake = builder.handshake::<_, Body>(TokioIo::new(stream)).await;
            let Ok((sender, connection)) = handshake else { continue };
            connections.spawn(stall(connection));
            sender
        } else {
            let handshake = builder.handshake::<_, Body>(TokioIo::new(target.plain().await)).await;
            let Ok((sender, connection)) = handshake else { continue };
            connections.spawn(stall(connection));
            sender
        };
        for _ in 0..120 {
            let request = Request::get("http://a.test/endless").body(full("")).expect("a request");
            let mut sender = sender.clone();
            drop(tokio::spawn(async move { sender.send_request(request).await.map(|_| ()) }));
        }
        senders.push(sender);
        target.honest().await;
    }
    connections.abort_all();
    drop(senders);
    // Streams that are opened and reset at once.
    for _ in 0..4 {
        let io = TokioIo::new(target.plain().await);
        let handshake = http2::handshake::<_, _, Body>(TokioExecutor::new(), io).await;
        let Ok((sender, connection)) = handshake else { continue };
        let connection = tokio::spawn(connection);
        for _ in 0..2000 {
            let request = Request::get("http://a.test/").body(full("")).expect("a request");
            let mut sender = sender.clone();
            if sender.ready().await.is_err() {
                break;
            }
            // Dropped before there is an answer.
            let _ = tokio::time::timeout(Duration::ZERO, sender.send_request(request)).await;
        }
        connection.abort();
        target.honest().await;
    }
    // Frames by hand: a head that goes on and on, settings, pings.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let head = [&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82][..]].concat();
    let frames: [(&[u8], Vec<u8>); 3] = [
        (&head, [&[0, 0x10, 0, 9, 0, 0, 0, 0, 1][..], &[0; 4096]].concat()),
        (b"", vec![0, 0, 0, 4, 0, 0, 0, 0, 0]),
        (b"", [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[0; 8]].concat()),
    ];
    let mut kept = Vec::new();
    for (first, again) in &frames {
        for _ in 0..20 {
            let mut stream = target.plain().await;
            push(&mut stream, &[&preface[..], first, &again.repeat(2000)].concat()).await;
            kept.push(stream);
        }
        target.honest().await;
    }
}
