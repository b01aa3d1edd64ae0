//! Joins the API's streams to the tunnel that agents opened.

use std::sync::Arc;

use futures_util::StreamExt as _;
use warren_api::{PodRef, PodStreams, StreamError};
use warren_nodes::Nodes;
use warren_proto::control::LogsRequest;

/// Streams into pods, by way of their node's agent.
pub(crate) struct Tunnel {
    nodes: Arc<Nodes>,
}

impl Tunnel {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }
}
