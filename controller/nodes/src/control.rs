//! The Control service: finds out who calls, then hands over.

use std::{pin::Pin, sync::Arc, time::Instant};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use warren_proto::control::{
    FeedBatch, FeedRequest, HeartbeatRequest, HeartbeatResponse, NetworkReport, NodeReport, PodsReport,
    RenewRequest, RenewResponse, ReportResponse, SessionFrame, SessionOpen, SessionsRequest,
    control_server::Control,
};

use crate::{Nodes, feed, identity::Caller, join::refused};

pub(crate) struct ControlService {
    nodes: Arc<Nodes>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl ControlService {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        Caller::of(request, &self.nodes.store.snapshot())
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type HeartbeatStream = Answers<HeartbeatResponse>;
    type FeedStream = Answers<FeedBatch>;
    type SessionsStream = Answers<SessionOpen>;
    type SessionStream = Answers<SessionFrame>;

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = self.caller(&request)?;
        let csr = &request.get_ref().csr;
        let certificate = self.nodes.ca.sign_member(csr, &caller.name, caller.role).map_err(refused)?;
        tracing::info!(member = caller.name, "renewed a certificate");
        Ok(Response::new(RenewResponse { certificate, ca: self.nodes.ca.ca_der().to_vec() }))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let caller = self.caller(&request)?;
        let (answers, stream) = mpsc::channel(4);
        let nodes = Arc::clone(&self.nodes);
        self.nodes.streams.spawn(async move {
            let closing = nodes.closing.clone();
            tokio::select! {
                () = closing.cancelled() => {}
                () = answer_beats(&nodes, &caller, request.into_inner(), answers) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn feed(
        &self,
        request: Request<Streaming<FeedRequest>>,
    ) -> Result<Response<Self::FeedStream>, Status> {
        let caller = self.caller(&request)?;
        let stream = feed::open(&self.nodes, caller, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn report_pods(&self, request: Request<PodsReport>) -> Result<Response<ReportResponse>, Status> {
        let caller = self.caller(&request)?;
        caller.require_node()?;
        self.nodes.report_pods(&caller, request.into_inner()).await?;
        Ok(Response::new(ReportResponse {}))
    }

    async fn report_node(&self, request: Request<NodeReport>) -> Result<Response<ReportResponse>, Status> {
        let caller = self.caller(&request)?;
        caller.require_node()?;
        self.nodes.report_node(&caller, &request.into_inner()).await?;
        Ok(Response::new(ReportResponse {}))
    }

    async fn report_network(
        &self,
        request: Request<NetworkReport>,
    ) -> Result<Response<ReportResponse>, Status> {
        let caller = self.caller(&request)?;
        self.nodes.report_network(&caller, request.into_inner()).await?;
        Ok(Response::new(ReportResponse {}))
    }

    async fn sessions(
        &self,
        request: Request<SessionsRequest>,
    ) -> Result<Response<Self::SessionsStream>, Status> {
        let caller = self.caller(&request)?;
        caller.require_node()?;
        Ok(Response::new(Box::pin(self.nodes.open_sessions(&caller))))
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = self.caller(&request)?;
        caller.require_node()?;
        let stream = self.nodes.accept_session(&caller, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Answers each beat after it counts. Ends when the member hangs up, or was removed.
async fn answer_beats(
    nodes: &Nodes,
    caller: &Caller,
    mut beats: Streaming<HeartbeatRequest>,
    answers: mpsc::Sender<Result<HeartbeatResponse, Status>>,
) {
    while let Ok(Some(beat)) = beats.message().await {
        let counted = caller.check(&nodes.store.snapshot()).and_then(|()| caller.consumer(beat.consumer));
        let answer = counted.map(|consumer| {
            metrics::counter!("warren_nodes_heartbeats_total").increment(1);
            let returned = nodes.leases.lock().beat(&caller.name, consumer, Instant::now());
            if returned {
                nodes.wake.notify_one();
            }
            HeartbeatResponse { sequence: beat.sequence }
        });
        let refused = answer.is_err();
        if answers.send(answer).await.is_err() || refused {
            return;
        }
    }
}
