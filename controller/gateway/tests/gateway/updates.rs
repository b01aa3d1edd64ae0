//! Law 1: endpoints are replaced under load and nobody notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use warren_proto::control::{HttpPolicy, HttpRoute};

use crate::support::{Answer, Client, DeadPort, Gateway, Upstream, asking, eventually, full, rule, within};

/// Takes a moment, so that requests are always in flight.
async fn server() -> Upstream {
    Upstream::start(|request| async move {
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        tokio::time::sleep(Duration::from_millis(2)).await;
        Response::new(full(body))
    })
    .await
}

struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failures: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Load {
    /// Half of the clients keep their connection, half connect anew each time; half of the requests may
    /// not be repeated.
    fn start(gateway: &Gateway, clients: usize) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            stop: Arc::default(),
            answered: Arc::default(),
            failures: Arc::default(),
        };
        for index in 0..clients {
            let (address, stop) = (gateway.http, load.stop.clone());
            let (answered, failures) = (load.answered.clone(), load.failures.clone());
            load.clients.spawn(async move {
                let mut client = Client::connect(address).await;
                for turn in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    if index % 2 == 0 {
                        client = Client::connect(address).await;
                    }
                    let method = if turn % 2 == 0 { "POST" } else { "GET" };
                    let request = Request::builder().method(method).uri("/").header("host", "a.test");
                    let request =
                        request.body(full(if turn % 2 == 0 { "sent" } else { "" })).expect("a request");
                    let outcome = match client.try_send(request).await {
                        Ok(response) => Answer::read(response).await,
                        Err(error) => Err(error),
                    };
                    match outcome {
                        Ok(answer) if answer.status == StatusCode::OK => {
                            answered.fetch_add(1, Ordering::SeqCst);
                        }
                        other => failures.lock().push(format!("{method}: {other:?}")),
                    }
                }
            });
        }
        load
    }

    /// Waits until so many more requests were answered.
    async fn goes_on(&self, requests: usize) {
        let goal = self.answered.load(Ordering::SeqCst) + requests;
        eventually("the load goes on", || {
            self.answered.load(Ordering::SeqCst) >= goal || !self.failures.lock().is_empty()
        })
        .await;
        assert_eq!(*self.failures.lock(), Vec::<String>::new());
    }

    async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(client) = within("the end of the load", self.clients.join_next()).await {
            client.expect("no panic");
        }
        assert_eq!(*self.failures.lock(), Vec::<String>::new());
        self.answered.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_replaced_under_load_without_a_failure() {
    let gateway = Gateway::start();
    let mut current = vec![server().await, server().await];
    let addresses = |servers: &[Upstream]| servers.iter().map(|server| server.address).collect::<Vec<_>>();
    gateway.route_all(&addresses(&current)).await;
    let load = Load::start(&gateway, 8);
    let mut gone = Vec::new();
    for _ in 0..25 {
        load.goes_on(40).await;
        let old = current.remove(0);
        current.push(server().await);
        gateway.route_all(&addresses(&current)).await;
        // Acknowledged: requests that were in flight end, and their connections with them.
        eventually("the old endpoint is left alone", || old.open() == 0).await;
        gone.push((old.requests(), old));
    }
    load.goes_on(40).await;
    for (requests, old) in &gone {
        assert_eq!(old.requests(), *requests, "a request went to an endpoint after the acknowledgement");
        assert_eq!(old.open(), 0, "a connection was made to an endpoint after the acknowledgement");
    }
    assert!(load.end().await >= 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_endpoint_may_stop_listening_at_the_acknowledgement() {
    let gateway = Gateway::start();
    let mut current = server().await;
    gateway.route_all(&[current.address]).await;
    let load = Load::start(&gateway, 6);
    for _ in 0..25 {
        load.goes_on(20).await;
        let next = server().await;
        gateway.route_all(&[next.address]).await;
        // Refusals would cost attempts, and with a single endpoint they would show.
        current.stop_listening();
        current = next;
    }
    load.goes_on(20).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_may_lose_all_endpoints_for_a_moment() {
    let gateway = Gateway::start();
    let first = server().await;
    gateway.route_all(&[first.address]).await;
    let load = Load::start(&gateway, 4);
    for _ in 0..10 {
        load.goes_on(10).await;
        gateway.route_all(&[]).await;
        let next = server().await;
        gateway.route_all(&[next.address, first.address]).await;
        load.goes_on(10).await;
        gateway.route_all(&[first.address]).await;
        eventually("the endpoint is left alone", || next.open() == 0).await;
    }
    load.end().await;
}

#[tokio::test]
async fn idle_connections_to_a_vanished_endpoint_are_closed_before_the_acknowledgement() {
    let gateway = Gateway::with_threads(1);
    let (old, new) = (Upstream::named("old").await, Upstream::named("new").await);
    gateway.route_all(&[old.address]).await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("a.test", "/").await.text(), "old");
    assert_eq!(old.open(), 1);
    gateway.route_all(&[new.address]).await;
    eventually("the idle connection is closed", || old.open() == 0).await;
    assert_eq!(client.get("a.test", "/").await.text(), "new");
}

#[tokio::test]
async fn a_change_elsewhere_keeps_connections() {
    let gateway = Gateway::with_threads(1);
    let (one, other) = (Upstream::named("one").await, Upstream::named("other").await);
    let mut client = gateway.client().await;
    for turn in 0..10 {
        let others = if turn % 2 == 0 { vec![other.address] } else { vec![] };
        gateway.route([rule("one.test", "/", &[one.address]), rule("other.test", "/", &others)]).await;
        assert_eq!(client.get("one.test", "/").await.text(), "one");
    }
    assert_eq!(one.accepted(), 1);
}

#[tokio::test]
async fn what_pods_answer_is_counted_by_service_and_pod() {
    let gateway = Gateway::with_threads(1);
    let upstream = Upstream::start(|request| async move {
        let status = if request.uri().path() == "/bad" { 503 } else { 404 };
        Response::builder().status(status).body(full("as asked")).expect("a response")
    })
    .await;
    let dead = DeadPort::new();
    let to = |service: &str, pods: &[&str], rule| HttpRoute {
        backend: format!("shop/{service}:80"),
        pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
        ..rule
    };
    let rules = || {
        [
            to("cart", &["web-1"], rule("a.test", "/", &[upstream.address])),
            to("cart", &["dead-1", "web-1"], rule("b.test", "/", &[dead.address(), upstream.address])),
            // Somebody else's service leads to the same address.
            to("other", &["web-1"], rule("c.test", "/", &[upstream.address])),
            to("old", &[], rule("d.test", "/", &[upstream.address])),
        ]
    };
    gateway.route(rules()).await;
    let mut client = gateway.client().await;
    for (host, path) in [("a.test", "/"), ("a.test", "/bad"), ("c.test", "/bad"), ("d.test", "/bad")] {
        client.get(host, path).await;
    }
    let answered = |service: &str, pod: &str| gateway.routes.answered(service, pod);
    assert_eq!(answered("shop/cart", "web-1"), Some((2, 1)));
    assert_eq!((answered("shop/other", "web-1"), answered("shop/old", "web-1")), (Some((1, 1)), None));
    assert_eq!(answered("shop/cart", "dead-1"), Some((0, 0)));
    // Until the one that refuses was tried: each request is answered by the other, which is told of all the same.
    let mut sent = 0;
    while answered("shop/cart", "dead-1") == Some((0, 0)) {
        assert_eq!(client.get("b.test", "/").await.status, 404);
        sent += 1;
        assert!(sent < 1_000, "it is never tried");
    }
    assert_eq!(answered("shop/cart", "dead-1"), Some((1, 1)));
    assert_eq!(answered("shop/cart", "web-1"), Some((2 + sent, 1)));
    gateway.route(rules()).await;
    client.get("a.test", "/bad").await;
    assert_eq!(answered("shop/cart", "web-1"), Some((3 + sent, 2)), "from table to table");
    gateway.route([to("other", &["web-2"], rule("", "/", &[upstream.address]))]).await;
    assert_eq!((answered("shop/cart", "web-1"), answered("shop/other", "web-2")), (None, Some((0, 0))));
}

#[tokio::test]
async fn requests_are_counted_by_service_from_table_to_table() {
    let gateway = Gateway::start();
    let upstream = Upstream::named("here").await;
    let to = |service: &str, rule| HttpRoute { backend: format!("shop/{service}:80"), ..rule };
    let redirect =
        HttpPolicy { redirect_url: "http://b.test/".into(), redirect_status: 302, ..HttpPolicy::default() };
    let rules = || {
        [
            to("cart", rule("a.test", "/", &[upstream.address])),
            to("cart", rule("b.test", "/", &[upstream.address])),
            to("idle", rule("c.test", "/", &[upstream.address])),
            to("cart", asking(rule("d.test", "/", &[]), redirect.clone())),
        ]
    };
    gateway.route(rules()).await;
    let mut client = gateway.client().await;
    for host in ["a.test", "b.test", "d.test", "none.test"] {
        client.get(host, "/").await;
    }
    let admitted = |service: &str| gateway.routes.admitted(service);
    assert_eq!(admitted("shop/cart"), Some(2), "what goes nowhere is nobody's");
    assert_eq!((admitted("shop/idle"), admitted("shop/none")), (Some(0), None));
    gateway.route(rules()).await;
    assert_eq!(client.get("a.test", "/").await.text(), "here");
    assert_eq!(admitted("shop/cart"), Some(3));
    gateway.route([to("idle", rule("", "/", &[upstream.address]))]).await;
    assert_eq!(admitted("shop/cart"), None, "no rule leads to it any more");
}
