//! Probes and hooks, with named ports resolved.

use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::util::intstr::IntOrString};
use warren_proto::control::{
    ExecProbe, GrpcProbe, Hook, HttpHeader, HttpProbe, Probe, TcpProbe, hook, probe,
};

fn resolve_port(container: &core::Container, port: &IntOrString) -> Result<u32, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let ports = container.ports.iter().flatten();
            let named =
                ports.clone().find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    match number.map(u32::try_from) {
        Some(Ok(number @ 1..=65_535)) => Ok(number),
        _ => Err(format!(
            "couldn't find port: {} in the container's ports",
            match port {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(name) => format!("{name:?}"),
            }
        )),
    }
}

fn http(container: &core::Container, action: &core::HTTPGetAction) -> Result<HttpProbe, String> {
    let header =
        |header: &core::HTTPHeader| HttpHeader { name: header.name.clone(), value: header.value.clone() };
    Ok(HttpProbe {
        port: resolve_port(container, &action.port)?,
        path: action.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".into()),
        https: action.scheme.as_deref() == Some("HTTPS"),
        headers: action.http_headers.iter().flatten().map(header).collect(),
        host: action.host.clone().unwrap_or_default(),
    })
}

fn tcp(container: &core::Container, action: &core::TCPSocketAction) -> Result<TcpProbe, String> {
    let port = resolve_port(container, &action.port)?;
    Ok(TcpProbe { port, host: action.host.clone().unwrap_or_default() })
}

fn exec(action: &core::ExecAction) -> ExecProbe {
    ExecProbe { command: action.command.clone().unwrap_or_default() }
}

/// A probe; `what` names it in messages.
pub(crate) fn compile_probe(
    container: &core::Container,
    source: Option<&core::Probe>,
    what: &str,
) -> Result<Option<Probe>, String> {
    let Some(source) = source else { return Ok(None) };
    let named = |error: String| format!("{what} probe: {error}");
    let handler = if let Some(action) = &source.http_get {
        probe::Handler::Http(http(container, action).map_err(named)?)
    } else if let Some(action) = &source.tcp_socket {
        probe::Handler::Tcp(tcp(container, action).map_err(named)?)
    } else if let Some(action) = &source.exec {
        probe::Handler::Exec(exec(action))
    } else if let Some(action) = &source.grpc {
        let port = u32::try_from(action.port).map_err(|_| named("the port must not be negative".into()))?;
        probe::Handler::Grpc(GrpcProbe { port, service: action.service.clone().unwrap_or_default() })
    } else {
        return Ok(None);
    };
    let at_least = |value: Option<i32>, default: u32, least: u32| {
        value.map_or(default, |value| u32::try_from(value).unwrap_or_default()).max(least)
    };
    Ok(Some(Probe {
        handler: Some(handler),
        initial_delay_seconds: at_least(source.initial_delay_seconds, 0, 0),
        period_seconds: at_least(source.period_seconds, 10, 1),
        timeout_seconds: at_least(source.timeout_seconds, 1, 1),
        success_threshold: at_least(source.success_threshold, 1, 1),
        failure_threshold: at_least(source.failure_threshold, 3, 1),
        grace_seconds: source.termination_grace_period_seconds.map(super::pods::whole_seconds),
    }))
}

/// A lifecycle hook.
pub(crate) fn compile_hook(
    container: &core::Container,
    source: Option<&core::LifecycleHandler>,
) -> Result<Option<Hook>, String> {
    let Some(source) = source else { return Ok(None) };
    let handler = if let Some(action) = &source.exec {
        hook::Handler::Exec(exec(action))
    } else if let Some(action) = &source.http_get {
        hook::Handler::Http(http(container, action)?)
    } else if let Some(action) = &source.tcp_socket {
        hook::Handler::Tcp(tcp(container, action)?)
    } else if let Some(action) = &source.sleep {
        hook::Handler::SleepSeconds(u32::try_from(action.seconds).unwrap_or_default())
    } else {
        return Ok(None);
    };
    Ok(Some(Hook { handler: Some(handler) }))
}
