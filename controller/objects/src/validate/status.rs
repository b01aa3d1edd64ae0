//! The rules of addresses in a status. What was stored before is not judged again, so that nothing else is held up by it.

use serde_json::Value;

use super::{formats, formed, one_of_if_set};
use crate::{
    field::{Errors, Path},
    json::{at, get, items, text},
};

/// A change of what leads to a Service or an Ingress from outside.
pub(crate) fn balancer_update(old: &Value, new: &Value, errors: &mut Errors) {
    let list = "status.loadBalancer.ingress";
    if at(old, list) == at(new, list) {
        return;
    }
    for (index, entry) in items(new, list).iter().enumerate() {
        let path = Path::new(list).index(index);
        formed(entry, "ip", &path, formats::ip, errors);
        let host = text(entry, "hostname");
        if !host.is_empty() && formats::ip(host).is_empty() {
            errors.invalid(&path.child("hostname"), host, "must be a DNS name, not an IP address");
        } else {
            formed(entry, "hostname", &path, formats::subdomain, errors);
        }
        one_of_if_set(entry, "ipMode", &path, &["Proxy", "VIP"], errors);
    }
}

/// A change of a pod's addresses: endpoints are made of them.
pub(crate) fn pod_update(old: &Value, new: &Value, errors: &mut Errors) {
    let (old, new, path) = (get(old, "status"), get(new, "status"), Path::new("status"));
    for (one, all) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        if (get(old, one), get(old, all)) == (get(new, one), get(new, all)) {
            continue;
        }
        formed(new, one, &path, formats::endpoint_ip, errors);
        for (index, entry) in items(new, all).iter().enumerate() {
            formed(entry, "ip", &path.child(all).index(index), formats::endpoint_ip, errors);
        }
    }
}

/// A change of a node's addresses.
pub(crate) fn node_update(old: &Value, new: &Value, errors: &mut Errors) {
    let list = "status.addresses";
    if at(old, list) == at(new, list) {
        return;
    }
    for (index, address) in items(new, list).iter().enumerate() {
        if matches!(text(address, "type"), "InternalIP" | "ExternalIP") {
            formed(address, "address", &Path::new(list).index(index), formats::endpoint_ip, errors);
        }
    }
}
