//! The one TLS port: Kubernetes clients and members share it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{Router, body::Body, extract::Request, http::StatusCode};
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

use crate::{
    guests::{Allowance, Guest, Guests},
    operations,
    patience::Patient,
};

const DRAIN: Duration = Duration::from_secs(3);
const REISSUE_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// How long a client may take for each step, and how many may be there without a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// For the TLS handshake.
    handshake: Duration,
    /// For the head of a request, over HTTP/1.1; also until the next request.
    head: Duration,
    /// Until the first request, whatever protocol is spoken.
    first_request: Duration,
    /// To take some of what is sent.
    stall: Duration,
    guests: Allowance,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            first_request: Duration::from_secs(30),
            // Somebody may read a log in a pager. What such a client makes us hold is little.
            stall: Duration::from_secs(600),
            guests: Allowance::default(),
        }
    }
}

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
        for always in ["localhost", "127.0.0.1"] {
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
    limits: Limits,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let acceptor = tls(certificates)?;
    let graceful = Arc::new(GracefulShutdown::new());
    let connections = tokio_util::task::TaskTracker::new();
    let guests = Guests::new(limits.guests);
    loop {
        let (stream, address) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: give others the time to close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let guest = guests.arrive(address.ip());
        let client = Client { address: address.ip(), limits, guests: Arc::clone(&guests) };
        let connection =
            connection(stream, client, guest, acceptor.clone(), routes.clone(), Arc::clone(&graceful));
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

/// Who dialled, and what that allows.
struct Client {
    address: IpAddr,
    limits: Limits,
    guests: Arc<Guests>,
}

async fn connection(
    stream: TcpStream,
    client: Client,
    guest: Guest,
    acceptor: TlsAcceptor,
    routes: Routes,
    graceful: Arc<GracefulShutdown>,
) {
    let limits = client.limits;
    let _ = stream.set_nodelay(true);
    let handshake = acceptor.accept(Patient::new(stream, limits.stall));
    let stream = tokio::select! {
        () = guest.told_to_leave() => return tracing::debug!("a TLS handshake was displaced by newer ones"),
        accepted = tokio::time::timeout(limits.handshake, handshake) => match accepted {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        },
    };
    let peer =
        stream.get_ref().1.peer_certificates().and_then(|chain| PeerIdentity::from_der(chain.first()?));
    // Whoever has shown a certificate is no guest any more.
    let guest = peer.is_none().then_some(guest);
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let asked = Arc::clone(&asked);
        tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let refused = peer.is_none() && !client.guests.may_ask(client.address, Instant::now());
            answer(request, peer.clone(), routes.clone(), refused)
        })
    };
    let builder = protocols(&limits);
    let serving =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let serving = graceful.watch(serving.into_owned());
    drop(graceful);
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::debug!(error, "a connection ended with an error");
        },
        () = must_go(guest.as_ref()) => tracing::debug!("a connection without a certificate was displaced by newer ones"),
        () = silence(limits.first_request, &asked) => tracing::debug!("a client connected and asked nothing"),
    }
}

fn protocols(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_concurrent_streams(1_000);
    builder
}

async fn must_go(guest: Option<&Guest>) {
    match guest {
        Some(guest) => guest.told_to_leave().await,
        None => std::future::pending().await,
    }
}

/// Resolves when nothing was asked in time.
async fn silence(patience: Duration, asked: &AtomicBool) {
    tokio::time::sleep(patience).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

async fn answer(
    mut request: Request<hyper::body::Incoming>,
    peer: Option<PeerIdentity>,
    routes: Routes,
    refused: bool,
) -> Result<axum::response::Response, std::convert::Infallible> {
    if refused {
        metrics::counter!("warren_guests_refused_total").increment(1);
        let message = "too many requests without a client certificate come from this address";
        let mut response = operations::status(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
        return Ok(response);
    }
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    dispatch(routes, request.map(Body::new)).await
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

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
