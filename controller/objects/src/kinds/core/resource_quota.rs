//! ResourceQuota: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    defaults::pod::numbers_to_quantities,
    field::{Errors, Path},
    json::{at, entries, get, items, text},
    kinds::{Entry, PLAIN, STATUS},
    quantity as quantities,
    table::{AGE, Column, NAME, age, column, name},
    validate::{container, formats, immutable},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    short_names: &["quota"],
    subresources: &[STATUS],
    returns_deleted: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    for (part, list) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
        if let Some(quantities) = value.get_mut(part).and_then(|part| part.get_mut(list)) {
            numbers_to_quantities(quantities);
        }
    }
}

/// What a quota may limit by a plain name.
const QUOTA_RESOURCES: [&str; 18] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
];

const BALANCERS: &str = "services.loadbalancers";

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    for (name, quantity) in entries(spec, "hard") {
        let path = path.child("hard").key(name);
        quota_resource(name, &path, errors);
        container::quantity(quantity, &path, errors);
        let milli = quantities::parse(quantity.as_str().unwrap_or("0")).unwrap_or(0);
        if counts(name) && milli % 1000 != 0 {
            errors.invalid(&path, quantity.clone(), "must be an integer");
        }
    }
    for (index, scope) in items(spec, "scopes").iter().enumerate() {
        let scope = scope.as_str().unwrap_or("");
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopes").index(index), scope, "unsupported scope");
        }
    }
    let selectors = items(get(spec, "scopeSelector"), "matchExpressions");
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.child("scopeSelector").child("matchExpressions").index(index);
        scope_selector(selector, &path, errors);
    }
}

fn scope_selector(selector: &Value, path: &Path, errors: &mut Errors) {
    let (scope, operator) = (text(selector, "scopeName"), text(selector, "operator"));
    let is_empty = items(selector, "values").is_empty();
    if !SCOPES.contains(&scope) {
        errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
    }
    if !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && operator != "Exists" {
        errors.invalid(&path.child("operator"), operator, "must be 'Exists' for this scope");
        return;
    }
    match operator {
        "In" | "NotIn" if is_empty => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.required(&path.child("values"), detail);
        }
        "Exists" | "DoesNotExist" if !is_empty => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.invalid(&path.child("values"), get(selector, "values").clone(), detail);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
}

fn quota_resource(name: &str, path: &Path, errors: &mut Errors) {
    for message in formats::qualified_name(name) {
        errors.invalid(path, name, message);
    }
    let plain = !name.contains('/');
    let known = QUOTA_RESOURCES.contains(&name) || name == BALANCERS;
    if plain && !known && !name.starts_with("hugepages-") && !name.starts_with("requests.hugepages-") {
        errors.invalid(path, name, "must be a standard resource for quota");
    }
}

/// Whether the resource is counted in whole objects.
fn counts(name: &str) -> bool {
    let measured = ["cpu", "memory", "storage"];
    let last = name.rsplit('.').next().unwrap_or(name);
    name.starts_with("count/") || (!name.contains('/') && !measured.iter().any(|unit| last.ends_with(unit)))
}

/// A change of a ResourceQuota: its scopes stay.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (before, after) = (get(get(old, "spec"), "scopes"), get(get(new, "spec"), "scopes"));
    immutable(before, after, &path.child("scopes"), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Request", "string", "What is used and allowed of requests and objects."),
    column("Limit", "string", "What is used and allowed of limits."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    let mut hard: Vec<(&str, &Value)> = entries(value, "status.hard").collect();
    hard.sort_by_key(|(resource, _)| *resource);
    for (resource, amount) in hard {
        let used = get(at(value, "status.used"), resource).as_str().unwrap_or("0");
        let shown = format!("{resource}: {used}/{}", amount.as_str().unwrap_or("0"));
        if resource.starts_with("limits.") { limits.push(shown) } else { requests.push(shown) }
    }
    vec![name(value), requests.join(", ").into(), limits.join(", ").into(), age(value, now)]
}
