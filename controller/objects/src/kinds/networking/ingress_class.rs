//! IngressClass: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{at, default_to, get, text},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, name, or_none},
    validate::{
        formats::{self, subdomain},
        formed, immutable, one_of, required_text,
    },
};

pub(crate) const ENTRY: Entry = Entry {
    group: "networking.k8s.io",
    kind: "IngressClass",
    plural: "ingressclasses",
    namespaced: false,
    has_generation: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    if let Some(parameters) = value.get_mut("spec").and_then(|spec| spec.get_mut("parameters")) {
        default_to(parameters, "scope", "Cluster");
    }
}

/// A subdomain, a slash and a path: the name of a controller.
fn prefixed_path(text: &str) -> Vec<String> {
    match text.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            let path_good =
                path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:/".contains(&b));
            let mut messages = subdomain(domain);
            if !path_good {
                messages.push("Invalid path".to_owned());
            }
            messages
        }
        _ => vec!["must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned()],
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    let controller = text(spec, "controller");
    if controller.len() > 250 {
        errors.too_long(&path.child("controller"), 250);
    }
    if required_text(spec, "controller", &path, errors) {
        formed(spec, "controller", &path, prefixed_path, errors);
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
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("controller");
    immutable(at(old, "spec.controller"), at(new, "spec.controller"), &path, errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Controller", "string", "Who serves Ingresses of this class."),
    column("Parameters", "string", "Where its settings are."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = at(value, "spec.parameters");
    let (kind, group) = (text(parameters, "kind"), text(parameters, "apiGroup"));
    let shown = match (kind, group) {
        ("", _) => String::new(),
        (kind, "") => format!("{kind}/{}", text(parameters, "name")),
        (kind, group) => format!("{kind}.{group}/{}", text(parameters, "name")),
    };
    vec![name(value), text(value, "spec.controller").into(), or_none(&shown), age(value, now)]
}
