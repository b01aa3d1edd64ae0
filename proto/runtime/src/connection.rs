//! Connections to the controller. Members dial; they are not dialled.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use warren_proto::control::{RenewRequest, control_client::ControlClient};

use crate::{
    identity::{self, Identity},
    tls,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RENEW_CHECK: Duration = Duration::from_secs(3_600);

/// How long a silent connection is believed in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    interval: Duration,
    timeout: Duration,
}

impl KeepAlive {
    /// For calls: a process that is cut off looks for a new connection soon, and may ask again.
    pub(crate) const CALLS: Self = Self { interval: Duration::from_secs(2), timeout: Duration::from_secs(4) };
    /// For the session of a client in a pod, which nobody can begin again where it was: a machine that is very busy
    /// for some seconds must not end it.
    const SESSIONS: Self = Self { interval: Duration::from_secs(10), timeout: Duration::from_secs(30) };
}

/// Our side of the last connection.
type LocalAddress = Arc<Mutex<Option<IpAddr>>>;

/// The controller, as one member sees it. Cheap to clone.
#[derive(Clone)]
pub struct Controller {
    address: Arc<str>,
    name: Arc<str>,
    state_dir: Arc<PathBuf>,
    fallback: Arc<Identity>,
    local: LocalAddress,
}

impl Controller {
    /// The controller at `address` (HOST:PORT). The identity on disk is read anew for each connection, so a
    /// renewed certificate is used without a restart; `identity` serves when the disk has none.
    pub fn new(address: &str, identity: Identity, state_dir: PathBuf) -> Self {
        Self {
            address: address.into(),
            name: identity.name.as_str().into(),
            state_dir: Arc::new(state_dir),
            fallback: Arc::new(identity),
            local: LocalAddress::default(),
        }
    }

    /// The member's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// HOST:PORT.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Our side of the last connection: the address by which the underlay knows this machine.
    pub fn local_address(&self) -> Option<IpAddr> {
        *self.local.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn identity(&self) -> Identity {
        match Identity::load(&self.state_dir) {
            Ok(Some(identity)) => identity,
            Ok(None) => (*self.fallback).clone(),
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot read the identity; using the one from the start"
                );
                (*self.fallback).clone()
            }
        }
    }

    /// A new connection. It does not reconnect by itself: a broken one is replaced by the caller's loop.
    pub async fn channel(&self) -> anyhow::Result<Channel> {
        self.connect(KeepAlive::CALLS).await
    }

    /// The same, for the session of a client in a pod: it outlives more seconds of silence.
    pub async fn session_channel(&self) -> anyhow::Result<Channel> {
        self.connect(KeepAlive::SESSIONS).await
    }

    async fn connect(&self, keep_alive: KeepAlive) -> anyhow::Result<Channel> {
        let identity = self.identity();
        let config = tls::client_config(&identity.ca_pem, &identity.certificate_pem, &identity.key_pem)
            .context("the identity in the state directory is unusable")?;
        connect(&self.address, config, keep_alive, Some(Arc::clone(&self.local))).await
    }

    /// Replaces the certificate at a third of its life. One process per member runs this.
    pub async fn keep_certificate(self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            if let Err(error) = self.renew_if_due().await {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot renew the certificate; trying again in an hour"
                );
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(RENEW_CHECK) => {}
            }
        }
    }

    async fn renew_if_due(&self) -> anyhow::Result<()> {
        let identity = self.identity();
        if !renewal_is_due(&identity.certificate_pem)? {
            return Ok(());
        }
        let (key, csr) = identity::certificate_request(&identity.name)?;
        let mut client = ControlClient::new(self.channel().await?);
        let response = client.renew(RenewRequest { csr }).await?.into_inner();
        let renewed = Identity {
            certificate_pem: identity::pem("CERTIFICATE", &response.certificate),
            ca_pem: identity::pem("CERTIFICATE", &response.ca),
            key_pem: key.serialize_pem(),
            ..identity
        };
        renewed.save(&self.state_dir)?;
        tracing::info!("the certificate was renewed");
        Ok(())
    }
}

/// Whether a third of the certificate's life is over, or it is of an earlier version that did not name the membership.
fn renewal_is_due(certificate_pem: &str) -> anyhow::Result<bool> {
    let der =
        CertificateDer::from_pem_slice(certificate_pem.as_bytes()).context("the certificate is no PEM")?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).context("the certificate cannot be read")?;
    let (from, to) =
        (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() as i64;
    let is_bound = tls::PeerIdentity::from_der(&der).is_some_and(|own| own.member.is_some());
    Ok(!is_bound || now >= from + (to - from) / 3)
}

/// What begins the word of the user agent that names this boot of this machine (or container), so that the controller
/// tells a copied state directory from a process that started again.
pub const BOOT_WORD: &str = "machine/";
/// What begins the word that names the machine itself, where it has a name: the one that the certificate is bound to.
pub const HOST_WORD: &str = "host/";

/// Names this machine and its boot, and the program.
pub fn user_agent() -> String {
    let mut words = concat!("warren/", env!("CARGO_PKG_VERSION")).to_owned();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let network =
        std::fs::metadata("/proc/self/ns/net").map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata));
    if let (false, Ok(network)) = (boot.trim().is_empty(), network) {
        words.push_str(&format!(" {BOOT_WORD}{}.{network}", boot.trim()));
    }
    let machine = identity::machine();
    if !machine.is_empty() {
        words.push_str(&format!(" {HOST_WORD}{machine}"));
    }
    words
}

/// Connects with TLS; remembers our own address in `local`.
pub(crate) async fn connect(
    address: &str,
    config: ClientConfig,
    keep_alive: KeepAlive,
    local: Option<LocalAddress>,
) -> anyhow::Result<Channel> {
    let (host, _) = address.rsplit_once(':').with_context(|| format!("{address:?} is not HOST:PORT"))?;
    let server_name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .with_context(|| format!("{host:?} is no host name or address"))?;
    let connector = TlsConnector::from(Arc::new(config));
    let address = address.to_owned();
    let dial = tower::service_fn(move |_| {
        let (address, connector) = (address.clone(), connector.clone());
        let (server_name, local) = (server_name.clone(), local.clone());
        async move {
            let stream = TcpStream::connect(&address).await?;
            stream.set_nodelay(true)?;
            if let Some(local) = local {
                *local.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                    Some(stream.local_addr()?.ip());
            }
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(server_name, stream).await?))
        }
    });
    // The scheme is a formality: TLS is in the connector.
    let endpoint = Endpoint::from_static("http://controller")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(keep_alive.interval)
        .keep_alive_timeout(keep_alive.timeout)
        .keep_alive_while_idle(true)
        .user_agent(user_agent())
        .context("the machine's name is no header")?;
    let connecting = endpoint.connect_with_connector(dial);
    Ok(tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.context("connecting took too long")??)
}
