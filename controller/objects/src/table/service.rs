//! The tables of Services, Ingresses, EndpointSlices and Endpoints.

use serde_json::Value;

use crate::json::{items, text};

pub(crate) fn balancer_addresses(value: &Value) -> Vec<String> {
    let spelt = |entry: &Value| {
        let (ip, host) = (text(entry, "ip"), text(entry, "hostname"));
        if ip.is_empty() { host.to_owned() } else { ip.to_owned() }
    };
    items(value, "status.loadBalancer.ingress").iter().map(spelt).filter(|text| !text.is_empty()).collect()
}
