//! Port-forward: a session joined to a connection inside the pod.
//!
//! As with Kubernetes, the connection is made in the pod's network namespace to `localhost`, so a server that listens
//! on 127.0.0.1 alone can be reached, too.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as BlockingStream},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use warren_proto::control::SessionFrame;

use super::{End, GONE};
use crate::{
    driver::Driver,
    netd::Links,
    runtime::{Engine, process::network_namespace},
};

const CONNECT: Duration = Duration::from_secs(10);
const PIECE: usize = 32 << 10;

/// Connects to a port of a pod.
pub(super) async fn connect<E: Engine, L: Links>(
    driver: &Driver<E, L>,
    uid: &str,
    port: u32,
) -> Result<TcpStream, String> {
    let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
    let sandbox = driver.find_sandbox(uid)?;
    let namespace = network_namespace(sandbox.pid, &sandbox.instance.id).map_err(|error| {
        format!("cannot enter the network of pod {}/{}: {error}", sandbox.namespace, sandbox.pod)
    })?;
    let stream = connect_inside(namespace, port).await.map_err(|error| error.to_string())?;
    stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).map_err(|error| error.to_string())
}

/// A namespace belongs to a thread: one is made for the purpose, and ends with it.
async fn connect_inside(namespace: File, port: u16) -> io::Result<BlockingStream> {
    let (answer, answered) = oneshot::channel();
    let work = move || {
        let entered = setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        let _ = answer.send(entered.and_then(|()| connect_here(port)));
    };
    std::thread::Builder::new().name("port-forward".to_owned()).spawn(work)?;
    answered.await.unwrap_or_else(|_| Err(io::Error::other("the thread that connects has died")))
}

fn connect_here(port: u16) -> io::Result<BlockingStream> {
    let connect = |address: SocketAddr| BlockingStream::connect_timeout(&address, CONNECT);
    connect((Ipv4Addr::LOCALHOST, port).into()).or_else(|first| {
        connect((Ipv6Addr::LOCALHOST, port).into()).map_err(|second| {
            let kind = first.kind();
            let text = format!(
                "failed to connect to localhost:{port} inside the pod, IPv4: 127.0.0.1:{port}: {first}, \
                 IPv6: [::1]:{port}: {second}"
            );
            io::Error::new(kind, text)
        })
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_names_both_addresses_and_a_server_is_reached() {
        let own = || File::open("/proc/self/ns/net").unwrap();
        let server = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        assert!(connect_inside(own(), port).await.is_ok());
        drop(server);
        let refused = connect_inside(own(), port).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("localhost:{port}")) && refused.contains("[::1]"), "{refused}");
    }
}
