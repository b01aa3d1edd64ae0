//! `warren echo`: the who-am-I server of the demonstration. It says which pod answered and what it
//! was asked, and never drops a request that it has accepted.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    extract::{ConnectInfo, Query, Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use warren_runtime::CancellationToken;

use crate::{
    args::{EchoOptions, Logging},
    daemon, telemetry,
};

/// The longest delay that `/slow` grants.
const SLOW_MAXIMUM: Duration = Duration::from_secs(60);

pub(crate) fn main(options: EchoOptions, logging: &Logging) -> anyhow::Result<()> {
    telemetry::start_logs("echo", "info", logging)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        daemon::cancel_on_signal(&stop)?;
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, options.port));
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}: choose another --port"))?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        serve(listener, Identity::of_this_process(), stop).await
    })
}

/// Serves until `stop`, then finishes what is in flight.
async fn serve(listener: TcpListener, identity: Identity, stop: CancellationToken) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/slow", any(slow))
        .fallback(who_am_i)
        .with_state(identity);
    let service = router.into_make_service_with_connect_info::<Ends>();
    // A stopping server closes idle connections and answers the others with `connection: close`.
    axum::serve(listener, service)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("cannot serve")
}

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
struct Ends {
    local: Option<SocketAddr>,
    remote: SocketAddr,
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: axum::serve::IncomingStream<'_, TcpListener>) -> Self {
        Self { local: stream.io().local_addr().ok(), remote: *stream.remote_addr() }
    }
}

/// Who answers.
#[derive(Debug, Clone)]
struct Identity {
    hostname: String,
    address: Option<String>,
    node: Option<String>,
}

impl Identity {
    fn of_this_process() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            hostname: host.trim().to_owned(),
            address: variable("POD_IP"),
            node: variable("WARREN_NODE").or_else(|| variable("NODE_NAME")),
        }
    }
}

#[derive(Debug, Serialize)]
struct Answer {
    hostname: String,
    address: String,
    node: Option<String>,
    client: String,
    method: String,
    path: String,
    query: Option<String>,
    protocol: String,
    headers: BTreeMap<String, String>,
}

impl Answer {
    fn new(identity: Identity, ends: Ends, request: &Request) -> Self {
        let local = || ends.local.map(|address| address.ip().to_string()).unwrap_or_default();
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in request.headers() {
            let value = String::from_utf8_lossy(value.as_bytes());
            let known = headers.entry(name.to_string()).or_default();
            *known = if known.is_empty() { value.into_owned() } else { format!("{known}, {value}") };
        }
        Self {
            hostname: identity.hostname,
            address: identity.address.unwrap_or_else(local),
            node: identity.node,
            client: ends.remote.to_string(),
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().map(str::to_owned),
            protocol: format!("{:?}", request.version()),
            headers,
        }
    }

    fn text(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut text = format!(
            "hostname: {}\naddress: {}\nnode: {}\nclient: {}\n\n{} {}{query} {}\n",
            self.hostname,
            self.address,
            self.node.as_deref().unwrap_or("-"),
            self.client,
            self.method,
            self.path,
            self.protocol
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text
    }
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("application/json"))
}

async fn who_am_i(
    State(identity): State<Identity>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    request: Request,
) -> Response {
    let answer = Answer::new(identity, ends, &request);
    if wants_json(request.headers()) {
        match serde_json::to_string_pretty(&answer) {
            Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json + "\n").into_response(),
            Err(error) => (http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    } else {
        answer.text().into_response()
    }
}

#[derive(Debug, Deserialize)]
struct Slow {
    #[serde(default)]
    ms: u64,
}

/// Answers late; what a draining pod must finish. The log says how often it was asked.
async fn slow(
    identity: State<Identity>,
    ends: ConnectInfo<Ends>,
    Query(Slow { ms }): Query<Slow>,
    request: Request,
) -> Response {
    tracing::info!(method = %request.method(), uri = %request.uri(), "slow request");
    tokio::time::sleep(Duration::from_millis(ms).min(SLOW_MAXIMUM)).await;
    who_am_i(identity, ends, request).await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        task::JoinHandle,
    };

    use super::*;

    async fn server() -> (SocketAddr, CancellationToken, JoinHandle<anyhow::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let identity = Identity { hostname: "pod-1".into(), address: None, node: Some("node-1".into()) };
        let task = tokio::spawn(serve(listener, identity, stop.clone()));
        (address, stop, task)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn says_who_answered_and_what_was_asked() {
        let (address, _stop, _task) = server().await;
        let answer =
            ask(address, "PUT /a/b?c=d HTTP/1.1\r\nhost: x\r\nx-a: 1\r\nx-a: 2\r\nconnection: close\r\n\r\n")
                .await;
        for part in [
            "hostname: pod-1\n",
            "address: 127.0.0.1\n",
            "node: node-1\n",
            "PUT /a/b?c=d HTTP/1.1\n",
            "x-a: 1, 2\n",
        ] {
            assert!(answer.contains(part), "{part:?} is not in {answer:?}");
        }
        let request = "GET / HTTP/1.1\r\nhost: x\r\naccept: text/html, application/json;q=0.9\r\nconnection: close\r\n\r\n";
        let answer = ask(address, request).await;
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&json["hostname"], &json["method"]), (&"pod-1".into(), &"GET".into()));
        assert_eq!(json["headers"]["host"], "x");
    }

    #[tokio::test]
    async fn a_stop_finishes_requests_in_flight_and_closes_the_connection() {
        let (address, stop, task) = server().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow?ms=300 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        // Another connection's answer proves that the server runs; the slow request is in flight by then.
        let healthy = ask(address, "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");
        stop.cancel();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        task.await.unwrap().unwrap();
    }
}
