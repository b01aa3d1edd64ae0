//! The rules of containers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{at, entries, get, has, int, is_empty, items, text, truth},
    quantity as quantities,
    validate::{Unique, env, formats, formed, handlers, in_range, one_of, one_of_if_set, required_text},
};

/// The largest user or group number.
const LARGEST_ID: i64 = 2_147_483_647;

/// With less memory the engine starts no container.
const LEAST_MEMORY: &str = "6Mi";

/// All init containers and containers of a pod.
pub(crate) fn containers(spec: &Value, path: &Path, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    let mut names = Unique::default();
    for list in ["initContainers", "containers"] {
        for (index, container) in items(spec, list).iter().enumerate() {
            let path = path.child(list).index(index);
            if required_text(container, "name", &path, errors) {
                formed(container, "name", &path, formats::label, errors);
                names.check(text(container, "name"), &path.child("name"), errors);
            }
            one_container(container, &path, volumes, errors);
            if list == "initContainers" {
                init_container(container, &path, errors);
            }
        }
    }
    if items(spec, "containers").is_empty() {
        errors.required(&path.child("containers"), "");
    }
}

fn one_container(container: &Value, path: &Path, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    let image = text(container, "image");
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    } else if image.chars().any(char::is_control) {
        // No registry has such a name, and it would be written where lines and terminals are.
        errors.invalid(&path.child("image"), image, "must not contain control characters");
    }
    one_of(container, "imagePullPolicy", path, &["Always", "IfNotPresent", "Never"], errors);
    let policies = ["FallbackToLogsOnError", "File"];
    one_of_if_set(container, "terminationMessagePolicy", path, &policies, errors);
    ports(container, path, errors);
    env::environment(container, path, errors);
    mounts(container, path, volumes, errors);
    resources(get(container, "resources"), &path.child("resources"), errors);
    handlers::probes(container, path, errors);
    handlers::lifecycle(container, path, errors);
    security(get(container, "securityContext"), &path.child("securityContext"), errors);
}

/// Init containers run to their end: nothing probes or hooks them.
fn init_container(container: &Value, path: &Path, errors: &mut Errors) {
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if !is_empty(get(container, field)) {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errors.forbidden(&path.child(field), detail);
        }
    }
}

fn ports(container: &Value, path: &Path, errors: &mut Errors) {
    let mut names = Unique::default();
    for (index, port) in items(container, "ports").iter().enumerate() {
        let path = path.child("ports").index(index);
        formed(port, "name", &path, formats::port_name, errors);
        names.check(text(port, "name"), &path.child("name"), errors);
        match int(port, "containerPort") {
            None | Some(0) => errors.required(&path.child("containerPort"), ""),
            Some(_) => {
                handlers::port_number(get(port, "containerPort"), &path.child("containerPort"), errors)
            }
        }
        if int(port, "hostPort").is_some_and(|number| number != 0) {
            handlers::port_number(get(port, "hostPort"), &path.child("hostPort"), errors);
        }
        handlers::protocol(port, &path, errors);
    }
}

fn mounts(container: &Value, path: &Path, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
        let path = path.child("volumeMounts").index(index);
        let name = text(mount, "name");
        if required_text(mount, "name", &path, errors) && !volumes.contains(name) {
            errors.not_found(&path.child("name"), name);
        }
        let target = text(mount, "mountPath");
        if required_text(mount, "mountPath", &path, errors) && !paths.insert(target) {
            errors.invalid(&path.child("mountPath"), target, "must be unique");
        }
        formed(mount, "subPath", &path, formats::sub_path, errors);
        formed(mount, "subPathExpr", &path, formats::sub_path, errors);
        if !text(mount, "subPath").is_empty() && !text(mount, "subPathExpr").is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&path.child("subPathExpr"), text(mount, "subPathExpr"), detail);
        }
        let known = ["Bidirectional", "HostToContainer", "None"];
        one_of_if_set(mount, "mountPropagation", &path, &known, errors);
    }
}

/// Requests and limits: quantities, and no request above its limit.
fn resources(resources: &Value, path: &Path, errors: &mut Errors) {
    for list in ["limits", "requests"] {
        for (name, value) in entries(resources, list) {
            let path = path.child(list).key(name);
            for message in formats::qualified_name(name) {
                errors.invalid(&path, name, message);
            }
            let standard =
                ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
            if !standard && !name.contains('/') {
                errors.invalid(&path, name, "must be a standard resource type or fully qualified");
            }
            quantity(value, &path, errors);
        }
    }
    let memory = get(get(resources, "limits"), "memory").as_str();
    if let Some(limit) = memory
        && quantities::compare(limit, "0").is_ok_and(|order| order.is_gt())
        && quantities::compare(limit, LEAST_MEMORY).is_ok_and(|order| order.is_lt())
    {
        let detail = format!("must be at least {LEAST_MEMORY}, the least that the Docker engine takes");
        errors.invalid(&path.child("limits").key("memory"), limit, detail);
    }
    for (name, request) in entries(resources, "requests") {
        let limit = get(get(resources, "limits"), name);
        if let (Some(request), Some(limit)) = (request.as_str(), limit.as_str())
            && quantities::compare(request, limit).is_ok_and(|order| order.is_gt())
        {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&path.child("requests"), request, detail);
        }
    }
}

/// A quantity, if given: well formed and not negative.
pub(crate) fn quantity(value: &Value, path: &Path, errors: &mut Errors) {
    let spelling = match value {
        Value::Null => return,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match quantities::parse(&spelling) {
        Ok(milli) if milli < 0 => errors.invalid(path, spelling, "must be greater than or equal to 0"),
        Ok(_) => {}
        Err(error) => errors.invalid(path, spelling, error.to_string()),
    }
}

fn security(context: &Value, path: &Path, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup"] {
        in_range(context, field, path, (0, LARGEST_ID), errors);
    }
    let denies = at(context, "allowPrivilegeEscalation").as_bool() == Some(false);
    let path = path.child("allowPrivilegeEscalation");
    if denies && truth(context, "privileged") {
        errors.invalid(
            &path,
            false,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    let adds_admin = items(context, "capabilities.add")
        .iter()
        .any(|name| name.as_str().is_some_and(|name| matches!(name, "CAP_SYS_ADMIN")));
    if denies && adds_admin && has(context, "capabilities") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.invalid(&path, false, detail);
    }
}

/// User and group numbers of a pod as a whole.
pub(crate) fn pod_security(context: &Value, path: &Path, errors: &mut Errors) {
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        in_range(context, field, path, (0, LARGEST_ID), errors);
    }
    for (index, group) in items(context, "supplementalGroups").iter().enumerate() {
        if group.as_i64().is_none_or(|id| !(0..=LARGEST_ID).contains(&id)) {
            let path = path.child("supplementalGroups").index(index);
            errors.invalid(&path, group.clone(), format!("must be between 0 and {LARGEST_ID}, inclusive"));
        }
    }
    for (index, sysctl) in items(context, "sysctls").iter().enumerate() {
        let path = path.child("sysctls").index(index);
        if required_text(sysctl, "name", &path, errors) {
            formed(sysctl, "name", &path, formats::sysctl_name, errors);
        }
    }
}
