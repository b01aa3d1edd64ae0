//! The Control service: hands over what the gate has let in.

use std::{pin::Pin, sync::Arc, time::Instant};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;
use warren_proto::control::{
    FeedBatch, FeedRequest, HeartbeatRequest, HeartbeatResponse, IssueTokenRequest, IssueTokenResponse,
    NetworkReport, NodeReport, PodsReport, RenewRequest, RenewResponse, ReportResponse, SessionFrame,
    SessionOpen, SessionsRequest, TrafficReport, UsageReport, control_server::Control,
};
use warren_runtime::rate::shown;
use warren_store::{Snapshot, Transaction};
use warren_vocabulary::member::Member;

use crate::{
    Nodes,
    identity::{self, Caller, Subject},
    join::refused,
    leases::MachineCheck,
};

pub(crate) struct ControlService {
    nodes: Arc<Nodes>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl ControlService {
    pub(crate) fn new(nodes: Arc<Nodes>) -> Self {
        Self { nodes }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        caller(request.extensions())
    }
}

/// Who calls; the gate has found it out.
pub(crate) fn caller(extensions: &http::Extensions) -> Result<Caller, Status> {
    let caller = extensions.get::<Caller>().cloned();
    caller.ok_or_else(|| Status::internal("the call did not come through the gate"))
}

#[tonic::async_trait]
impl Control for ControlService {
    type HeartbeatStream = Answers<HeartbeatResponse>;
    type FeedStream = Answers<FeedBatch>;
    type SessionsStream = Answers<SessionOpen>;
    type SessionStream = Answers<SessionFrame>;

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let caller = self.caller(&request)?;
        let certificate = self.nodes.renew(&caller, &request.get_ref().csr)?;
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
            let mut binding = BoundMachine { nodes: &nodes, caller: &caller, taken: false };
            tokio::select! {
                () = closing.cancelled() => {}
                () = answer_beats(&mut binding, request.into_inner(), answers) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn feed(&self, _: Request<Streaming<FeedRequest>>) -> Result<Response<Self::FeedStream>, Status> {
        Err(Status::internal("the router serves feeds itself: see `batches`"))
    }

    async fn report_pods(&self, request: Request<PodsReport>) -> Result<Response<ReportResponse>, Status> {
        let caller = self.caller(&request)?;
        self.nodes.report_pods(&caller, request.into_inner()).await?;
        Ok(Response::new(ReportResponse {}))
    }

    async fn report_node(&self, request: Request<NodeReport>) -> Result<Response<ReportResponse>, Status> {
        let caller = self.caller(&request)?;
        self.nodes.report_node(&caller, request.into_inner()).await?;
        Ok(Response::new(ReportResponse {}))
    }

    async fn report_usage(&self, request: Request<UsageReport>) -> Result<Response<ReportResponse>, Status> {
        let caller = self.caller(&request)?;
        self.nodes.report_usage(&caller, request.into_inner());
        Ok(Response::new(ReportResponse {}))
    }

    async fn report_traffic(
        &self,
        request: Request<TrafficReport>,
    ) -> Result<Response<ReportResponse>, Status> {
        let caller = self.caller(&request)?;
        self.nodes.report_traffic(&caller, request.get_ref());
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
        Ok(Response::new(Box::pin(self.nodes.open_sessions(&caller))))
    }

    async fn session(
        &self,
        request: Request<Streaming<SessionFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = self.caller(&request)?;
        let stream = self.nodes.accept_session(&caller, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn issue_token(
        &self,
        request: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
        let caller = self.caller(&request)?;
        Ok(Response::new(self.nodes.issue_token(&caller, request.into_inner())?))
    }
}

/// Refuses a second machine with the identity of the first.
pub(crate) fn check_machine(nodes: &Nodes, caller: &Caller) -> Result<(), Status> {
    let now = Instant::now();
    let MachineCheck::BoundElsewhere { first } =
        nodes.leases.lock().check_machine(&caller.name, &caller.boot, now)
    else {
        return Ok(());
    };
    metrics::counter!("warren_nodes_refused_duplicates_total").increment(1);
    if first && let Some(unsaid) = nodes.duplicates.now() {
        let machine = shown(&caller.boot);
        tracing::error!(
            member = caller.name,
            machine,
            unsaid,
            "refused a second machine with the same identity"
        );
    }
    // A code of its own: a member that starts tells it from a removal.
    Err(Status::already_exists(format!(
        "{} is connected from another machine: this state directory is a copy of that machine's, or both were given \
         one identity. Stop warren here, clear this machine's state directory, and join it under a name of its own \
         with a new token (`warren token create`); if it is to replace the other, stop the other first",
        caller.name
    )))
}

impl Nodes {
    /// A new certificate of the same membership. A member of an earlier version gets an id, which is demanded once it
    /// has shown it: until then the answer may be lost.
    fn renew(&self, caller: &Caller, csr: &[u8]) -> Result<Vec<u8>, Status> {
        let stored = identity::find(&self.store.snapshot(), &caller.name);
        let stored = stored.ok_or_else(|| identity::removed(&caller.name))?;
        let id = stored.id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let machine = stored.machine.as_deref();
        let subject = Subject { name: &caller.name, role: caller.role, id: &id, machine };
        self.ca.sign_member(csr, &subject).map_err(refused)
    }

    /// Keeps the id of a member of an earlier version, from its first call with it.
    pub(crate) async fn adopt(&self, caller: &Caller) -> Result<(), Status> {
        let Some(id) = &caller.id else { return Ok(()) };
        let has_none = |snapshot: &Snapshot| {
            identity::find(snapshot, &caller.name).is_some_and(|member| member.id.is_none())
        };
        if !has_none(&self.store.snapshot()) {
            return Ok(());
        }
        self.update(&caller.name, &format!("member {}", caller.name), |snapshot| {
            caller.check(snapshot)?;
            let Some(object) = snapshot.get(&Member::key(&caller.name)).filter(|_| has_none(snapshot)) else {
                return Ok(None);
            };
            let old = Member::from_object(object).map_err(Status::internal)?;
            let new = Member { id: Some(id.clone()), ..old };
            Ok(Some(Transaction::new().replace(object.key.clone(), object.revision, new.to_value())))
        })
        .await?;
        Ok(())
    }
}

/// The member's seat, held by a heartbeat stream.
struct BoundMachine<'a> {
    nodes: &'a Nodes,
    caller: &'a Caller,
    taken: bool,
}

impl BoundMachine<'_> {
    fn hold(&mut self) -> Result<(), Status> {
        check_machine(self.nodes, self.caller)?;
        let (name, boot) = (&self.caller.name, &self.caller.boot);
        self.nodes.leases.lock().bind_machine(name, boot, !self.taken, Instant::now());
        self.taken = true;
        Ok(())
    }
}

impl Drop for BoundMachine<'_> {
    fn drop(&mut self) {
        if self.taken {
            self.nodes.leases.lock().release_machine(&self.caller.name, &self.caller.boot);
        }
    }
}

/// Answers each beat after it counts. Ends when the member hangs up, was removed, or lost its seat.
async fn answer_beats(
    binding: &mut BoundMachine<'_>,
    mut beats: Streaming<HeartbeatRequest>,
    answers: mpsc::Sender<Result<HeartbeatResponse, Status>>,
) {
    let (nodes, caller) = (binding.nodes, binding.caller);
    loop {
        let beat = match beats.message().await {
            Ok(Some(beat)) => beat,
            Ok(None) => return,
            Err(status) => {
                // The member may have hung up; that is not its fault then, and nobody hears it.
                let _ = answers.try_send(Err(status));
                return;
            }
        };
        let counted = caller
            .check(&nodes.store.snapshot())
            .and_then(|()| caller.consumer(beat.consumer))
            .and_then(|consumer| binding.hold().map(|()| consumer));
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
