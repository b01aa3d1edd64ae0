//! `pods/log` over a WebSocket: one message for each piece of the log.

use std::sync::Arc;

use axum::response::Response;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use http::{header, request::Parts};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::{
    Switch,
    upgrade::{Transport, negotiate},
    wire::{self, FAREWELL, KEEP_ALIVE},
};
use crate::{path::ResourceTarget, query::Query, state::ApiState, status::Status, subresources::log};

const BINARY: &str = "binary.k8s.io";
/// For clients that take texts alone.
const BASE64: &str = "base64.binary.k8s.io";

/// Opens a log for a request that becomes a WebSocket. A client that names no protocol gets binary messages.
pub(super) async fn open(
    api: &Arc<ApiState>,
    parts: &Parts,
    target: &ResourceTarget,
    query: &Query,
    slot: OwnedSemaphorePermit,
) -> Result<Response, Status> {
    let named = parts.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let transport = negotiate(&parts.headers, &[], if named { &[BINARY, BASE64] } else { &[""] })?;
    super::upgrade::upgradable(parts)?;
    let pieces = log::open(api, target, query).await?;
    let is_text = matches!(transport, Transport::WebSocket { protocol: BASE64, .. });
    let switch = Switch { parts, transport: &transport, kind: "log", connections: &api.connections, slot };
    switch.serve(move |io| async move { serve(wire::websocket(io).await, pieces, is_text).await })
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    mut pieces: impl Stream<Item = Result<Bytes, String>> + Unpin,
    is_text: bool,
) {
    let (mut sink, mut stream) = socket.split();
    // What the client says means nothing but that it is there.
    let receiving = async { while let Some(Ok(_)) = stream.next().await {} };
    let transmitting = async {
        let reason = loop {
            match timeout(KEEP_ALIVE, pieces.next()).await {
                Ok(Some(Ok(piece))) if is_text => {
                    sink.send(Message::Text(STANDARD.encode(&piece).into())).await?;
                }
                Ok(Some(Ok(piece))) => sink.send(Message::Binary(piece)).await?,
                Ok(Some(Err(error))) => {
                    tracing::debug!(error, "a log ended badly");
                    break CloseCode::Error;
                }
                Ok(None) => break CloseCode::Normal,
                Err(_) => sink.send(Message::Ping(Bytes::new())).await?,
            }
        };
        sink.send(Message::Close(Some(CloseFrame { code: reason, reason: "".into() }))).await
    };
    let mut receiving = std::pin::pin!(receiving);
    tokio::select! {
        () = &mut receiving => tracing::debug!("the reader of a log has gone"),
        sent = transmitting => match sent {
            Ok(()) => drop(timeout(FAREWELL, receiving).await),
            Err(error) => tracing::debug!(%error, "the reader of a log cannot be written to"),
        },
    }
}
