//! The health protocol of gRPC.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use warren_proto::control::GrpcProbe;

use super::{Answer, Reach, Target, bracketed};

/// How large an answer may be, in bytes; it holds one number.
const MOST: usize = 4 << 10;

/// The service must say that it serves.
pub(super) async fn ask(probe: &GrpcProbe, reach: &Reach, limit: Duration) -> Answer {
    let port = u16::try_from(probe.port).map_err(|_| format!("{} is no port", probe.port))?;
    let target = Target { reach, host: "", limit };
    match tokio::time::timeout(limit, status(&target, port, &probe.service)).await {
        Ok(Ok(ServingStatus::Serving)) => Ok(None),
        Ok(Ok(other)) => Err(format!("service unhealthy (responded with \"{}\")", other.as_str_name())),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("the health check was not answered within {} s", limit.as_secs())),
    }
}

async fn status(target: &Target<'_>, port: u16, service: &str) -> Result<ServingStatus, String> {
    let mut stream = Some(target.connect(port).await?);
    // One connection for one question: who asks again is answered by the next probe.
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotConnected));
        std::future::ready(stream.map(TokioIo::new))
    });
    let name = format!("http://{}:{port}", bracketed(target.name()));
    let endpoint = Endpoint::from_shared(name).map_err(|error| error.to_string())?;
    let endpoint = endpoint.user_agent("kube-probe/1.34").map_err(|error| error.to_string())?;
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|error| format!("failed to connect service: {error}"))?;
    let mut client = HealthClient::new(channel).max_decoding_message_size(MOST);
    match client.check(HealthCheckRequest { service: service.to_owned() }).await {
        Ok(answer) => Ok(answer.into_inner().status()),
        Err(status) if status.code() == Code::Unimplemented => {
            Err("server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
        }
        Err(status) => Err(format!("health rpc probe failed: {}", status.message())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport::Server;

    use super::*;

    async fn answer(port: u16, service: &str) -> Answer {
        let reach = Reach { address: "127.0.0.1".to_owned(), sandbox: Err("none".to_owned()) };
        let probe = GrpcProbe { port: port.into(), service: service.to_owned() };
        ask(&probe, &reach, Duration::from_secs(20)).await
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[tokio::test]
    async fn a_service_is_healthy_when_it_says_so() {
        let (listener, port) = listener().await;
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("up", tonic_health::ServingStatus::Serving).await;
        reporter.set_service_status("down", tonic_health::ServingStatus::NotServing).await;
        let serving = Server::builder().add_service(health);
        tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
        assert_eq!(answer(port, "").await, Ok(None));
        assert_eq!(answer(port, "up").await, Ok(None));
        let down = "service unhealthy (responded with \"NOT_SERVING\")".to_owned();
        assert_eq!(answer(port, "down").await, Err(down));
        let unknown = answer(port, "unknown").await.unwrap_err();
        assert!(unknown.starts_with("health rpc probe failed: "), "{unknown}");
    }

    #[tokio::test]
    async fn what_does_not_speak_it_is_not_healthy() {
        let (listener, port) = listener().await;
        drop(listener);
        let refused = answer(port, "").await.unwrap_err();
        assert!(refused.contains("refused"), "{refused}");
        let (listener, port) = self::listener().await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
            }
        });
        assert!(answer(port, "").await.is_err());
    }
}
