//! The tables of IngressClasses and NetworkPolicies.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, name, or_none, selector};
use crate::json::{at, text};

pub(crate) const INGRESS_CLASS_COLUMNS: &[Column] = &[
    NAME,
    column("Controller", "string", "Who serves Ingresses of this class."),
    column("Parameters", "string", "Where its settings are."),
    AGE,
];

pub(crate) const NETWORK_POLICY_COLUMNS: &[Column] =
    &[NAME, column("Pod-Selector", "string", "The pods it is about."), AGE];

/// The cells of an IngressClass.
pub(crate) fn ingress_class_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = at(value, "spec.parameters");
    let (kind, group) = (text(parameters, "kind"), text(parameters, "apiGroup"));
    let shown = match (kind, group) {
        ("", _) => String::new(),
        (kind, "") => format!("{kind}/{}", text(parameters, "name")),
        (kind, group) => format!("{kind}.{group}/{}", text(parameters, "name")),
    };
    vec![name(value), text(value, "spec.controller").into(), or_none(&shown), age(value, now)]
}

/// The cells of a NetworkPolicy.
pub(crate) fn network_policy_row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), selector(at(value, "spec.podSelector")), age(value, now)]
}
