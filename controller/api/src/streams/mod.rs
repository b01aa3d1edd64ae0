//! `pods/exec`, `pods/attach`, `pods/portforward`, `pods/log` over WebSockets: connections that are upgraded and joined to
//! a session with the pod's node. And requests that are proxied to pods, by such a session, too.
//!
//! ```text
//!  kubectl ≤ 1.29 ── SPDY/3.1 ───────────────┐
//!  kubectl ≥ 1.30 ── WebSocket v5, v4 ───────┤   exec, port_forward   ┌── Session ── agent
//!  kubectl ≥ 1.31 ── SPDY in a WebSocket ────┴────────────────────────┘
//!  upgrade (HTTP)    spdy (codec), wire (I/O)
//! ```
//!
//! Everything is bounded and waits for the slower side. A client that goes away ends the session, and with it the
//! connection to the process; a command that was started for it is ended by its node.

mod exec;
mod log;
#[cfg(test)]
mod malformed_tests;
mod port_forward;
mod proxy;
pub(crate) mod spdy;
mod upgrade;
mod wire;

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use warren_proto::control::session_open::Kind;

use crate::{
    PodRef, Session, meta,
    path::{ResourceTarget, Target},
    query::Query,
    state::{ApiState, key_of},
    status::Status,
    subresources::log as pod_log,
};

pub(crate) use proxy::pass_on;

/// How long the node may take to open a session.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the answer 101 may take to be sent.
const UPGRADE: Duration = Duration::from_secs(30);
/// Clients at a time. Each may hold some MiB on its way to a slow reader.
const MOST_CLIENTS: usize = if cfg!(test) { 20 } else { 2_000 };
/// The longest piece that is handed to a session; messages of the tunnel have a limit, those of WebSockets a higher one.
const PIECE: usize = 256 << 10;

/// The connections that became streams: counted, and waited for at the end.
pub(crate) struct Connections {
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Connections {
    pub(crate) fn new(tasks: TaskTracker) -> Self {
        Self { slots: Arc::new(Semaphore::new(MOST_CLIENTS)), tasks }
    }

    fn slot(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let message = format!("{MOST_CLIENTS} streams into pods are open already; end some of them");
            Status::new(429, "TooManyRequests", message)
        })
    }
}

/// Whether a path is answered here, whatever is asked of it.
pub(crate) fn serves(target: Option<&Target>) -> bool {
    matches!(subresource(target), Some("exec" | "attach" | "portforward"))
}

/// Whether a request for a log is to become a WebSocket.
pub(crate) fn serves_log(target: Option<&Target>, parts: &Parts) -> bool {
    subresource(target) == Some("log") && upgrade::asks_for_websocket(&parts.headers)
}

/// Whether a request is to be passed on to a pod.
pub(crate) fn serves_proxy(target: Option<&Target>) -> bool {
    subresource(target) == Some("proxy")
}

fn subresource(target: Option<&Target>) -> Option<&'static str> {
    let Some(Target::Resource(target)) = target else { return None };
    target.subresource.map(|subresource| subresource.name)
}

/// Opens a stream: everything that can be wrong is said before the connection is upgraded.
pub(crate) async fn open(
    api: &Arc<ApiState>,
    parts: &Parts,
    target: &Target,
    query: &Query,
) -> Result<Response, Status> {
    let Target::Resource(target) = target else { return Err(Status::unknown_path()) };
    let subresource = target.subresource.map(|subresource| subresource.name);
    if subresource == Some("log") {
        return log::open(api, parts, target, query, api.connections.slot()?).await;
    }
    let snapshot = api.snapshot();
    let found = snapshot.get(&key_of(target)).ok_or_else(|| Status::not_found(&target.kind, &target.name))?;
    let pod = Pod {
        api,
        target,
        object: &found.value,
        reference: reference(&target.namespace, &target.name, &found.value)?,
    };
    let slot = api.connections.slot()?;
    match subresource {
        Some("exec") => exec::open(&pod, parts, query, true, slot).await,
        Some("attach") => exec::open(&pod, parts, query, false, slot).await,
        _ => port_forward::open(&pod, parts, query, slot),
    }
}

/// The pod that is meant.
struct Pod<'a> {
    api: &'a Arc<ApiState>,
    target: &'a ResourceTarget,
    object: &'a Value,
    reference: PodRef,
}

impl Pod<'_> {
    /// The container that is meant, which must run.
    fn running_container(&self, wanted: Option<&str>, verb: &str) -> Result<String, Status> {
        let name = &self.target.name;
        let container = pod_log::container(self.object, name, wanted)?;
        let status = &self.object["status"];
        if let Some(phase @ ("Succeeded" | "Failed")) = status["phase"].as_str() {
            return Err(Status::bad_request(format!(
                "cannot {verb} a container in a completed pod; current phase is {phase}"
            )));
        }
        let fields = ["containerStatuses", "initContainerStatuses"];
        let mut statuses = fields.iter().flat_map(|field| status[*field].as_array().into_iter().flatten());
        let runs =
            statuses.any(|status| status["name"] == *container && status["state"]["running"].is_object());
        if runs {
            return Ok(container);
        }
        Err(Status::bad_request(format!(
            "unable to upgrade connection: container not found (\"{container}\")"
        )))
    }

    async fn session(&self, container: &str, kind: Kind) -> Result<Session, Status> {
        open_session(self.api, &self.reference, container, kind).await
    }
}

async fn open_session(api: &ApiState, pod: &PodRef, container: &str, kind: Kind) -> Result<Session, Status> {
    match tokio::time::timeout(PATIENCE, api.streams.open(pod, container, kind)).await {
        Ok(opened) => opened.map_err(pod_log::refusal),
        Err(_) => Err(Status::timeout(format!(
            "node {} did not open the stream within {} s",
            pod.node,
            PATIENCE.as_secs()
        ))),
    }
}

/// The pod of this name, by which its node knows it.
pub(crate) fn reference(namespace: &str, name: &str, pod: &Value) -> Result<PodRef, Status> {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    Ok(PodRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: meta::text(pod, "uid").to_owned(),
        node: node.to_owned(),
    })
}

/// What a client sent, in pieces that fit through the tunnel.
fn pieces(mut data: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let piece = data.split_to(data.len().min(PIECE));
        (!piece.is_empty()).then_some(piece)
    })
}

/// A request that becomes a connection.
struct Switch<'a> {
    parts: &'a Parts,
    transport: &'a upgrade::Transport,
    kind: &'static str,
    connections: &'a Connections,
    slot: OwnedSemaphorePermit,
}

impl Switch<'_> {
    /// Serves the connection, and gives the answer that makes it one.
    fn serve<Serving>(
        self,
        serve: impl FnOnce(upgrade::Connection) -> Serving + Send + 'static,
    ) -> Result<Response, Status>
    where
        Serving: Future<Output = ()> + Send + 'static,
    {
        let Self { parts, transport, kind, connections, slot } = self;
        let upgrading = upgrade::upgradable(parts)?;
        let protocol = match transport {
            upgrade::Transport::Spdy { .. } => "spdy",
            upgrade::Transport::WebSocket { .. } => "websocket",
        };
        metrics::counter!("warren_api_streams_total", "kind" => kind, "transport" => protocol).increment(1);
        // Ends with the client or with the node's session, which the node-facing half ends when the controller stops.
        connections.tasks.spawn(async move {
            match tokio::time::timeout(UPGRADE, upgrading).await {
                Ok(Ok(upgraded)) => serve(TokioIo::new(upgraded)).await,
                Ok(Err(error)) => tracing::debug!(%error, kind, "a connection could not be upgraded"),
                Err(_) => tracing::debug!(kind, "a connection was not upgraded in time"),
            }
            drop(slot);
        });
        Ok(upgrade::switching(transport))
    }
}
