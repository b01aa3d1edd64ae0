//! The controller as a child process, and a client of it: HTTP/2 over TLS with the administrator's certificate.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use warren_runtime::CancellationToken;

use crate::peer::{Process, WINDOW};

/// The first argument of the child process.
pub(crate) const CHILD: &str = "controller";

/// The child process: a controller with its data in `directory`, until it is killed.
pub(crate) async fn serve(directory: &Path) -> anyhow::Result<()> {
    let config = warren_controller::Config {
        data_dir: directory.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        sans: Vec::new(),
        networks: Default::default(),
        advertise: None,
        restore: None,
        quarantine: Vec::new(),
    };
    let bound = warren_controller::run(config, CancellationToken::new()).await?;
    println!("{}", bound.addresses[0].1);
    bound.tasks.wait().await
}

/// A controller that runs.
pub(crate) struct Warren {
    pub(crate) process: Process,
    address: SocketAddr,
    tls: TlsConnector,
}

impl Warren {
    /// Starts it with its data in `directory`, which may hold a store.
    pub(crate) fn start(directory: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(CHILD).arg(directory).stdout(Stdio::piped());
        let mut process = Process(command.spawn().context("cannot start the controller")?);
        let mut address = String::new();
        BufReader::new(process.0.stdout.take().context("a pipe")?).read_line(&mut address)?;
        let address = address.trim().parse().context("the controller did not start")?;
        let tls = connector(&directory.join("admin.kubeconfig"))?;
        Ok(Self { process, address, tls })
    }

    /// Connections of their own; clones of a client share one.
    pub(crate) async fn clients(&self, connections: usize) -> anyhow::Result<Vec<Client>> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            let stream = self.tls.connect(ServerName::try_from("localhost")?, stream).await?;
            let mut protocol = http2::Builder::new(TokioExecutor::new());
            protocol.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
            let (sender, connection) = protocol.handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            clients.push(Client(sender));
        }
        Ok(clients)
    }
}

/// Trusts the controller's CA and shows the administrator's certificate.
fn connector(kubeconfig: &Path) -> anyhow::Result<TlsConnector> {
    let text = std::fs::read_to_string(kubeconfig)?;
    let field = |name: &str| -> anyhow::Result<Vec<u8>> {
        let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        Ok(STANDARD.decode(value.with_context(|| format!("no {name} in the kubeconfig"))?)?)
    };
    let certificates = |pem: &[u8]| CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&field("certificate-authority-data")?)? {
        roots.add(certificate)?;
    }
    warren_runtime::tls::install_provider();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(
        certificates(&field("client-certificate-data")?)?,
        PrivateKeyDer::from_pem_slice(&field("client-key-data")?)?,
    )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A client of the API.
#[derive(Clone)]
pub(crate) struct Client(SendRequest<Full<Bytes>>);

impl Client {
    /// A successful answer whose body may still be coming.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("content-type", "application/json")
            .header("user-agent", "warren-bench")
            .body(Full::new(body))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let code = response.status();
        if !code.is_success() {
            let body = response.into_body().collect().await?.to_bytes();
            anyhow::bail!("{path}: {code}: {}", String::from_utf8_lossy(&body));
        }
        Ok(response)
    }

    /// Sends, and reads the whole answer; how many bytes it has.
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<usize> {
        let mut body = self.open(method, path, body).await?.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }

    /// The same, and parses it.
    pub(crate) async fn json(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Value> {
        let body = self.open(method, path, body).await?.into_body().collect().await?.to_bytes();
        let value: Value = serde_json::from_slice(&body)?;
        ensure!(value.is_object(), "{path}: not an object");
        Ok(value)
    }
}
