//! `pods/proxy`, `services/proxy`: an HTTP request that is passed on to a pod, by way of its node's agent.
//!
//! ```text
//!  /api/v1/namespaces/NS/pods/[SCHEME:]NAME[:PORT]/proxy/PATH
//!  /api/v1/namespaces/NS/services/[SCHEME:]NAME[:PORT OR ITS NAME]/proxy/PATH
//! ```
//!
//! The path behind `proxy` and the query go on as they came; links in pages that begin at the
//! pod's root, and redirects to the same pod, lead there behind the proxy. Certificates of pods are not verified, as Kubernetes does not either.
//!
//! Source: <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/>.

mod pages;
mod target;

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header, request::Parts};
use hyper::{client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    sync::OwnedSemaphorePermit,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};
use warren_proto::control::{PortForwardRequest, SessionFrame, session_open::Kind};
use warren_runtime::hop_by_hop::remove_hop_by_hop;

use super::{PATIENCE, PIECE, open_session};
use crate::{Session, path::Target, state::ApiState, status::Status};
use target::{Backend, Scheme};

/// What tells of the client's rights.
const IMPERSONATION: &str = "impersonate-";
/// How much is read of a client at a time.
const PART: usize = 16 << 10;

/// Passes a request on, and its answer back.
pub(crate) async fn pass_on(
    api: &Arc<ApiState>,
    mut parts: Parts,
    target: &Target,
    body: Body,
) -> Result<Response, Status> {
    let Target::Resource(target) = target else { return Err(Status::unknown_path()) };
    let (base, rest) = target::divide(parts.uri.path());
    if rest.is_empty() && matches!(parts.method, Method::GET | Method::HEAD) {
        // Relative links of the page would lead nowhere.
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return redirect(&format!("{base}/{query}"));
    }
    let snapshot = api.snapshot();
    let backend = target::find(&snapshot, target)?;
    let slot = api.connections.slot()?;
    let base = base.to_owned();
    let uri = forwarded(&parts.uri, rest)?;
    // A pod that changes the protocol though it was not asked to would speak in the server's name.
    let upgrading = parts.extensions.remove::<OnUpgrade>();
    let upgrading = upgrading.filter(|_| parts.headers.contains_key(header::UPGRADE));
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers(&parts, &backend)?;
    let connection = connect(api, &backend, slot).await?;
    let mut response = match backend.scheme {
        Scheme::Http => send(api, connection, request).await?,
        Scheme::Https => send(api, encrypted(connection, &backend).await?, request).await?,
    };
    relocate(response.headers_mut(), &base, &backend);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgrading = upgrading.ok_or_else(|| unreachable_service("it changes the protocol unasked"))?;
        let answered = hyper::upgrade::on(&mut response);
        api.connections.tasks.spawn(async move {
            let both = async { tokio::try_join!(upgrading, answered) };
            if let Ok(Ok((client, pod))) = timeout(PATIENCE, both).await {
                // Either end may end it.
                let _ =
                    tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(pod)).await;
            }
        });
    } else {
        remove_hop_by_hop(response.headers_mut());
        response = pages::rewrite(response, &parts.method, &base, &backend);
    }
    Ok(response)
}

fn redirect(location: &str) -> Result<Response, Status> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(location).map_err(|error| Status::bad_request(error.to_string()))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// The path that the pod is asked for, with the client's query.
fn forwarded(uri: &Uri, rest: &str) -> Result<Uri, Status> {
    let path = if rest.is_empty() { "/" } else { rest };
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    text.parse().map_err(|error: http::uri::InvalidUri| Status::bad_request(format!("the path: {error}")))
}

/// What the pod is told of the client's headers.
fn headers(parts: &Parts, backend: &Backend) -> Result<HeaderMap, Status> {
    let mut headers = parts.headers.clone();
    remove_hop_by_hop(&mut headers);
    let is_of_rights =
        |name: &&HeaderName| **name == header::AUTHORIZATION || name.as_str().starts_with(IMPERSONATION);
    let of_rights: Vec<_> = headers.keys().filter(is_of_rights).cloned().collect();
    of_rights.into_iter().for_each(|name| drop(headers.remove(name)));
    let text =
        |text: &str| HeaderValue::from_str(text).map_err(|error| Status::bad_request(error.to_string()));
    headers.insert(header::HOST, text(&backend.host())?);
    pages::ask_readable(&mut headers);
    headers.insert("x-forwarded-uri", text(parts.uri.path())?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Some(host) = parts.headers.get(header::HOST) {
        headers.insert("x-forwarded-host", host.clone());
    }
    if let Some(protocol) = parts.headers.get(header::UPGRADE) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    Ok(headers)
}

/// A redirect within the pod leads to the same place behind us.
fn relocate(headers: &mut HeaderMap, base: &str, backend: &Backend) {
    let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else { return };
    let own = [format!("http://{}", backend.host()), format!("https://{}", backend.host())];
    let path = own.iter().find_map(|own| location.strip_prefix(own.as_str())).unwrap_or(location);
    if path.starts_with('/')
        && !path.starts_with("//")
        && let Ok(value) = HeaderValue::from_str(&format!("{base}{path}"))
    {
        headers.insert(header::LOCATION, value);
    }
}

/// A connection to the pod's port. It ends with either end, and gives back its slot then.
async fn connect(
    api: &Arc<ApiState>,
    backend: &Backend,
    slot: OwnedSemaphorePermit,
) -> Result<DuplexStream, Status> {
    let kind = Kind::PortForward(PortForwardRequest { port: backend.port.into() });
    let session = open_session(api, &backend.pod, "", kind).await?;
    let (near, far) = tokio::io::duplex(PIECE);
    metrics::counter!("warren_api_streams_total", "kind" => "proxy", "transport" => "http").increment(1);
    api.connections.tasks.spawn(async move {
        carry(session, far).await;
        drop(slot);
    });
    Ok(near)
}

/// Carries bytes both ways until the pod's side ends or ours is gone.
async fn carry(session: Session, stream: DuplexStream) {
    let Session { input, mut output } = session;
    let (mut read, mut write) = tokio::io::split(stream);
    let upwards = async {
        let mut buffer = vec![0; PART];
        loop {
            match read.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    let data = buffer[..count].to_vec();
                    if input.send(SessionFrame { data, ..SessionFrame::default() }).await.is_err() {
                        break;
                    }
                }
            }
        }
        let _ = input.send(SessionFrame { close: true, ..SessionFrame::default() }).await;
        // Not dropped: that would end the other direction, too.
        std::future::pending::<()>().await;
    };
    let downwards = async {
        while let Some(Ok(frame)) = output.recv().await {
            if !frame.data.is_empty() && write.write_all(&frame.data).await.is_err() {
                return;
            }
            if frame.close || frame.end {
                let _ = write.shutdown().await;
            }
            if frame.end {
                return;
            }
        }
    };
    tokio::select! {
        () = upwards => {}
        () = downwards => {}
    }
}

async fn encrypted(
    connection: DuplexStream,
    backend: &Backend,
) -> Result<tokio_rustls::client::TlsStream<DuplexStream>, Status> {
    let config =
        warren_runtime::tls::config_for_anybody().map_err(|error| Status::internal(error.to_string()))?;
    let address: std::net::IpAddr =
        backend.address.parse().map_err(|_| unreachable_service("the pod has no address"))?;
    let name = ServerName::IpAddress(address.into());
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, connection);
    match timeout(PATIENCE, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(unreachable_service(&error.to_string())),
        Err(_) => Err(unreachable_service("TLS handshake timeout")),
    }
}

/// Asks the pod. What it takes to answer is its own affair; a client that has gone ends it.
async fn send<Stream>(api: &Arc<ApiState>, stream: Stream, request: Request<Body>) -> Result<Response, Status>
where
    Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: &hyper::Error| unreachable_service(&error.to_string());
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // Ends with the session, or when nobody waits for the answer any more.
    api.connections.tasks.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to a pod ended badly");
        }
    });
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    Ok(response.map(Body::new))
}

fn unreachable_service(why: &str) -> Status {
    Status::unavailable(format!("error trying to reach service: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_the_path_and_the_query_go_on_as_they_came() {
        let of = |uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            let (_, rest) = target::divide(uri.path());
            forwarded(&uri, rest).unwrap().to_string()
        };
        let pod = "/api/v1/namespaces/d/pods/web:80/proxy";
        assert_eq!(of(&format!("{pod}/")), "/");
        assert_eq!(of(&format!("{pod}/a%2Fb//c/?x=%20y&x")), "/a%2Fb//c/?x=%20y&x");
        assert_eq!(of(&format!("{pod}/proxy/proxy")), "/proxy/proxy");
        assert_eq!(of(&format!("{pod}?q=1")), "/?q=1");
    }
}
