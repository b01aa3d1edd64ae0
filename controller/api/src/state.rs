//! What all verbs share: the store, the way into pods, claims and continuations.

use std::sync::Arc;

use warren_store::{CommitError, Key, Snapshot, Store, Transaction};
use warren_tokens::Tokens;
use warren_write::Gate;

use crate::{
    Api, Observations, Places, PodStreams,
    body::Bodies,
    continuations::Continuations,
    kinds::{Kind, derivation},
    meta,
    path::ResourceTarget,
    status::Status,
    streams::Connections,
};

/// How often a write is tried again when another author wrote in between.
pub(crate) const ATTEMPTS: usize = 6;

/// The API's state.
pub(crate) struct ApiState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) streams: Arc<dyn PodStreams>,
    pub(crate) observations: Arc<dyn Observations>,
    pub(crate) places: Arc<dyn Places>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) continuations: Continuations,
    pub(crate) bodies: Bodies,
    /// Makes what generated names end with.
    pub(crate) suffix: fn() -> String,
    pub(crate) connections: Connections,
}

impl ApiState {
    pub(crate) fn new(api: Api) -> Self {
        Self {
            store: api.store,
            streams: api.streams,
            observations: api.observations,
            places: api.places,
            gate: api.gate,
            tokens: api.tokens,
            continuations: Continuations::default(),
            bodies: Bodies::default(),
            suffix: meta::suffix,
            connections: Connections::new(api.connections),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    /// The state at an earlier revision, as long as a continuation or history remembers it.
    pub(crate) async fn at(&self, current: Arc<Snapshot>, revision: u64) -> Option<Arc<Snapshot>> {
        if current.revision == revision {
            return Some(current);
        }
        if let Some(kept) = self.continuations.find(revision) {
            return Some(kept);
        }
        let mut history = self.store.watch(revision).ok()?;
        let mut changes = Vec::new();
        // History may lag a moment behind the state.
        while history.position() < current.revision {
            let next = history.next().await.ok().filter(|next| !next.is_empty())?;
            changes.extend(next.into_iter().filter(|change| change.revision <= current.revision));
        }
        Some(Arc::new(current.before(&changes)))
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

/// The state as a kind shows it: the store's, or what is made of it and of what members told, for one namespace
/// (empty: for all).
pub(crate) fn shown(api: &ApiState, kind: &Kind, snapshot: Arc<Snapshot>, namespace: &str) -> Arc<Snapshot> {
    match derivation(kind) {
        Some(derive) => {
            let objects = derive(&snapshot, &*api.observations, namespace);
            Arc::new(Snapshot::from_objects(snapshot.revision, objects))
        }
        None => snapshot,
    }
}

/// The store's key of an object.
pub(crate) fn key(kind: &Kind, namespace: &str, name: &str) -> Key {
    Key::new(&kind.resource, namespace, name)
}

/// The store's key of the object that a path names.
pub(crate) fn key_of(target: &ResourceTarget) -> Key {
    key(&target.kind, &target.namespace, &target.name)
}
