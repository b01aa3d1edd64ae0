//! SPDY over anything that carries bytes: a connection that was upgraded, or the messages of a WebSocket.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::Mutex,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::spdy::{Decoder, Encoder, Frame, SpdyError};

/// How much is read at once.
const READ: usize = 32 << 10;
/// The longest message that a WebSocket client may send. Clients that write all of their input at once exist.
const MOST_MESSAGE: usize = 32 << 20;
/// A peer that has gone without a word is found out by writing to it.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the client may take to read the end and to close.
pub(super) const FAREWELL: Duration = Duration::from_secs(10);

/// Frames from a connection.
pub(super) struct Reader<R> {
    io: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(io: R) -> Self {
        Self { io, decoder: Decoder::new() }
    }

    /// The next frame; none when the connection ended between two.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(Some(frame));
            }
            let buffer = self.decoder.buffer();
            buffer.reserve(READ);
            if self.io.read_buf(buffer).await? == 0 {
                return if self.decoder.is_between_frames() { Ok(None) } else { Err(SpdyError::Truncated) };
            }
        }
    }
}

struct Output<W> {
    io: W,
    encoder: Encoder,
    buffer: BytesMut,
}

/// Frames to a connection; shared by all who have something to say.
pub(super) struct Writer<W>(Arc<Mutex<Output<W>>>);

impl<W> Clone for Writer<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(io: W) -> Self {
        Self(Arc::new(Mutex::new(Output { io, encoder: Encoder::new(), buffer: BytesMut::new() })))
    }

    pub(super) async fn send(&self, frame: &Frame) -> std::io::Result<()> {
        let Output { io, encoder, buffer } = &mut *self.0.lock().await;
        encoder.encode(frame, buffer);
        io.write_all_buf(buffer).await?;
        io.flush().await
    }

    /// Bytes for one stream.
    pub(super) async fn data(
        &self,
        stream: u32,
        data: impl Into<Bytes> + Send,
        fin: bool,
    ) -> std::io::Result<()> {
        self.send(&Frame::Data { stream, fin, data: data.into() }).await
    }

    /// Pings until that fails.
    pub(super) async fn keep_alive(&self) -> std::io::Result<()> {
        // A server's own pings are even; the client's are sent back to it.
        let mut id = 0_u32;
        loop {
            tokio::time::sleep(KEEP_ALIVE).await;
            id = id.wrapping_add(2);
            self.send(&Frame::Ping(id)).await?;
        }
    }

    pub(super) async fn close(&self) {
        let _ = tokio::time::timeout(FAREWELL, async { self.0.lock().await.io.shutdown().await }).await;
    }
}

/// The server's end of a WebSocket whose handshake is done.
pub(super) async fn websocket<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MOST_MESSAGE)).max_frame_size(Some(MOST_MESSAGE));
    WebSocketStream::from_raw_socket(io, tungstenite::protocol::Role::Server, Some(config)).await
}

/// A WebSocket whose binary messages, one after the other, are a stream of bytes.
pub(super) fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
) -> (impl AsyncRead + Unpin, impl AsyncWrite + Unpin) {
    let (sink, stream) = socket.split();
    let bytes = stream.map_err(std::io::Error::other).try_filter_map(|message| {
        std::future::ready(Ok(match message {
            Message::Binary(data) => Some(data),
            Message::Text(text) => Some(text.into()),
            _ => None,
        }))
    });
    let sink = sink
        .sink_map_err(std::io::Error::other)
        .with(|data: Bytes| std::future::ready(Ok::<_, std::io::Error>(Message::Binary(data))));
    (StreamReader::new(bytes), SinkWriter::new(CopyToBytes::new(sink)))
}
