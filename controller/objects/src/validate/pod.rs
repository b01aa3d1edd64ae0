//! The rules of pods and of pod templates' specs.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{at, get, items, text},
    validate::{
        affinity, company, container, formats, formed, not_negative, one_of, one_of_if_set, required_text,
        volume,
    },
};

/// The spec of a pod or of a template.
pub(crate) fn spec(spec: &Value, path: &Path, errors: &mut Errors) {
    let names = volume::volumes(spec, path, errors);
    container::containers(spec, path, &names, errors);
    one_of(spec, "restartPolicy", path, &["Always", "OnFailure", "Never"], errors);
    one_of_if_set(spec, "preemptionPolicy", path, &["Never", "PreemptLowerPriority"], errors);
    not_negative(spec, "terminationGracePeriodSeconds", path, errors);
    affinity::deadline(spec, path, errors);
    affinity::placement(spec, path, errors);
    company::all(spec, path, errors);
    dns(spec, path, errors);
    super::env::resource_containers(spec, path, errors);
    no_nul(spec, path, errors);
    container::pod_security(get(spec, "securityContext"), &path.child("securityContext"), errors);
    formed(spec, "hostname", path, formats::label, errors);
    formed(spec, "subdomain", path, formats::label, errors);
    for field in ["nodeName", "serviceAccountName", "runtimeClassName", "priorityClassName"] {
        formed(spec, field, path, formats::subdomain, errors);
    }
    for (index, alias) in items(spec, "hostAliases").iter().enumerate() {
        let path = path.child("hostAliases").index(index);
        if required_text(alias, "ip", &path, errors) {
            formed(alias, "ip", &path, formats::ip, errors);
        }
        for (index, name) in items(alias, "hostnames").iter().enumerate() {
            let name = name.as_str().unwrap_or("");
            for message in formats::subdomain(name) {
                errors.invalid(&path.child("hostnames").index(index), name, message);
            }
        }
    }
}

fn dns(spec: &Value, path: &Path, errors: &mut Errors) {
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    one_of(spec, "dnsPolicy", path, &policies, errors);
    let (config, path) = (at(spec, "dnsConfig"), path.child("dnsConfig"));
    let servers = items(config, "nameservers");
    if text(spec, "dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(&path, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&path.child("nameservers"), detail);
        }
    }
    if servers.len() > 3 {
        let detail = "must not have more than 3 nameservers";
        errors.invalid(&path.child("nameservers"), servers.clone(), detail);
    }
    for (index, server) in servers.iter().enumerate() {
        let server = server.as_str().unwrap_or("");
        for message in formats::ip(server) {
            errors.invalid(&path.child("nameservers").index(index), server, message);
        }
    }
    let searches = items(config, "searches");
    if searches.len() > 32 {
        errors.invalid(&path.child("searches"), searches.clone(), "must not have more than 32 search paths");
    }
    for (index, domain) in searches.iter().enumerate() {
        let domain = domain.as_str().unwrap_or("");
        let name = domain.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(domain);
        for message in formats::subdomain(name) {
            errors.invalid(&path.child("searches").index(index), domain, message);
        }
    }
    for (index, option) in items(config, "options").iter().enumerate() {
        required_text(option, "name", &path.child("options").index(index), errors);
    }
}

/// No text of a process, a path or a name can have this character: the kernel ends it there.
fn no_nul(value: &Value, path: &Path, errors: &mut Errors) {
    match value {
        Value::String(text) if text.contains('\0') => {
            errors.invalid(path, text.as_str(), "must not contain the character NUL");
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, item)| no_nul(item, &path.index(index), errors));
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| no_nul(item, &path.child(key), errors)),
        _ => {}
    }
}
