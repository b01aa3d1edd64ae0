//! Logs through the tunnel: the agent dials a session for each request of the controller.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use parking_lot::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use warren_agent::streams;
use warren_proto::control::{
    FeedBatch, FeedRequest, HeartbeatRequest, HeartbeatResponse, LogsRequest, NetworkReport, NodeReport,
    PodsReport, RenewRequest, RenewResponse, ReportResponse, SessionFrame, SessionOpen, SessionsRequest,
    UsageReport,
    control_server::{Control, ControlServer},
    session_open::Kind,
};

use crate::bench::{Bench, STAY, container, pod};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A controller that only takes sessions.
#[derive(Clone, Default)]
struct FakeController {
    frames: Arc<Mutex<Vec<SessionFrame>>>,
    /// Goes away after that many frames.
    patience: Option<usize>,
}

#[tonic::async_trait]
impl Control for FakeController {
    type HeartbeatStream = Answers<HeartbeatResponse>;
    type FeedStream = Answers<FeedBatch>;
    type SessionsStream = Answers<SessionOpen>;
    type SessionStream = Answers<SessionFrame>;

    async fn session(
        &self,
        request: Request<Streaming<SessionFrame>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (mut frames, this) = (request.into_inner(), self.clone());
        let (sender, answers) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                let count = {
                    let mut all = this.frames.lock();
                    all.push(frame);
                    all.len()
                };
                if this.patience.is_some_and(|patience| count >= patience) {
                    break;
                }
            }
            drop(sender);
        });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(answers))))
    }
    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn heartbeat(
        &self,
        _: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn feed(&self, _: Request<Streaming<FeedRequest>>) -> Result<Response<Self::FeedStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn report_pods(&self, _: Request<PodsReport>) -> Result<Response<ReportResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn report_node(&self, _: Request<NodeReport>) -> Result<Response<ReportResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn report_usage(&self, _: Request<UsageReport>) -> Result<Response<ReportResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn report_network(&self, _: Request<NetworkReport>) -> Result<Response<ReportResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn sessions(&self, _: Request<SessionsRequest>) -> Result<Response<Self::SessionsStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

async fn connect(controller: &FakeController) -> tonic::transport::Channel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(ControlServer::new(controller.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

fn open(uid: &str, container: &str, follow: bool) -> SessionOpen {
    let logs = LogsRequest { follow, ..LogsRequest::default() };
    SessionOpen {
        id: "s1".into(),
        pod_uid: uid.into(),
        container: container.into(),
        kind: Some(Kind::Logs(logs)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_carries_its_id_then_data_then_the_end() {
    let mut bench = Bench::new("sessions").await;
    let chatty = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";
    let wanted = pod(1, vec![container("app", &format!("seq 1 20000; {STAY}")), container("chatty", chatty)]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    bench.until_ready(&uid).await;
    let limit = Duration::from_secs(120);
    let last = |controller: &FakeController| controller.frames.lock().last().cloned().unwrap_or_default();
    let text = |controller: &FakeController| -> Vec<u8> {
        controller.frames.lock().iter().flat_map(|frame| frame.data.clone()).collect()
    };

    // The whole log, once the container has written it.
    let begun = std::time::Instant::now();
    loop {
        let controller = FakeController::default();
        let channel = connect(&controller).await;
        tokio::time::timeout(limit, streams::serve(&bench.driver, channel, open(&uid, "app", false)))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(controller.frames.lock()[0].id, "s1");
        assert!(last(&controller).end && last(&controller).error.is_empty());
        let text = text(&controller);
        if text.ends_with(b"\n20000\n") {
            assert!(text.starts_with(b"1\n2\n3\n"));
            break;
        }
        assert!(begun.elapsed() < limit, "the log never came whole: {} bytes", text.len());
    }

    // What is not there is said at the end.
    let controller = FakeController::default();
    let channel = connect(&controller).await;
    streams::serve(&bench.driver, channel, open(&uid, "nobody", false)).await.unwrap();
    assert!(last(&controller).end && last(&controller).error.contains("nobody"), "{:?}", last(&controller));

    // A follower that goes away ends the session, though the container goes on talking.
    let controller = FakeController { patience: Some(4), ..FakeController::default() };
    let channel = connect(&controller).await;
    let ended =
        tokio::time::timeout(limit, streams::serve(&bench.driver, channel, open(&uid, "chatty", true))).await;
    assert!(ended.is_ok(), "the session did not end with its reader");
    assert!(controller.frames.lock().iter().all(|frame| !frame.end));
    bench.end().await;
}
