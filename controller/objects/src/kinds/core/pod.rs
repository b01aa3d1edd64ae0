//! Pod: its entry, its defaults, its rules and its columns.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    defaults::pod::{quality_of_service, spec_of_pod_or_template},
    field::{Errors, Path},
    human,
    json::{default_to, ensure_map, get, is_empty, items, items_mut, map_mut, text},
    kinds::{ALL, Entry, PLAIN, PLAIN_SUBRESOURCE, STATUS, Subresource},
    table::{
        AGE, Column, NAME, age, column, name, or_none,
        pod::{Summary, condition},
        wide,
    },
    validate::{company, formats, formed, pod::spec},
};

/// Below a pod, a connection that is upgraded.
const fn stream(name: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, version: "v1", kind, verbs: &["create", "get"], ..PLAIN_SUBRESOURCE }
}

/// What is proxied may do anything that HTTP can.
pub(super) const ANY: &[&str] = &["create", "delete", "get", "patch", "update"];

const POD_SUBRESOURCES: &[Subresource] = &[
    stream("attach", "PodAttachOptions"),
    Subresource { name: "binding", version: "v1", kind: "Binding", verbs: &["create"], ..PLAIN_SUBRESOURCE },
    Subresource {
        name: "ephemeralcontainers",
        verbs: &["get"],
        refusal: "ephemeral containers are not run by this version of Warren: use kubectl exec, or a pod of its own",
        ..PLAIN_SUBRESOURCE
    },
    Subresource {
        name: "eviction",
        group: "policy",
        version: "v1",
        kind: "Eviction",
        verbs: &["create"],
        ..PLAIN_SUBRESOURCE
    },
    stream("exec", "PodExecOptions"),
    Subresource { name: "log", verbs: &["get"], ..PLAIN_SUBRESOURCE },
    stream("portforward", "PodPortForwardOptions"),
    Subresource { verbs: ANY, ..stream("proxy", "PodProxyOptions") },
    Subresource {
        name: "resize",
        verbs: &["get"],
        refusal: "pods are not resized in place by this version of Warren: make a pod with other resources",
        ..PLAIN_SUBRESOURCE
    },
    STATUS,
];

pub(crate) const ENTRY: Entry = Entry {
    kind: "Pod",
    plural: "pods",
    short_names: &["po"],
    categories: ALL,
    subresources: POD_SUBRESOURCES,
    has_generation: true,
    fields: &[
        "spec.hostNetwork",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
    ],
    returns_deleted: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// A pod of its own: its spec, what only pods get, and its first status.
fn defaults(pod: &mut Value) {
    if let Some(spec) = ensure_map(pod, "spec") {
        spec_of_pod_or_template(spec);
        default_to(spec, "enableServiceLinks", true);
        default_to(spec, "serviceAccountName", "default");
        default_to(spec, "serviceAccount", text(spec, "serviceAccountName").to_owned());
        for list in ["initContainers", "containers"] {
            items_mut(spec, list).for_each(requests_from_limits);
        }
    }
    let class = quality_of_service(get(pod, "spec"));
    if let Some(status) = ensure_map(pod, "status") {
        default_to(status, "phase", "Pending");
        default_to(status, "qosClass", class);
    }
}

/// A limit without a request is a request too.
fn requests_from_limits(container: &mut Value) {
    let Some(resources) = map_mut(container, "resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits").filter(|limits| !is_empty(limits)).cloned()
    else {
        return;
    };
    let requests = resources.entry("requests").or_insert_with(|| json!({}));
    if let Some(requests) = requests.as_object_mut() {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// Whether two tolerations differ at most in their seconds.
fn same_toleration(left: &Value, right: &Value) -> bool {
    let key = |value: &Value| {
        let operator = text(value, "operator");
        let operator = if operator.is_empty() { "Equal" } else { operator }.to_owned();
        [
            text(value, "key").to_owned(),
            operator,
            text(value, "value").to_owned(),
            text(value, "effect").to_owned(),
        ]
    };
    key(left) == key(right)
}

fn validate(pod: &Value, errors: &mut Errors) {
    spec(get(pod, "spec"), &Path::new("spec"), errors);
}

const RULE: &str = "pod updates may not change fields other than \
    `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
    additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
    previously negative)";

/// A change of a pod: images, the deadline, more tolerations; nothing else of its spec.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    pod_update(old, new, errors);
    let path = Path::new("spec");
    let (old, new) = (get(old, "spec"), get(new, "spec"));
    // Most changes of a pod are reports of its status.
    if old == new {
        return;
    }
    for list in ["initContainers", "containers"] {
        if items(old, list).len() != items(new, list).len() {
            errors.forbidden(&path.child(list), "pod updates may not add or remove containers");
            return;
        }
    }
    deadline(old, new, &path, errors);
    let kept = items(old, "tolerations")
        .iter()
        .all(|toleration| items(new, "tolerations").iter().any(|other| same_toleration(toleration, other)));
    if !kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(&path.child("tolerations"), detail);
    }
    company::changed_gates(old, new, &path, errors);
    let mut mended = new.clone();
    put_back(old, &mut mended);
    if !is_empty(get(old, "schedulingGates")) && company::is_narrowed(old, new) {
        put_back_fields(old, &mut mended, &["nodeSelector"]);
        let affinity = mended.as_object_mut().map(|spec| spec.entry("affinity").or_insert_with(|| json!({})));
        affinity.into_iter().for_each(|new| put_back_fields(get(old, "affinity"), new, &["nodeAffinity"]));
    }
    let mut changed = BTreeSet::new();
    differences(old, &mended, &path, &mut changed);
    if !changed.is_empty() {
        let fields = changed.into_iter().collect::<Vec<_>>().join(", ");
        errors.forbidden(&path, format!("{RULE}; changed here: {fields}"));
    }
}

/// A pod that has no node gets one; nothing else of its spec changes.
pub(crate) fn judge_binding(old: &Value, new: &Value, errors: &mut Errors) {
    pod_update(old, new, errors);
    let path = Path::new("spec").child("nodeName");
    let (old, new) = (get(old, "spec"), get(new, "spec"));
    if !is_empty(get(old, "nodeName")) {
        errors.forbidden(&path, "the pod has a node already");
    }
    if !is_empty(get(old, "schedulingGates")) {
        errors.forbidden(&path, "cannot be set until all schedulingGates have been cleared");
    }
    for message in formats::subdomain(text(new, "nodeName")) {
        errors.invalid(&path, text(new, "nodeName"), message);
    }
    let kept = |spec: &Value, other: &Value| {
        spec.as_object()
            .into_iter()
            .flatten()
            .all(|(field, value)| field == "nodeName" || get(other, field) == value)
    };
    if !(kept(old, new) && kept(new, old)) {
        errors.forbidden(&Path::new("spec"), "a binding may change nothing but `spec.nodeName`");
    }
}

/// The deadline may be set or come nearer, not vanish or go further.
fn deadline(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("activeDeadlineSeconds");
    let (old, new) = (get(old, "activeDeadlineSeconds").as_i64(), get(new, "activeDeadlineSeconds").as_i64());
    match (old, new) {
        (Some(before), Some(after)) if after > before => {
            errors.invalid(&path, after, "must be less than or equal to previous value");
        }
        (Some(_), None) => {
            errors.invalid(&path, Value::Null, "must not update from a positive integer to nil value");
        }
        _ => {}
    }
}

fn put_back_fields(old: &Value, new: &mut Value, fields: &[&str]) {
    let Some(map) = new.as_object_mut() else { return };
    for field in fields {
        match get(old, field) {
            Value::Null => map.remove(*field),
            value => map.insert((*field).to_owned(), value.clone()),
        };
    }
}

/// Undoes the changes that are allowed, so that what is left is not.
fn put_back(old: &Value, new: &mut Value) {
    put_back_fields(old, new, &["activeDeadlineSeconds", "tolerations", "schedulingGates"]);
    for list in ["initContainers", "containers"] {
        for (before, after) in items(old, list).iter().zip(items_mut(new, list)) {
            if let (Some(after), image) = (after.as_object_mut(), get(before, "image"))
                && !image.is_null()
            {
                after.insert("image".to_owned(), image.clone());
            }
        }
    }
}

/// The paths at which two values differ; what is empty equals what is absent.
fn differences(old: &Value, new: &Value, path: &Path, changed: &mut BTreeSet<String>) {
    match (old, new) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys()).collect::<BTreeSet<_>>() {
                differences(get(old, key), get(new, key), &path.child(key), changed);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(left, right, &path.index(index), changed);
            }
        }
        _ if old == new || (is_empty(old) && is_empty(new)) => {}
        _ => {
            changed.insert(path.to_string());
        }
    }
}

/// A change of a pod's addresses: endpoints are made of them.
fn pod_update(old: &Value, new: &Value, errors: &mut Errors) {
    let (old, new, path) = (get(old, "status"), get(new, "status"), Path::new("status"));
    for (one, all) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        if (get(old, one), get(old, all)) == (get(new, one), get(new, all)) {
            continue;
        }
        formed(new, one, &path, formats::endpoint_ip, errors);
        for (index, entry) in items(new, all).iter().enumerate() {
            formed(entry, "ip", &path.child(all).index(index), formats::endpoint_ip, errors);
        }
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "The number of ready containers of all containers."),
    column("Status", "string", "What the pod as a whole is doing."),
    column("Restarts", "string", "How often containers were restarted, and when last."),
    AGE,
    wide("IP", "The pod's address."),
    wide("Node", "The node that the pod is bound to."),
    wide("Nominated Node", "The node that is being freed for the pod."),
    wide("Readiness Gates", "The passed conditions of those that readiness needs."),
];

fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            let ago = human::duration(now.as_second() - last.as_second());
            format!("{} ({ago} ago)", summary.restarts)
        }
        _ => summary.restarts.to_string(),
    };
    let first_ip = items(pod, "status.podIPs").first().map_or("", |entry| text(entry, "ip"));
    let ip = if first_ip.is_empty() { text(pod, "status.podIP") } else { first_ip };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, items(pod, "spec.containers").len()).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(ip),
        or_none(text(pod, "spec.nodeName")),
        or_none(text(pod, "status.nominatedNodeName")),
        gates(pod),
    ]
}

fn gates(pod: &Value) -> Value {
    let gates = items(pod, "spec.readinessGates");
    let passed =
        gates.iter().filter(|gate| condition(get(pod, "status"), text(gate, "conditionType"))).count();
    if gates.is_empty() { "<none>".into() } else { format!("{passed}/{}", gates.len()).into() }
}
