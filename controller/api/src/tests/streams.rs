//! exec, attach and port-forward over real connections, with an in-process node that plays the processes.

use std::{collections::BTreeMap, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use futures_util::SinkExt;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};
use warren_proto::control::SessionFrame;

use super::{pods::running, *};
use crate::streams::spdy::{Decoder, Encoder, Frame, Headers};

/// Frames that were taken from a process by name, and `GONE` once its client had gone.
static NOTES: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
const GONE: usize = usize::MAX;
const FLOOD: usize = 2_000;
const PIECE: usize = 64 << 10;

fn data(channel: u32, text: impl Into<Vec<u8>>) -> SessionFrame {
    SessionFrame { channel, data: text.into(), ..SessionFrame::default() }
}

/// What a node would do: `cat`, `exit CODE`, `size`, `flood NAME`; a forwarded port echoes.
pub(super) fn process(container: String, kind: Kind) -> Session {
    if matches!(&kind, Kind::PortForward(request) if request.port == super::proxy::PORT) {
        return super::proxy::web();
    }
    let (input, mut from_client) = mpsc::channel::<SessionFrame>(4);
    let (to_client, output) = mpsc::channel(4);
    tokio::spawn(async move {
        let words = match &kind {
            Kind::Exec(exec) => exec.command.clone(),
            Kind::Attach(_) => vec!["cat".to_owned()],
            _ => vec!["echo".to_owned()],
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut end = SessionFrame { end: true, exit_code: Some(0), ..SessionFrame::default() };
        if let Kind::PortForward(request) = &kind
            && request.port == 1
        {
            end.error = "connection refused".to_owned();
            let _ = to_client.send(Ok(end)).await;
            return;
        }
        match words.as_slice() {
            ["exit", code] => {
                let _ = to_client.send(Ok(data(2, container))).await;
                end.exit_code = code.parse().ok();
            }
            ["flood", name] => {
                for count in 1..=FLOOD {
                    let permit = tokio::select! {
                        permit = to_client.reserve() => permit,
                        // Nothing is sent to it but the end.
                        _ = from_client.recv() => break,
                    };
                    let Ok(permit) = permit else { break };
                    permit.send(Ok(data(1, vec![b'x'; PIECE])));
                    NOTES.lock().insert((*name).to_owned(), count);
                }
                if from_client.is_closed() {
                    NOTES.lock().insert((*name).to_owned(), GONE);
                }
            }
            _ => {
                let channel = u32::from(words != ["echo"]);
                while let Some(frame) = from_client.recv().await {
                    if let Some(size) = frame.resize {
                        let text = format!("{}x{}\n", size.width, size.height);
                        let _ = to_client.send(Ok(data(1, text))).await;
                    }
                    if !frame.data.is_empty() {
                        let _ = to_client.send(Ok(data(channel, frame.data))).await;
                    }
                    if frame.close {
                        break;
                    }
                }
                if from_client.is_closed() && words.len() > 1 {
                    NOTES.lock().insert(words[1].to_owned(), GONE);
                }
            }
        }
        let _ = to_client.send(Ok(end)).await;
    });
    Session { input, output }
}

async fn listen(server: &Server) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = server.router.clone().layer(axum::Extension(admin()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

/// A client of SPDY over anything.
struct Client<S> {
    io: S,
    encoder: Encoder,
    decoder: Decoder,
    /// What came on each stream, and whether it has ended.
    streams: BTreeMap<u32, (Vec<u8>, bool)>,
}

impl Client<TcpStream> {
    async fn upgrade(address: SocketAddr, path: &str, protocol: &str) -> Self {
        let mut io = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\nContent-Length: 0\r\n\r\n"
        );
        io.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the answer", io.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        assert!(head.contains(&format!("x-stream-protocol-version: {}", protocol.to_ascii_lowercase())));
        Self::over(io)
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Client<S> {
    fn over(io: S) -> Self {
        Self { io, encoder: Encoder::new(), decoder: Decoder::new(), streams: BTreeMap::new() }
    }

    async fn send(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        self.encoder.encode(&frame, &mut bytes);
        self.io.write_all(&bytes).await.unwrap();
        self.io.flush().await.unwrap();
    }

    async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) {
        let headers: Headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.send(Frame::SynStream { stream, fin: false, headers }).await;
    }

    async fn data(&mut self, stream: u32, text: &str, fin: bool) {
        self.send(Frame::Data { stream, fin, data: Bytes::copy_from_slice(text.as_bytes()) }).await;
    }

    /// Reads until all these streams have ended; answers what came on each.
    async fn until_ended(&mut self, streams: &[u32]) -> Vec<String> {
        while !streams.iter().all(|id| self.streams.get(id).is_some_and(|(_, ended)| *ended)) {
            match self.decoder.next().unwrap() {
                Some(Frame::Data { stream, fin, data }) => {
                    let (all, ended) = self.streams.entry(stream).or_default();
                    assert!(!*ended, "data after the end of stream {stream}");
                    all.extend_from_slice(&data);
                    *ended = fin;
                }
                Some(Frame::Reset { stream, status }) => panic!("stream {stream} was reset with {status}"),
                Some(_) => {}
                None => {
                    let read = within("more frames", self.io.read_buf(self.decoder.buffer())).await.unwrap();
                    assert_ne!(read, 0, "the connection ended; {:?}", self.streams.keys());
                }
            }
        }
        streams.iter().map(|id| String::from_utf8(self.streams[id].0.clone()).unwrap()).collect()
    }
}

async fn websocket(address: SocketAddr, path: &str, protocol: &str) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let (socket, response) =
        within("the upgrade", tokio_tungstenite::client_async(request, stream)).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    socket
}

/// All messages by channel until the server closes.
async fn read_all(socket: &mut WebSocketStream<TcpStream>) -> BTreeMap<u8, Vec<u8>> {
    let mut channels: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    while let Some(Ok(message)) = within("more messages", socket.next()).await {
        if let Message::Binary(data) = message {
            channels.entry(data[0]).or_default().extend_from_slice(&data[1..]);
        }
    }
    channels
}

fn path(pod: &str, rest: &str) -> String {
    format!("{PODS}/{pod}/{rest}")
}

fn status(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn exec_over_spdy_carries_streams_and_the_exit_code() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let address = listen(&server).await;
    let path = |rest: &str| path("web", rest);
    let mut client = Client::upgrade(
        address,
        &path("exec?command=cat&stdin=true&stdout=true&stderr=true"),
        "v4.channel.k8s.io",
    )
    .await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        client.open(stream, &[("streamtype", kind)]).await;
    }
    client.data(3, "hello ", false).await;
    client.send(Frame::Ping(1)).await;
    client.data(3, "world", true).await;
    let all = client.until_ended(&[1, 5, 7]).await;
    assert_eq!(all[1..], ["hello world", ""]);
    assert_eq!(status(&all[0])["status"], "Success");

    let mut client =
        Client::upgrade(address, &path("exec?command=exit&command=7&stderr=1"), "v4.channel.k8s.io").await;
    client.open(1, &[("streamtype", "error")]).await;
    client.open(3, &[("streamtype", "stderr")]).await;
    let all = client.until_ended(&[1, 3]).await;
    assert_eq!(all[1], "main");
    assert_eq!(status(&all[0])["details"]["causes"][0]["message"], "7");

    // A terminal: sizes reach the process; its end is the client's end of input.
    let mut client =
        Client::upgrade(address, &path("attach?stdin=true&stdout=true&tty=true"), "v4.channel.k8s.io").await;
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        client.open(stream, &[("streamtype", kind)]).await;
    }
    client.data(7, "{\"Width\":80,\"Height\":24}\n", false).await;
    client.data(3, "", true).await;
    assert_eq!(client.until_ended(&[1, 5]).await[1], "80x24\n");
}

#[tokio::test]
async fn exec_over_websocket_closes_input_by_v5_and_ends_with_the_status() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let address = listen(&server).await;
    let cat = path("web", "exec?command=cat&stdin=true&stdout=true&tty=true");
    let mut socket = websocket(address, &cat, "v5.channel.k8s.io").await;
    for message in [&b"\x04{\"Width\":9,\"Height\":5}"[..], b"\x00hello", b"\xff\x00"] {
        socket.send(Message::Binary(Bytes::copy_from_slice(message))).await.unwrap();
    }
    let channels = read_all(&mut socket).await;
    assert_eq!(channels[&1], b"9x5\nhello");
    assert_eq!(status(std::str::from_utf8(&channels[&3]).unwrap())["status"], "Success");

    let exit = path("web", "exec?command=exit&command=3&stdout=true&stderr=true");
    let channels = read_all(&mut websocket(address, &exit, "v4.channel.k8s.io").await).await;
    let end = status(std::str::from_utf8(&channels[&3]).unwrap());
    assert_eq!((&end["reason"], &channels[&2][..]), (&json!("NonZeroExitCode"), &b"main"[..]));
}

async fn forward<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(client: &mut Client<S>) {
    for (base, port) in [(1, "80"), (5, "1"), (9, "81")] {
        let request = base.to_string();
        for (stream, kind) in [(base, "error"), (base + 2, "data")] {
            client.open(stream, &[("streamtype", kind), ("port", port), ("requestid", &request)]).await;
        }
    }
    client.data(11, "third", true).await;
    client.data(3, "first", false).await;
    client.data(3, " and more", true).await;
    let all = client.until_ended(&[1, 3, 5, 7, 9, 11]).await;
    assert_eq!((&*all[0], &*all[1]), ("", "first and more"));
    assert_eq!((&*all[2], &*all[3]), ("error forwarding port 1: connection refused", ""));
    assert_eq!((&*all[4], &*all[5]), ("", "third"));
}

#[tokio::test]
async fn ports_are_forwarded_over_spdy_its_tunnel_and_channels() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let address = listen(&server).await;
    let path = |rest: &str| path("web", rest);
    forward(&mut Client::upgrade(address, &path("portforward"), "portforward.k8s.io").await).await;

    let socket = websocket(address, &path("portforward"), "SPDY/3.1+portforward.k8s.io").await;
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let (mut sink, mut stream) = socket.split();
        let (mut read, mut write) = tokio::io::split(far);
        let down = async {
            while let Some(Ok(Message::Binary(data))) = stream.next().await {
                write.write_all(&data).await.unwrap();
            }
        };
        let up = async {
            // Cut small, so that frames span messages.
            let mut buffer = [0; 7];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                let piece = Bytes::copy_from_slice(&buffer[..count]);
                sink.send(Message::Binary(piece)).await.unwrap();
            }
        };
        tokio::join!(down, up);
    });
    forward(&mut Client::over(near)).await;

    let mut socket = websocket(address, &path("portforward?ports=80,1"), "v5.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0ping"))).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(b"\xff\0"))).await.unwrap();
    let channels = read_all(&mut socket).await;
    assert_eq!((&channels[&0][..], &channels[&1][..]), (&b"\x50\0ping"[..], &b"\x50\0"[..]));
    assert_eq!((&channels[&2][..], &channels[&3][..]), (&b"\x01\0"[..], &b"\x01\0connection refused"[..]));
}

async fn until(what: &str, check: impl Fn() -> bool) {
    within(what, async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_process_and_one_that_has_gone_ends_it() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let address = listen(&server).await;
    let note = |name: &str| NOTES.lock().get(name).copied().unwrap_or(0);
    let flood = path("web", "exec?command=flood&command=spdy&stdout=true");
    let mut client = Client::upgrade(address, &flood, "v4.channel.k8s.io").await;
    client.open(1, &[("streamtype", "error")]).await;
    client.open(3, &[("streamtype", "stdout")]).await;
    until("something flows", || note("spdy") > 4).await;
    // Two equal looks a second apart: it stands still.
    let mut last = 0;
    while note("spdy") != last {
        last = note("spdy");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(last < FLOOD / 2, "{last} pieces of 64 KiB were taken though nobody reads");
    let all = client.until_ended(&[1, 3]).await;
    assert_eq!(all[1].len(), FLOOD * PIECE, "what was not read is lost");

    for (name, spdy) in [("gone-spdy", true), ("gone-websocket", false)] {
        let cat = path("web", &format!("exec?command=cat&command={name}&stdin=true&stdout=true"));
        if spdy {
            let mut client = Client::upgrade(address, &cat, "v4.channel.k8s.io").await;
            client.open(1, &[("streamtype", "error")]).await;
        } else {
            drop(websocket(address, &cat, "v5.channel.k8s.io").await);
        }
        until("the process is let go", || note(name) == GONE).await;
    }
}

#[tokio::test]
async fn there_is_a_most_of_clients_and_each_that_leaves_makes_room() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let address = listen(&server).await;
    let exec = path("web", "exec?command=cat&stdin=true&stdout=true");
    let mut clients = Vec::new();
    // MOST_CLIENTS of a test.
    for _ in 0..20 {
        clients.push(websocket(address, &exec, "v5.channel.k8s.io").await);
    }
    let refused = server.get(&exec).await.expect(429);
    assert_eq!(refused["reason"], "TooManyRequests");
    assert!(refused["message"].as_str().unwrap().contains("20 streams"), "{refused}");
    clients.pop();
    // Without an upgrade it is refused for another reason as soon as there is room.
    within("there is room", async {
        while server.get(&exec).await.code.as_u16() != 400 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_opened_is_refused_with_kubernetes_words() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    running(&server, "far", "lost").await;
    server.post(PODS, &pod("new")).await.expect(201);
    let mut two = pod("two");
    two["spec"]["nodeName"] = json!("n1");
    two["spec"]["containers"] = json!([{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]);
    server.post(PODS, &two).await.expect(201);
    let get = async |pod: &str, rest: &str, code: u16| -> String {
        let answer = server.get(&path(pod, rest)).await.expect(code);
        answer["message"].as_str().unwrap().to_owned()
    };
    let exec = "exec?command=ls&stdout=true";
    assert_eq!(get("none", exec, 404).await, "pods \"none\" not found");
    assert_eq!(get("web", exec, 400).await, "Upgrade request required");
    assert_eq!(get("new", exec, 400).await, "pod new does not have a host assigned");
    assert_eq!(
        get("two", exec, 400).await,
        "a container name must be specified for pod two, choose one of: [a b]"
    );
    assert_eq!(get("web", &format!("{exec}&container=x"), 400).await, "container x is not valid for pod web");
    assert_eq!(
        get("two", &format!("{exec}&container=a"), 400).await,
        "unable to upgrade connection: container not found (\"a\")"
    );
    assert_eq!(
        get("web", "exec?command=ls", 400).await,
        "you must specify at least 1 of stdin, stdout, stderr"
    );
    assert_eq!(
        get("web", "exec?stdout=true", 400).await,
        "you must specify at least one command for the container"
    );
    assert!(get("two", "portforward", 400).await.contains("pod is not running"));
    server.put(&path("web", "exec"), &json!({})).await.expect(405);

    // The node is asked before the connection is upgraded.
    let address = listen(&server).await;
    let mut request = format!("ws://{address}{}", path("far", exec)).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "v5.channel.k8s.io".parse().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    match within("refused", tokio_tungstenite::client_async(request, stream)).await {
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn old_clients_read_processes_and_logs_over_websockets() {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let address = listen(&server).await;
    for (code, said) in [("0", ""), ("3", "command terminated with non-zero exit code: exit status 3")] {
        let exec = path("web", &format!("exec?command=exit&command={code}&stdout=true&stderr=true"));
        let channels = read_all(&mut websocket(address, &exec, "channel.k8s.io").await).await;
        assert_eq!(channels[&2], b"main");
        assert_eq!(String::from_utf8_lossy(channels.get(&3).map_or(&[], Vec::as_slice)), said, "{code}");
    }
    let log = path("web", "log?container=main");
    let text = "default/web@n1 main tail=None\nend\n";
    for protocol in ["binary.k8s.io", "base64.binary.k8s.io"] {
        let mut socket = websocket(address, &log, protocol).await;
        let mut all = Vec::new();
        while let Some(Ok(message)) = within("a piece", socket.next()).await {
            match message {
                Message::Binary(data) => all.extend_from_slice(&data),
                Message::Text(data) => all.extend(STANDARD.decode(data.as_str()).unwrap()),
                Message::Close(frame) => assert_eq!(frame.unwrap().code, CloseCode::Normal),
                _ => {}
            }
        }
        assert_eq!(String::from_utf8_lossy(&all), text, "{protocol}");
    }
    let answer = server.get(&log).await;
    assert_eq!(answer.body, text.as_bytes(), "without an upgrade it is a text as before");
}
