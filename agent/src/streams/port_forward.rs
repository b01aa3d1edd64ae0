//! Port-forward: a session joined to a connection that the node opens to the pod's address.

use std::{net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use warren_proto::control::SessionFrame;

use super::End;
use crate::{driver::Driver, netd::Links, runtime::Engine};

const CONNECT: Duration = Duration::from_secs(10);
const PIECE: usize = 32 << 10;

/// Connects to a port of a pod.
pub(super) async fn connect<E: Engine, L: Links>(
    driver: &Driver<E, L>,
    uid: &str,
    port: u32,
) -> Result<TcpStream, String> {
    let address = driver.address(uid)?;
    let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
    let address: IpAddr = address.parse().map_err(|_| format!("the pod has no address yet ({address:?})"))?;
    match timeout(CONNECT, TcpStream::connect((address, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("failed to connect to {address}:{port}: {error}")),
        Err(_) => Err(format!("{address}:{port} did not answer within {} s", CONNECT.as_secs())),
    }
}

/// Carries bytes until both directions have ended.
pub(super) async fn carry(
    mut stream: TcpStream,
    frames: &mpsc::Sender<SessionFrame>,
    mut incoming: mpsc::Receiver<SessionFrame>,
) -> Result<End, String> {
    let _ = stream.set_nodelay(true);
    let (mut read, mut write) = stream.split();
    let outwards = async {
        loop {
            let mut data = Vec::with_capacity(PIECE);
            let count = read.read_buf(&mut data).await.map_err(|error| error.to_string())?;
            let frame = SessionFrame { data, close: count == 0, ..SessionFrame::default() };
            // A controller that has gone ends this future from outside.
            let _ = frames.send(frame).await;
            if count == 0 {
                return Ok::<_, String>(());
            }
        }
    };
    let inwards = async {
        while let Some(frame) = incoming.recv().await {
            write.write_all(&frame.data).await.map_err(|error| error.to_string())?;
            if frame.close {
                break;
            }
        }
        write.shutdown().await.map_err(|error| error.to_string())
    };
    tokio::try_join!(outwards, inwards)?;
    Ok(End::default())
}
