//! What strangers send: spellings of paths and headers that say one thing here and another one there, raw characters,
//! messages whose end is in doubt, bodies without an end. And upstreams that answer like that.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use warren_gateway::Patience;
use warren_proto::control::PathType;

use crate::support::{Gateway, PATIENCE, Upstream, full, rule, within};

/// Sends bytes and reads until the connection ends.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the gateway listens");
    // It may be refused before it is whole.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// A request that ends its connection.
fn get(target: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{fields}\r\n").into_bytes()
}

/// An upstream that keeps the targets it was asked for, and says what it got.
async fn witness() -> (Upstream, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let targets = seen.clone();
    let upstream = Upstream::start(move |request| {
        targets.lock().push(request.uri().to_string());
        async move {
            let mut lines = vec![format!("{} {}", request.method(), request.uri())];
            let fields = request.headers().iter();
            lines.extend(fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?"))));
            let body = request.into_body().collect().await.map(|body| body.to_bytes().len());
            lines.push(format!("body {body:?}"));
            Response::new(full(lines.join("\n")))
        }
    })
    .await;
    (upstream, seen)
}

#[tokio::test]
async fn no_spelling_of_a_path_leads_past_its_rule() {
    let gateway = Gateway::start();
    let (public, admin) = (Upstream::named("public").await, Upstream::named("admin").await);
    let exact = |path: &str, upstream: &Upstream| {
        let mut rule = rule("", path, &[upstream.address]);
        rule.path_type = PathType::Exact.into();
        rule
    };
    gateway
        .route([
            rule("", "/", &[public.address]),
            rule("", "/admin", &[admin.address]),
            exact("/caf\u{e9}", &admin),
        ])
        .await;
    for (target, expected) in [
        ("/public/x", "public"),
        ("/public/../admin", "admin"),
        ("/public/%2e%2e/admin/x", "admin"),
        ("/public/.%2E/%61dmin", "admin"),
        ("//admin", "admin"),
        ("/x/..//admin/", "admin"),
        ("/admin/../public", "public"),
        ("/caf%c3%a9", "admin"),
        ("/caf\u{e9}", "admin"),
        ("http://a.test/public/../admin", "admin"),
    ] {
        let answer = raw(gateway.http, &get(target, "")).await;
        assert_eq!(status(&answer), "200", "{target} {answer}");
        assert!(answer.ends_with(expected), "{target} {answer}");
    }
    for target in [
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public/..\\admin",
        "/x%2f..%2fadmin",
        "/public/..;/admin",
        "/a%00",
    ] {
        assert_eq!(status(&raw(gateway.http, &get(target, "")).await), "400", "{target}");
    }
}

#[tokio::test]
async fn upstreams_get_what_was_judged() {
    let gateway = Gateway::start();
    let (upstream, seen) = witness().await;
    gateway.route_all(&[upstream.address]).await;
    for (target, expected) in [
        ("/public/%2e%2E/admin?a=/../b", "/admin?a=/../b"),
        ("/a%2fb//c", "/a%2Fb//c"),
        ("/x<y>\"z\"`{|}^?q=\"<>\"'`{|}^\\", "/x%3Cy%3E%22z%22%60{|}^?q=%22%3C%3E%22'%60{|}^\\"),
        ("/\u{fc}?\u{fc}", "/%C3%BC?%C3%BC"),
    ] {
        assert_eq!(status(&raw(gateway.http, &get(target, "")).await), "200", "{target}");
        assert_eq!(seen.lock().pop().as_deref(), Some(expected), "{target}");
    }
    let invalid = [&b"GET /\xff?\xfe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..]].concat();
    assert_eq!(status(&raw(gateway.http, &invalid).await), "200");
    assert_eq!(seen.lock().pop().as_deref(), Some("/%FF?%FE"));
    for control in [
        &b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(status(&raw(gateway.http, control).await), "400");
    }
}

#[tokio::test]
async fn raw_characters_pass_behind_bodies_on_one_connection() {
    let gateway = Gateway::start();
    let (upstream, seen) = witness().await;
    gateway.route_all(&[upstream.address]).await;
    let body = "GET /<not> HTTP/1.1\r\n\r\n";
    let stream = format!(
        "POST /<1> HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}PUT /<2> HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET /<3> HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let answer = raw(gateway.http, stream.as_bytes()).await;
    assert_eq!(*seen.lock(), ["/%3C1%3E", "/%3C2%3E", "/%3C3%3E"]);
    assert!(answer.contains(&format!("body Ok({})", body.len())), "{answer}");
}

#[tokio::test]
async fn only_websockets_are_tunnelled() {
    let gateway = Gateway::start();
    let (upstream, _) = witness().await;
    gateway.route_all(&[upstream.address]).await;
    let fields = "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    let request =
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\n{fields}\r\n");
    let answer = raw(gateway.http, request.as_bytes()).await;
    assert_eq!(status(&answer), "200", "{answer}");
    for gone in ["h2c", "http2-settings", "upgrade"] {
        assert!(!answer.to_lowercase().contains(gone), "{answer}");
    }
    // An upstream that switches without being asked to, or to something else.
    for (request, protocol) in [
        (&get("/", "")[..], "h2c"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n", "h2c"),
    ] {
        let answer =
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        let rogue = Rogue::start(answer.into_bytes()).await;
        gateway.route_all(&[rogue.0]).await;
        assert_eq!(status(&raw(gateway.http, request).await), "502", "{protocol}");
    }
}

#[tokio::test]
async fn a_client_cannot_forge_or_strip_what_upstreams_rely_on() {
    let gateway = Gateway::start();
    let (upstream, _) = witness().await;
    gateway.route_all(&[upstream.address]).await;
    let fields = "Connection: Authorization, X-Forwarded-For, Cookie, Host, X-Real-IP\r\n\
        Authorization: Basic eA==\r\nCookie: a=b\r\nX-Forwarded-For: 10.0.0.1\r\nX_Forwarded_For: 10.0.0.2\r\nX-Real-IP: 10.0.0.3\r\n\
        X_Real_IP: 10.0.0.3\r\nForwarded: for=10.0.0.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Original-URL: /admin\r\n";
    let answer = raw(gateway.http, &get("/", fields)).await;
    let port = format!("x-forwarded-port: {}", gateway.http.port());
    for kept in [
        "authorization: Basic eA==",
        "cookie: a=b",
        "host: a.test",
        "x-forwarded-for: 127.0.0.1\n",
        "x-real-ip: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        &port,
    ] {
        assert!(answer.contains(kept), "{kept} is not in {answer}");
    }
    for gone in ["10.0.0.", "forwarded: for", "_", "x-original-url"] {
        assert!(!answer.contains(gone), "{gone} is in {answer}");
    }
    let believing = Gateway::trusting(&["127.0.0.0/8"]);
    believing.route_all(&[upstream.address]).await;
    let answer = raw(
        believing.http,
        &get("/", "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX_Forwarded_For: 10.0.0.2\r\n"),
    )
    .await;
    for kept in [
        "x-forwarded-for: 10.0.0.1, 127.0.0.1\n",
        "x-forwarded-proto: https\n",
        "x-forwarded-port: 443\n",
        "x-real-ip: 10.0.0.1\n",
    ] {
        assert!(answer.contains(kept), "{kept} is not in {answer}");
    }
    assert!(!answer.contains("10.0.0.2"), "{answer}");
}

#[tokio::test]
async fn two_hundred_and_fifty_six_fields_pass_both_ways() {
    let gateway = Gateway::start();
    let upstream = Upstream::start(|request| async move {
        let count = request.headers().len();
        let mut response = Response::new(full(count.to_string()));
        for index in 0..250 {
            let name = HeaderName::try_from(format!("x-answer-{index}")).expect("a name");
            response.headers_mut().insert(name, HeaderValue::from_static("1"));
        }
        response
    })
    .await;
    gateway.route_all(&[upstream.address]).await;
    let fields = |count: usize| (0..count).map(|index| format!("X-{index}: 1\r\n")).collect::<String>();
    // Host and Connection come with them. The test's own upstream reads a hundred, so none of ours reaches it.
    let answer = raw(gateway.http, &get("/", &fields(80))).await;
    assert_eq!(status(&answer), "200", "{answer}");
    assert_eq!(answer.matches("x-answer-").count(), 250);
    let rogue = Rogue::start(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()).await;
    gateway.route_all(&[rogue.0]).await;
    let answer = raw(gateway.http, &get("/", &fields(254))).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    assert_eq!(status(&raw(gateway.http, &get("/", &fields(255))).await), "431");
    assert_eq!(
        status(&raw(gateway.http, &get("/", &format!("X: {}\r\n", "y".repeat(1 << 20)))).await),
        "431"
    );
}

/// Messages that are read in two ways: none makes an upstream see a request that the gateway has not judged.
#[tokio::test]
async fn nothing_is_smuggled() {
    let gateway = Gateway::start();
    let (upstream, seen) = witness().await;
    gateway.route([rule("", "/ok", &[upstream.address])]).await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = format!("0\r\n\r\n{hidden}");
    let cases = [
        ("Content-Length: 6\r\nTransfer-Encoding: chunked", chunked.as_str()),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", &chunked),
        ("Transfer-Encoding: xchunked", &chunked),
        ("Transfer-Encoding: chunked, identity", &chunked),
        ("Transfer-Encoding: identity, chunked, identity", &chunked),
        ("Transfer-Encoding : chunked", &chunked),
        ("Transfer-Encoding:\u{b}chunked", &chunked),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", &chunked),
        ("Content-Length: 0\r\nContent-Length: 44", hidden),
        ("Content-Length: 44, 0", hidden),
        ("Content-Length: +44", hidden),
        ("Content-Length: 0x2c", hidden),
        ("Content-Length: -1", hidden),
        ("Content-Length: 99999999999999999999", hidden),
        ("Content_Length: 44", hidden),
        ("X: y\r\n Content-Length: 44", hidden),
        ("X: y\rContent-Length: 44", hidden),
        ("X: y\nTransfer-Encoding: chunked", &chunked),
        ("\0Content-Length: 44", hidden),
        ("Transfer-Encoding: chunked", "0;x=\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("Transfer-Encoding: chunked", "1;a\nb\r\nx\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("Transfer-Encoding: chunked", "ffffffffffffffff1\r\nx"),
        ("Transfer-Encoding: chunked", "2\r\nxGET /hidden HTTP/1.1\r\n\r\n"),
        ("Transfer-Encoding: chunked", "0\r\nContent-Length: 44\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"),
    ];
    for (index, (fields, body)) in cases.iter().enumerate() {
        let mut stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
        // The last one ends the connection, if it is understood as a request.
        let last = "GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let request = format!("POST /ok/{index} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}{last}");
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        let _ = within(fields, stream.read_to_string(&mut answer)).await;
    }
    assert_eq!(status(&raw(gateway.http, &get("/ok/end", "")).await), "200");
    // Each request reached it once at most, and nothing else did.
    let targets = std::mem::take(&mut *seen.lock());
    let once: BTreeSet<_> = targets.iter().collect();
    assert_eq!(once.len(), targets.len(), "{targets:?}");
    assert!(targets.iter().all(|target| target.starts_with("/ok/")), "{targets:?}");
}

#[tokio::test]
async fn foreign_targets_are_judged_by_their_own_host() {
    let gateway = Gateway::start();
    let (inner, outer) = (Upstream::named("inner").await, Upstream::named("outer").await);
    gateway.route([rule("inner.test", "/", &[inner.address]), rule("a.test", "/", &[outer.address])]).await;
    let answer = raw(gateway.http, &get("http://inner.test/x", "")).await;
    assert!(answer.ends_with("inner"), "the target overrides the Host field: {answer}");
    assert_eq!(status(&raw(gateway.http, &get("http://none.test/", "")).await), "404");
    for request in [
        "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\nConnection: close\r\n\r\n",
        "GET a.test HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test/x\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: u@a.test\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(status(&raw(gateway.http, request.as_bytes()).await), "400", "{request}");
    }
}

/// Answers every connection with the same bytes, whatever it is asked, and leaves.
struct Rogue(SocketAddr, tokio::task::JoinHandle<()>);

impl Rogue {
    async fn start(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let serve = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.clone();
                tokio::spawn(async move {
                    let mut request = [0; 16 << 10];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                    while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
                });
            }
        };
        Self(address, tokio::spawn(serve))
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.1.abort();
    }
}

#[tokio::test]
async fn hostile_upstreams_harm_nobody_else() {
    let gateway = Gateway::start();
    let honest = Upstream::named("honest").await;
    let head = "HTTP/1.1 200 OK\r\n";
    for answer in [
        "nonsense\r\n\r\n".to_owned(),
        format!("{head}Content-Length: -1\r\n\r\nx"),
        format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy"),
        format!("{head}X: {}\r\n\r\n", "y".repeat(1 << 20)),
        format!("{head}{}\r\n", "X: y\r\n".repeat(5_000)),
        format!("{head}X: y\r\n folded\r\n\r\n"),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000),
        String::new(),
    ] {
        let rogue = Rogue::start(answer.clone().into_bytes()).await;
        gateway.route([rule("", "/", &[rogue.0]), rule("", "/honest", &[honest.address])]).await;
        let answered = raw(gateway.http, &get("/", "")).await;
        assert_eq!(status(&answered), "502", "{:?} {answered}", &answer[..answer.len().min(60)]);
        assert!(raw(gateway.http, &get("/honest", "")).await.ends_with("honest"));
    }
    // Both framings: what is passed on has one, and what follows is nobody's response.
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad";
    let rogue = Rogue::start(two.into()).await;
    gateway.route_all(&[rogue.0]).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("a.test", "/").await.text(), "x");
    }
}

/// Short for a test, long for a busy machine.
const BODY: Duration = Duration::from_secs(2);

fn impatient() -> Patience {
    Patience { body: BODY, response: PATIENCE, ..Patience::default() }
}

#[tokio::test]
async fn a_body_that_drips_is_ended() {
    let gateway = Gateway::with_patience(impatient());
    let (upstream, _) = witness().await;
    gateway.route_all(&[upstream.address]).await;
    let mut stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
    let (mut read, mut write) = stream.split();
    write.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await.expect("written");
    let drip = async {
        loop {
            if write.write_all(b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(BODY / 10).await;
        }
    };
    let mut answer = String::new();
    tokio::select! {
        () = drip => unreachable!("it never ends"),
        _ = within("the end of the connection", read.read_to_string(&mut answer)) => {}
    }
    assert_eq!(status(&answer), "408", "{answer}");
}

#[tokio::test]
async fn a_body_that_is_slow_but_comes_is_waited_for() {
    let gateway = Gateway::with_patience(impatient());
    let (upstream, _) = witness().await;
    gateway.route_all(&[upstream.address]).await;
    let mut stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
    let pieces = 16;
    let piece = "x".repeat(200);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        pieces * piece.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    for _ in 0..pieces {
        tokio::time::sleep(BODY / 8).await;
        stream.write_all(piece.as_bytes()).await.expect("the gateway waits");
    }
    let mut answer = String::new();
    within("the answer", stream.read_to_string(&mut answer)).await.expect("whole");
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(answer.ends_with("body Ok(3200)"), "{answer}");
}

#[tokio::test]
async fn a_request_line_of_one_letter_waits_and_costs_nothing_and_may_go_on() {
    let gateway = Gateway::with_threads(1);
    let (upstream, _) = witness().await;
    gateway.route_all(&[upstream.address]).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
        stream.write_all(b"P").await.expect("written");
        streams.push(stream);
    }
    // One that goes on, letter by letter; one that turns out to speak HTTP/2; one that ends.
    let mut slow = streams.pop().expect("fifty");
    for letter in b"OST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" {
        slow.write_all(&[*letter]).await.expect("written");
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    within("the answer", slow.read_to_string(&mut answer)).await.expect("whole");
    assert_eq!(status(&answer), "200");
    let mut http2 = streams.pop().expect("fifty");
    http2.write_all(b"RI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("written");
    let mut settings = [0; 9];
    within("settings", http2.read_exact(&mut settings)).await.expect("a frame");
    assert_eq!(settings[3], 4);
    let mut ended = streams.pop().expect("fifty");
    ended.shutdown().await.expect("ended");
    within("the end", ended.read_to_end(&mut Vec::new())).await.expect("it ends");
    let request = Request::get("/").header("host", "a").body(full("")).expect("a request");
    assert_eq!(gateway.client().await.send(request).await.status(), StatusCode::OK);
}
