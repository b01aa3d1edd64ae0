//! The one TLS port: Kubernetes clients and members share it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, body::Body, extract::Request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use parking_lot::RwLock;
use rustls::{
    RootCertStore, ServerConfig,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::{Service as _, ServiceExt as _};
use warren_nodes::CertificateAuthority;
use warren_runtime::{CancellationToken, tls::PeerIdentity};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(3);
const REISSUE_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// What answers: gRPC for members, HTTP for everybody else.
#[derive(Clone)]
pub(crate) struct Routes {
    pub(crate) http: Router,
    pub(crate) grpc: Router,
}

/// The server's own certificate, issued by the embedded CA, renewed daily without a restart.
pub(crate) struct Certificates {
    authority: Arc<CertificateAuthority>,
    sans: Vec<String>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("sans", &self.sans).finish_non_exhaustive()
    }
}

impl Certificates {
    pub(crate) fn new(
        authority: Arc<CertificateAuthority>,
        mut sans: Vec<String>,
    ) -> anyhow::Result<Arc<Self>> {
        for always in ["localhost", "127.0.0.1", "kubernetes.default.svc"] {
            if !sans.iter().any(|san| san == always) {
                sans.push(always.to_owned());
            }
        }
        let current = RwLock::new(issue(&authority, &sans)?);
        Ok(Arc::new(Self { authority, sans, current }))
    }

    /// Issues anew every day until stopped.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(REISSUE_EVERY) => {}
            }
            match issue(&self.authority, &self.sans) {
                Ok(key) => *self.current.write() = key,
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "cannot renew the server's certificate")
                }
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

fn issue(authority: &CertificateAuthority, sans: &[String]) -> anyhow::Result<Arc<CertifiedKey>> {
    let issued = authority.issue_server(sans).context("cannot issue the server's certificate")?;
    // The CA goes along, so that a joining member can find the one that its token pins.
    let chain = format!("{}{}", issued.certificate_pem, authority.ca_pem());
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn tls(certificates: Arc<Certificates>) -> anyhow::Result<TlsAcceptor> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(certificates.authority.ca_pem().as_bytes()) {
        roots.add(certificate?)?;
    }
    // Asked for, not demanded: a joining member and a health check have none.
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build()?;
    let mut config =
        ServerConfig::builder().with_client_cert_verifier(clients).with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until stopped; then gives requests a moment to finish.
pub(crate) async fn serve(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    routes: Routes,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let acceptor = tls(certificates)?;
    let graceful = Arc::new(GracefulShutdown::new());
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: give others the time to close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let connection = connection(stream, acceptor.clone(), routes.clone(), Arc::clone(&graceful));
        connections.spawn(connection);
    }
    connections.close();
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    } else {
        let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    }
    Ok(())
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    routes: Routes,
    graceful: Arc<GracefulShutdown>,
) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return tracing::debug!("a TLS handshake took too long"),
    };
    let peer =
        stream.get_ref().1.peer_certificates().and_then(|chain| PeerIdentity::from_der(chain.first()?));
    let service = tower::service_fn(move |mut request: Request<hyper::body::Incoming>| {
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        dispatch(routes.clone(), request.map(Body::new))
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(1_000);
    let serving =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let serving = graceful.watch(serving.into_owned());
    drop(graceful);
    if let Err(error) = serving.await {
        tracing::debug!(error, "a connection ended with an error");
    }
}

async fn dispatch(
    routes: Routes,
    request: Request,
) -> Result<axum::response::Response, std::convert::Infallible> {
    let is_grpc = request
        .headers()
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let router = if is_grpc { routes.grpc } else { routes.http };
    let mut service = router.into_service();
    service.ready().await?.call(request).await
}
