//! The real program in its control group, and who speaks to it.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use warren_proto::control::Role;
use warren_runtime::identity::{Identity, join};

use crate::cgroup::Cgroup;

/// Longer than any attack is let go on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

pub(crate) type Body = BoxBody<Bytes, Infallible>;

pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// What comes, and then byte after byte without end; or nothing more.
pub(crate) fn unfinished(begin: Vec<u8>, drip: Option<Duration>) -> Body {
    let stream = futures_util::stream::unfold(Some(begin), move |begin| async move {
        let data = match (begin, drip) {
            (Some(begin), _) => begin,
            (None, None) => std::future::pending().await,
            (None, Some(pause)) => {
                tokio::time::sleep(pause).await;
                vec![b' ']
            }
        };
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(data))), None))
    });
    // A stream may move to another thread, but two must not look at it.
    StreamBody::new(sync(stream)).boxed()
}

fn sync<S: futures_util::Stream + Send>(
    stream: S,
) -> impl futures_util::Stream<Item = S::Item> + Send + Sync {
    struct Alone<S>(parking_lot::Mutex<std::pin::Pin<Box<S>>>);
    impl<S: futures_util::Stream> futures_util::Stream for Alone<S> {
        type Item = S::Item;
        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<S::Item>> {
            self.0.lock().as_mut().poll_next(context)
        }
    }
    Alone(parking_lot::Mutex::new(Box::pin(stream)))
}

/// Somebody who dials.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) label: &'static str,
    address: SocketAddr,
    config: Arc<ClientConfig>,
}

pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Of a call.
    pub(crate) fn grpc_status(&self) -> Option<i32> {
        self.headers.get("grpc-status")?.to_str().ok()?.parse().ok()
    }
}

impl Who {
    fn new(label: &'static str, address: SocketAddr, ca: &str, own: Option<(&str, &str)>) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("a root");
        }
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match own {
            Some((certificate, key)) => {
                let chain =
                    CertificateDer::pem_slice_iter(certificate.as_bytes()).map(|der| der.expect("PEM"));
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain.collect(), key).expect("a usable certificate")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { label, address, config: Arc::new(config) }
    }

    pub(crate) async fn dial(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::clone(&self.config))
            .connect(name, TcpStream::connect(self.address).await?)
            .await
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<SendRequest<Body>, String> {
        let stream = self.dial().await.map_err(|error| error.to_string())?;
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        // As hostile as may be: whatever the server says about headers, they are sent.
        builder.max_header_list_size(1 << 20);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// One request on a connection of its own. An error is an end, too: many attacks are answered by hanging up.
    pub(crate) async fn ask(&self, request: http::request::Builder, body: Body) -> Result<Answer, String> {
        send(&mut self.connect().await?, request, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer, String> {
        self.ask(Request::get(url(path)), whole("")).await
    }
}

pub(crate) fn url(path: &str) -> String {
    format!("https://localhost{path}")
}

/// What is answered within patience.
pub(crate) async fn send(
    sender: &mut SendRequest<Body>,
    request: http::request::Builder,
    body: Body,
) -> Result<Answer, String> {
    let asking = async {
        let request = request.body(body).map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.map_err(|error| error.to_string())?;
        let mut headers = parts.headers;
        headers.extend(collected.trailers().cloned().unwrap_or_default());
        Ok(Answer { code: parts.status, headers, body: collected.to_bytes() })
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answered) => answered,
        Err(_) => panic!("an attack is let go on for more than {PATIENCE:?}"),
    }
}

/// The controller, killed when dropped.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    pub(crate) cgroup: Cgroup,
    child: Child,
    directory: tempfile::TempDir,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program under test: `WARREN_BIN`, else `bin/warren`.
fn program() -> PathBuf {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../bin/warren");
    let program = std::env::var_os("WARREN_BIN").map_or(beside, PathBuf::from);
    assert!(program.exists(), "{} is not there: `make build`, or set WARREN_BIN", program.display());
    program
}

/// A port that was free a moment ago.
fn port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

impl Controller {
    pub(crate) async fn start(limit: u64) -> Self {
        warren_runtime::tls::install_provider();
        let directory = tempfile::tempdir().expect("a directory");
        let cgroup = Cgroup::new(limit);
        let address = SocketAddr::from(([127, 0, 0, 1], port()));
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        // The shell enters the group, and becomes the controller.
        let child = Command::new("/bin/sh")
            .args(["-c", r#"echo $$ > "$0" && exec "$@""#])
            .arg(cgroup.procs())
            .arg(program())
            .args(["controller", "--listen", &address.to_string()])
            .args(["--metrics", &format!("127.0.0.1:{}", port())])
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the controller starts");
        let mut controller = Self { address, cgroup, child, directory };
        let ready = async {
            loop {
                controller.assert_lives();
                if controller.kubeconfig().is_some()
                    && controller.administrator().get("/readyz").await.is_ok_and(|answer| answer.code == 200)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("the controller gets ready");
        controller
    }

    /// The very process that was started, and nobody of its group was killed.
    pub(crate) fn assert_lives(&mut self) {
        let ended = self.child.try_wait().expect("it can be asked");
        let killed = self.cgroup.killed();
        if ended.is_some() || killed > 0 {
            panic!("the controller ended: {ended:?}, {killed} killed by the kernel\n{}", self.log());
        }
    }

    /// The last of what it wrote.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4_096)..]).into_owned()
    }

    /// How much it wrote.
    pub(crate) fn log_length(&self) -> u64 {
        std::fs::metadata(self.directory.path().join("log")).map(|log| log.len()).unwrap_or_default()
    }

    /// The CA, the administrator's certificate and its key, once they are written.
    fn kubeconfig(&self) -> Option<(String, String, String)> {
        let text = std::fs::read_to_string(self.directory.path().join("data/admin.kubeconfig")).ok()?;
        let decode = |field: &str| {
            let encoded = text.lines().find_map(|line| line.trim().strip_prefix(field))?.trim();
            String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
        };
        let (ca, certificate) = (decode("certificate-authority-data:")?, decode("client-certificate-data:")?);
        Some((ca, certificate, decode("client-key-data:")?))
    }

    pub(crate) fn administrator(&self) -> Who {
        let (ca, certificate, key) = self.kubeconfig().expect("a kubeconfig");
        Who::new("administrator", self.address, &ca, Some((&certificate, &key)))
    }

    pub(crate) fn guest(&self) -> Who {
        let (ca, ..) = self.kubeconfig().expect("a kubeconfig");
        Who::new("guest", self.address, &ca, None)
    }

    /// A node that joins; its identity, for clients that know the protocol, and for those that do not care.
    pub(crate) async fn member(&self, name: &str) -> (Who, Identity) {
        let request = Request::post(url("/warren/v1/tokens"));
        let answer = self.administrator().ask(request, whole("")).await.expect("a token");
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let token = answer["token"].as_str().expect("a token");
        let identity = join(&self.address.to_string(), token, name, Role::Node).await.expect("joined");
        let own = Some((identity.certificate_pem.as_str(), identity.key_pem.as_str()));
        (Who::new("member", self.address, &identity.ca_pem, own), identity)
    }

    /// A place for a member's state.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
