//! `pods/exec`, `pods/attach`, `pods/portforward`: connections that are upgraded and joined to a session with the
//! pod's node.
//!
//! ```text
//!  kubectl ≤ 1.29 ── SPDY/3.1 ───────────────┐
//!  kubectl ≥ 1.30 ── WebSocket v5, v4 ───────┤   exec, port_forward   ┌── Session ── agent
//!  kubectl ≥ 1.31 ── SPDY in a WebSocket ────┴────────────────────────┘
//!  upgrade (HTTP)    spdy (codec), wire (I/O)
//! ```
//!
//! Everything is bounded and waits for the slower side. A client that goes away ends the session, and with it the
//! connection to the process.

mod exec;
mod port_forward;
pub(crate) mod spdy;
mod upgrade;
mod wire;

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use http::request::Parts;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use warren_proto::control::session_open::Kind;

use crate::{
    PodRef, Session,
    engine::{Engine, key_of},
    meta,
    path::{ResourceTarget, Target},
    query::Query,
    status::Status,
    subresources::log,
};

/// How long the node may take to open a session.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the answer 101 may take to be sent.
const UPGRADE: Duration = Duration::from_secs(30);

/// Whether a path is answered here.
pub(crate) fn serves(target: Option<&Target>) -> bool {
    matches!(target, Some(Target::Resource(ResourceTarget { subresource: Some(subresource), .. }))
        if matches!(subresource.name, "exec" | "attach" | "portforward"))
}

/// Opens a stream: everything that can be wrong is said before the connection is upgraded.
pub(crate) async fn open(
    engine: &Arc<Engine>,
    parts: &Parts,
    target: &Target,
    query: &Query,
) -> Result<Response, Status> {
    let Target::Resource(target) = target else { return Err(Status::unknown_path()) };
    let snapshot = engine.snapshot();
    let found = snapshot.get(&key_of(target)).ok_or_else(|| Status::not_found(target.kind, &target.name))?;
    let pod = Pod { engine, target, object: &found.value, reference: reference(target, &found.value)? };
    match target.subresource.map(|subresource| subresource.name) {
        Some("exec") => exec::open(&pod, parts, query, true).await,
        Some("attach") => exec::open(&pod, parts, query, false).await,
        _ => port_forward::open(&pod, parts, query),
    }
}

/// The pod that is meant.
struct Pod<'a> {
    engine: &'a Arc<Engine>,
    target: &'a ResourceTarget,
    object: &'a Value,
    reference: PodRef,
}

impl Pod<'_> {
    /// The container that is meant, which must run.
    fn running_container(&self, wanted: Option<&str>, verb: &str) -> Result<String, Status> {
        let name = &self.target.name;
        let container = log::container(self.object, name, wanted)?;
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
        let opening = self.engine.streams.open(&self.reference, container, kind);
        match tokio::time::timeout(PATIENCE, opening).await {
            Ok(opened) => opened.map_err(log::refusal),
            Err(_) => Err(Status::timeout(format!(
                "node {} did not open the stream within {} s",
                self.reference.node,
                PATIENCE.as_secs()
            ))),
        }
    }
}

fn reference(target: &ResourceTarget, pod: &Value) -> Result<PodRef, Status> {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
    if node.is_empty() {
        let name = &target.name;
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    Ok(PodRef {
        namespace: target.namespace.clone(),
        name: target.name.clone(),
        uid: meta::text(pod, "uid").to_owned(),
        node: node.to_owned(),
    })
}

/// Serves the connection that this request becomes, and gives the answer that makes it so.
fn switch<Serving>(
    parts: &Parts,
    transport: &upgrade::Transport,
    kind: &'static str,
    serve: impl FnOnce(upgrade::Connection) -> Serving + Send + 'static,
) -> Result<Response, Status>
where
    Serving: Future<Output = ()> + Send + 'static,
{
    let upgrading = upgrade::upgradable(parts)?;
    let protocol = match transport {
        upgrade::Transport::Spdy { .. } => "spdy",
        upgrade::Transport::WebSocket { .. } => "websocket",
    };
    metrics::counter!("warren_api_streams_total", "kind" => kind, "transport" => protocol).increment(1);
    // Ends with the client or with the node's session, which the node-facing half ends when the controller stops.
    tokio::spawn(async move {
        match tokio::time::timeout(UPGRADE, upgrading).await {
            Ok(Ok(upgraded)) => serve(TokioIo::new(upgraded)).await,
            Ok(Err(error)) => tracing::debug!(%error, kind, "a connection could not be upgraded"),
            Err(_) => tracing::debug!(kind, "a connection was not upgraded in time"),
        }
    });
    Ok(upgrade::switching(transport))
}
