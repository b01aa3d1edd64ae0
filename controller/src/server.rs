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
use warren_nodes::{CertificateAuthority, Standing};
use warren_runtime::{CancellationToken, tls::PeerIdentity};

use crate::{
    connection_limit::{ConnectionLimit, ConnectionPermit},
    guests::{Allowance, Guest, Guests},
    operations,
    patience::{Patient, Punctual},
};

/// How long a removed member has to read that it was.
const GOODBYE: Duration = Duration::from_secs(1);
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
    /// For the body of a request that is no call.
    body: Duration,
    /// To take some of what is sent.
    stall: Duration,
    guests: Allowance,
    /// Connections of one member: some for each of its processes, and one for each session into a pod.
    of_member: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            first_request: Duration::from_secs(30),
            // A little more than the API allows, which says so in its own words.
            body: Duration::from_secs(70),
            // A user may read a log in a pager. What such a client makes us hold is little.
            stall: Duration::from_secs(600),
            guests: Allowance::default(),
            of_member: 640,
        }
    }
}

/// What answers: gRPC for members, HTTP for all others.
#[derive(Clone)]
pub(crate) struct Routes {
    pub(crate) http: Router,
    pub(crate) grpc: Router,
    pub(crate) standing: Arc<dyn Fn(&PeerIdentity) -> Standing + Send + Sync>,
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
    let members = ConnectionLimit::new(limits.of_member);
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
        let client = Client {
            address: address.ip(),
            limits,
            guests: Arc::clone(&guests),
            members: Arc::clone(&members),
        };
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
    members: Arc<ConnectionLimit>,
}

/// How a connection is treated, by what its certificate is worth when it is made.
enum Treatment {
    Guest(Guest),
    User,
    Member { life: CancellationToken, _permit: ConnectionPermit },
}

impl Treatment {
    /// `None` for a member that has too many already.
    fn of(
        peer: Option<&PeerIdentity>,
        guest: Guest,
        routes: &Routes,
        members: &Arc<ConnectionLimit>,
    ) -> Option<Self> {
        // A client that has shown a good certificate is no guest any more.
        match peer.map(|peer| (routes.standing)(peer)) {
            None | Some(Standing::Stranger) => Some(Self::Guest(guest)),
            Some(Standing::User) => Some(Self::User),
            Some(Standing::Member { name, life }) => {
                Some(Self::Member { life, _permit: members.take(&name)? })
            }
        }
    }

    /// Resolves when the connection must end, with the reason.
    async fn must_end(&self) -> &'static str {
        match self {
            Self::Guest(guest) => {
                guest.told_to_leave().await;
                "a connection without a certificate was displaced by newer ones"
            }
            Self::User => std::future::pending().await,
            Self::Member { life, .. } => {
                life.cancelled().await;
                // Its streams end with a word about it, which is to arrive.
                tokio::time::sleep(GOODBYE).await;
                "a connection of a member that was removed ended"
            }
        }
    }
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
    let Some(treatment) = Treatment::of(peer.as_ref(), guest, &routes, &client.members) else {
        metrics::counter!("warren_member_connections_refused_total").increment(1);
        return tracing::debug!("a member has too many connections");
    };
    let is_guest = matches!(treatment, Treatment::Guest(_));
    let builder = protocols(&limits, &treatment, stream.get_ref().1.alpn_protocol());
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let asked = Arc::clone(&asked);
        tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let asking = is_guest.then(|| client.guests.ask(client.address, Instant::now()));
            let (peer, routes) = (peer.clone(), routes.clone());
            async move {
                let _permit = match asking {
                    None => None,
                    Some(Some(place)) => Some(place),
                    Some(None) => return Ok(refusal()),
                };
                answer(request, peer, routes, limits.body).await
            }
        })
    };
    let serving =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    let serving = graceful.watch(serving.into_owned());
    drop(graceful);
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::debug!(error, "a connection ended with an error");
        },
        why = treatment.must_end() => tracing::debug!(why, "a connection was ended"),
        () = silence(limits.first_request, &asked) => tracing::debug!("a client connected and asked nothing"),
    }
}

/// What is spoken, and how much of it at a time. TLS has settled the protocol: nothing is guessed from the first bytes,
/// which may come one by one.
fn protocols(
    limits: &Limits,
    treatment: &Treatment,
    protocol: Option<&[u8]>,
) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if protocol == Some(b"h2") { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(256 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_header_list_size(16 << 10)
        .max_concurrent_streams(1_000);
    match treatment {
        Treatment::User => {}
        Treatment::Guest(_) => {
            builder.http1().max_buf_size(16 << 10);
            builder
                .http2()
                .max_header_list_size(8 << 10)
                .max_concurrent_streams(8)
                .initial_stream_window_size(16 << 10)
                .initial_connection_window_size(64 << 10)
                .max_send_buf_size(16 << 10);
        }
        Treatment::Member { .. } => {
            builder
                .http2()
                .max_concurrent_streams(64)
                .initial_stream_window_size(128 << 10)
                .initial_connection_window_size(256 << 10);
        }
    }
    builder
}

/// Resolves when nothing was asked in time.
async fn silence(patience: Duration, asked: &AtomicBool) {
    tokio::time::sleep(patience).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// For a guest that asks too much.
fn refusal() -> axum::response::Response {
    metrics::counter!("warren_guests_refused_total").increment(1);
    let message = "too many requests without a client certificate come from this address";
    let mut response = operations::status(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
    response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    response
}

async fn answer(
    mut request: Request<hyper::body::Incoming>,
    peer: Option<PeerIdentity>,
    routes: Routes,
    patience: Duration,
) -> Result<axum::response::Response, std::convert::Infallible> {
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    if is_call(&request) {
        return dispatch(routes.grpc, request.map(Body::new)).await;
    }
    dispatch(routes.http, request.map(|body| Body::new(Punctual::new(body, patience)))).await
}

/// A call's body is bounded by the gate before the services.
fn is_call<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

async fn dispatch(
    router: Router,
    request: Request,
) -> Result<axum::response::Response, std::convert::Infallible> {
    let mut service = router.into_service();
    service.ready().await?.call(request).await
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
