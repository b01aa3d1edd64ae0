//! Requests that pass: balancing, headers, bodies, connections.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::support::{Answer, Client, Gateway, Upstream, eventually, full, rule, within};

#[tokio::test]
async fn requests_are_spread_over_all_endpoints() {
    let gateway = Gateway::start();
    let upstreams = [Upstream::named("a").await, Upstream::named("b").await, Upstream::named("c").await];
    gateway.route_all(&upstreams.each_ref().map(|upstream| upstream.address)).await;
    let mut seen = BTreeMap::<String, usize>::new();
    for _ in 0..30 {
        let mut client = gateway.client().await;
        for _ in 0..4 {
            *seen.entry(client.get("a.test", "/").await.text().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    // Without load the choice is random: the chance of fewer than 10 of 120 is beyond 1 in 10^9.
    assert!(seen.values().all(|count| *count >= 10), "{seen:?}");
}

#[tokio::test]
async fn busy_endpoints_get_fewer_requests() {
    let gateway = Gateway::start();
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = release.clone();
    let slow = Upstream::start(move |_| {
        let gate = gate.clone();
        async move {
            let _ = gate.acquire().await;
            Response::new(full("slow"))
        }
    })
    .await;
    let fast = Upstream::named("fast").await;
    gateway.route_all(&[slow.address, fast.address]).await;
    // Occupies the slow one; whatever goes to the fast one returns at once.
    let mut waiting = tokio::task::JoinSet::new();
    while slow.requests() == 0 {
        let mut client = gateway.client().await;
        let before = fast.requests();
        waiting.spawn(async move { client.get("a.test", "/").await });
        eventually("the request arrives", || {
            slow.requests() + fast.requests() > before || slow.requests() > 0
        })
        .await;
    }
    let mut client = gateway.client().await;
    for _ in 0..50 {
        assert_eq!(client.get("a.test", "/").await.text(), "fast");
    }
    release.add_permits(100);
    while let Some(answer) = within("held answers", waiting.join_next()).await {
        assert_eq!(answer.expect("no panic").status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_upstream_learns_who_asked_for_what() {
    let gateway = Gateway::start();
    let upstream = Upstream::start(|request| async move {
        let mut lines = vec![format!("{} {}", request.method(), request.uri())];
        lines.extend(
            request
                .headers()
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?"))),
        );
        let mut response = Response::new(full(lines.join("\n")));
        response.headers_mut().insert("connection", "x-hop".parse().expect("a value"));
        response.headers_mut().insert("x-hop", "1".parse().expect("a value"));
        response.headers_mut().insert("x-end", "1".parse().expect("a value"));
        response
    })
    .await;
    gateway.route_all(&[upstream.address]).await;
    let request = Request::get("/path?query=1")
        .header("host", "Shop.test:8080")
        .header("x-forwarded-for", "10.0.0.9")
        .header("connection", "x-private")
        .header("x-private", "1")
        .body(full(""))
        .expect("a request");
    let answer = Answer::read(gateway.client().await.send(request).await).await.expect("whole");
    let lines: Vec<_> = answer.text().lines().collect();
    for expected in [
        "GET /path?query=1",
        "host: Shop.test:8080",
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: Shop.test:8080",
    ] {
        assert!(lines.contains(&expected), "{expected} is not in {lines:?}");
    }
    assert!(!answer.text().contains("x-private"), "{lines:?}");
    assert!(
        answer.headers.contains_key("x-end") && !answer.headers.contains_key("x-hop"),
        "{:?}",
        answer.headers
    );
}

#[tokio::test]
async fn rules_lead_to_their_own_backends() {
    let gateway = Gateway::start();
    let (shop, news, rest) =
        (Upstream::named("shop").await, Upstream::named("news").await, Upstream::named("rest").await);
    let mut default = rule("", "", &[rest.address]);
    default.is_default = true;
    gateway
        .route([rule("shop.test", "/", &[shop.address]), rule("*.test", "/news", &[news.address]), default])
        .await;
    let mut client = gateway.client().await;
    for (host, path, expected) in [
        ("shop.test", "/news", "shop"),
        ("a.test", "/news/today", "news"),
        ("a.test", "/newsletter", "rest"),
        ("b.org", "/", "rest"),
    ] {
        assert_eq!(client.get(host, path).await.text(), expected, "{host}{path}");
    }
}

#[tokio::test]
async fn connections_to_upstreams_are_reused() {
    let gateway = Gateway::with_threads(1);
    let upstream = Upstream::start(|request| async move {
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Response::new(full(body))
    })
    .await;
    gateway.route_all(&[upstream.address]).await;
    for _ in 0..5 {
        let mut client = gateway.client().await;
        for _ in 0..20 {
            assert_eq!(client.get("a.test", "/").await.status, StatusCode::OK);
        }
    }
    assert_eq!(upstream.requests(), 100);
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn large_and_chunked_bodies_pass_unchanged_both_ways() {
    let gateway = Gateway::start();
    // Streams the request's body back as it comes.
    let upstream = Upstream::start(|request| async move { Response::new(request.into_body().boxed()) }).await;
    gateway.route_all(&[upstream.address]).await;
    let mut client = gateway.client().await;
    let megabyte: Bytes = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect::<Vec<_>>().into();
    let known = client.post("/", [&megabyte[..]; 8].concat()).await;
    assert_eq!((known.status, known.body.len()), (StatusCode::OK, 8 << 20));
    assert!(known.body.chunks(1 << 20).all(|chunk| chunk == megabyte));

    let pieces =
        stream::iter(vec![megabyte.clone(); 4]).map(|piece| Ok::<_, hyper::Error>(Frame::data(piece)));
    let body = BodyExt::boxed(StreamBody::new(pieces));
    let request = Request::put("/").header("host", "a.test").body(body).expect("a request");
    let answer = Answer::read(client.send(request).await).await.expect("whole");
    assert_eq!(answer.headers.get("transfer-encoding").map(|value| value.as_bytes()), Some(&b"chunked"[..]));
    assert_eq!(answer.body.len(), 4 << 20);
    assert!(answer.body.chunks(1 << 20).all(|chunk| chunk == megabyte));
    // The connection is good for more.
    assert_eq!(client.post("/", "small").await.text(), "small");
}

#[tokio::test]
async fn bodies_without_content_keep_their_length_header() {
    let gateway = Gateway::start();
    let upstream = Upstream::start(|request| async move {
        let mut response = Response::new(full(if request.method() == Method::HEAD { "" } else { "12345" }));
        match request.uri().path() {
            "/none" => *response.status_mut() = StatusCode::NO_CONTENT,
            "/same" => *response.status_mut() = StatusCode::NOT_MODIFIED,
            _ => {
                response.headers_mut().insert("content-length", "5".parse().expect("a value"));
            }
        }
        if response.status() != StatusCode::OK {
            *response.body_mut() = full("");
        }
        response
    })
    .await;
    gateway.route_all(&[upstream.address]).await;
    let mut client = gateway.client().await;
    let request = Request::head("/").header("host", "a.test").body(full("")).expect("a request");
    let head = Answer::read(client.send(request).await).await.expect("whole");
    assert_eq!((head.headers["content-length"].as_bytes(), head.body.len()), (&b"5"[..], 0));
    assert_eq!(client.get("a.test", "/none").await.status, StatusCode::NO_CONTENT);
    assert_eq!(client.get("a.test", "/same").await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(client.get("a.test", "/").await.text(), "12345");
    assert_eq!(upstream.accepted(), 1, "each of them left the connection usable");
}

#[tokio::test]
async fn a_slow_client_slows_its_upstream_and_nobody_else() {
    const PIECE: usize = 64 << 10;
    // More than the kernel buffers on the way (tcp_rmem and tcp_wmem) can hold.
    const PIECES: usize = 2 << 10;
    let gateway = Gateway::with_threads(1);
    let produced = Arc::new(AtomicUsize::new(0));
    let counter = produced.clone();
    let upstream = Upstream::start(move |request| {
        let counter = counter.clone();
        async move {
            if request.uri().path() == "/small" {
                return Response::new(full("small"));
            }
            let pieces = stream::iter(0..PIECES).map(move |_| {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok(Frame::data(Bytes::from(vec![7; PIECE])))
            });
            Response::new(BodyExt::boxed(StreamBody::new(pieces)))
        }
    })
    .await;
    gateway.route_all(&[upstream.address]).await;
    let mut slow = Client::connect_narrow(gateway.http).await;
    let request = Request::get("/large").header("host", "a.test").body(full("")).expect("a request");
    let mut response = slow.send(request).await;
    for _ in 0..200 {
        assert_eq!(gateway.client().await.get("a.test", "/small").await.text(), "small");
    }
    assert!(produced.load(Ordering::SeqCst) < PIECES, "128 MB were buffered for a client that reads nothing");
    let mut read = 0;
    while let Some(frame) = within("the next piece", response.body_mut().frame()).await {
        read += frame.expect("a piece").into_data().map_or(0, |data| data.len());
    }
    assert_eq!(read, PIECE * PIECES);
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_upstream() {
    let gateway = Gateway::start();
    let upstream = Upstream::start(|_| std::future::pending()).await;
    gateway.route_all(&[upstream.address]).await;
    let mut client = gateway.client().await;
    let request = Request::get("/").header("host", "a.test").body(full("")).expect("a request");
    let asking = tokio::spawn(async move { client.try_send(request).await.map(|_| ()) });
    eventually("the request arrives", || upstream.requests() == 1).await;
    asking.abort();
    eventually("the upstream's connection is closed", || upstream.open() == 0).await;
}
