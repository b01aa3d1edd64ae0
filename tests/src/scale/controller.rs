//! The controller under test: a process of its own, what it has used, and a client of its API.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::{
    sys::signal::{Signal, kill},
    time::ClockId,
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::settings::Settings;

/// The largest answer is the list of all nodes.
const WINDOW: u32 = 16 << 20;

/// A controller with its data in a directory that goes with it.
pub(crate) struct Controller {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Controller {
    pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let (address, metrics) = (
            SocketAddr::from(([127, 0, 0, 1], free_port()?)),
            SocketAddr::from(([127, 0, 0, 1], free_port()?)),
        );
        let mut command = Command::new(&settings.program);
        command.args(["--log-level", "warn", "controller", "--data-dir"]).arg(directory.path());
        command.arg(format!("--listen={address}")).arg(format!("--metrics={metrics}"));
        if settings.sizes.iter().any(|size| *size > 255) {
            command.arg("--cluster-network=10.64.0.0/11");
        }
        let child =
            command.spawn().with_context(|| format!("cannot start {}", settings.program.display()))?;
        let mut controller = Self { child, address, directory };
        tokio::time::timeout(Duration::from_secs(60), controller.answers())
            .await
            .context("the controller did not start within a minute")??;
        Ok(controller)
    }

    async fn answers(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("the controller ended: {status}");
            }
            let asked = async { self.client().await?.get("/api/v1/namespaces/default").await };
            if asked.await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A client on a connection of its own, with the administrator's certificate.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        let tls = connector(&self.directory.path().join("admin.kubeconfig"))?;
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = tls.connect(ServerName::try_from("localhost")?, stream).await?;
        let mut protocol = http2::Builder::new(TokioExecutor::new());
        protocol.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (sender, connection) = protocol.handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client(sender))
    }

    /// The processor time that the whole process has taken so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        Ok(ClockId::pid_cpu_clock_id(pid)?.now()?.into())
    }

    /// The memory that the process has to itself, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss")?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes << 10)
    }

    /// Ends it, and waits for its end.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the controller ended badly: {status}");
        Ok(())
    }
}

fn connector(kubeconfig: &Path) -> anyhow::Result<TlsConnector> {
    let text = std::fs::read_to_string(kubeconfig)?;
    let field = |name: &str| -> anyhow::Result<String> {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        Ok(String::from_utf8(
            STANDARD.decode(value.with_context(|| format!("no {name} in the kubeconfig"))?)?,
        )?)
    };
    let (ca, certificate) = (field("certificate-authority-data")?, field("client-certificate-data")?);
    let config = warren_runtime::tls::client_config(&ca, &certificate, &field("client-key-data")?)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A client of the API; clones share its connection.
#[derive(Clone)]
pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn ask(&mut self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("content-type", "application/json")
            .header("user-agent", "warren-scale")
            .body(Full::new(Bytes::from(body)))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let code = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(code.is_success(), "{path}: {code}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, body).await
    }

    pub(crate) async fn put(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::PUT, path, body).await
    }

    /// A join token for one node.
    pub(crate) async fn token(&mut self) -> anyhow::Result<String> {
        let wanted = json!({"role": "node", "lifetimeSeconds": 3_600});
        let created = self.post("/warren/v1/tokens", &wanted).await?;
        Ok(created["token"].as_str().context("no token")?.to_owned())
    }

    /// How many nodes are ready.
    pub(crate) async fn ready_nodes(&mut self) -> anyhow::Result<usize> {
        let list = self.get("/api/v1/nodes").await?;
        let nodes = list["items"].as_array().context("no nodes")?;
        let is_ready = |node: &&Value| {
            let conditions = node["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
        };
        Ok(nodes.iter().filter(is_ready).count())
    }
}
