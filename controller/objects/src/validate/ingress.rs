//! The rules of Ingresses and their classes.

use std::net::IpAddr;

use serde_json::Value;

use super::{formats, formed, handlers, immutable, one_of, required_text};
use crate::{
    field::{Errors, Path},
    json::{at, get, has, items, text},
};

/// An Ingress.
pub(crate) fn ingress(value: &Value, errors: &mut Errors) {
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

/// An IngressClass.
pub(crate) fn class(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    let controller = text(spec, "controller");
    if controller.len() > 250 {
        errors.too_long(&path.child("controller"), 250);
    }
    if required_text(spec, "controller", &path, errors) {
        formed(spec, "controller", &path, formats::prefixed_path, errors);
    }
    let (parameters, path) = (get(spec, "parameters"), path.child("parameters"));
    if parameters.is_null() {
        return;
    }
    for field in ["kind", "name"] {
        if text(parameters, field).is_empty() {
            errors.required(&path.child(field), format!("{field} is required"));
        }
    }
    formed(parameters, "apiGroup", &path, formats::subdomain, errors);
    let namespace = text(parameters, "namespace");
    match text(parameters, "scope") {
        "Namespace" if namespace.is_empty() => {
            errors.required(&path.child("namespace"), "`parameters.scope` is set to 'Namespace'");
        }
        "Cluster" if !namespace.is_empty() => {
            errors.forbidden(&path.child("namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        _ => one_of(parameters, "scope", &path, &["Cluster", "Namespace"], errors),
    }
}

/// A change of an IngressClass: its controller stays.
pub(crate) fn class_update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("controller");
    immutable(at(old, "spec.controller"), at(new, "spec.controller"), &path, errors);
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
