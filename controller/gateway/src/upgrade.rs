//! Upgraded connections (WebSocket): bytes both ways until one side ends.

use std::{io, sync::Arc};

use http::{
    HeaderValue, Response, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
};

use warren_runtime::hop_by_hop::remove_hop_by_hop;

use crate::{body::ResponseBody, budget::Taking, endpoint::InFlight, headers, proxy::Worker, upstream};

/// Passes the 101 on, and joins both connections once the client has got it.
pub(crate) fn tunnel(
    worker: &Arc<Worker>,
    client: OnUpgrade,
    mut response: Response<Incoming>,
    in_flight: InFlight,
    taking: Taking,
) -> Response<ResponseBody> {
    let upstream = hyper::upgrade::on(&mut response);
    worker.connections.spawn(async move {
        let _taking = taking;
        let address = in_flight.endpoint().address();
        let joined = async {
            let (client, upstream) = tokio::try_join!(client, upstream).map_err(io::Error::other)?;
            join(client, upstream).await
        };
        if let Err(error) = joined.await {
            tracing::debug!(%address, %error, "a tunnel broke off");
        }
    });
    remove_hop_by_hop(response.headers_mut());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, headers::WEBSOCKET);
    *response.version_mut() = Version::HTTP_11;
    response.map(|_| ResponseBody::Text(None))
}

async fn join(client: Upgraded, upstream: Upgraded) -> io::Result<()> {
    let mut client = TokioIo::new(client);
    match upstream.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => {
            let mut stream = parts.io.into_inner();
            upstream::relax(&stream);
            // What the upstream said right behind its 101.
            client.write_all(&parts.read_buf).await?;
            copy_bidirectional(&mut client, &mut stream).await?;
        }
        Err(upstream) => {
            copy_bidirectional(&mut client, &mut TokioIo::new(upstream)).await?;
        }
    }
    Ok(())
}
