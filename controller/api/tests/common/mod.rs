//! A store that only reads, clients that are administrators, and what this process has had of memory.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use futures_util::{future::BoxFuture, stream::BoxStream};
use warren_api::{Api, Observations, Places, PodRef, PodStreams, Session, StreamError};
use warren_plan::Explanation;
use warren_proto::control::{LogsRequest, UsageReport, session_open::Kind};
use warren_runtime::tls::PeerIdentity;
use warren_store::{CommitError, Expired, Key, Object, Snapshot, Store, Transaction, Watch};
use warren_vocabulary::ClusterConfig;

pub(crate) struct Memory(Arc<Snapshot>);

impl Store for Memory {
    fn commit(&self, _: Transaction) -> warren_store::BoxFuture<'_, Result<u64, CommitError>> {
        Box::pin(async { Err(CommitError::Closed) })
    }
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0)
    }
    fn watch(&self, after: u64) -> Result<Watch, Expired> {
        Err(Expired { wanted: after, oldest: 0, newest: 0 })
    }
}

/// No pod to reach, and nobody who tells anything.
struct Nobody;

impl PodStreams for Nobody {
    fn logs(
        &self,
        pod: &PodRef,
        _: &str,
        _: LogsRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, String>>, StreamError>> {
        let why = StreamError::NotFound(pod.name.clone());
        Box::pin(async { Err(why) })
    }
    fn open(&self, pod: &PodRef, _: &str, _: Kind) -> BoxFuture<'_, Result<Session, StreamError>> {
        let why = StreamError::NotFound(pod.name.clone());
        Box::pin(async { Err(why) })
    }
}

impl Observations for Nobody {
    fn heartbeats(&self) -> Vec<(String, jiff::Timestamp)> {
        Vec::new()
    }
    fn usage(&self) -> Vec<(String, jiff::Timestamp, Arc<UsageReport>)> {
        Vec::new()
    }
}

impl Places for Nobody {
    fn explain(&self, _: &Key, _: u64) -> BoxFuture<'_, Result<Option<Explanation>, String>> {
        Box::pin(async { Ok(None) })
    }
}

/// The API over some objects.
pub(crate) fn router(objects: impl IntoIterator<Item = Object>) -> Router {
    warren_api::router(Api {
        store: Arc::new(Memory(Arc::new(Snapshot::from_objects(7, objects)))),
        streams: Arc::new(Nobody),
        observations: Arc::new(Nobody),
        places: Arc::new(Nobody),
        gate: Arc::new(warren_write::Gate::new(&ClusterConfig::default())),
        tokens: warren_tokens::Tokens::new("cluster.local", warren_tokens::KeyRing::default()),
        connections: tokio_util::task::TaskTracker::new(),
    })
}

pub(crate) fn admin() -> PeerIdentity {
    PeerIdentity {
        common_name: "warren-admin".into(),
        organizations: vec!["system:masters".into()],
        ..PeerIdentity::default()
    }
}

/// The most memory that this process has had since [`forget_peak`], in bytes.
pub(crate) fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak is told");
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

pub(crate) fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
}
