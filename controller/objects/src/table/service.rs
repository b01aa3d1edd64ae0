//! The tables of Services, Ingresses, EndpointSlices and Endpoints.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, first_few, labels, name, or_none, wide};
use crate::json::{int, is_empty, items, text};

pub(crate) const SERVICE_COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "How the service is exposed."),
    column("Cluster-IP", "string", "The service's address inside the cluster."),
    column("External-IP", "string", "The service's addresses outside the cluster."),
    column("Port(s)", "string", "The ports, their node ports and protocols."),
    AGE,
    wide("Selector", "The labels of the pods behind the service."),
];

pub(crate) const INGRESS_COLUMNS: &[Column] = &[
    NAME,
    column("Class", "string", "The class of the ingress."),
    column("Hosts", "string", "The hosts that the rules are for."),
    column("Address", "string", "The gateway's addresses."),
    column("Ports", "string", "The ports that the gateway serves."),
    AGE,
];

pub(crate) const SLICE_COLUMNS: &[Column] = &[
    NAME,
    column("AddressType", "string", "The type of all addresses of the slice."),
    column("Ports", "string", "The ports of each endpoint."),
    column("Endpoints", "string", "The addresses of the endpoints."),
    AGE,
];

pub(crate) const ENDPOINTS_COLUMNS: &[Column] =
    &[NAME, column("Endpoints", "string", "The addresses that are ready, with their ports."), AGE];

/// The cells of a Service.
pub(crate) fn service_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let listed = items(value, "spec.clusterIPs").first().and_then(Value::as_str).unwrap_or("");
    let address = if listed.is_empty() { text(value, "spec.clusterIP") } else { listed };
    vec![
        name(value),
        text(value, "spec.type").into(),
        or_none(address),
        or_none(&external(value)),
        or_none(&service_ports(value)),
        age(value, now),
        labels(value, "spec.selector"),
    ]
}

/// Where a service can be reached from outside.
fn external(value: &Value) -> String {
    let listed: Vec<&str> = items(value, "spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match text(value, "spec.type") {
        "ExternalName" => text(value, "spec.externalName").to_owned(),
        "LoadBalancer" => {
            let mut all = balancer_addresses(value);
            all.extend(listed.iter().map(ToString::to_string));
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => listed.join(","),
    }
}

fn balancer_addresses(value: &Value) -> Vec<String> {
    let spelt = |entry: &Value| {
        let (ip, host) = (text(entry, "ip"), text(entry, "hostname"));
        if ip.is_empty() { host.to_owned() } else { ip.to_owned() }
    };
    items(value, "status.loadBalancer.ingress").iter().map(spelt).filter(|text| !text.is_empty()).collect()
}

fn service_ports(value: &Value) -> String {
    let spelt = |port: &Value| {
        let (number, protocol) = (int(port, "port").unwrap_or(0), text(port, "protocol"));
        match int(port, "nodePort").unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    };
    items(value, "spec.ports").iter().map(spelt).collect::<Vec<_>>().join(",")
}

/// The cells of an Ingress.
pub(crate) fn ingress_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let hosts: Vec<String> = items(value, "spec.rules")
        .iter()
        .map(|rule| text(rule, "host"))
        .filter(|host| !host.is_empty())
        .map(str::to_owned)
        .collect();
    let hosts = if hosts.is_empty() { "*".to_owned() } else { first_few(&hosts, 3) };
    let secure = !is_empty(crate::json::at(value, "spec.tls"));
    vec![
        name(value),
        or_none(text(value, "spec.ingressClassName")),
        hosts.into(),
        balancer_addresses(value).join(",").into(),
        if secure { "80, 443" } else { "80" }.into(),
        age(value, now),
    ]
}

/// The cells of an EndpointSlice.
pub(crate) fn slice_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match (int(port, "port"), text(port, "name")) {
        (Some(number), _) => number.to_string(),
        (None, "") => "*".to_owned(),
        (None, name) => name.to_owned(),
    };
    let ports: Vec<String> = items(value, "ports").iter().map(port).collect();
    let addresses: Vec<String> = items(value, "endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let or_unset = |text: String| if text.is_empty() { "<unset>".to_owned() } else { text };
    vec![
        name(value),
        text(value, "addressType").into(),
        or_unset(first_few(&ports, 3)).into(),
        or_unset(first_few(&addresses, 3)).into(),
        age(value, now),
    ]
}

/// The cells of Endpoints.
pub(crate) fn endpoints_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let subsets = items(value, "subsets");
    let mut all = Vec::new();
    for subset in subsets {
        let addresses: Vec<&str> = items(subset, "addresses").iter().map(|ready| text(ready, "ip")).collect();
        let ports = items(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(ToString::to_string));
        }
        for port in ports {
            let port = int(port, "port").unwrap_or(0);
            all.extend(
                addresses.iter().map(|ip| {
                    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
                }),
            );
        }
    }
    // As in Kubernetes: nothing at all is <none>, nothing that is ready is empty.
    let shown = if subsets.is_empty() { or_none("") } else { first_few(&all, 3).into() };
    vec![name(value), shown, age(value, now)]
}
