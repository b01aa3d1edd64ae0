//! Upstreams that have the whole request and do not begin to answer; and what only looks like that.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    protocols::{echo, upgrade_request},
    support::{Answer, Body, Gateway, Upstream, eventually, full, within},
};

/// Short for a test, long for an upstream on a busy machine.
const LIMIT: Duration = Duration::from_secs(2);

/// Six bytes that take half as long again as the limit.
fn trickle() -> Body {
    let pieces = stream::iter("abcdef".bytes()).then(|byte| async move {
        tokio::time::sleep(LIMIT / 4).await;
        Ok(Frame::data(Bytes::from(vec![byte])))
    });
    let pieces: Pin<Box<dyn stream::Stream<Item = _> + Send + Sync>> = Box::pin(pieces);
    BodyExt::boxed(StreamBody::new(pieces))
}

#[tokio::test]
async fn an_upstream_that_never_answers_is_named_after_the_limit() {
    let gateway = Gateway::patient_for(LIMIT);
    let upstream = Upstream::start(|request| async move {
        if request.uri().path() == "/hang" {
            std::future::pending::<()>().await;
        }
        Response::new(full("quick"))
    })
    .await;
    gateway.route_all(&[upstream.address]).await;
    let mut client = gateway.client().await;
    let answer = client.get("a.test", "/hang").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.text(), "default/web:80 did not begin to answer in time\n");
    assert_eq!(upstream.requests(), 1, "it may still be at work: no second attempt");
    eventually("the connection is closed", || upstream.open() == 0).await;
    assert_eq!(client.post("/hang", "a body").await.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(client.get("a.test", "/").await.text(), "quick", "the endpoint is not shunned for it");
}

#[tokio::test]
async fn bodies_may_take_longer_than_the_limit() {
    let gateway = Gateway::patient_for(LIMIT);
    let upstream = Upstream::start(|request| async move {
        if request.uri().path() == "/download" {
            return Response::new(trickle());
        }
        let body = request.into_body().collect().await.expect("a whole body");
        Response::new(full(body.to_bytes()))
    })
    .await;
    gateway.route_all(&[upstream.address]).await;
    let passed = |request: Request<Body>| async {
        let answer = gateway.client().await.send(request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        within("the body", Answer::read(answer)).await.expect("a whole body").text().to_owned()
    };
    let request = |method: &str, path: &str, body: Body| {
        Request::builder().method(method).uri(path).header("host", "a.test").body(body).expect("a request")
    };
    let (up, down) = tokio::join!(
        passed(request("POST", "/upload", trickle())),
        passed(request("GET", "/download", full("")))
    );
    assert_eq!((&*up, &*down), ("abcdef", "abcdef"));
}

#[tokio::test]
async fn a_tunnel_may_be_quiet_for_longer_than_the_limit() {
    let gateway = Gateway::patient_for(LIMIT);
    let upstream = echo().await;
    gateway.route_all(&[upstream.address]).await;
    let response = gateway.client().await.send(upgrade_request()).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.expect("an upgrade"));
    let mut greeting = [0; 6];
    within("the greeting", stream.read_exact(&mut greeting)).await.expect("a greeting");
    tokio::time::sleep(LIMIT + LIMIT / 2).await;
    stream.write_all(b"still").await.expect("written");
    let mut back = [0; 5];
    within("the echo", stream.read_exact(&mut back)).await.expect("an echo");
    assert_eq!(&back, b"still");
}
