//! The rules of probes and lifecycle hooks.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, has, int, is_empty, items, text},
    validate::{formats, formed, not_negative, one_of, required_text},
};

/// The three probes of a container.
pub(crate) fn probes(container: &Value, path: &Path, errors: &mut Errors) {
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let (probe, path) = (get(container, field), path.child(field));
        if probe.is_null() {
            continue;
        }
        handler(probe, &path, &["exec", "httpGet", "tcpSocket", "grpc"], errors);
        for number in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            not_negative(probe, number, &path, errors);
        }
        if field != "readinessProbe"
            && let Some(successes) = int(probe, "successThreshold").filter(|successes| *successes > 1)
        {
            errors.invalid(&path.child("successThreshold"), successes, "must be 1");
        }
        if let Some(grace) = int(probe, "terminationGracePeriodSeconds") {
            let path = path.child("terminationGracePeriodSeconds");
            if field == "readinessProbe" {
                errors.invalid(&path, grace, "must not be set for readinessProbes");
            } else if grace <= 0 {
                errors.invalid(&path, grace, "must be greater than 0");
            }
        }
    }
}

/// What runs after a container's start and before its stop.
pub(crate) fn lifecycle(container: &Value, path: &Path, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        let handler_of_hook = get(get(container, "lifecycle"), hook);
        if !handler_of_hook.is_null() {
            let path = path.child("lifecycle").child(hook);
            handler(handler_of_hook, &path, &["exec", "httpGet", "tcpSocket", "sleep"], errors);
        }
    }
}

/// Exactly one way of asking or acting.
fn handler(value: &Value, path: &Path, known: &[&str], errors: &mut Errors) {
    let given: Vec<&str> = known.iter().copied().filter(|name| has(value, name)).collect();
    for surplus in given.iter().skip(1) {
        errors.forbidden(&path.child(surplus), "may not specify more than 1 handler type");
    }
    let Some(name) = given.first() else {
        return errors.required(path, "must specify a handler type");
    };
    let (action, path) = (get(value, name), path.child(name));
    match *name {
        "exec" if is_empty(get(action, "command")) => errors.required(&path.child("command"), ""),
        "httpGet" => http_get(action, &path, errors),
        "tcpSocket" => port(get(action, "port"), &path.child("port"), errors),
        "grpc" => port_number(get(action, "port"), &path.child("port"), errors),
        "sleep" if int(action, "seconds").is_none_or(|seconds| seconds <= 0) => {
            let seconds = int(action, "seconds").unwrap_or(0);
            errors.invalid(&path.child("seconds"), seconds, "must be greater than 0");
        }
        _ => {}
    }
}

fn http_get(action: &Value, path: &Path, errors: &mut Errors) {
    required_text(action, "path", path, errors);
    port(get(action, "port"), &path.child("port"), errors);
    one_of(action, "scheme", path, &["HTTP", "HTTPS"], errors);
    for (index, header) in items(action, "httpHeaders").iter().enumerate() {
        let path = path.child("httpHeaders").index(index);
        if required_text(header, "name", &path, errors) {
            formed(header, "name", &path, formats::header_name, errors);
        }
    }
}

/// A port by number or by name.
pub(crate) fn port(value: &Value, path: &Path, errors: &mut Errors) {
    if let Some(name) = value.as_str() {
        for message in formats::port_name(name) {
            errors.invalid(path, name, message);
        }
    } else if value.is_null() {
        errors.required(path, "");
    } else {
        port_number(value, path, errors);
    }
}

/// A port by number.
pub(crate) fn port_number(value: &Value, path: &Path, errors: &mut Errors) {
    if value.as_i64().is_none_or(|number| !(1..=65535).contains(&number)) {
        errors.invalid(path, value.clone(), "must be between 1 and 65535, inclusive");
    }
}

/// TCP, UDP or SCTP.
pub(crate) fn protocol(value: &Value, path: &Path, errors: &mut Errors) {
    let known = ["SCTP", "TCP", "UDP"];
    if text(value, "protocol").is_empty() {
        errors.required(&path.child("protocol"), "");
    } else {
        one_of(value, "protocol", path, &known, errors);
    }
}
