//! Ingress: its entry, its defaults, its rules and its columns.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    field::{Errors, Path},
    json::{at, default_to, ensure_map, get, has, is_empty, items, text},
    kinds::{Entry, PLAIN, STATUS},
    table::{AGE, Column, NAME, age, column, first_few, name, or_none, service::balancer_addresses},
    validate::{self, formats, formed, handlers, required_text},
};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub(crate) const ENTRY: Entry = Entry {
    group: "networking.k8s.io",
    kind: "Ingress",
    plural: "ingresses",
    short_names: &["ing"],
    subresources: &[STATUS],
    has_generation: true,
    defaults,
    is_of_others,
    validate,
    columns: COLUMNS,
    row,
    update: validate::status::balancer_update,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    if let Some(status) = ensure_map(value, "status") {
        default_to(status, "loadBalancer", json!({}));
    }
}

/// Whether another controller than Warren's gateways is asked for.
fn is_of_others(value: &Value) -> bool {
    let annotation = get(get(get(value, "metadata"), "annotations"), CLASS_ANNOTATION);
    let class = match text(value, "spec.ingressClassName") {
        "" => annotation.as_str().unwrap_or(""),
        class => class,
    };
    !["", "warren"].contains(&class)
}

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if items(spec, "rules").is_empty() && !has(spec, "defaultBackend") {
        errors.invalid(&path, spec.clone(), "either `defaultBackend` or `rules` must be specified");
    }
    if has(spec, "defaultBackend") {
        backend(get(spec, "defaultBackend"), &path.child("defaultBackend"), errors);
    }
    formed(spec, "ingressClassName", &path, formats::subdomain, errors);
    for (index, rule) in items(spec, "rules").iter().enumerate() {
        self::rule(rule, &path.child("rules").index(index), errors);
    }
    for (index, tls) in items(spec, "tls").iter().enumerate() {
        let path = path.child("tls").index(index);
        for (index, host) in items(tls, "hosts").iter().enumerate() {
            let host = host.as_str().unwrap_or("");
            name_of_host(host, &path.child("hosts").index(index), errors);
        }
        formed(tls, "secretName", &path, formats::subdomain, errors);
    }
}

fn rule(rule: &Value, path: &Path, errors: &mut Errors) {
    let host = text(rule, "host");
    if !host.is_empty() {
        let path = path.child("host");
        if host.parse::<IpAddr>().is_ok() {
            errors.invalid(&path, host, "must be a DNS name, not an IP address");
        } else {
            name_of_host(host, &path, errors);
        }
    }
    if !has(rule, "http") {
        return;
    }
    let path = path.child("http").child("paths");
    let paths = items(get(rule, "http"), "paths");
    if paths.is_empty() {
        errors.required(&path, "");
    }
    for (index, entry) in paths.iter().enumerate() {
        let path = path.index(index);
        url_path(entry, &path, errors);
        backend(get(entry, "backend"), &path.child("backend"), errors);
    }
}

fn name_of_host(host: &str, path: &Path, errors: &mut Errors) {
    let messages = if host.contains('*') { formats::wildcard(host) } else { formats::subdomain(host) };
    for message in messages {
        errors.invalid(path, host, message);
    }
}

fn url_path(entry: &Value, path: &Path, errors: &mut Errors) {
    let known = ["Exact", "ImplementationSpecific", "Prefix"];
    let (kind, url) = (text(entry, "pathType"), text(entry, "path"));
    let (type_path, path) = (path.child("pathType"), path.child("path"));
    match kind {
        "" => errors.required(&type_path, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !url.starts_with('/') {
                errors.invalid(&path, url, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if url.contains(part) {
                    errors.invalid(&path, url, format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if url.ends_with(end) {
                    errors.invalid(&path, url, format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !url.is_empty() && !url.starts_with('/') {
                errors.invalid(&path, url, "must be an absolute path");
            }
        }
        other => errors.not_supported(&type_path, other, &known),
    }
}

fn backend(backend: &Value, path: &Path, errors: &mut Errors) {
    if has(backend, "resource") {
        return;
    }
    let service = get(backend, "service");
    if service.is_null() {
        return errors.required(path, "resource or service backend is required");
    }
    let service_path = path.child("service");
    if required_text(service, "name", &service_path, errors) {
        formed(service, "name", &service_path, formats::dns_1035, errors);
    }
    let (name, number) = (text(service, "port.name"), at(service, "port.number"));
    let port_path = service_path.child("port");
    let numbered = number.as_i64().is_some_and(|number| number != 0);
    match (name.is_empty(), numbered) {
        (false, true) => errors.invalid(path, "", "cannot set both port name & port number"),
        (true, false) => errors.required(path, "port name or number is required"),
        (false, false) => formed(get(service, "port"), "name", &port_path, formats::port_name, errors),
        (true, true) => handlers::port_number(number, &port_path.child("number"), errors),
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Class", "string", "The class of the ingress."),
    column("Hosts", "string", "The hosts that the rules are for."),
    column("Address", "string", "The gateway's addresses."),
    column("Ports", "string", "The ports that the gateway serves."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
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
