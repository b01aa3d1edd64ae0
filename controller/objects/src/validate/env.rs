//! The rules of a container's environment.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, has, items, text},
    quantity as quantities,
    validate::{formats, formed, one_of, required_text},
};

/// The fields of a pod that a variable may take its value from.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The fields that a file may take its content from.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// The resources that both may ask for.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// `env` and `envFrom` of a container.
pub(crate) fn environment(container: &Value, path: &Path, errors: &mut Errors) {
    for (index, variable) in items(container, "env").iter().enumerate() {
        let path = path.child("env").index(index);
        if required_text(variable, "name", &path, errors) {
            formed(variable, "name", &path, formats::env_name, errors);
        }
        if has(variable, "valueFrom") {
            value_from(variable, &path.child("valueFrom"), errors);
        }
    }
    for (index, source) in items(container, "envFrom").iter().enumerate() {
        let path = path.child("envFrom").index(index);
        formed(source, "prefix", &path, formats::env_name, errors);
        let given: Vec<&str> =
            ["configMapRef", "secretRef"].into_iter().filter(|field| has(source, field)).collect();
        match given.as_slice() {
            [one] => {
                required_text(get(source, one), "name", &path.child(one), errors);
            }
            [] => errors.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
        }
    }
}

fn value_from(variable: &Value, path: &Path, errors: &mut Errors) {
    let source = get(variable, "valueFrom");
    if !text(variable, "value").is_empty() {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    }
    let known = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let given: Vec<&str> = known.into_iter().filter(|field| has(source, field)).collect();
    match given.as_slice() {
        ["fieldRef"] => {
            field_reference(get(source, "fieldRef"), &path.child("fieldRef"), &ENV_FIELDS, errors)
        }
        ["resourceFieldRef"] => resource_reference(source, path, errors),
        ["fileKeyRef"] => {}
        [one] => key_reference(get(source, one), &path.child(one), errors),
        [] => errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`",
        ),
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}

fn key_reference(reference: &Value, path: &Path, errors: &mut Errors) {
    required_text(reference, "name", path, errors);
    if required_text(reference, "key", path, errors) {
        formed(reference, "key", path, formats::config_key, errors);
    }
}

/// A reference to a field of the pod, by a variable.
fn field_reference(reference: &Value, path: &Path, known: &[&str], errors: &mut Errors) {
    if !required_text(reference, "fieldPath", path, errors) {
        return;
    }
    let (field, path) = (text(reference, "fieldPath"), path.child("fieldPath"));
    for map in ["metadata.labels", "metadata.annotations"] {
        if let Some(rest) = field.strip_prefix(map)
            && let Some(key) = rest.strip_prefix("['").and_then(|rest| rest.strip_suffix("']"))
        {
            for message in formats::qualified_name(&key.to_lowercase()) {
                errors.invalid(&path, field, message);
            }
            return;
        }
    }
    if !known.contains(&field) {
        errors.not_supported(&path, field, known);
    }
}

fn resource_reference(source: &Value, path: &Path, errors: &mut Errors) {
    let (reference, path) = (get(source, "resourceFieldRef"), path.child("resourceFieldRef"));
    one_of(reference, "resource", &path, &RESOURCES, errors);
    divisor(reference, &path.child("divisor"), errors);
}

/// What amounts may be told in, by the rules of Kubernetes; 0 is the same as none.
fn divisor(reference: &Value, path: &Path, errors: &mut Errors) {
    const CPU: &[&str] = &["1", "1m"];
    const BYTES: &[&str] =
        &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let divisor = get(reference, "divisor");
    let spelling = divisor.as_str().map_or_else(|| divisor.to_string(), str::to_owned);
    if divisor.is_null() || quantities::compare(&spelling, "0").is_ok_and(std::cmp::Ordering::is_eq) {
        return;
    }
    let resource = text(reference, "resource");
    let resource = resource.split_once('.').map_or(resource, |(_, resource)| resource);
    let known = if resource == "cpu" { CPU } else { BYTES };
    // Below a thousandth, the order says equal of what is not.
    let fits = |known: &&&str| {
        !spelling.ends_with(['n', 'u'])
            && quantities::compare(&spelling, known).is_ok_and(std::cmp::Ordering::is_eq)
    };
    if !known.iter().any(|known| fits(&known)) {
        let detail =
            format!("only divisor's values {} are supported with the {resource} resource", known.join(", "));
        errors.invalid(path, spelling, detail);
    }
}

/// Whose resources are told: the container must be there.
pub(crate) fn resource_containers(spec: &Value, path: &Path, errors: &mut Errors) {
    let lists = ["initContainers", "containers"];
    let names: BTreeSet<&str> =
        lists.iter().flat_map(|list| items(spec, list)).map(|container| text(container, "name")).collect();
    let mut check = |source: &Value, path: Path| {
        let (name, path) = (text(source, "resourceFieldRef.containerName"), path.child("resourceFieldRef"));
        if !name.is_empty() && !names.contains(name) {
            errors.not_found(&path.child("containerName"), name);
        }
    };
    for list in lists {
        for (index, container) in items(spec, list).iter().enumerate() {
            let path = path.child(list).index(index).child("env");
            for (index, variable) in items(container, "env").iter().enumerate() {
                check(get(variable, "valueFrom"), path.index(index).child("valueFrom"));
            }
        }
    }
    for (index, volume) in items(spec, "volumes").iter().enumerate() {
        let path = path.child("volumes").index(index);
        let projected = items(volume, "projected.sources").iter().enumerate();
        let projected =
            projected.map(|(index, source)| (source, path.child("projected").child("sources").index(index)));
        for (source, path) in projected.chain([(volume, path.clone())]) {
            for (index, item) in items(source, "downwardAPI.items").iter().enumerate() {
                check(item, path.child("downwardAPI").child("items").index(index));
            }
        }
    }
}

/// The items of a downward API volume: each is a file of one field or resource.
pub(crate) fn downward_items(volume: &Value, path: &Path, errors: &mut Errors) {
    for (index, item) in items(volume, "items").iter().enumerate() {
        let path = path.child("items").index(index);
        if required_text(item, "path", &path, errors) {
            formed(item, "path", &path, formats::file_below, errors);
        }
        super::volume::mode(item, "mode", &path, errors);
        match (has(item, "fieldRef"), has(item, "resourceFieldRef")) {
            (true, false) => {
                field_reference(get(item, "fieldRef"), &path.child("fieldRef"), &FILE_FIELDS, errors)
            }
            (false, true) => {
                required_text(
                    get(item, "resourceFieldRef"),
                    "containerName",
                    &path.child("resourceFieldRef"),
                    errors,
                );
                resource_reference(item, &path, errors);
            }
            (true, true) => {
                errors.invalid(
                    &path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
            (false, false) => errors.required(&path, "one of fieldRef and resourceFieldRef is required"),
        }
    }
}
