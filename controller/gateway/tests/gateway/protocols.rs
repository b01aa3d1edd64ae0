//! Upgrades, HTTPS and HTTP/2.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Answer, Body, Client, Gateway, Upstream, eventually, full, within};

/// Upgrades to a protocol that greets, then sends everything back.
pub(crate) async fn echo() -> Upstream {
    Upstream::start(|mut request| async move {
        if request.headers().get("upgrade").map(|value| value.as_bytes()) != Some(b"websocket") {
            return Response::new(full("no upgrade"));
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.expect("an upgrade"));
            stream.write_all(b"hello\n").await.expect("written");
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let mut response = Response::new(full(""));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", "Upgrade".parse().expect("a value"));
        headers.insert("upgrade", "websocket".parse().expect("a value"));
        headers.insert("sec-websocket-accept", request.headers()["sec-websocket-key"].clone());
        response
    })
    .await
}

pub(crate) fn upgrade_request() -> Request<Body> {
    Request::get("/socket")
        .header("host", "a.test")
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(full(""))
        .expect("a request")
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let gateway = Gateway::start();
    let upstream = echo().await;
    gateway.route_all(&[upstream.address]).await;
    let mut client = gateway.client().await;
    let response = client.send(upgrade_request()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["connection"], "upgrade");
    assert_eq!(response.headers()["sec-websocket-accept"], "dGhlIHNhbXBsZSBub25jZQ==");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.expect("an upgrade"));
    let mut greeting = [0; 6];
    within("the greeting", stream.read_exact(&mut greeting)).await.expect("a greeting");
    assert_eq!(&greeting, b"hello\n");
    for round in 0..100_u32 {
        let message = vec![round as u8; 1 + round as usize * 100];
        stream.write_all(&message).await.expect("written");
        let mut echo = vec![0; message.len()];
        within("the echo", stream.read_exact(&mut echo)).await.expect("an echo");
        assert_eq!(echo, message);
    }
    // A route change does not concern an established tunnel.
    gateway.route([]).await;
    stream.write_all(b"still").await.expect("written");
    let mut echo = [0; 5];
    within("the echo", stream.read_exact(&mut echo)).await.expect("an echo");
    drop(stream);
    drop(client);
    eventually("the tunnel is closed", || upstream.open() == 0).await;
}

#[tokio::test]
async fn an_upgrade_that_the_upstream_declines_is_a_plain_response() {
    let gateway = Gateway::start();
    let upstream = Upstream::named("no").await;
    gateway.route_all(&[upstream.address]).await;
    let mut client = gateway.client().await;
    let declined = Answer::read(client.send(upgrade_request()).await).await.expect("whole");
    assert_eq!((declined.status, declined.text()), (StatusCode::OK, "no"));
    assert_eq!(client.get("a.test", "/").await.text(), "no");
}

/// The TLS configuration of a client that believes everybody.
pub(crate) fn trusting(protocol: &[u8]) -> ClientConfig {
    let mut config = warren_runtime::tls::config_for_anybody().expect("versions");
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

pub(crate) async fn tls(address: SocketAddr, protocol: &[u8]) -> TlsStream<TcpStream> {
    let config = trusting(protocol);
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    let name = ServerName::try_from("shop.test").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a TLS handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
    stream
}

/// Says what it sees of the request.
async fn mirror() -> Upstream {
    Upstream::start(|request| async move {
        let field = |name| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
        };
        let head = format!("{:?} {} {} ", request.version(), field("host"), field("x-forwarded-proto"));
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Response::new(full([head.as_bytes(), &body].concat()))
    })
    .await
}

#[tokio::test]
async fn https_serves_http1() {
    let gateway = Gateway::start();
    let upstream = mirror().await;
    gateway.route_all(&[upstream.address]).await;
    let stream = tls(gateway.https.expect("an https listener"), b"http/1.1").await;
    let mut client = Client::over(TokioIo::new(stream)).await;
    assert_eq!(client.get("shop.test", "/").await.text(), "HTTP/1.1 shop.test https ");
    assert_eq!(client.post("/", "body").await.text(), "HTTP/1.1 a.test https body");
}

async fn exercise_http2(io: impl hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static, scheme: &str) {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await.expect("a handshake");
    tokio::spawn(connection);
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..50_usize {
        let mut sender = sender.clone();
        let uri = format!("{scheme}://shop.test/{index}");
        let content = Bytes::from(vec![b'x'; index * 5_000]);
        let expected = [format!("HTTP/1.1 shop.test {scheme} ").as_bytes(), &content].concat();
        tasks.spawn(async move {
            let request = Request::post(uri).body(full(content)).expect("a request");
            let response = within("a response", sender.send_request(request)).await.expect("a response");
            let answer = Answer::read(response).await.expect("whole");
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.body, expected);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("an answer");
    }
}

#[tokio::test]
async fn https_serves_http2_with_many_streams() {
    let gateway = Gateway::start();
    let upstream = mirror().await;
    gateway.route_all(&[upstream.address]).await;
    let stream = tls(gateway.https.expect("an https listener"), b"h2").await;
    exercise_http2(TokioIo::new(stream), "https").await;
}

#[tokio::test]
async fn plain_http2_is_known_by_its_preface() {
    let gateway = Gateway::start();
    let upstream = mirror().await;
    gateway.route_all(&[upstream.address]).await;
    let stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
    exercise_http2(TokioIo::new(stream), "http").await;
}
