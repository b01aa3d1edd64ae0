//! Asking a container how it is: HTTP, TCP, gRPC, or a command inside it.

mod grpc;

use std::{sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use warren_proto::control::{ExecProbe, HttpProbe, Probe, TcpProbe, probe::Handler};

use crate::{
    plan::probes,
    runtime::{
        ContainerEngine, EngineError,
        process::{connect_inside, network_namespace},
    },
};

/// How much of a command's output is put into a message.
const SHOWN: usize = 1024;

/// A redirect more is followed no longer.
const MOST_REDIRECTS: usize = 10;
/// What Kubernetes says where redirects are followed no longer.
const REDIRECTS_ENDED: &str = "Probe terminated redirects";

/// How a pod is reached.
pub(super) struct Reach {
    /// The pod's address in the overlay.
    pub(super) address: String,
    /// Process and id of its sandbox, or why there is none; needed where a host is named.
    pub(super) sandbox: Result<(i64, String), String>,
}

/// An answer that will do, perhaps with a warning; or what was wrong.
pub(super) type Answer = Result<Option<String>, String>;

/// The host that a probe names; empty for the pod itself.
pub(super) fn host_of(probe: &Probe) -> &str {
    match &probe.handler {
        Some(Handler::Http(target)) => &target.host,
        Some(Handler::Tcp(target)) => &target.host,
        Some(Handler::Exec(_) | Handler::Grpc(_)) | None => "",
    }
}

/// Asks once.
pub(super) async fn ask<E: ContainerEngine>(engine: &E, id: &str, probe: &Probe, reach: &Reach) -> Answer {
    let limit = probes::timeout(probe);
    match &probe.handler {
        Some(Handler::Http(target)) => http(target, reach, limit).await,
        Some(Handler::Tcp(target)) => tcp(target, reach, limit).await,
        Some(Handler::Grpc(target)) => grpc::ask(target, reach, limit).await,
        Some(Handler::Exec(command)) => exec(engine, id, command, limit).await,
        None => Ok(None),
    }
}

/// A command must end with code 0.
pub(super) async fn exec<E: ContainerEngine>(
    engine: &E,
    id: &str,
    probe: &ExecProbe,
    limit: Duration,
) -> Answer {
    match engine.exec(id, &probe.command, limit).await {
        Ok(result) if result.code == 0 => Ok(None),
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
pub(super) async fn tcp(probe: &TcpProbe, reach: &Reach, limit: Duration) -> Answer {
    let target = Target { reach, host: &probe.host, limit };
    let port = u16::try_from(probe.port).map_err(|_| format!("{} is no port", probe.port))?;
    target.connect(port).await.map(|_| None)
}

/// A request must be answered with a code of 200 to 399. Redirects to the same host are followed.
pub(super) async fn http(probe: &HttpProbe, reach: &Reach, limit: Duration) -> Answer {
    let port = u16::try_from(probe.port).map_err(|_| format!("{} is no port", probe.port))?;
    let target = Target { reach, host: &probe.host, limit };
    let path = if probe.path.starts_with('/') { probe.path.clone() } else { format!("/{}", probe.path) };
    let first = Page { https: probe.https, port, path, keeps_host: true };
    let url = first.url(target.name());
    match tokio::time::timeout(limit, follow(&target, probe, first)).await {
        Ok(Ok((code, warning))) if (200..400).contains(&code) => Ok(warning.map(str::to_owned)),
        Ok(Ok((code, _))) => Err(format!("HTTP probe failed with statuscode: {code}")),
        Ok(Err(problem)) => Err(format!("Get \"{url}\": {problem}")),
        Err(_) => Err(format!("Get \"{url}\": no answer within {} s", limit.as_secs())),
    }
}

/// Asks for a page and for those it leads to; answers with the last code.
async fn follow(
    target: &Target<'_>,
    probe: &HttpProbe,
    mut page: Page,
) -> Result<(u16, Option<&'static str>), String> {
    for _ in 0..=MOST_REDIRECTS {
        let (code, location) = page.ask(target, probe).await?;
        let Some(location) = location.filter(|_| matches!(code, 301 | 302 | 303 | 307 | 308)) else {
            return Ok((code, None));
        };
        match page.redirected(target.name(), &location)? {
            Some(next) => page = next,
            None => return Ok((code, Some(REDIRECTS_ENDED))),
        }
    }
    Ok((302, Some(REDIRECTS_ENDED)))
}

/// The host that is asked.
struct Target<'a> {
    reach: &'a Reach,
    /// Empty for the pod itself.
    host: &'a str,
    limit: Duration,
}

impl Target<'_> {
    fn name(&self) -> &str {
        if self.host.is_empty() { &self.reach.address } else { self.host }
    }

    async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let name = format!("{}:{port}", bracketed(self.name()));
        let failed = |error: std::io::Error| format!("dial tcp {name}: {error}");
        let connecting = async {
            if self.host.is_empty() {
                return TcpStream::connect(&name).await.map_err(failed);
            }
            // The author of a probe must not reach from the node what the pod does not: the node's own loopback, its
            // neighbours, what listens for its agents. So a host is looked for from within the pod's network.
            let addresses = tokio::net::lookup_host(&name).await.map_err(failed)?.collect();
            let (pid, sandbox) = self.reach.sandbox.as_ref().map_err(Clone::clone)?;
            let namespace = network_namespace(*pid, sandbox).map_err(failed)?;
            connect_inside(namespace, addresses, self.limit).await.map_err(failed)
        };
        match tokio::time::timeout(self.limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("dial tcp {name}: no answer within {} s", self.limit.as_secs())),
        }
    }
}

/// What is asked for, of the same host always.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    https: bool,
    port: u16,
    /// With its query.
    path: String,
    /// Whether a header `Host` of the probe counts: not where a redirect names a host itself.
    keeps_host: bool,
}

impl Page {
    fn url(&self, host: &str) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", bracketed(host), self.port, self.path)
    }

    async fn ask(&self, target: &Target<'_>, probe: &HttpProbe) -> Result<(u16, Option<String>), String> {
        let stream = target.connect(self.port).await?;
        let host = format!("{}:{}", bracketed(target.name()), self.port);
        if self.https {
            request(tls(stream, target.name()).await?, probe, self, &host).await
        } else {
            request(stream, probe, self, &host).await
        }
    }

    /// Where a redirect leads; none for another host.
    fn redirected(&self, host: &str, location: &str) -> Result<Option<Self>, String> {
        let wrong = |error: url::ParseError| format!("redirect to {location:?}: {error}");
        let base = Url::parse(&self.url(host)).map_err(wrong)?;
        let next = base.join(location).map_err(wrong)?;
        if next.host_str() != base.host_str() {
            return Ok(None);
        }
        let https = match next.scheme() {
            "http" => false,
            "https" => true,
            other => {
                return Err(format!("redirect to {location:?}: unsupported protocol scheme \"{other}\""));
            }
        };
        let port = next.port_or_known_default().unwrap_or(if https { 443 } else { 80 });
        let query = next.query().map(|query| format!("?{query}")).unwrap_or_default();
        let keeps_host = self.keeps_host && Url::parse(location).is_err() && !location.starts_with("//");
        Ok(Some(Self { https, port, path: format!("{}{query}", next.path()), keeps_host }))
    }
}

/// The code of the answer, and where it leads.
async fn request<S>(
    stream: S,
    probe: &HttpProbe,
    page: &Page,
    host: &str,
) -> Result<(u16, Option<String>), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let mut builder = http::Request::get(&page.path);
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    let headers = || probe.headers.iter().filter(|header| page.keeps_host || !is_host(&header.name));
    let is_given = |name: &str| headers().any(|header| header.name.eq_ignore_ascii_case(name));
    if !is_given("host") {
        builder = builder.header("host", host);
    }
    if !is_given("user-agent") {
        builder = builder.header("user-agent", concat!("warren-probe/", env!("CARGO_PKG_VERSION")));
    }
    for header in headers() {
        builder = builder.header(&header.name, &header.value);
    }
    let request = builder.body(Empty::<bytes::Bytes>::new()).map_err(|error| text(&error))?;
    // A task of its own: a server that closes right after its answer must not hide the answer.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(|error| text(&error))?;
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    Ok((response.status().as_u16(), location.filter(|location| !location.is_empty()).map(str::to_owned)))
}

async fn tls(stream: TcpStream, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    // Kubernetes does not verify certificates here.
    let config = warren_runtime::tls::config_for_anybody().map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|error| error.to_string())
}

/// An IPv6 address needs brackets before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn page(path: &str) -> Page {
        Page { https: false, port: 80, path: path.to_owned(), keeps_host: true }
    }

    #[test]
    fn a_redirect_is_followed_on_the_same_host_alone() {
        let from = |location: &str| {
            let next = page("/a/b?c").redirected("10.42.1.7", location);
            next.map(|next| next.map(|next| (next.url("10.42.1.7"), next.keeps_host)))
        };
        let to = |url: &str, keeps_host| Ok(Some((url.to_owned(), keeps_host)));
        assert_eq!(from("/x"), to("http://10.42.1.7:80/x", true));
        assert_eq!(from("x?y=1"), to("http://10.42.1.7:80/a/x?y=1", true));
        assert_eq!(from("http://10.42.1.7:8080/"), to("http://10.42.1.7:8080/", false));
        assert_eq!(from("https://10.42.1.7/x"), to("https://10.42.1.7:443/x", false));
        assert_eq!(from("//10.42.1.7/x"), to("http://10.42.1.7:80/x", false));
        for elsewhere in
            ["http://10.42.1.8/", "http://example.com/x", "//localhost/", "http://10.42.1.7.example/"]
        {
            assert_eq!(from(elsewhere), Ok(None), "{elsewhere}");
        }
        assert!(from("http://").is_err() && from("ftp://10.42.1.7/").is_err());
        let six =
            page("/").redirected("fd00::7", "http://[fd00::7]:80/x").expect("a page").expect("the same host");
        assert_eq!(six.url("fd00::7"), "http://[fd00::7]:80/x");
    }

    /// A server whose pages `/N` lead to `/N-1`, and `/0` to an answer with the code that is asked for.
    async fn server(code: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 2048];
                let length = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let status = match path.trim_start_matches('/').parse::<u32>() {
                    Ok(0) => code.to_owned(),
                    Ok(n) => format!("302 Found\r\nlocation: /{}", n - 1),
                    Err(_) => "302 Found\r\nlocation: http://elsewhere.example/".to_owned(),
                };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn the_answer_at_the_end_of_the_redirects_counts() {
        let (well, ill) = (server("200 OK").await, server("500 Oh").await);
        let ask = |port: u16, path: &'static str| async move {
            let probe = HttpProbe { port: port.into(), path: path.to_owned(), ..HttpProbe::default() };
            let reach = Reach { address: "127.0.0.1".to_owned(), sandbox: Err("none".to_owned()) };
            http(&probe, &reach, Duration::from_secs(20)).await
        };
        assert_eq!(ask(well, "/0").await, Ok(None));
        assert_eq!(ask(well, "/10").await, Ok(None));
        let ended = Ok(Some(REDIRECTS_ENDED.to_owned()));
        assert_eq!(ask(well, "/11").await, ended, "too many");
        assert_eq!(ask(ill, "/elsewhere").await, ended, "another host is not asked");
        assert_eq!(ask(ill, "/1").await, Err("HTTP probe failed with statuscode: 500".to_owned()));
    }

    #[tokio::test]
    async fn a_host_that_is_named_is_not_reached_from_the_node() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = u32::from(listener.local_addr().unwrap().port());
        let reach =
            Reach { address: "127.0.0.1".to_owned(), sandbox: Err("the pod does not run".to_owned()) };
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "169.254.169.254", "2130706433"] {
            let probe = TcpProbe { port, host: host.to_owned() };
            assert!(tcp(&probe, &reach, Duration::from_secs(20)).await.is_err(), "{host}");
            let probe = HttpProbe { port, host: host.to_owned(), ..HttpProbe::default() };
            assert!(http(&probe, &reach, Duration::from_secs(20)).await.is_err(), "{host}");
        }
        listener.set_nonblocking(true).unwrap();
        let nobody = listener.accept().unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "the node's own server heard nothing");
    }
}
