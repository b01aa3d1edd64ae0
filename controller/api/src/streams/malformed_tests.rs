//! Clients that send anything: nothing panics, every connection ends with its client, and what reaches a session is
//! no more than what was sent, in pieces that fit through the tunnel.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use warren_proto::control::{ContainerStreams, SessionFrame};

use super::{
    PIECE, exec, port_forward,
    spdy::{Encoder, Frame, Headers},
    wire,
};
use crate::Session;

const PATIENCE: Duration = Duration::from_secs(120);
const EVERYTHING: ContainerStreams = ContainerStreams { stdin: true, stdout: true, stderr: true, tty: true };

/// A process that repeats what it is told until its input ends, and how many bytes that were.
fn echo() -> (Session, Arc<AtomicUsize>) {
    let (input, mut from_client) = mpsc::channel::<SessionFrame>(4);
    let (to_client, output) = mpsc::channel(4);
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(frame) = from_client.recv().await {
            assert!(frame.data.len() <= PIECE, "a piece of {} bytes", frame.data.len());
            count.fetch_add(frame.data.len(), Ordering::Relaxed);
            let close = frame.close;
            let _ = to_client.send(Ok(SessionFrame { channel: 1, ..frame })).await;
            if close {
                break;
            }
        }
        let end = SessionFrame { end: true, exit_code: Some(0), ..SessionFrame::default() };
        let _ = to_client.send(Ok(end)).await;
    });
    (Session { input, output }, heard)
}

/// Even ports answer, odd ones refuse.
fn dial() -> port_forward::Dial {
    Arc::new(|port| {
        Box::pin(
            async move { if port % 2 == 0 { Ok(echo().0) } else { Err("connection refused".to_owned()) } },
        )
    })
}

/// Who serves what is sent.
#[derive(Debug, Clone, Copy)]
enum Served {
    ExecSpdy,
    ExecWebSocket,
    ForwardSpdy,
    ForwardTunnel,
    ForwardWebSocket,
}

async fn serve(served: Served, io: DuplexStream) -> Arc<AtomicUsize> {
    let (session, heard) = echo();
    match served {
        Served::ExecSpdy => exec::serve_spdy(io, session, EVERYTHING).await,
        Served::ExecWebSocket => {
            exec::serve_websocket(wire::websocket(io).await, session, EVERYTHING, false).await;
        }
        Served::ForwardSpdy => {
            let (read, write) = tokio::io::split(io);
            port_forward::serve_spdy(read, write, dial()).await;
        }
        Served::ForwardTunnel => {
            let (read, write) = wire::tunnel(wire::websocket(io).await);
            port_forward::serve_spdy(read, write, dial()).await;
        }
        Served::ForwardWebSocket => {
            port_forward::serve_websocket(wire::websocket(io).await, &[80, 81, 82], dial()).await;
        }
    }
    heard
}

/// A client that writes all of it, reads whatever comes, and goes. The server must end with it.
fn send(served: Served, parts: Vec<Vec<u8>>) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(1 << 10);
        let serving = tokio::spawn(serve(served, far));
        let (mut read, mut write) = tokio::io::split(near);
        let writing = async {
            for part in parts {
                // A server that was told nonsense has gone already.
                let _ = write.write_all(&part).await;
            }
            let _ = write.shutdown().await;
        };
        let reading = async {
            let mut buffer = [0; 4096];
            while matches!(read.read(&mut buffer).await, Ok(1..)) {}
        };
        let talk = async { tokio::join!(writing, reading) };
        let (_, heard) = tokio::time::timeout(PATIENCE, async { tokio::join!(talk, serving) })
            .await
            .unwrap_or_else(|_| panic!("{served:?} does not end with its client"));
        heard.expect("it does not panic").load(Ordering::Relaxed)
    })
}

/// Like [`send`], as true messages of a WebSocket.
fn send_messages(served: Served, messages: Vec<Message>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(1 << 10);
        let serving = tokio::spawn(serve(served, far));
        let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let (mut sink, mut stream) = socket.split();
        let writing = async {
            for message in messages {
                let _ = sink.send(message).await;
            }
            let _ = sink.close().await;
        };
        let reading = async { while let Some(Ok(_)) = stream.next().await {} };
        let talk = async { tokio::join!(writing, reading) };
        let (_, served_to) = tokio::time::timeout(PATIENCE, async { tokio::join!(talk, serving) })
            .await
            .unwrap_or_else(|_| panic!("{served:?} does not end with its client"));
        served_to.expect("it does not panic");
    });
}

fn served() -> impl Strategy<Value = Served> {
    prop_oneof![
        Just(Served::ExecSpdy),
        Just(Served::ExecWebSocket),
        Just(Served::ForwardSpdy),
        Just(Served::ForwardTunnel),
        Just(Served::ForwardWebSocket),
    ]
}

/// Frames that are sound, in an order that is not: the words are those that mean something here.
fn frame() -> impl Strategy<Value = Frame> {
    let stream = 1..12_u32;
    let word = prop_oneof![
        Just("error"),
        Just("data"),
        Just("stdin"),
        Just("stdout"),
        Just("stderr"),
        Just("resize"),
        Just("x")
    ];
    let port = prop_oneof![Just("80"), Just("81"), Just("0"), Just("65536"), Just("")];
    let request = prop_oneof![Just("1"), Just("2"), Just("")];
    let headers = (word, port, request).prop_map(|(word, port, request)| {
        let pairs = [("streamtype", word), ("port", port), ("requestid", request)];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec() as Headers
    });
    let size =
        prop_oneof![Just(&b"{\"Width\":80,\"Height\":24}"[..]), Just(&b"{\"Wid"[..]), Just(&b"\xff"[..])];
    prop_oneof![
        4 => (stream.clone(), any::<bool>(), headers)
            .prop_map(|(stream, fin, headers)| Frame::SynStream { stream, fin, headers }),
        3 => (stream.clone(), any::<bool>(), vec(any::<u8>(), 0..600))
            .prop_map(|(stream, fin, data)| Frame::Data { stream, fin, data: data.into() }),
        1 => (stream.clone(), size)
            .prop_map(|(stream, data)| Frame::Data { stream, fin: false, data: Bytes::from_static(data) }),
        1 => (stream, any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
        1 => any::<u32>().prop_map(Frame::Ping),
    ]
}

fn encoded(frames: &[Frame]) -> Vec<u8> {
    let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
    frames.iter().for_each(|frame| encoder.encode(frame, &mut bytes));
    bytes.to_vec()
}

fn message() -> impl Strategy<Value = Message> {
    let channel = prop_oneof![0..6_u8, Just(255), any::<u8>()];
    prop_oneof![
        5 => (channel, vec(any::<u8>(), 0..300)).prop_map(|(channel, data)| {
            Message::Binary([&[channel][..], &data].concat().into())
        }),
        1 => (0..3_u8).prop_map(|channel| Message::Binary(vec![255, channel].into())),
        1 => Just(Message::Binary(Bytes::from_static(b"\x04{\"Width\":1,\"Height\":70000}"))),
        1 => "[ -~]{0,40}".prop_map(|text| Message::Text(text.into())),
        1 => vec(any::<u8>(), 0..100).prop_map(|data| Message::Ping(data.into())),
        1 => Just(Message::Binary(Bytes::new())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_end_the_connection_and_nothing_else(
        served in served(),
        parts in vec(vec(any::<u8>(), 0..300), 0..8),
    ) {
        let sent: usize = parts.iter().map(Vec::len).sum();
        prop_assert!(send(served, parts) <= sent);
    }

    #[test]
    fn sound_frames_in_any_order_are_borne(
        exec in any::<bool>(),
        frames in vec(frame(), 0..40),
        rest in vec(any::<u8>(), 0..40),
    ) {
        let served = if exec { Served::ExecSpdy } else { Served::ForwardSpdy };
        let bytes = [encoded(&frames), rest].concat();
        let sent = bytes.len();
        prop_assert!(send(served, vec![bytes]) <= sent);
    }

    #[test]
    fn any_messages_on_any_channel_are_borne(
        exec in any::<bool>(),
        messages in vec(message(), 0..40),
    ) {
        send_messages(if exec { Served::ExecWebSocket } else { Served::ForwardWebSocket }, messages);
    }
}

#[test]
fn a_long_message_reaches_the_process_in_pieces() {
    // Beyond the limit of the tunnel's messages, 4 MiB.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(1 << 16);
        let serving = tokio::spawn(serve(Served::ExecWebSocket, far));
        let mut socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let long = 9 << 20;
        let (mut sink, mut stream) = (&mut socket).split();
        let writing = async {
            sink.send(Message::Binary(vec![0; long + 1].into())).await.unwrap();
            sink.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
        };
        let reading = async { while let Some(Ok(_)) = stream.next().await {} };
        tokio::time::timeout(PATIENCE, async { tokio::join!(writing, reading) }).await.unwrap();
        assert_eq!(serving.await.unwrap().load(Ordering::Relaxed), long);
    });
}

#[test]
fn a_frame_that_announces_gigabytes_is_refused_at_once() {
    // A masked binary frame of 2^40 bytes, of which none comes.
    let head = [&[0x82, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
    for served in [Served::ExecWebSocket, Served::ForwardWebSocket, Served::ForwardTunnel] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 16);
            let serving = tokio::spawn(serve(served, far));
            near.write_all(&head).await.unwrap();
            // Though the client stays.
            tokio::time::timeout(PATIENCE, serving).await.expect("it ends").expect("it does not panic");
        });
    }
}
