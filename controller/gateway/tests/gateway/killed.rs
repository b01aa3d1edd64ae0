//! `kill -9` of a real gateway process, and what its successor makes of the clients' connections.

pub(crate) mod process;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, header::CONTENT_LENGTH};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};

use crate::support::{Answer, Client, Upstream, eventually, full, within};
use process::Supervisor;

/// Answers when it is allowed to: one permit for each request. The answer is what was asked, with the body.
struct Gate(Arc<Semaphore>);

impl Gate {
    async fn upstream() -> (Self, Upstream) {
        let gate = Arc::new(Semaphore::new(0));
        let open = gate.clone();
        let handler = move |request: Request<Incoming>| {
            let open = open.clone();
            async move {
                let asked = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                open.acquire().await.expect("never closed").forget();
                let body = body.map(|body| String::from_utf8_lossy(&body).into_owned()).unwrap_or_default();
                Response::new(full(format!("{asked} {body};")))
            }
        };
        (Self(gate), Upstream::start(handler).await)
    }

    fn open(&self, requests: usize) {
        self.0.add_permits(requests);
    }
}

/// A client that sees bytes.
struct Raw(TcpStream);

impl Raw {
    async fn connect(supervisor: &Supervisor) -> Self {
        Self(TcpStream::connect(supervisor.address()).await.expect("the gateway listens"))
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.expect("sent");
    }

    /// Reads until this was read.
    async fn expect(&mut self, end: &str) -> String {
        let mut text = String::new();
        let read = async {
            while !text.contains(end) {
                let mut bytes = [0; 4096];
                let count = self.0.read(&mut bytes).await.expect("readable");
                assert!(count > 0, "the connection ended after {text:?}");
                text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        within(end, read).await;
        text
    }

    /// What comes until the connection ends, by whatever end.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = within("the end of the connection", self.0.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n")
}

async fn requests(upstream: &Upstream, count: usize) {
    eventually("the requests reach the upstream", || upstream.requests() >= count).await;
    assert_eq!(upstream.requests(), count);
}

#[tokio::test]
async fn idle_connections_and_waiting_requests_go_on() {
    let (gate, upstream) = Gate::upstream().await;
    let mut supervisor = Supervisor::start(&upstream).await;
    let mut idle = Raw::connect(&supervisor).await;
    let mut fresh = Raw::connect(&supervisor).await;
    let mut waiting = Raw::connect(&supervisor).await;
    gate.open(2);
    for client in [&mut idle, &mut waiting] {
        client.send(&get("/first")).await;
        client.expect("GET /first ;").await;
    }
    waiting.send(&get("/waiting")).await;
    requests(&upstream, 3).await;

    supervisor.kill_and_restart().await;
    requests(&upstream, 4).await;
    gate.open(4);
    // The first one came from the process that is dead: its answer has nowhere to go.
    waiting.expect("GET /waiting ;").await;
    idle.send(&get("/idle")).await;
    idle.expect("GET /idle ;").await;
    fresh.send(&get("/fresh")).await;
    fresh.expect("GET /fresh ;").await;

    // And the successor's connections are held as well.
    supervisor.kill_and_restart().await;
    for client in [&mut idle, &mut fresh, &mut waiting] {
        gate.open(1);
        client.send(&get("/again")).await;
        client.expect("GET /again ;").await;
    }
}

#[tokio::test]
async fn what_was_accepted_and_is_not_held_goes_on() {
    let (gate, upstream) = Gate::upstream().await;
    gate.open(2_000);
    let mut supervisor = Supervisor::start(&upstream).await;
    let mut clients = Vec::new();
    let mut seen = 0;
    // This supervisor does not listen meanwhile: the way to it is full before all have come.
    for number in 0..400_usize {
        let mut client = Raw::connect(&supervisor).await;
        if number.is_multiple_of(50) {
            client.send(&get("/first")).await;
            client.expect("GET /first ;").await;
            seen += 1;
        }
        clients.push(client);
    }
    requests(&upstream, seen).await;
    assert!(supervisor.own().len() < clients.len(), "all were held: this shows nothing");
    let untouched = |number: &usize| !number.is_multiple_of(50);
    supervisor.kill_and_restart().await;
    for (number, client) in clients.iter_mut().enumerate().filter(|(number, _)| untouched(number)) {
        let path = format!("/{number}");
        client.send(&get(&path)).await;
        client.expect(&format!("GET {path} ;")).await;
    }
    // The successor holds them, and so does its own.
    supervisor.own();
    supervisor.kill_and_restart().await;
    for (number, client) in clients.iter_mut().enumerate().filter(|(number, _)| untouched(number)) {
        let path = format!("/{number}/again");
        client.send(&get(&path)).await;
        client.expect(&format!("GET {path} ;")).await;
    }
    assert!(supervisor.own().iter().all(|name| !name.starts_with("new-")), "{:?}", supervisor.own());
}

#[tokio::test]
async fn a_partly_received_head_is_completed_by_the_rest() {
    let (gate, upstream) = Gate::upstream().await;
    gate.open(10);
    let mut supervisor = Supervisor::start(&upstream).await;
    let mut client = Raw::connect(&supervisor).await;
    let request = "GET /in/parts HTTP/1.1\r\nhost: a.test\r\nx-long: value\r\n\r\n";
    for cut in [2, 30, request.len() - 2, request.len() - 1] {
        client.send(&request[..cut]).await;
        // Another connection's answer: the gateway has most likely seen the part by then.
        Client::connect(supervisor.address()).await.get("a.test", "/").await;
        supervisor.kill_and_restart().await;
        client.send(&request[cut..]).await;
        client.expect("GET /in/parts ;").await;
        gate.open(2);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_once_and_in_order() {
    let (gate, upstream) = Gate::upstream().await;
    let mut supervisor = Supervisor::start(&upstream).await;
    let mut client = Raw::connect(&supervisor).await;
    client.send(&[get("/1"), get("/2"), get("/3")].concat()).await;
    requests(&upstream, 1).await;
    gate.open(1);
    client.expect("GET /1 ;").await;
    requests(&upstream, 2).await;
    supervisor.kill_and_restart().await;
    requests(&upstream, 3).await;
    client.send(&get("/4")).await;
    gate.open(4);
    let rest = client.expect("GET /4 ;").await;
    let at = |part: &str| rest.find(part).unwrap_or_else(|| panic!("{part} is not in {rest:?}"));
    assert!(at("GET /2 ;") < at("GET /3 ;") && at("GET /3 ;") < at("GET /4 ;"), "{rest}");
    assert_eq!(rest.matches("HTTP/1.1 200").count(), 3, "{rest}");
}

#[tokio::test]
async fn what_must_not_be_repeated_is_not() {
    let (gate, upstream) = Gate::upstream().await;
    let mut supervisor = Supervisor::start(&upstream).await;
    let large = "x".repeat(1 << 20);
    let chunked = "PUT /chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        .to_owned();
    for (count, request) in [
        "POST /empty HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "POST /form HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na=b".to_owned(),
        format!("PUT /large HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{large}", large.len()),
        "PUT /expect HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\na=b".to_owned(),
        chunked,
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Raw::connect(&supervisor).await;
        client.send(&request).await;
        requests(&upstream, count + 1).await;
        supervisor.kill_and_restart().await;
        let rest = client.rest().await;
        assert!(rest.is_empty() || rest.contains("100 Continue"), "{rest}");
        assert_eq!(upstream.requests(), count + 1, "it was executed twice: {}", &request[..20]);
    }
    // Once answered, they leave a connection that goes on.
    let mut client = Raw::connect(&supervisor).await;
    gate.open(10);
    client.send("POST /form HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na=b").await;
    client.expect("POST /form a=b;").await;
    supervisor.kill_and_restart().await;
    client.send(&get("/then")).await;
    client.expect("GET /then ;").await;
}

#[tokio::test]
async fn an_idempotent_request_is_repeated_with_its_body() {
    let (gate, upstream) = Gate::upstream().await;
    let mut supervisor = Supervisor::start(&upstream).await;
    let mut client = Raw::connect(&supervisor).await;
    client.send("PUT /x HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\nfirst").await;
    client.send("-second").await;
    requests(&upstream, 1).await;
    supervisor.kill_and_restart().await;
    // Its body came in portions, or whole.
    eventually("it is repeated", || upstream.requests() >= 2).await;
    gate.open(9);
    client.expect("PUT /x first-second;").await;
}

#[tokio::test]
async fn a_response_that_was_begun_ends_with_its_process() {
    let endless = |request: Request<Incoming>| async move {
        let known = request.uri().path() == "/known";
        let frames = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, hyper::Error>(Frame::data(Bytes::from_static(b"more;"))), ()))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed());
        if known {
            response.headers_mut().insert(CONTENT_LENGTH, 1_000_000_000.into());
        }
        response
    };
    let upstream = Upstream::start(endless).await;
    let mut supervisor = Supervisor::start(&upstream).await;
    for path in ["/chunked", "/known"] {
        let mut client = Raw::connect(&supervisor).await;
        client.send(&get(path)).await;
        client.expect("more;").await;
        supervisor.kill_and_restart().await;
        let rest = client.rest().await;
        assert!(
            !rest.contains("HTTP/1.1") && !rest.contains("0\r\n\r\n"),
            "it does not pass for whole: {rest}"
        );
    }
}

#[tokio::test]
async fn a_chunked_response_leaves_an_idle_connection() {
    let chunked = |_| async {
        let frames =
            stream::iter(["one;", "two;"].map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))));
        Response::new(StreamBody::new(frames).boxed())
    };
    let upstream = Upstream::start(chunked).await;
    let mut supervisor = Supervisor::start(&upstream).await;
    let mut client = Raw::connect(&supervisor).await;
    for _ in 0..3 {
        client.send(&get("/")).await;
        client.expect("\r\n0\r\n\r\n").await;
        // The client may have the end before the gateway has taken note of it.
        supervisor.settled().await;
        supervisor.kill_and_restart().await;
    }
}

#[tokio::test]
async fn an_upgraded_connection_ends_with_its_process() {
    let upstream = crate::protocols::echo().await;
    let mut supervisor = Supervisor::start(&upstream).await;
    let mut client = Raw::connect(&supervisor).await;
    client.send("GET / HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n").await;
    client.expect("hello\n").await;
    client.send("and back").await;
    client.expect("and back").await;
    supervisor.kill_and_restart().await;
    let _ = client.0.write_all(b"anybody?").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn clients_hear_the_end_of_a_held_connection_at_once() {
    let (gate, upstream) = Gate::upstream().await;
    gate.open(1000);
    let mut supervisor = Supervisor::start(&upstream).await;
    // The gateway ends it: the supervisor's duplicate must not keep it open.
    let mut closing = Raw::connect(&supervisor).await;
    closing.send("GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(closing.rest().await.ends_with("GET /last ;"));
    let mut wrong = Raw::connect(&supervisor).await;
    wrong.send("nonsense\r\n\r\n").await;
    assert!(wrong.rest().await.starts_with("HTTP/1.1 400"));
    // The client ends its half: idle, with a request that waits, and across a kill.
    let mut idle = Raw::connect(&supervisor).await;
    idle.send(&get("/first")).await;
    idle.expect("GET /first ;").await;
    idle.0.shutdown().await.expect("ended");
    assert_eq!(idle.rest().await, "");
    let mut ended = Raw::connect(&supervisor).await;
    ended.send(&get("/first")).await;
    ended.expect("GET /first ;").await;
    supervisor.kill();
    ended.0.shutdown().await.expect("ended");
    supervisor.restart().await;
    assert_eq!(ended.rest().await, "");
    // And the supervisor is told: what has ended takes no descriptor.
    for _ in 0..50 {
        Client::connect(supervisor.address()).await.get("a.test", "/").await;
    }
    eventually("only the table is left", || supervisor.own() == ["table"]).await;
}

#[tokio::test]
async fn a_request_that_kills_is_given_up() {
    let (_gate, upstream) = Gate::upstream().await;
    let mut supervisor = Supervisor::start(&upstream).await;
    let mut deadly = Raw::connect(&supervisor).await;
    deadly.send(&get("/deadly")).await;
    requests(&upstream, 1).await;
    for again in 2..=3 {
        supervisor.kill_and_restart().await;
        requests(&upstream, again).await;
    }
    supervisor.kill_and_restart().await;
    assert_eq!(deadly.rest().await, "");
    assert_eq!(upstream.requests(), 3);
}

#[tokio::test]
async fn kills_under_load_lose_no_request() {
    let slow = |request: Request<Incoming>| async move {
        let path = request.uri().path().to_owned();
        if path.starts_with("/slow") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // More than one segment, but what one write takes: a response that was partly written is lost.
        let filler = if path.ends_with('7') { "x".repeat(4_000) } else { String::new() };
        Response::new(full(path + &filler))
    };
    let upstream = Upstream::start(slow).await;
    let mut supervisor = Supervisor::start(&upstream).await;
    let address = supervisor.address();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::<[AtomicU64; 8]>::default();
    let clients: Vec<_> = (0..8)
        .map(|index| {
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut count = 0;
                let mut client = Client::connect(address).await;
                while !stop.load(Ordering::SeqCst) {
                    let path = format!("/{}/{index}/{count}", if index % 2 == 0 { "slow" } else { "fast" });
                    let request =
                        Request::get(&path).header("host", "a.test").body(full("")).expect("a request");
                    let answer = match read(client.try_send(request).await).await {
                        Ok(answer) => answer,
                        Err(error) => panic!("client {index} lost {path}: {error:?}"),
                    };
                    assert!(answer.text().starts_with(&path), "client {index} got another's answer");
                    count += 1;
                    answered[index].fetch_add(1, Ordering::SeqCst);
                    if index > 5 {
                        client = Client::connect(address).await;
                    }
                }
                count
            })
        })
        .collect();
    for round in 1..=10 {
        let target = upstream.requests() + 300;
        let before = answered.each_ref().map(|answered| answered.load(Ordering::SeqCst));
        // No request meets more than one of these kills: what meets three of them is given up as deadly.
        let all_went_on =
            || answered.iter().zip(before).all(|(answered, before)| answered.load(Ordering::SeqCst) > before);
        eventually("the load goes on", || {
            (upstream.requests() > target && all_went_on())
                || clients.iter().any(tokio::task::JoinHandle::is_finished)
        })
        .await;
        supervisor.kill_and_restart().await;
        println!("kill {round} after {} requests", upstream.requests());
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        within("the end of the load", client).await.expect("no request was lost");
    }
}

async fn read(response: hyper::Result<Response<Incoming>>) -> hyper::Result<Answer> {
    Answer::read(response?).await
}
