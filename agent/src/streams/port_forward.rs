//! Port-forward: a session joined to a connection inside the pod.
//!
//! As with Kubernetes, the connection is made in the pod's network namespace to `localhost`, so a server that listens
//! on 127.0.0.1 alone can be reached, too.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use warren_proto::control::SessionFrame;

use super::{End, GONE};
use crate::{
    driver::Driver,
    netd::Links,
    runtime::{
        ContainerEngine,
        process::{connect_inside, network_namespace},
    },
};

const CONNECT: Duration = Duration::from_secs(10);
const PIECE: usize = 32 << 10;

/// Connects to a port of a pod.
pub(super) async fn connect<E: ContainerEngine, L: Links>(
    driver: &Driver<E, L>,
    uid: &str,
    port: u32,
) -> Result<TcpStream, String> {
    let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
    let sandbox = driver.find_sandbox(uid)?;
    let namespace = network_namespace(sandbox.pid, &sandbox.instance.id).map_err(|error| {
        format!("cannot enter the network of pod {}/{}: {error}", sandbox.namespace, sandbox.pod)
    })?;
    let addresses = vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()];
    connect_inside(namespace, addresses, CONNECT)
        .await
        .map_err(|error| format!("failed to connect to localhost:{port} inside the pod: {error}"))
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
            frames.send(frame).await.map_err(|_| GONE.to_owned())?;
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
