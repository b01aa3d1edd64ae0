//! Fields behind bodies, and gRPC, which says there how a call ended.

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::TRAILER};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use warren_proto::control::HttpPolicy;

use crate::support::{Body, Gateway, Upstream, asking, full, rule, within};

fn with_trailers(text: &'static str, status: &'static str) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let frames = [Ok(Frame::data(Bytes::from_static(text.as_bytes()))), Ok(Frame::trailers(trailers))];
    BodyExt::boxed(StreamBody::new(stream::iter(frames)))
}

async fn trailing() -> Upstream {
    Upstream::start(|request| async move {
        let asked = request.headers().get("te").and_then(|te| te.to_str().ok()).unwrap_or("-").to_owned();
        let came = request.into_body().collect().await.map(|body| body.trailers().is_some());
        let mut response = Response::new(with_trailers("done", "7"));
        response.headers_mut().insert(TRAILER, HeaderValue::from_static("grpc-status"));
        response.headers_mut().insert("x-te", asked.parse().expect("a value"));
        response.headers_mut().insert("x-trailers", format!("{came:?}").parse().expect("a value"));
        response
    })
    .await
}

#[tokio::test]
async fn trailers_of_a_response_pass_to_clients_of_both_versions() {
    let gateway = Gateway::start();
    let upstream = trailing().await;
    gateway.route_all(&[upstream.address]).await;
    let mut stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n";
    stream.write_all(request).await.expect("written");
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.expect("whole");
    assert!(answer.to_lowercase().ends_with("0\r\ngrpc-status: 7\r\n\r\n"), "{answer}");
    assert!(answer.contains("x-te: trailers"), "{answer}");

    let stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let request = Request::post("http://a.test/")
        .header("te", "trailers")
        .body(with_trailers("ask", "1"))
        .expect("a request");
    let response = within("a response", sender.send_request(request)).await.expect("a response");
    assert_eq!(response.headers()["x-trailers"], "Ok(false)", "a client's trailers stay at the gateway");
    let body = within("the body", response.into_body().collect()).await.expect("whole");
    assert_eq!(body.trailers().expect("trailers")["grpc-status"], "7");
}

#[tokio::test]
async fn a_request_s_trailers_are_not_merged_into_its_head() {
    let gateway = Gateway::start();
    let upstream = trailing().await;
    gateway.route_all(&[upstream.address]).await;
    let mut stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
    let request = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n1\r\nx\r\n0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.expect("whole");
    assert!(answer.contains("x-trailers: Ok(false)"), "{answer}");
}

/// An upstream that speaks HTTP/2 only.
async fn grpc() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async move {
                let head =
                    format!("{:?} {} {:?} ", request.version(), request.uri(), request.headers().get("te"));
                let body =
                    request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let text: &'static str = Box::leak(format!("{head}{}", body.len()).into_boxed_str());
                Ok::<_, std::convert::Infallible>(Response::new(with_trailers(text, "0")))
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

#[tokio::test]
async fn grpc_reaches_backends_that_speak_it() {
    let gateway = Gateway::start();
    let upstream = grpc().await;
    let policy = HttpPolicy { http2: true, ..HttpPolicy::default() };
    gateway.route([asking(rule("", "/", &[upstream]), policy)]).await;
    let stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..40_usize {
        let mut sender = sender.clone();
        calls.spawn(async move {
            let request = Request::post(format!("http://a.test/svc/{index}"))
                .header("te", "trailers")
                .header("content-type", "application/grpc")
                .body(full(vec![7; index * 1000]))
                .expect("a request");
            let response = within("a response", sender.send_request(request)).await.expect("a response");
            assert_eq!(response.status(), StatusCode::OK);
            let body = within("the body", response.into_body().collect()).await.expect("whole");
            assert_eq!(body.trailers().expect("trailers")["grpc-status"], "0");
            let text = String::from_utf8(body.to_bytes().to_vec()).expect("text");
            assert_eq!(
                text,
                format!("HTTP/2.0 http://a.test/svc/{index} Some(\"trailers\") {}", index * 1000)
            );
        });
    }
    while let Some(done) = calls.join_next().await {
        done.expect("an answer");
    }
}
