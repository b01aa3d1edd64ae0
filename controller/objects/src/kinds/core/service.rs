//! Service: its entry, its defaults, its rules and its columns.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::ANY;
use crate::{
    defaults::condition_times,
    field::{Errors, Path},
    json::{at, default_to, ensure_map, get, has, int, items, items_mut, text},
    kinds::{ALL, Entry, PLAIN, PLAIN_SUBRESOURCE, STATUS, Subresource},
    table::{AGE, Column, NAME, age, column, labels, name, or_none, service::balancer_addresses, wide},
    validate::{
        self, Unique, formats, formed, handlers, in_range, meta, one_of, one_of_if_set, required_text,
    },
};

const PROXY: Subresource = Subresource {
    name: "proxy",
    version: "v1",
    kind: "ServiceProxyOptions",
    verbs: ANY,
    ..PLAIN_SUBRESOURCE
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "Service",
    plural: "services",
    short_names: &["svc"],
    categories: ALL,
    subresources: &[PROXY, STATUS],
    fields: &["spec.clusterIP", "spec.type"],
    returns_deleted: true,
    defaults,
    adapt,
    name: validate::NameRule::ServiceLabel,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    condition_times(value);
    if let Some(spec) = ensure_map(value, "spec") {
        default_to(spec, "type", "ClusterIP");
        let kind = text(spec, "type").to_owned();
        fill_affinity(spec);
        items_mut(spec, "ports").for_each(default_port);
        if kind != "ExternalName" {
            default_to(spec, "internalTrafficPolicy", "Cluster");
            default_to(spec, "ipFamilyPolicy", "SingleStack");
            default_to(spec, "ipFamilies", json!(["IPv4"]));
            let address = text(spec, "clusterIP").to_owned();
            if !address.is_empty() {
                default_to(spec, "clusterIPs", json!([address]));
            }
        }
        if kind == "NodePort" || kind == "LoadBalancer" {
            default_to(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default_to(spec, "allocateLoadBalancerNodePorts", true);
        }
    }
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "loadBalancer", json!({}));
    }
}

/// The affinity's time-out belongs to ClientIP alone.
fn fill_affinity(spec: &mut Value) {
    default_to(spec, "sessionAffinity", "None");
    if text(spec, "sessionAffinity") == "ClientIP" {
        if let Some(config) = ensure_map(spec, "sessionAffinityConfig")
            && let Some(client) = ensure_map(config, "clientIP")
        {
            default_to(client, "timeoutSeconds", 10_800);
        }
    } else if text(spec, "sessionAffinity") == "None"
        && let Some(map) = spec.as_object_mut()
    {
        map.remove("sessionAffinityConfig");
    }
}

fn default_port(port: &mut Value) {
    default_to(port, "protocol", "TCP");
    let target = get(port, "targetPort");
    let unset = target.is_null() || target.as_i64() == Some(0) || target.as_str() == Some("");
    if unset && has(port, "port") {
        port["targetPort"] = get(port, "port").clone();
    }
}

/// A Service that stops being external loses the node ports and policies it got as one.
fn adapt(old: &Value, new: &mut Value) {
    let (before, after) = (text(old, "spec.type").to_owned(), text(new, "spec.type").to_owned());
    let external = |kind: &str| kind == "NodePort" || kind == "LoadBalancer";
    let Some(spec) = new.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    let old = get(old, "spec");
    if before == "LoadBalancer" && after != "LoadBalancer" {
        drop_if_same(
            old,
            spec,
            &["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"],
        );
    }
    if external(&before) && !external(&after) {
        drop_if_same(old, spec, &["externalTrafficPolicy", "healthCheckNodePort"]);
        let known: Vec<&Value> = items(old, "ports").iter().map(|port| get(port, "nodePort")).collect();
        items_mut(spec, "ports").for_each(|port| {
            if known.contains(&get(port, "nodePort"))
                && let Some(map) = port.as_object_mut()
            {
                map.remove("nodePort");
            }
        });
    }
}

fn drop_if_same(old: &Value, new: &mut Value, fields: &[&str]) {
    if let Some(map) = new.as_object_mut() {
        map.retain(|field, value| !(fields.contains(&field.as_str()) && get(old, field) == value));
    }
}

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

fn validate(value: &Value, errors: &mut Errors) {
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
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (text(old, "spec.clusterIP"), text(new, "spec.clusterIP"));
    let external = [old, new].iter().any(|value| text(value, "spec.type") == "ExternalName");
    if !external && !before.is_empty() && before != after {
        let path = Path::new("spec").child("clusterIPs").index(0);
        errors.invalid(&path, json!([after]), "may not change once set");
    }
    validate::status::balancer_update(old, new, errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "How the service is exposed."),
    column("Cluster-IP", "string", "The service's address inside the cluster."),
    column("External-IP", "string", "The service's addresses outside the cluster."),
    column("Port(s)", "string", "The ports, their node ports and protocols."),
    AGE,
    wide("Selector", "The labels of the pods behind the service."),
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
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
