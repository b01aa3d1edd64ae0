//! What attackers do, round after round, each with a rest: the point is what they hold and what they ask for, not how
//! many they are.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{Request, body::Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tokio_stream::StreamExt as _;

use super::Siege;

const REST: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);
/// How many connections an attacker holds at a time.
const HELD: usize = 60;
/// Unfinished calls on one connection (security review, finding 1).
const UNFINISHED: usize = 150;
/// Calls that only members may make.
const CALLS: [&str; 4] = ["ReportPods", "ReportNode", "ReportEvents", "Renew"];

/// Whom attackers know.
pub(super) struct Targets {
    pub(super) api: SocketAddr,
    pub(super) gateway: SocketAddr,
    pub(super) pods: Vec<String>,
    pub(super) services: Vec<String>,
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}

/// A body that sends one byte and then nothing, for ever.
fn unfinished() -> Body {
    let first = Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(&[0])));
    BodyExt::boxed(StreamBody::new(tokio_stream::once(first).chain(tokio_stream::pending())))
}

/// One gRPC frame whose message decodes into far more than it is: empty items, again and again.
fn amplified(length: usize) -> Bytes {
    let mut frame = vec![0];
    frame.extend(u32::try_from(length).expect("a length").to_be_bytes());
    frame.extend([0x0a, 0x00].iter().cycle().take(length));
    frame.into()
}

fn run(attack: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(attack);
}

async fn connect(api: SocketAddr) -> Option<hyper::client::conn::http2::SendRequest<Body>> {
    let connector = TlsConnector::from(Arc::new(config()));
    let connected = async {
        let stream = tokio::net::TcpStream::connect(api).await.ok()?;
        let name = ServerName::try_from("kubernetes").expect("a name");
        let stream = connector.connect(name, stream).await.ok()?;
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    };
    tokio::time::timeout(PATIENCE, connected).await.ok()?
}

fn call(service: &str, method: &str, body: Body) -> Request<Body> {
    Request::post(format!("https://kubernetes/warren.control.v1.{service}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .expect("a request")
}

/// Messages that cost the reader a hundred times their size, to every call that only members may make.
pub(super) fn unproven_calls(siege: &Siege, targets: &Targets) {
    run(async {
        let messages = [1 << 20, 4 << 20].map(amplified);
        while siege.goes_on() {
            for (method, message) in CALLS.iter().zip(messages.iter().cycle()) {
                let Some(mut sender) = connect(targets.api).await else { continue };
                let sent = sender.send_request(call("Control", method, whole(message.clone())));
                if let Ok(Ok(response)) = tokio::time::timeout(PATIENCE, sent).await {
                    let refused = response.headers().get("grpc-status").is_some_and(|status| status != "0");
                    if response.status().is_success() && !refused {
                        let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await;
                        let trailers =
                            body.ok().and_then(Result::ok).and_then(|body| body.trailers().cloned());
                        if trailers.is_some_and(|trailers| {
                            trailers.get("grpc-status").is_some_and(|code| code == "0")
                        }) {
                            siege.breach(format!("{method} was answered to a guest"));
                        }
                    }
                }
                siege.count();
                tokio::time::sleep(REST).await;
            }
        }
    });
}

/// Calls that a guest may begin, and does not finish.
pub(super) fn unfinished_joins(siege: &Siege, targets: &Targets) {
    run(async {
        while siege.goes_on() {
            if let Some(mut sender) = connect(targets.api).await {
                for _ in 0..UNFINISHED {
                    let sent = sender.send_request(call("Join", "Join", unfinished()));
                    drop(tokio::time::timeout(Duration::from_millis(10), sent).await);
                }
                siege.count();
                tokio::time::sleep(PATIENCE).await;
            }
            tokio::time::sleep(REST).await;
        }
    });
}

/// Connections that say nothing, or a part of something, at both ports.
pub(super) fn silent_and_slow_guests(siege: &Siege, targets: &Targets) {
    let beginnings: [&[u8]; 4] = [b"", b"P", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: a\r\n"];
    let mut held = std::collections::VecDeque::new();
    while siege.goes_on() {
        for target in [targets.api, targets.gateway] {
            for beginning in beginnings {
                if let Ok(mut stream) = TcpStream::connect_timeout(&target, PATIENCE) {
                    let _ = stream.write_all(beginning);
                    held.push_back(stream);
                }
                siege.count();
            }
        }
        while held.len() > HELD {
            held.pop_front();
        }
        std::thread::sleep(REST);
    }
}

/// Packets from the underlay to addresses of the overlay, in the clear.
pub(super) fn packets_to_the_overlay(siege: &Siege, targets: &Targets) {
    let tcp = |address: &str, port: u16| {
        let at = format!("{address}:{port}").parse().expect("an address");
        TcpStream::connect_timeout(&at, Duration::from_millis(100)).is_ok()
    };
    let name = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01";
    while siege.goes_on() {
        for address in targets.pods.iter().chain(&targets.services) {
            for port in [80, 443, 8080, 6379] {
                if tcp(address, port) {
                    siege.breach(format!("{address}:{port} was reached from the underlay"));
                }
                siege.count();
            }
        }
        let asked = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            socket.send_to(name, "10.43.0.10:53")?;
            socket.recv(&mut [0; 512])
        });
        if asked.is_ok() {
            siege.breach("the cluster's DNS answered the underlay".to_owned());
        }
        std::thread::sleep(REST);
    }
}

/// Requests to the gateway whose bodies come a byte at a time, or never.
pub(super) fn bodies_without_end(siege: &Siege, targets: &Targets) {
    let heads = [
        "POST /guestbook/api/entries HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx",
        "POST /guestbook/api/entries HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
        "GET /guestbook/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    ];
    let mut held = std::collections::VecDeque::new();
    while siege.goes_on() {
        for head in heads {
            if let Ok(mut stream) = TcpStream::connect_timeout(&targets.gateway, PATIENCE) {
                let _ = stream.write_all(head.as_bytes());
                if head.contains("h2c") {
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    let mut answer = [0; 64];
                    let length = stream.read(&mut answer).unwrap_or(0);
                    if answer[..length].starts_with(b"HTTP/1.1 101") {
                        siege.breach("the gateway switched to h2c".to_owned());
                    }
                }
                held.push_back(stream);
            }
            siege.count();
        }
        for stream in &mut held {
            let _ = stream.write_all(b"y");
        }
        while held.len() > HELD {
            held.pop_front();
        }
        std::thread::sleep(REST);
    }
}

/// Heads as large and as many as a client may think of.
pub(super) fn floods_of_headers(siege: &Siege, targets: &Targets) {
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(5_000));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let trailers = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n",
        "X: y\r\n".repeat(50_000)
    );
    let smuggled =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned();
    while siege.goes_on() {
        for attack in [&many, &long, &trailers, &smuggled] {
            if let Ok(mut stream) = TcpStream::connect_timeout(&targets.gateway, PATIENCE) {
                let _ = stream.set_write_timeout(Some(PATIENCE));
                let _ = stream.set_read_timeout(Some(REST));
                let _ = stream.write_all(attack.as_bytes());
                let _ = stream.read(&mut [0; 4096]);
            }
            siege.count();
        }
        std::thread::sleep(REST);
    }
}

fn config() -> ClientConfig {
    // An attacker does not care whom it talks to.
    let mut config = warren_runtime::tls::config_for_anybody().expect("ring knows them");
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}
