//! What goes wrong: no rule, no endpoint, upstreams that refuse, break off or talk nonsense.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Request, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::support::{Answer, DeadPort, Gateway, Upstream, eventually, full, plain, rule, within};

#[tokio::test]
async fn a_request_without_a_rule_is_told_so() {
    let gateway = Gateway::start();
    gateway.route([rule("shop.test", "/cart", &[])]).await;
    let mut client = gateway.client().await;
    let answer = client.get("shop.test", "/other?x=1").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::NOT_FOUND, "no route for shop.test /other\n"));
    assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(client.get("news.test", "/cart").await.text(), "no route for news.test /cart\n");
}

#[tokio::test]
async fn malformed_requests_are_refused_and_do_no_harm() {
    let gateway = Gateway::start();
    let upstream = Upstream::named("a").await;
    gateway.route_all(&[upstream.address]).await;
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HTTP/1.1 400"),
        ("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n", "HTTP/1.1 400"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
        ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200"),
    ] {
        let mut stream = TcpStream::connect(gateway.http).await.expect("the gateway listens");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = vec![0; expected.len()];
        let read = within("an answer", stream.read_exact(&mut answer)).await;
        assert!(read.is_ok(), "{request:?} {read:?} {:?}", String::from_utf8_lossy(&answer));
        assert_eq!(String::from_utf8_lossy(&answer), expected, "{request}");
    }
    let mut huge = TcpStream::connect(gateway.http).await.expect("the gateway listens");
    let _ = huge
        .write_all(format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(2 << 20)).as_bytes())
        .await;
    assert_eq!(gateway.client().await.get("a.test", "/").await.text(), "a");
}

#[tokio::test]
async fn a_request_waits_for_an_endpoint() {
    let gateway = Gateway::start();
    gateway.route_all(&[]).await;
    let mut client = gateway.client().await;
    let asking = tokio::spawn(async move { client.post("/", "body").await });
    // Changes that do not help are waited through.
    for _ in 0..3 {
        gateway.route_all(&[]).await;
    }
    assert!(!asking.is_finished());
    let upstream = Upstream::named("at last").await;
    gateway.route_all(&[upstream.address]).await;
    let answer = within("the answer", asking).await.expect("no panic");
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "at last"));
}

#[tokio::test]
async fn a_request_waits_for_the_first_routes() {
    let gateway = Gateway::start();
    let upstream = Upstream::named("ready").await;
    let mut client = gateway.client().await;
    let asking = tokio::spawn(async move { client.get("a.test", "/").await });
    gateway.route_all(&[upstream.address]).await;
    assert_eq!(within("the answer", asking).await.expect("no panic").text(), "ready");
}

#[tokio::test]
async fn waiting_ends_with_the_name_of_the_service() {
    let gateway = Gateway::start();
    gateway.route_all(&[]).await;
    let answer = gateway.client().await.get("a.test", "/").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.text(), "no ready endpoint for default/web:80 within 5 s\n");
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_whatever_the_method() {
    let gateway = Gateway::start();
    let (dead, alive) = (DeadPort::new(), Upstream::named("alive").await);
    // New tables with new endpoint state in between, so that the dead one is tried again and again.
    for _ in 0..20 {
        gateway.route_all(&[dead.address(), alive.address]).await;
        let mut client = gateway.client().await;
        let answer = client.post("/", "a body that must arrive").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "alive"));
        gateway.route([]).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_left_alone_for_a_while() {
    let gateway = Gateway::with_threads(1);
    let (dead, alive) = (DeadPort::new(), Upstream::named("alive").await);
    gateway.route_all(&[dead.address(), alive.address]).await;
    let mut client = gateway.client().await;
    for _ in 0..200 {
        assert_eq!(client.get("a.test", "/").await.text(), "alive");
    }
}

#[tokio::test]
async fn when_all_refuse_the_client_learns_it() {
    let gateway = Gateway::start();
    let dead = [DeadPort::new(), DeadPort::new()];
    gateway.route_all(&dead.each_ref().map(DeadPort::address)).await;
    let answer = gateway.client().await.get("a.test", "/").await;
    assert_eq!(
        (answer.status, answer.text()),
        (StatusCode::BAD_GATEWAY, "default/web:80 refused the connection\n")
    );
}

/// A listener whose queue is full: the kernel ignores further connections, as a dead machine would.
struct Silent(socket2::Socket, Vec<socket2::Socket>);

impl Silent {
    fn new() -> Self {
        let socket =
            || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("bound");
        let connect = |_| {
            let client = socket();
            client.set_nonblocking(true).expect("a socket");
            let _ = client.connect(&address);
            client
        };
        let clients = (0..4).map(connect).collect();
        Self(listener, clients)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound").as_socket().expect("an IP address")
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_is_passed_over() {
    let gateway = Gateway::with_threads(1);
    let (silent, alive) = (Silent::new(), Upstream::named("alive").await);
    assert_eq!(silent.1.len(), 4);
    gateway.route_all(&[silent.address(), alive.address]).await;
    let mut client = gateway.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("/", "body").await.text(), "alive");
    }
}

#[tokio::test]
async fn when_none_answers_the_client_learns_it() {
    let gateway = Gateway::start();
    let silent = Silent::new();
    gateway.route_all(&[silent.address()]).await;
    let answer = gateway.client().await.get("a.test", "/").await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.text(), "default/web:80 did not accept the connection in time\n");
}

#[tokio::test]
async fn the_only_endpoint_may_come_back_between_attempts() {
    let gateway = Gateway::start();
    let dead = DeadPort::new();
    gateway.route_all(&[dead.address()]).await;
    let mut client = gateway.client().await;
    let asking = tokio::spawn(async move { client.post("/", "body").await });
    let upstream = Upstream::named("moved").await;
    gateway.route_all(&[upstream.address]).await;
    assert_eq!(within("the answer", asking).await.expect("no panic").text(), "moved");
}

/// Answers the first request of each connection, and closes it when a second one comes. Returns how many
/// requests came.
async fn answers_once() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                for turn in 0..2 {
                    if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                        return;
                    }
                    counter.fetch_add(1, Ordering::SeqCst);
                    if turn == 0 {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                }
            });
        }
    });
    (address, requests)
}

#[tokio::test]
async fn a_kept_connection_that_dies_costs_an_idempotent_request_nothing() {
    let gateway = Gateway::with_threads(1);
    let (address, requests) = answers_once().await;
    gateway.route_all(&[address]).await;
    let mut client = gateway.client().await;
    for _ in 0..10 {
        let answer = client.get("a.test", "/").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "ok"));
    }
    assert!(requests.load(Ordering::SeqCst) > 10, "no kept connection was used");
}

#[tokio::test]
async fn a_request_that_may_have_had_its_effect_is_not_repeated() {
    let gateway = Gateway::with_threads(1);
    let (address, requests) = answers_once().await;
    gateway.route_all(&[address]).await;
    let mut client = gateway.client().await;
    let mut failed = 0;
    for _ in 0..10 {
        let answer = client.post("/", "").await;
        if answer.status != StatusCode::OK {
            failed += 1;
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
            assert_eq!(answer.text(), "default/web:80 closed the connection without a response\n");
        }
    }
    assert_eq!(requests.load(Ordering::SeqCst), 10, "each request was sent exactly once");
    assert!(failed > 0, "no kept connection was used");
}

#[tokio::test]
async fn an_upstream_that_talks_nonsense_is_a_bad_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n\r\n").await;
        }
    });
    let gateway = Gateway::start();
    gateway.route_all(&[address]).await;
    let answer = gateway.client().await.get("a.test", "/").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.text(), "default/web:80 sent a malformed response\n");
}

#[tokio::test]
async fn a_length_that_an_encoding_overrides_is_not_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(format!("{head}5\r\nhello\r\n0\r\n\r\n").as_bytes()).await;
        }
    });
    let gateway = Gateway::start();
    gateway.route_all(&[address]).await;
    let answer = gateway.client().await.get("a.test", "/").await;
    assert_eq!((answer.text(), answer.headers.get("content-length")), ("hello", None));
}

#[tokio::test]
async fn a_response_that_breaks_off_is_not_passed_off_as_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
                .await;
        }
    });
    let gateway = Gateway::start();
    gateway.route_all(&[address]).await;
    let mut client = gateway.client().await;
    let request = Request::get("/").header("host", "a.test").body(full("")).expect("a request");
    let response = client.send(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(within("the end", Answer::read(response)).await.is_err());
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_takes_no_new_connections() {
    let mut gateway = Gateway::start();
    // Held listening sockets would go on to take connections, for a successor.
    gateway.lose_supervisor();
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = release.clone();
    let upstream = Upstream::start(move |_| {
        let gate = gate.clone();
        async move {
            let _ = gate.acquire().await;
            http::Response::new(full("finished"))
        }
    })
    .await;
    gateway.route_all(&[upstream.address]).await;
    let mut busy = gateway.client().await;
    let asking = tokio::spawn(async move { busy.get("a.test", "/").await });
    eventually("the request arrives", || upstream.requests() == 1).await;
    gateway.stop.cancel();
    let refused = async { while TcpStream::connect(gateway.http).await.is_ok() {} };
    within("connections are refused", refused).await;
    release.add_permits(10);
    let answer = within("the answer", asking).await.expect("no panic");
    assert_eq!(answer.text(), "finished");
    assert_eq!(answer.headers["connection"], "close");
    gateway.ended().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("bound");
    let stop = tokio_util::sync::CancellationToken::new();
    let routes = warren_gateway::Routes::new(warren_gateway::Refused::default());
    let served = warren_gateway::serve(plain(address, 1), &routes, &stop);
    let error = served.err().expect("the port is taken");
    let error = format!("{error:#}");
    assert!(error.contains(&address.to_string()) && error.contains("in use"), "{error}");
}
