//! Joins the API to what agents opened and told: streams go through their tunnel, usage and heartbeats are theirs.

use std::sync::Arc;

use futures_util::{
    future::{BoxFuture, FutureExt as _},
    stream::BoxStream,
};
use hyper::body::Bytes;
use jiff::Timestamp;
use warren_api::{Observations, PodRef, PodStreams, Session, StreamError};
use warren_nodes::{Nodes, SessionError};
use warren_proto::control::{LogsRequest, UsageReport, session_open::Kind};

/// Streams into pods, by way of their node's agent.
pub(crate) struct Tunnel {
    nodes: Arc<Nodes>,
}

impl Tunnel {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }
}

impl PodStreams for Tunnel {
    fn logs(
        &self,
        pod: &PodRef,
        container: &str,
        options: LogsRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<Bytes, String>>, StreamError>> {
        let (pod, container) = (pod.clone(), container.to_owned());
        async move {
            let opened = self.nodes.logs(&pod.uid, &pod.node, &container, options).await;
            opened.map(futures_util::StreamExt::boxed).map_err(|error| unavailable(&pod, &error))
        }
        .boxed()
    }

    fn open(&self, pod: &PodRef, container: &str, kind: Kind) -> BoxFuture<'_, Result<Session, StreamError>> {
        let (pod, container) = (pod.clone(), container.to_owned());
        async move {
            let opened = self.nodes.session(&pod.uid, &pod.node, &container, kind).await;
            let warren_nodes::Session { input, output } =
                opened.map_err(|error| unavailable(&pod, &error))?;
            Ok(Session { input, output })
        }
        .boxed()
    }
}

/// What members told.
pub(crate) struct Members {
    nodes: Arc<Nodes>,
}

impl Members {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }
}

impl Observations for Members {
    fn heartbeats(&self) -> Vec<(String, Timestamp)> {
        self.nodes.heartbeats()
    }

    fn usage(&self) -> Vec<(String, Timestamp, Arc<UsageReport>)> {
        self.nodes.usage()
    }
}

fn unavailable(pod: &PodRef, error: &SessionError) -> StreamError {
    StreamError::NodeUnavailable { node: pod.node.clone(), why: error.to_string() }
}
