//! The rules of addresses in a status. What was stored before is not judged again, so that nothing else is held up by it.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{at, items, text},
    validate::{formats, formed, one_of_if_set},
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
