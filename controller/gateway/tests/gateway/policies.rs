//! What an Ingress's annotations ask for, as the gateway does it.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use warren_proto::control::{BasicAuthentication, HttpPolicy, HttpRoute, PathType, feed_item::Item};

use crate::{
    protocols::tls,
    support::{Answer, Client, Gateway, Upstream, asking, full, rule, within},
};

async fn mirror() -> Upstream {
    Upstream::start(|request| async move {
        let host =
            request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("-").to_owned();
        Response::new(full(format!("{} {host} {}", request.method(), request.uri())))
    })
    .await
}

fn policy(change: impl FnOnce(&mut HttpPolicy)) -> HttpPolicy {
    let mut policy = HttpPolicy::default();
    change(&mut policy);
    policy
}

async fn get(client: &mut Client, path: &str, fields: &[(&'static str, String)]) -> Answer {
    let mut request = Request::get(path).header("host", "a.test:8080");
    for (name, value) in fields {
        request = request.header(*name, value);
    }
    Answer::read(client.send(request.body(full("")).expect("a request")).await).await.expect("whole")
}

fn location(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.headers.get("location").and_then(|url| url.to_str().ok()).unwrap_or("-"))
}

#[tokio::test]
async fn redirects_need_no_backend() {
    let gateway = Gateway::start();
    gateway
        .route([
            asking(
                rule("", "/moved", &[]),
                policy(|policy| {
                    policy.redirect_url = "https://b.test/new".into();
                    policy.redirect_status = 301;
                }),
            ),
            asking(rule("", "/secure", &[]), policy(|policy| policy.redirect_to_https = true)),
            asking(rule("", "/", &[]), policy(|policy| policy.app_root = "/app".into())),
        ])
        .await;
    let mut client = gateway.client().await;
    assert_eq!(location(&get(&mut client, "/moved/x", &[]).await), (301, "https://b.test/new"));
    assert_eq!(
        location(&get(&mut client, "/secure/a%20b?c=%22d", &[]).await),
        (308, "https://a.test/secure/a%20b?c=%22d")
    );
    // Nobody who is not believed says that it was HTTPS.
    let forged = [("x-forwarded-proto", "https".to_owned())];
    assert_eq!(get(&mut client, "/secure", &forged).await.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(location(&get(&mut client, "/", &[]).await), (302, "/app"));

    let (believing, upstream) = (Gateway::trusting(&["127.0.0.1/32"]), mirror().await);
    let secure = asking(rule("", "/", &[upstream.address]), policy(|policy| policy.redirect_to_https = true));
    believing.route([secure]).await;
    let mut client = believing.client().await;
    assert_eq!(get(&mut client, "/x", &forged).await.status, StatusCode::OK);
    assert_eq!(get(&mut client, "/x", &[]).await.status, StatusCode::PERMANENT_REDIRECT);
    let stream = tls(believing.https.expect("https"), b"http/1.1").await;
    let mut client = Client::over(TokioIo::new(stream)).await;
    assert_eq!(get(&mut client, "/x", &[]).await.status, StatusCode::OK, "it came over TLS");
}

#[tokio::test]
async fn paths_and_hosts_are_rewritten() {
    let gateway = Gateway::start();
    let upstream = mirror().await;
    let pattern =
        HttpRoute { path_type: PathType::Regex.into(), ..rule("", "/api(/|$)(.*)", &[upstream.address]) };
    gateway
        .route([
            asking(pattern, policy(|policy| policy.rewrite_target = "/$2".into())),
            asking(
                rule("", "/old", &[upstream.address]),
                policy(|policy| {
                    policy.rewrite_target = "/new?x=y".into();
                    policy.upstream_host = "db.example".into();
                }),
            ),
            rule("", "/", &[upstream.address]),
        ])
        .await;
    let mut client = gateway.client().await;
    for (path, expected) in [
        ("/api", "GET a.test:8080 /"),
        ("/API/v1/x?q=1", "GET a.test:8080 /v1/x?q=1"),
        ("/api/%2e%2e/api/a%20b", "GET a.test:8080 /a%20b"),
        ("/old/thing?z", "GET db.example /new?x=y&z"),
        ("/other", "GET a.test:8080 /other"),
    ] {
        assert_eq!(get(&mut client, path, &[]).await.text(), expected, "{path}");
    }
}

fn credentials(name: &str, password: &str) -> [(&'static str, String); 1] {
    [("authorization", format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))))]
}

#[tokio::test]
async fn only_users_pass() {
    let gateway = Gateway::start();
    let upstream = mirror().await;
    let guarded = || {
        let policy = policy(|policy| {
            policy.basic_authentication = "basic/shop/users".into();
            policy.realm = "the \"shop\"".into();
        });
        [asking(rule("", "/", &[upstream.address]), policy), rule("", "/open", &[upstream.address])]
    };
    let users = |users: &[u8], lost| {
        let list = BasicAuthentication { users: users.to_vec(), lost };
        [("basic/shop/users".to_owned(), Item::BasicAuthentication(list))]
    };
    let mut client = gateway.client().await;
    gateway.put(guarded(), []).await;
    let closed = get(&mut client, "/", &credentials("bert", "password")).await;
    assert_eq!(closed.status, StatusCode::SERVICE_UNAVAILABLE, "without a list nobody passes");
    assert!(closed.text().contains("Secret shop/users"), "{}", closed.text());
    gateway.put(guarded(), users(b"", true)).await;
    assert_eq!(
        get(&mut client, "/", &credentials("bert", "password")).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );

    gateway.put(guarded(), users(b"bert:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00\n", false)).await;
    let asked = get(&mut client, "/", &[]).await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED);
    assert_eq!(asked.headers["www-authenticate"], "Basic realm=\"the \\\"shop\\\"\", charset=\"UTF-8\"");
    assert_eq!(get(&mut client, "/", &credentials("bert", "wrong")).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        get(&mut client, "/", &credentials("anna", "password")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(get(&mut client, "/", &credentials("bert", "password")).await.status, StatusCode::OK);
    assert_eq!(
        get(&mut client, "/open/../", &[]).await.status,
        StatusCode::UNAUTHORIZED,
        "however it is spelt"
    );
    assert_eq!(get(&mut client, "/open", &[]).await.status, StatusCode::OK);
    // Who is not on the list any more does not pass any more.
    gateway.put(guarded(), users(b"cleo:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", false)).await;
    assert_eq!(
        get(&mut client, "/", &credentials("bert", "password")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(get(&mut client, "/", &credentials("cleo", "password")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn only_listed_sources_pass() {
    let upstream = mirror().await;
    let listed = |network: &str| {
        let network = network.to_owned();
        [asking(rule("", "/", &[upstream.address]), policy(|policy| policy.allowed_sources = vec![network]))]
    };
    let forged = [("x-forwarded-for", "10.1.2.3".to_owned())];
    let gateway = Gateway::start();
    gateway.route(listed("127.0.0.0/8")).await;
    assert_eq!(get(&mut gateway.client().await, "/", &[]).await.status, StatusCode::OK);
    gateway.route(listed("10.0.0.0/8")).await;
    assert_eq!(get(&mut gateway.client().await, "/", &forged).await.status, StatusCode::FORBIDDEN);
    gateway
        .route([asking(
            rule("", "/", &[upstream.address]),
            policy(|policy| policy.refusal = "a typo".into()),
        )])
        .await;
    assert_eq!(get(&mut gateway.client().await, "/", &[]).await.text(), "nobody may pass here: a typo\n");
    let believing = Gateway::trusting(&["127.0.0.1/32"]);
    believing.route(listed("10.0.0.0/8")).await;
    let mut client = believing.client().await;
    assert_eq!(get(&mut client, "/", &forged).await.status, StatusCode::OK);
    assert_eq!(get(&mut client, "/", &[]).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn bodies_are_no_longer_than_is_allowed() {
    let gateway = Gateway::start();
    let upstream = Upstream::start(|request| async move {
        let body = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
        Response::new(full(body.to_string()))
    })
    .await;
    gateway
        .route([asking(rule("", "/", &[upstream.address]), policy(|policy| policy.max_body_bytes = 1000))])
        .await;
    assert_eq!(gateway.client().await.post("/", vec![0; 1000]).await.text(), "1000");
    let long = gateway.client().await.post("/", vec![0; 1001]).await;
    assert_eq!(
        (long.status, long.text()),
        (
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is longer than 1000 bytes, the most that is allowed here\n"
        )
    );
    let pieces = stream::iter(vec![Bytes::from(vec![0; 600]); 2])
        .map(|piece| Ok::<_, hyper::Error>(Frame::data(piece)));
    let request = Request::post("/")
        .header("host", "a")
        .body(BodyExt::boxed(StreamBody::new(pieces)))
        .expect("a request");
    let unannounced = gateway.client().await.send(request).await;
    assert_eq!(unannounced.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn time_outs_are_the_route_s() {
    const LIMIT: u32 = 1;
    let gateway = Gateway::start();
    let upstream = Upstream::start(|request| async move {
        match request.uri().path() {
            "/hang" => std::future::pending().await,
            "/pause" => {
                let pieces = stream::iter([0, 60]).then(|wait| async move {
                    tokio::time::sleep(Duration::from_secs(wait)).await;
                    Ok::<_, hyper::Error>(Frame::data(Bytes::from_static(b"x")))
                });
                let pieces: std::pin::Pin<Box<dyn stream::Stream<Item = _> + Send + Sync>> = Box::pin(pieces);
                Response::new(BodyExt::boxed(StreamBody::new(pieces)))
            }
            _ => Response::new(full("quick")),
        }
    })
    .await;
    gateway
        .route([asking(
            rule("", "/", &[upstream.address]),
            policy(|policy| policy.read_timeout_seconds = LIMIT),
        )])
        .await;
    let mut client = gateway.client().await;
    assert_eq!(get(&mut client, "/hang", &[]).await.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(get(&mut client, "/", &[]).await.text(), "quick");
    let request = Request::get("/pause").header("host", "a").body(full("")).expect("a request");
    let broken = within("the end of the body", Answer::read(client.send(request).await)).await;
    assert!(broken.is_err(), "a response that stops is broken off, never whole");
}
