//! The rules of Services.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::{Unique, formats, formed, handlers, in_range, meta, one_of, one_of_if_set, required_text};
use crate::{
    field::{Errors, Path},
    json::{at, get, has, int, items, text},
};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// A Service.
pub(crate) fn service(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    one_of(spec, "type", &path, &TYPES, errors);
    let kind = text(spec, "type");
    if kind == "ExternalName" {
        if required_text(spec, "externalName", &path, errors) {
            let name = text(spec, "externalName");
            for message in formats::subdomain(name.strip_suffix('.').unwrap_or(name)) {
                errors.invalid(&path.child("externalName"), name, message);
            }
        }
    } else if items(spec, "ports").is_empty() && text(spec, "clusterIP") != "None" {
        errors.required(&path.child("ports"), "");
    }
    addresses(spec, kind, &path, errors);
    ports(spec, kind, &path, errors);
    meta::labels(get(spec, "selector"), &path.child("selector"), errors);
    affinity(spec, &path, errors);
    policies(spec, kind, &path, errors);
}

/// The form of cluster addresses; whether they are free is the allocator's question.
fn addresses(spec: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let first = text(spec, "clusterIP");
    let all = items(spec, "clusterIPs");
    let list = path.child("clusterIPs");
    if kind == "ExternalName" {
        if !first.is_empty() || !all.is_empty() {
            errors.forbidden(&list, "may not be set for ExternalName services");
        }
        return;
    }
    if first == "None" && kind != "ClusterIP" && TYPES.contains(&kind) {
        errors.invalid(&list.index(0), first, format!("may not be set to 'None' for {kind} services"));
    }
    match first {
        "" | "None" => {}
        address => match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => {}
            Ok(IpAddr::V6(_)) => {
                errors.invalid(&list.index(0), address, "IPv6 is not configured on this cluster");
            }
            Err(_) => errors.invalid(&list.index(0), address, "must be a valid IP address"),
        },
    }
    if let Some(listed) = all.first()
        && listed.as_str() != Some(first)
    {
        errors.invalid(&list, all.clone(), "first value must match `clusterIP`");
    }
    if all.len() > 1 {
        errors.invalid(&list, all.clone(), "may only hold 1 value on a single-stack cluster");
    }
    for (index, family) in items(spec, "ipFamilies").iter().enumerate() {
        if family != "IPv4" {
            errors.invalid(
                &path.child("ipFamilies").index(index),
                family.clone(),
                "not configured on this cluster",
            );
        }
    }
    let known = ["PreferDualStack", "SingleStack"];
    if text(spec, "ipFamilyPolicy") == "RequireDualStack" {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&path.child("ipFamilyPolicy"), "RequireDualStack", detail);
    } else {
        one_of_if_set(spec, "ipFamilyPolicy", path, &known, errors);
    }
}

fn ports(spec: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let ports = items(spec, "ports");
    let (mut names, mut numbers) = (Unique::default(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let path = path.child("ports").index(index);
        if ports.len() > 1 {
            required_text(port, "name", &path, errors);
        }
        formed(port, "name", &path, formats::label, errors);
        names.check(text(port, "name"), &path.child("name"), errors);
        handlers::port(&number(port), &path.child("port"), errors);
        handlers::protocol(port, &path, errors);
        if has(port, "targetPort") {
            handlers::port(get(port, "targetPort"), &path.child("targetPort"), errors);
        }
        formed(port, "appProtocol", &path, formats::qualified_name, errors);
        node_port(port, kind, &path, errors);
        if !numbers.insert((int(port, "port"), text(port, "protocol"))) {
            let shown = json!({"port": get(port, "port"), "protocol": get(port, "protocol")});
            errors.duplicate(&path, shown);
        }
    }
}

/// The service's own port; an absent one reads as 0, which is out of range.
fn number(port: &Value) -> Value {
    Value::from(int(port, "port").unwrap_or(0))
}

fn node_port(port: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let Some(number) = int(port, "nodePort").filter(|number| *number != 0) else { return };
    if kind == "ClusterIP" || kind == "ExternalName" {
        errors.forbidden(&path.child("nodePort"), format!("may not be used when `type` is '{kind}'"));
    } else if !(30000..=32767).contains(&number) {
        let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
        errors.invalid(&path.child("nodePort"), number, detail);
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut Errors) {
    one_of_if_set(spec, "sessionAffinity", path, &["ClientIP", "None"], errors);
    let client = at(spec, "sessionAffinityConfig.clientIP");
    let path = path.child("sessionAffinityConfig");
    if text(spec, "sessionAffinity") == "None" && has(spec, "sessionAffinityConfig") {
        errors.forbidden(&path, "must not be set when session affinity is None");
    }
    in_range(client, "timeoutSeconds", &path.child("clientIP"), (1, 86_400), errors);
}

fn policies(spec: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let known = ["Cluster", "Local"];
    one_of_if_set(spec, "internalTrafficPolicy", path, &known, errors);
    one_of_if_set(spec, "externalTrafficPolicy", path, &known, errors);
    let external = kind == "NodePort" || kind == "LoadBalancer" || !items(spec, "externalIPs").is_empty();
    let policy = text(spec, "externalTrafficPolicy");
    if !policy.is_empty() && !external {
        let detail = "may only be set for externally-accessible services";
        errors.invalid(&path.child("externalTrafficPolicy"), policy, detail);
    }
    for (index, address) in items(spec, "externalIPs").iter().enumerate() {
        let address = address.as_str().unwrap_or("");
        for message in formats::endpoint_ip(address) {
            errors.invalid(&path.child("externalIPs").index(index), address, message);
        }
    }
    for (index, range) in items(spec, "loadBalancerSourceRanges").iter().enumerate() {
        let range = range.as_str().unwrap_or("").trim();
        if range.parse::<ipnet::IpNet>().is_err() {
            let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            errors.invalid(&path.child("loadBalancerSourceRanges").index(index), range, detail);
        }
    }
}

/// A change of a Service: its cluster address stays, unless it becomes or was an ExternalName.
pub(crate) fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (text(old, "spec.clusterIP"), text(new, "spec.clusterIP"));
    let external = [old, new].iter().any(|value| text(value, "spec.type") == "ExternalName");
    if !external && !before.is_empty() && before != after {
        let path = Path::new("spec").child("clusterIPs").index(0);
        errors.invalid(&path, json!([after]), "may not change once set");
    }
    super::status::balancer_update(old, new, errors);
}
