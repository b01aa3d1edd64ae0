//! The Kubernetes API: one generic engine over one table of kinds.
//!
//! ```text
//!  request ─► auth ─► path (pure) ─► verbs ─► patch, meta (pure) ─► the gate (`warren-write`) ─► store
//!                        │              │
//!                        │              └─► watch: history ─► selectors ─► events or one-row tables
//!                        └─► discovery, openapi, health (pure)
//! ```
//!
//! What is known about single kinds is in `warren-objects` (defaults, validation, columns) and in `kinds`
//! (names, scope, subresources); nothing else here names a kind without need. Every error is a Kubernetes
//! `Status` with Kubernetes' message.

mod auth;
mod body;
mod continuations;
mod decode;
mod delete;
mod discovery;
mod encode;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod judge;
mod kinds;
mod meta;
mod negotiate;
mod observed;
mod openapi;
mod patch;
mod path;
mod query;
mod respond;
mod reviews;
mod selectors;
mod server;
mod state;
mod status;
mod streams;
mod subresources;
mod table;
mod verbs;
mod why;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use warren_plan::Explanation;
use warren_proto::control::{LogsRequest, SessionFrame, UsageReport, session_open::Kind};
use warren_store::{Key, Store};
use warren_tokens::Tokens;
use warren_write::Gate;

/// A pod that runs on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of all pods that had this name.
    pub uid: String,
    /// Where it runs.
    pub node: String,
}

/// Why a stream into a pod could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The node has no connection to the controller now (503).
    #[error("node {node} is not connected to the controller: {why}")]
    NodeUnavailable {
        /// The pod's node.
        node: String,
        /// What is known about it.
        why: String,
    },
    /// The node knows the pod but not this container, or has no such log (400).
    #[error("{0}")]
    NotFound(String),
    /// Anything else (500).
    #[error("{0}")]
    Failed(String),
}

/// Both directions of an exec, attach or port-forward. Dropping either half ends it.
#[derive(Debug)]
pub struct Session {
    /// To the process.
    pub input: mpsc::Sender<SessionFrame>,
    /// From the process. The frame with `end`, or an error, is the last item.
    pub output: mpsc::Receiver<Result<SessionFrame, String>>,
}

/// How the API reaches into pods; the node-facing half of the controller provides it.
pub trait PodStreams: Send + Sync + 'static {
    /// Opens a container's log. An error inside the stream ends the client's response abnormally.
    fn logs(
        &self,
        pod: &PodRef,
        container: &str,
        options: LogsRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, String>>, StreamError>>;

    /// Opens anything else. Whether the process could be reached is known by the session's end.
    fn open(&self, pod: &PodRef, container: &str, kind: Kind) -> BoxFuture<'_, Result<Session, StreamError>>;
}

/// What the members of the cluster have told, and is in no store.
pub trait Observations: Send + Sync + 'static {
    /// When each node was last heard of.
    fn heartbeats(&self) -> Vec<(String, Timestamp)>;

    /// What each node and its pods used, and when that was measured.
    fn usage(&self) -> Vec<(String, Timestamp, Arc<UsageReport>)>;
}

/// What the planners know of the places of pods.
pub trait Places: Send + Sync + 'static {
    /// Explains where a pod may run, in a state that is not older than this revision; nothing if it has no such pod. An
    /// error says why there is no answer now.
    fn explain(&self, pod: &Key, revision: u64) -> BoxFuture<'_, Result<Option<Explanation>, String>>;
}

/// What the API needs.
#[derive(Clone)]
pub struct Api {
    /// All state.
    pub store: Arc<dyn Store>,
    /// The way into pods.
    pub streams: Arc<dyn PodStreams>,
    /// What is known without the store.
    pub observations: Arc<dyn Observations>,
    /// Why pods are where they are.
    pub places: Arc<dyn Places>,
    /// What every write passes.
    pub gate: Arc<Gate>,
    /// Tokens of service accounts.
    pub tokens: Arc<Tokens>,
    /// Connections that became streams. They end soon after their sessions do; the controller waits for them when it stops.
    pub connections: TaskTracker,
}

/// Serves the API. Expects a [`warren_runtime::tls::PeerIdentity`] in the extensions of each request that came
/// with a client certificate; without one the client is anonymous. Every path is answered: the router has a
/// fallback.
pub fn router(api: Api) -> axum::Router {
    axum::Router::new().fallback(server::handle).with_state(Arc::new(state::ApiState::new(api)))
}
