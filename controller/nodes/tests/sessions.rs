//! Streams through an agent's connections.

mod harness;

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use harness::{Controller, Member, within};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use warren_nodes::SessionError;
use warren_proto::control::{
    ExecRequest, LogsRequest, Role, SessionFrame, SessionOpen, SessionsRequest, session_open::Kind,
};

async fn sessions(member: &mut Member) -> Streaming<SessionOpen> {
    member.client.sessions(member.request(SessionsRequest {})).await.expect("sessions").into_inner()
}

/// Dials the session; frames go in by the sender.
async fn dial(
    member: &mut Member,
    id: &str,
) -> Result<(mpsc::Sender<SessionFrame>, Streaming<SessionFrame>), Status> {
    let (frames, outgoing) = mpsc::channel(1);
    frames.send(SessionFrame { id: id.into(), ..SessionFrame::default() }).await.expect("room");
    let answers = member.client.session(member.request(ReceiverStream::new(outgoing))).await?.into_inner();
    Ok((frames, answers))
}

fn data(text: &str) -> SessionFrame {
    SessionFrame { data: text.as_bytes().to_vec(), ..SessionFrame::default() }
}

fn end(error: &str) -> SessionFrame {
    SessionFrame { end: true, error: error.into(), ..SessionFrame::default() }
}

type Logs = JoinHandle<Result<ReceiverStream<Result<Bytes, String>>, SessionError>>;

fn ask(controller: &Controller) -> Logs {
    let nodes = controller.nodes.clone();
    let request = LogsRequest { follow: true, tail_lines: Some(7), ..LogsRequest::default() };
    tokio::spawn(async move { nodes.logs("uid", "node-1", "web", request).await })
}

async fn opened(requests: &mut Streaming<SessionOpen>) -> SessionOpen {
    within("the agent is asked", requests.message()).await.expect("no error").expect("no end")
}

async fn stream(logs: Logs) -> ReceiverStream<Result<Bytes, String>> {
    within("the stream opens", logs).await.expect("no panic").expect("a stream")
}

#[tokio::test]
async fn a_log_flows_from_the_agent_to_the_reader() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut requests = sessions(&mut member).await;
    for error in ["", "no such container"] {
        let logs = ask(&controller);
        let open = opened(&mut requests).await;
        assert_eq!((open.pod_uid.as_str(), open.container.as_str()), ("uid", "web"));
        assert!(matches!(&open.kind, Some(Kind::Logs(logs)) if logs.follow && logs.tail_lines == Some(7)));
        let (frames, mut answers) = dial(&mut member, &open.id).await.expect("accepted");
        let mut log = stream(logs).await;
        for frame in [data("one\n"), data("two\n"), end(error)] {
            frames.send(frame).await.expect("room");
        }
        let mut read = Vec::new();
        while let Some(item) = within("the log goes on", log.next()).await {
            read.push(item.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
        }
        let mut expected = vec![Ok("one\n".to_owned()), Ok("two\n".to_owned())];
        expected.extend((!error.is_empty()).then(|| Err(error.to_owned())));
        assert_eq!(read, expected);
        assert!(within("the call ends", answers.message()).await.expect("no error").is_none());
    }
}

#[tokio::test]
async fn a_slow_reader_stops_the_agent_and_loses_nothing() {
    const FRAMES: usize = 1_000;
    const SIZE: usize = 64 << 10;
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut requests = sessions(&mut member).await;
    let logs = ask(&controller);
    let open = opened(&mut requests).await;
    let (frames, _answers) = dial(&mut member, &open.id).await.expect("accepted");
    let mut log = stream(logs).await;
    let (blocked, mut was_blocked) = mpsc::channel(1);
    let agent = tokio::spawn(async move {
        for i in 0..FRAMES {
            let frame = SessionFrame { data: vec![(i % 251) as u8; SIZE], ..SessionFrame::default() };
            let permit = match tokio::time::timeout(Duration::from_secs(1), frames.reserve()).await {
                Ok(permit) => permit,
                Err(_) => {
                    let _ = blocked.try_send(i);
                    frames.reserve().await
                }
            };
            permit.expect("the session is open").send(frame);
        }
        frames.send(end("")).await.expect("the session is open");
    });
    // Ends with `None` if the agent could send everything without being stopped.
    let at = within("the agent is stopped", was_blocked.recv()).await.expect("nobody read, yet all was sent");
    assert!(at < FRAMES / 2, "{at} frames of 64 KiB were taken without a reader");
    let mut read = 0;
    while let Some(item) = within("the log goes on", log.next()).await {
        for byte in item.expect("no error") {
            assert_eq!(byte, (read / SIZE % 251) as u8);
            read += 1;
        }
    }
    assert_eq!(read, FRAMES * SIZE);
    agent.await.expect("no panic");
}

#[tokio::test]
async fn a_reader_that_has_gone_ends_the_agents_call() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut requests = sessions(&mut member).await;
    let logs = ask(&controller);
    let open = opened(&mut requests).await;
    let (frames, mut answers) = dial(&mut member, &open.id).await.expect("accepted");
    drop(stream(logs).await);
    let _ = within("the call ends", answers.message()).await;
    within("the agent notices", frames.closed()).await;
}

#[tokio::test]
async fn an_agent_that_breaks_off_is_an_error_for_the_reader() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut requests = sessions(&mut member).await;
    let logs = ask(&controller);
    let open = opened(&mut requests).await;
    let (frames, _answers) = dial(&mut member, &open.id).await.expect("accepted");
    let mut log = stream(logs).await;
    drop(frames);
    let item = within("the reader is told", log.next()).await.expect("an item").expect_err("an error");
    assert!(item.contains("connection to the node broke"), "{item}");
}

#[tokio::test]
async fn only_the_asked_node_may_answer_and_an_absent_one_is_named() {
    let controller = Controller::start().await;
    let error = within("refused", ask(&controller)).await.expect("no panic").expect_err("no agent");
    assert_eq!(error, SessionError::Disconnected { node: "node-1".into() });
    assert!(error.to_string().contains("node node-1 is not connected"));

    let mut member = controller.member("node-1", Role::Node).await;
    let mut other = controller.member("node-2", Role::Node).await;
    let mut requests = sessions(&mut member).await;
    let logs = ask(&controller);
    let open = opened(&mut requests).await;
    let status = dial(&mut other, &open.id).await.expect_err("not its session");
    assert_eq!(status.code(), Code::NotFound);
    let status = dial(&mut member, "nonsense").await.expect_err("no such session");
    assert_eq!(status.code(), Code::NotFound);
    let (frames, _answers) = dial(&mut member, &open.id).await.expect("accepted");
    stream(logs).await;
    drop(frames);
    drop(requests);
}

#[tokio::test]
async fn an_agent_that_is_away_for_a_moment_is_waited_for() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let logs = ask(&controller);
    let mut requests = sessions(&mut member).await;
    let open = opened(&mut requests).await;
    let (frames, _answers) = dial(&mut member, &open.id).await.expect("accepted");
    stream(logs).await;
    drop(frames);
}

#[tokio::test]
async fn an_agent_that_goes_with_a_request_is_asked_again_when_it_is_back() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut requests = sessions(&mut member).await;
    let logs = ask(&controller);
    let lost = opened(&mut requests).await;
    // Killed before it dialled: the next one opens its stream, and has nothing of that.
    let mut again = sessions(&mut member).await;
    let open = opened(&mut again).await;
    assert_eq!(open, lost);
    let (frames, _answers) = dial(&mut member, &open.id).await.expect("somebody waits");
    frames.send(end("")).await.expect("sent");
    assert!(stream(logs).await.next().await.is_none());
    // Whoever dials late finds nobody.
    assert_eq!(dial(&mut member, &lost.id).await.expect_err("nobody waits").code(), Code::NotFound);
}

#[tokio::test]
async fn a_command_is_joined_in_both_directions_until_its_client_goes() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut requests = sessions(&mut member).await;
    let nodes = controller.nodes.clone();
    let command = vec!["cat".to_owned()];
    let kind = Kind::Exec(ExecRequest { command, streams: None });
    let asked = tokio::spawn(async move { nodes.session("uid", "node-1", "web", kind).await });
    let open = opened(&mut requests).await;
    assert!(matches!(&open.kind, Some(Kind::Exec(exec)) if exec.command == ["cat"]));
    let (frames, mut answers) = dial(&mut member, &open.id).await.expect("accepted");
    let mut session = within("the session opens", asked).await.expect("no panic").expect("a session");

    session.input.send(data("in")).await.expect("room");
    let read = within("the agent reads", answers.message()).await.expect("no error").expect("a frame");
    assert_eq!(read.data, b"in");
    frames.send(SessionFrame { channel: 2, ..data("out") }).await.expect("room");
    // The first frame, which only names the session, is no output.
    let read = within("the client reads", session.output.recv()).await.expect("an item").expect("a frame");
    assert_eq!((read.channel, read.data.as_slice()), (2, &b"out"[..]));

    drop(session);
    let _ = within("the call ends", answers.message()).await;
    within("the agent notices", frames.closed()).await;
}

/// What a process does not take stands in the way of the call's end: so the agent hears of it elsewhere.
#[tokio::test]
async fn an_agent_whose_process_takes_nothing_is_told_that_the_client_has_gone() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut requests = sessions(&mut member).await;
    let nodes = controller.nodes.clone();
    let kind = Kind::Exec(ExecRequest::default());
    let asked = tokio::spawn(async move { nodes.session("uid", "node-1", "web", kind).await });
    let open = opened(&mut requests).await;
    // The agent reads none of the answers.
    let (_frames, _answers) = dial(&mut member, &open.id).await.expect("accepted");
    let session = within("the session opens", asked).await.expect("no panic").expect("a session");
    let much = "x".repeat(64 << 10);
    let filling = async { while session.input.send(data(&much)).await.is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_secs(2), filling).await.is_err(), "the session ended");
    drop(session);
    let over = opened(&mut requests).await;
    assert_eq!((over.id, over.pod_uid.as_str(), over.kind), (open.id, "", None));
}
