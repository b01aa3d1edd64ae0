//! The rules of ResourceQuotas and LimitRanges.

use std::{cmp::Ordering, collections::BTreeSet};

use serde_json::Value;

use super::{container, formats, immutable, required_text};
use crate::{
    field::{Errors, Path},
    json::{entries, get, is_empty, items, text},
    quantity as quantities,
};

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

/// A ResourceQuota.
pub(crate) fn resource_quota(value: &Value, errors: &mut Errors) {
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
pub(crate) fn resource_quota_update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (before, after) = (get(get(old, "spec"), "scopes"), get(get(new, "spec"), "scopes"));
    immutable(before, after, &path.child("scopes"), errors);
}

/// A LimitRange.
pub(crate) fn limit_range(value: &Value, errors: &mut Errors) {
    let mut types = BTreeSet::new();
    for (index, item) in items(get(value, "spec"), "limits").iter().enumerate() {
        let path = Path::new("spec").child("limits").index(index);
        let kind = text(item, "type");
        required_text(item, "type", &path, errors);
        if !kind.is_empty() && !types.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        limits(item, kind, &path, errors);
    }
}

fn limits(item: &Value, kind: &str, path: &Path, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        for (name, quantity) in entries(item, list) {
            container::quantity(quantity, &path.child(list).key(name), errors);
            names.insert(name);
        }
    }
    if kind == "Pod" {
        for list in ["default", "defaultRequest"].iter().filter(|list| !is_empty(get(item, list))) {
            errors.forbidden(&path.child(list), "may not be specified when `type` is 'Pod'");
        }
    }
    if kind == "PersistentVolumeClaim"
        && ["min", "max"].iter().all(|list| is_empty(get(get(item, list), "storage")))
    {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.required(&path.child("limits"), detail);
    }
    for name in names {
        in_order(item, name, path, errors);
    }
}

/// The least, what is given by default, and the most of one resource.
fn in_order(item: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let words =
        [("min", "min"), ("defaultRequest", "default request"), ("default", "default"), ("max", "max")];
    for (position, (low, low_word)) in words.iter().enumerate() {
        for (high, high_word) in &words[position + 1..] {
            let (left, right) = (text(get(item, low), name), text(get(item, high), name));
            if left.is_empty()
                || right.is_empty()
                || quantities::compare(left, right) != Ok(Ordering::Greater)
            {
                continue;
            }
            let detail = format!("{low_word} value {left} is greater than {high_word} value {right}");
            errors.invalid(&path.child(low).key(name), left, detail);
        }
    }
}
