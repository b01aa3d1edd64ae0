//! Asking a container how it is: HTTP, TCP, or a command inside it.

use std::{sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;
use warren_proto::control::{ExecProbe, HttpProbe, Probe, TcpProbe, probe::Handler};

use crate::{
    plan::probes,
    runtime::{Engine, EngineError},
};

/// How much of a command's output is put into a message.
const SHOWN: usize = 1024;

/// Asks once; an error says what was wrong.
pub(super) async fn ask<E: Engine>(engine: &E, id: &str, probe: &Probe, address: &str) -> Result<(), String> {
    let limit = probes::timeout(probe);
    match &probe.handler {
        Some(Handler::Http(target)) => http(target, address, limit).await,
        Some(Handler::Tcp(target)) => tcp(target, address, limit).await,
        Some(Handler::Exec(command)) => exec(engine, id, command, limit).await,
        None => Ok(()),
    }
}

/// A command must end with code 0.
pub(super) async fn exec<E: Engine>(
    engine: &E,
    id: &str,
    probe: &ExecProbe,
    limit: Duration,
) -> Result<(), String> {
    match engine.exec(id, &probe.command, limit).await {
        Ok(result) if result.code == 0 => Ok(()),
        Ok(result) if result.output.trim().is_empty() => {
            Err(format!("command ended with code {}", result.code))
        }
        Ok(result) => Err(result.output.trim().chars().take(SHOWN).collect()),
        Err(EngineError::TimedOut { .. }) => {
            Err(format!("command \"{}\" timed out after {} s", probe.command.join(" "), limit.as_secs()))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A connection must be accepted.
pub(super) async fn tcp(probe: &TcpProbe, address: &str, limit: Duration) -> Result<(), String> {
    let host = if probe.host.is_empty() { address } else { &probe.host };
    let target = format!("{}:{}", bracketed(host), probe.port);
    connect(&target, limit).await.map(drop)
}

/// A request must be answered with a code of 200 to 399.
pub(super) async fn http(probe: &HttpProbe, address: &str, limit: Duration) -> Result<(), String> {
    let host = if probe.host.is_empty() { address } else { &probe.host };
    let target = format!("{}:{}", bracketed(host), probe.port);
    let scheme = if probe.https { "https" } else { "http" };
    let path = if probe.path.starts_with('/') { probe.path.clone() } else { format!("/{}", probe.path) };
    let url = format!("{scheme}://{target}{path}");
    let work = async {
        let stream = connect(&target, limit).await?;
        if probe.https {
            request(tls(stream, host).await?, probe, &target, &path).await
        } else {
            request(stream, probe, &target, &path).await
        }
    };
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(code)) if (200..400).contains(&code) => Ok(()),
        Ok(Ok(code)) => Err(format!("HTTP probe failed with statuscode: {code}")),
        Ok(Err(problem)) => Err(format!("Get \"{url}\": {problem}")),
        Err(_) => Err(format!("Get \"{url}\": no answer within {} s", limit.as_secs())),
    }
}

async fn connect(target: &str, limit: Duration) -> Result<TcpStream, String> {
    match tokio::time::timeout(limit, TcpStream::connect(target)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("dial tcp {target}: {error}")),
        Err(_) => Err(format!("dial tcp {target}: no answer within {} s", limit.as_secs())),
    }
}

async fn request<S>(stream: S, probe: &HttpProbe, host: &str, path: &str) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let mut builder = http::Request::get(path);
    let is_given = |name: &str| probe.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    if !is_given("host") {
        builder = builder.header("host", host);
    }
    if !is_given("user-agent") {
        builder = builder.header("user-agent", concat!("warren-probe/", env!("CARGO_PKG_VERSION")));
    }
    for header in &probe.headers {
        builder = builder.header(&header.name, &header.value);
    }
    let request = builder.body(Empty::<bytes::Bytes>::new()).map_err(|error| text(&error))?;
    // A task of its own: a server that closes right after its answer must not hide the answer.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(|error| text(&error))?;
    Ok(response.status().as_u16())
}

async fn tls(stream: TcpStream, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| error.to_string())
}

/// Probes ask whether somebody answers, not who: Kubernetes does not verify certificates here.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// An IPv6 address needs brackets before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
