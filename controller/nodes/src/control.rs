//! The Control service: finds out who calls, then hands over.

use std::{pin::Pin, sync::Arc, time::Instant};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use warren_proto::control::{
    FeedBatch, FeedRequest, HeartbeatRequest, HeartbeatResponse, NetworkReport, NodeReport, PodsReport,
    RenewRequest, RenewResponse, ReportResponse, SessionFrame, SessionOpen, SessionsRequest, UsageReport,
    control_server::Control,
};

use crate::{Nodes, feed, identity::Caller, join::refused, leases::Admission};

/// What the word begins with by which a member names its machine.
const MACHINE: &str = "machine/";

pub(crate) struct ControlService {
    nodes: Arc<Nodes>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl ControlService {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }

    /// Who calls, if it is the one machine that may speak for that member.
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let caller = Caller::of(request, &self.nodes.store.snapshot())?;
        admit(&self.nodes, &caller, machine_of(request.metadata()))?;
        Ok(caller)
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
        let machine = machine_of(request.metadata()).map(str::to_owned);
        let (answers, stream) = mpsc::channel(4);
        let nodes = Arc::clone(&self.nodes);
        self.nodes.streams.spawn(async move {
            let closing = nodes.closing.clone();
            let mut seat = Seated { nodes: &nodes, caller: &caller, machine, taken: false };
            tokio::select! {
                () = closing.cancelled() => {}
                () = answer_beats(&mut seat, request.into_inner(), answers) => {}
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

    async fn report_usage(&self, request: Request<UsageReport>) -> Result<Response<ReportResponse>, Status> {
        let caller = self.caller(&request)?;
        caller.require_node()?;
        self.nodes.report_usage(&caller, request.into_inner());
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

/// What a caller says of its machine, in the word of its user agent that `warren_runtime::connection` puts
/// there; `None` for callers that say nothing.
fn machine_of(metadata: &MetadataMap) -> Option<&str> {
    let agent = metadata.get("user-agent")?.to_str().ok()?;
    agent.split(' ').find_map(|word| word.strip_prefix(MACHINE))
}

/// Refuses a second machine with the identity of the first.
fn admit(nodes: &Nodes, caller: &Caller, machine: Option<&str>) -> Result<(), Status> {
    let Some(machine) = machine else { return Ok(()) };
    let Admission::Taken { first } = nodes.leases.lock().admit(&caller.name, machine, Instant::now()) else {
        return Ok(());
    };
    metrics::counter!("warren_nodes_refused_duplicates_total").increment(1);
    if first {
        tracing::error!(member = caller.name, machine, "refused a second machine with the same identity");
    }
    // A code of its own: a member that starts tells it from a removal.
    Err(Status::already_exists(format!(
        "{} is connected from another machine: this state directory is a copy of that machine's, or both were given \
         one identity. Stop warren here, clear this machine's state directory, and join it under a name of its own \
         with a new token (`warren token create`); if it is to replace the other, stop the other first",
        caller.name
    )))
}

/// The member's seat, held by a heartbeat stream.
struct Seated<'a> {
    nodes: &'a Nodes,
    caller: &'a Caller,
    machine: Option<String>,
    taken: bool,
}

impl Seated<'_> {
    fn hold(&mut self) -> Result<(), Status> {
        admit(self.nodes, self.caller, self.machine.as_deref())?;
        if let Some(machine) = &self.machine {
            self.nodes.leases.lock().sit(&self.caller.name, machine, !self.taken, Instant::now());
            self.taken = true;
        }
        Ok(())
    }
}

impl Drop for Seated<'_> {
    fn drop(&mut self) {
        if let Some(machine) = self.machine.as_ref().filter(|_| self.taken) {
            self.nodes.leases.lock().leave(&self.caller.name, machine);
        }
    }
}

/// Answers each beat after it counts. Ends when the member hangs up, was removed, or lost its seat.
async fn answer_beats(
    seat: &mut Seated<'_>,
    mut beats: Streaming<HeartbeatRequest>,
    answers: mpsc::Sender<Result<HeartbeatResponse, Status>>,
) {
    let (nodes, caller) = (seat.nodes, seat.caller);
    while let Ok(Some(beat)) = beats.message().await {
        let counted = caller
            .check(&nodes.store.snapshot())
            .and_then(|()| caller.consumer(beat.consumer))
            .and_then(|consumer| seat.hold().map(|()| consumer));
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
