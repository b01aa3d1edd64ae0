//! Streams through the tunnel: the agent dials a session for each request of the controller.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use parking_lot::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};
use warren_agent::runtime::ContainerEngine as _;
use warren_agent::streams;
use warren_proto::control::{
    ContainerStreams, ExecRequest, FeedBatch, FeedRequest, HeartbeatRequest, HeartbeatResponse,
    IssueTokenRequest, IssueTokenResponse, LogsRequest, NetworkReport, NodeReport, PodsReport,
    PortForwardRequest, RenewRequest, RenewResponse, ReportResponse, SessionFrame, SessionOpen,
    SessionsRequest, TrafficReport, UsageReport,
    control_server::{Control, ControlServer},
    session_open::Kind,
};
use warren_runtime::CancellationToken;

use crate::bench::{Bench, STAY, container, pod};

/// The machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A controller that only takes sessions.
#[derive(Clone, Default)]
struct FakeController {
    frames: Arc<Mutex<Vec<SessionFrame>>>,
    /// Goes away after that many frames.
    patience: Option<usize>,
    /// What it sends, once the session is there.
    says: Vec<SessionFrame>,
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
        let (sender, answers) = tokio::sync::mpsc::channel(this.says.len() + 1);
        for frame in this.says.clone() {
            sender.try_send(Ok(frame)).unwrap();
        }
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
    async fn report_traffic(&self, _: Request<TrafficReport>) -> Result<Response<ReportResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn report_network(&self, _: Request<NetworkReport>) -> Result<Response<ReportResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
    async fn issue_token(
        &self,
        _: Request<IssueTokenRequest>,
    ) -> Result<Response<IssueTokenResponse>, Status> {
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
    let (limit, stay) = (LIMIT, CancellationToken::new());
    let last = |controller: &FakeController| controller.frames.lock().last().cloned().unwrap_or_default();
    let text = |controller: &FakeController| -> Vec<u8> {
        controller.frames.lock().iter().flat_map(|frame| frame.data.clone()).collect()
    };

    // The whole log, once the container has written it.
    let begun = std::time::Instant::now();
    loop {
        let controller = FakeController::default();
        let channel = connect(&controller).await;
        tokio::time::timeout(limit, streams::serve(&bench.driver, channel, open(&uid, "app", false), &stay))
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
    streams::serve(&bench.driver, channel, open(&uid, "nobody", false), &stay).await.unwrap();
    assert!(last(&controller).end && last(&controller).error.contains("nobody"), "{:?}", last(&controller));

    // A follower that goes away ends the session, though the container goes on talking.
    let controller = FakeController { patience: Some(4), ..FakeController::default() };
    let channel = connect(&controller).await;
    let following = streams::serve(&bench.driver, channel, open(&uid, "chatty", true), &stay);
    let ended = tokio::time::timeout(limit, following).await;
    assert!(ended.is_ok(), "the session did not end with its reader");
    assert!(controller.frames.lock().iter().all(|frame| !frame.end));
    bench.end().await;
}

fn exec(uid: &str, line: &str, tty: bool) -> SessionOpen {
    let streams = ContainerStreams { stdin: true, stdout: true, stderr: !tty, tty };
    let command = ["sh", "-c", line].map(str::to_owned).to_vec();
    let kind = Kind::Exec(ExecRequest { command, streams: Some(streams) });
    SessionOpen { kind: Some(kind), ..open(uid, "app", false) }
}

fn said(controller: &FakeController) -> String {
    let frames = controller.frames.lock();
    String::from_utf8(frames.iter().flat_map(|frame| frame.data.clone()).collect()).unwrap()
}

/// The commands in the container that carry this word.
async fn commands(bench: &Bench, uid: &str, word: &str) -> Vec<String> {
    let found = bench.driver.find_running(uid, "app").unwrap();
    let list = ["/bin/busybox", "ps"].map(str::to_owned);
    let listed = bench.driver.engine().exec(&found.instance.id, &list, LIMIT).await.unwrap();
    assert_eq!(listed.code, 0, "{}", listed.output);
    listed.output.lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

/// A client that has gone, or an agent that stops, leaves no command behind, whatever that does about SIGHUP; what
/// was started to stay, stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_with_its_client() {
    let mut bench = Bench::new("hang-up").await;
    let wanted = pod(2, vec![container("app", STAY)]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    bench.until_ready(&uid).await;
    for (name, line, tty) in [
        ("plain", "echo up; sleep 86301; true", false),
        ("pipe", "echo up; sleep 86302 | cat", false),
        ("deaf", "trap '' HUP; echo up; while :; do sleep 1; : 86303; done", false),
        ("terminal", "echo up; sleep 86304; true", true),
        ("shell", "echo up; read word; : 86305", true),
    ] {
        for by_stop in [false, true] {
            // It hears the session's id, then that the command is up.
            let patience = Some(2).filter(|_| !by_stop);
            let controller = FakeController { patience, ..FakeController::default() };
            let channel = connect(&controller).await;
            let stop = CancellationToken::new();
            let asked = exec(&uid, line, tty);
            let serving = streams::serve(&bench.driver, channel, asked, &stop);
            let stopping = async {
                while by_stop && !said(&controller).contains("up") {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if by_stop {
                    assert!(!commands(&bench, &uid, "8630").await.is_empty(), "{name}: the test is void");
                    stop.cancel();
                }
            };
            let both = async { tokio::join!(serving, stopping) };
            let (ended, ()) =
                tokio::time::timeout(LIMIT, both).await.unwrap_or_else(|_| panic!("{name} does not end"));
            ended.unwrap();
            let left = commands(&bench, &uid, "8630").await;
            assert!(left.is_empty(), "{name}: {left:?} goes on");
        }
    }
    let controller = FakeController { patience: Some(2), ..FakeController::default() };
    let channel = connect(&controller).await;
    // What nohup does.
    let line = "trap '' HUP; sleep 86309 >/dev/null 2>&1 & trap - HUP; echo up; sleep 86301; true";
    let stay = CancellationToken::new();
    let serving = streams::serve(&bench.driver, channel, exec(&uid, line, false), &stay);
    tokio::time::timeout(LIMIT, serving).await.unwrap().unwrap();
    let left = commands(&bench, &uid, "8630").await;
    assert!(left.len() == 1 && left[0].contains("86309"), "{left:?}");
    bench.end().await;
}

/// Input, its end, exit codes; and what is no command.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_takes_input_and_ends_with_its_code() {
    let mut bench = Bench::new("exec").await;
    let wanted = pod(3, vec![container("app", STAY)]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    bench.until_ready(&uid).await;
    let serve = async |says: Vec<SessionFrame>, asked: SessionOpen| {
        let controller = FakeController { says, ..FakeController::default() };
        let channel = connect(&controller).await;
        let stay = CancellationToken::new();
        let serving = streams::serve(&bench.driver, channel, asked, &stay);
        tokio::time::timeout(LIMIT, serving).await.unwrap().unwrap();
        let last = controller.frames.lock().last().cloned().unwrap();
        assert!(last.end, "{last:?}");
        (said(&controller), last)
    };
    let given = |text: &str, close| SessionFrame { data: text.into(), close, ..SessionFrame::default() };
    let says = vec![given("carrots", false), given(" and peas", true)];
    let (text, end) = serve(says, exec(&uid, "cat; exit 5", false)).await;
    assert_eq!((text.as_str(), end.exit_code), ("carrots and peas", Some(5)));
    let mut nonsense = exec(&uid, "", false);
    if let Some(Kind::Exec(request)) = &mut nonsense.kind {
        request.command = vec!["no-such-program".to_owned()];
    }
    let (text, end) = serve(Vec::new(), nonsense).await;
    let code = end.exit_code;
    assert!(matches!(code, Some(126 | 127)) || end.error.contains("no-such-program"), "{text:?} {end:?}");
    bench.end().await;
}

/// A server that listens on the pod's 127.0.0.1 alone is reached, and a port without one is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn ports_are_those_of_the_pods_localhost() {
    let mut bench = Bench::new("ports").await;
    let served = "mkdir -p /www; echo served > /www/index.html; exec httpd -f -p 127.0.0.1:8000 -h /www";
    let wanted = pod(4, vec![container("app", served)]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    bench.until_ready(&uid).await;
    let ask = async |port: u32| {
        let kind = Some(Kind::PortForward(PortForwardRequest { port }));
        let request = SessionFrame { data: "GET / HTTP/1.0\r\n\r\n".into(), ..SessionFrame::default() };
        let close = SessionFrame { close: true, ..SessionFrame::default() };
        let controller = FakeController { says: vec![request, close], ..FakeController::default() };
        let channel = connect(&controller).await;
        let (asked, stay) = (SessionOpen { kind, ..open(&uid, "", false) }, CancellationToken::new());
        let serving = streams::serve(&bench.driver, channel, asked, &stay);
        tokio::time::timeout(LIMIT, serving).await.unwrap().unwrap();
        let last = controller.frames.lock().last().cloned().unwrap();
        (said(&controller), last)
    };
    let begun = std::time::Instant::now();
    loop {
        let (page, end) = ask(8000).await;
        if end.error.is_empty() {
            assert!(page.contains("200 OK") && page.ends_with("served\n"), "{page}");
            break;
        }
        // It may not listen yet.
        assert!(end.error.contains("localhost:8000") && begun.elapsed() < LIMIT, "{end:?}");
    }
    let (_, end) = ask(8001).await;
    assert!(end.error.contains("localhost:8001") && end.error.contains("refused"), "{end:?}");
    bench.end().await;
}
