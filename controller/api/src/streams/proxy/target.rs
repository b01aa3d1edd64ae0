//! Which pod and which of its ports a proxied path means. Pure.

use serde_json::Value;
use warren_store::{Key, Snapshot};
use warren_vocabulary::resources::{ENDPOINTSLICES, PODS, SERVICE_NAME, SERVICES};

use crate::{PodRef, meta, path::ResourceTarget, status::Status, streams::reference};

/// How the pod is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) scheme: Scheme,
    pub(super) pod: PodRef,
    /// Its address, by which it knows itself.
    pub(super) address: String,
    pub(super) port: u16,
}

impl Backend {
    /// What the pod is told that it is called.
    pub(super) fn host(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }
}

/// `SCHEME:NAME:PORT`, of which the name alone must be there.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    scheme: Scheme,
    name: &'a str,
    port: &'a str,
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match *parts.as_slice() {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let scheme = match scheme {
            "" | "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }
}

/// The path up to `proxy`, and what is behind it, as it came. `proxy` is the first element of this name behind the
/// object's.
pub(super) fn divide(path: &str) -> (&str, &str) {
    // api, v1, namespaces, NAMESPACE, KIND, NAME, proxy.
    const ELEMENTS: usize = 7;
    let (mut seen, mut inside) = (0, false);
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'/' if inside && seen == ELEMENTS => return path.split_at(at),
            b'/' => inside = false,
            _ if !inside => (seen, inside) = (seen + 1, true),
            _ => {}
        }
    }
    (path, "")
}

/// The pod that a path means.
pub(super) fn find(snapshot: &Snapshot, target: &ResourceTarget) -> Result<Backend, Status> {
    let named = Named::parse(&target.name).ok_or_else(|| {
        Status::bad_request(format!("invalid {} request {:?}", target.kind.kind, target.name))
    })?;
    if target.kind.resource == PODS {
        let port = if named.port.is_empty() { None } else { Some(number(named.port)?) };
        of_pod(snapshot, target, named.name, named.scheme, port)
    } else {
        of_service(snapshot, target, &named)
    }
}

fn number(text: &str) -> Result<u16, Status> {
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Status::bad_request(format!("{text:?} is not a valid port")))
}

fn of_pod(
    snapshot: &Snapshot,
    target: &ResourceTarget,
    name: &str,
    scheme: Scheme,
    port: Option<u16>,
) -> Result<Backend, Status> {
    let key = Key::new(PODS, &target.namespace, name);
    let pod = snapshot.get(&key).ok_or_else(|| Status::not_found(&target.kind, name))?;
    let pod_reference = reference(&target.namespace, name, &pod.value)?;
    let address = pod.value["status"]["podIP"].as_str().unwrap_or("");
    if address.is_empty() {
        return Err(Status::unavailable(format!("pod {name} has no address yet: it is not running")));
    }
    let ports = pod.value["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = ports.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let first = || ports.find_map(|port| port["containerPort"].as_u64()?.try_into().ok());
    Ok(Backend {
        scheme,
        pod: pod_reference,
        address: address.to_owned(),
        // As Kubernetes: the first that is declared, or that of the scheme.
        port: port.or_else(first).unwrap_or(if scheme == Scheme::Https { 443 } else { 80 }),
    })
}

/// One of the service's ready endpoints, which must be a pod.
fn of_service(snapshot: &Snapshot, target: &ResourceTarget, named: &Named<'_>) -> Result<Backend, Status> {
    let key = Key::new(SERVICES, &target.namespace, named.name);
    let service = snapshot.get(&key).ok_or_else(|| Status::not_found(&target.kind, named.name))?;
    let name = port_name(&service.value, named)?;
    let slices = snapshot.list_namespace(ENDPOINTSLICES, &target.namespace);
    let own = slices.filter(|slice| slice.value["metadata"]["labels"][SERVICE_NAME] == *named.name);
    let mut ready = Vec::new();
    for slice in own {
        let ports = slice.value["ports"].as_array().into_iter().flatten();
        let mut ports = ports.filter(|port| port["name"].as_str().unwrap_or("") == name);
        let Some(port) = ports.find_map(|port| u16::try_from(port["port"].as_u64()?).ok()) else { continue };
        let endpoints = slice.value["endpoints"].as_array().into_iter().flatten();
        let endpoints = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        ready.extend(endpoints.filter_map(|endpoint| {
            let pod = &endpoint["targetRef"];
            (pod["kind"] == "Pod").then(|| (pod["name"].as_str().unwrap_or("").to_owned(), port))
        }));
    }
    if ready.is_empty() {
        let why = format!("no endpoints available for service {:?}", named.name);
        return Err(Status::unavailable(why));
    }
    let (pod, port) = &ready[rand::random_range(0..ready.len())];
    of_pod(snapshot, target, pod, named.scheme, Some(*port))
}

/// The name of the service's port that is meant: by its name, or by its number.
fn port_name<'v>(service: &'v Value, named: &'v Named<'_>) -> Result<&'v str, Status> {
    let ports: Vec<&Value> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
    let name_of = |port: &'v Value| port["name"].as_str().unwrap_or("");
    match (named.port.parse::<u64>(), ports.as_slice()) {
        (Ok(number), _) => {
            let port = ports.iter().find(|port| port["port"].as_u64() == Some(number));
            port.map(|port| name_of(port)).ok_or_else(|| {
                let why = format!("no service port {number} found for service {:?}", named.name);
                Status::unavailable(format!("{why}; uid {:?}", meta::text(service, "uid")))
            })
        }
        (Err(_), [only]) if named.port.is_empty() => Ok(name_of(only)),
        (Err(_), _) => Ok(named.port),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        let named = |scheme, name, port| Some(Named { scheme, name, port });
        for (text, expected) in [
            ("web", named(Scheme::Http, "web", "")),
            ("web:80", named(Scheme::Http, "web", "80")),
            ("http:web:http", named(Scheme::Http, "web", "http")),
            ("https:web:", named(Scheme::Https, "web", "")),
            (":web:80", named(Scheme::Http, "web", "80")),
            ("ftp:web:80", None),
            ("a:b:c:d", None),
            (":", None),
            ("", None),
        ] {
            assert_eq!(Named::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_path_is_divided_behind_the_objects_name() {
        for (path, rest) in [
            ("/api/v1/namespaces/d/pods/p/proxy", ""),
            ("/api/v1/namespaces/d/pods/p/proxy/", "/"),
            ("/api/v1/namespaces/proxy/pods/proxy/proxy/a/proxy", "/a/proxy"),
            ("//api/v1//namespaces/d/pods/p/proxy//x", "//x"),
        ] {
            let (base, found) = divide(path);
            assert_eq!((found, format!("{base}{found}").as_str()), (rest, path));
        }
    }

    #[test]
    fn a_services_port_is_named_by_itself_or_by_its_number() {
        let service = json!({"spec": {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}});
        let only = json!({"spec": {"ports": [{"port": 80}]}});
        let name = |service: &Value, port: &str| {
            let named = Named { scheme: Scheme::Http, name: "web", port };
            port_name(service, &named).map(str::to_owned).map_err(|status| status.code)
        };
        assert_eq!(name(&service, "81"), Ok("b".into()));
        assert_eq!(name(&service, "a"), Ok("a".into()));
        assert_eq!(name(&service, "82"), Err(503));
        assert_eq!((name(&only, ""), name(&only, "80")), (Ok(String::new()), Ok(String::new())));
    }
}
