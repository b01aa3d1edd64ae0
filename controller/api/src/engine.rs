//! What all verbs share: the store, the way into pods, claims and continuations.

use std::sync::Arc;

use warren_plan::ClusterConfig;
use warren_store::{CommitError, Key, Snapshot, Store, Transaction};

use crate::{
    Api, PodStreams, addresses::InFlight, continuations::Continuations, kinds::Kind, path::ResourceTarget,
    status::Status, streams::Connections,
};

/// How often a write is tried again when somebody else wrote in between.
pub(crate) const ATTEMPTS: usize = 6;

/// The API's state.
pub(crate) struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) streams: Arc<dyn PodStreams>,
    pub(crate) config: ClusterConfig,
    pub(crate) addresses: InFlight,
    pub(crate) continuations: Continuations,
    pub(crate) connections: Connections,
}

impl Engine {
    pub(crate) fn new(api: Api) -> Self {
        Self {
            store: api.store,
            streams: api.streams,
            config: api.config,
            addresses: InFlight::default(),
            continuations: Continuations::default(),
            connections: Connections::new(api.connections),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    /// Commits; `None` when a precondition no longer held.
    pub(crate) async fn commit(&self, transaction: Transaction) -> Result<Option<u64>, Status> {
        match self.store.commit(transaction).await {
            Ok(revision) => Ok(Some(revision)),
            Err(CommitError::Conflict(precondition)) => {
                tracing::debug!(?precondition, "commit lost a race");
                metrics::counter!("warren_api_conflicts_total").increment(1);
                Ok(None)
            }
            Err(CommitError::Storage(why)) => {
                tracing::error!(error = %why, "commit failed");
                Err(Status::internal(format!("the store could not write: {why}")))
            }
            Err(error @ CommitError::Full { .. }) => Err(Status::insufficient_storage(error.to_string())),
            Err(CommitError::Closed) => {
                Err(Status::unavailable("the store is closed: the controller is stopping"))
            }
        }
    }
}

/// The state as a kind shows it: the store's, or what is derived from it for one namespace (empty: for all).
pub(crate) fn shown(kind: &Kind, snapshot: Arc<Snapshot>, namespace: &str) -> Arc<Snapshot> {
    match kind.derive {
        Some(derive) => Arc::new(Snapshot::from_objects(snapshot.revision, derive(&snapshot, namespace))),
        None => snapshot,
    }
}

/// The store's key of an object.
pub(crate) fn key(kind: &Kind, namespace: &str, name: &str) -> Key {
    Key::new(kind.resource, namespace, name)
}

/// The store's key of the object that a path names.
pub(crate) fn key_of(target: &ResourceTarget) -> Key {
    key(target.kind, &target.namespace, &target.name)
}
