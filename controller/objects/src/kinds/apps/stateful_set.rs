//! StatefulSet: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    defaults::{storage, workload::fill_template},
    field::{Errors, Path},
    json::{at, default_to, ensure_map, get, has, items, items_mut, text},
    kinds::{ALL, Entry, PLAIN, SCALE, STATUS},
    table::{AGE, CONTAINERS, Column, IMAGES, NAME, age, column, containers_and_images, name, number},
    validate::{
        NameRule, formats, formed, immutable, none_negative, not_negative, one_of_if_set,
        storage as storage_rules, workload,
    },
};

pub(crate) const ENTRY: Entry = Entry {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    short_names: &["sts"],
    categories: ALL,
    subresources: &[SCALE, STATUS],
    counters: &["availableReplicas", "replicas"],
    has_generation: true,
    name: NameRule::Label,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", 10);
    default_to(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = ensure_map(spec, "updateStrategy") {
        default_to(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = ensure_map(strategy, "rollingUpdate")
        {
            default_to(rolling, "partition", 0);
        }
    }
    if let Some(retention) = ensure_map(spec, "persistentVolumeClaimRetentionPolicy") {
        default_to(retention, "whenDeleted", "Retain");
        default_to(retention, "whenScaled", "Retain");
    }
    items_mut(spec, "volumeClaimTemplates").for_each(|claim| {
        default_to(claim, "apiVersion", "v1");
        default_to(claim, "kind", "PersistentVolumeClaim");
        storage::claim(claim);
    });
    fill_template(spec);
}

/// What may change in a StatefulSet's spec.
const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

const RULE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
    'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

fn validate(value: &Value, errors: &mut Errors) {
    let spec = as_in_pods(get(value, "spec"));
    let path = Path::new("spec");
    formed(&spec, "serviceName", &path, formats::label, errors);
    for (index, claim) in items(&spec, "volumeClaimTemplates").iter().enumerate() {
        let path = path.child("volumeClaimTemplates").index(index).child("spec");
        storage_rules::claim(get(claim, "spec"), &path, errors);
    }
    management(&spec, &path, errors);
    let retention = get(&spec, "persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        one_of_if_set(retention, field, &path, &["Delete", "Retain"], errors);
    }
    none_negative(&spec, &["revisionHistoryLimit"], &path, errors);
    not_negative(get(&spec, "ordinals"), "start", &path.child("ordinals"), errors);
    workload::replicas_selector_and_template(&spec, &path, ("statefulset", "StatefulSet"), errors);
}

fn management(spec: &Value, path: &Path, errors: &mut Errors) {
    match text(spec, "podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.required(&path.child("podManagementPolicy"), ""),
        other => {
            errors.invalid(&path.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'")
        }
    }
    let (strategy, path) = (get(spec, "updateStrategy"), path.child("updateStrategy"));
    let rolling = get(strategy, "rollingUpdate");
    match text(strategy, "type") {
        "" => errors.required(&path, ""),
        "OnDelete" => {
            if !rolling.is_null() {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid(&path.child("rollingUpdate"), rolling.clone(), detail);
            }
        }
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            not_negative(rolling, "partition", &path, errors);
            if has(rolling, "maxUnavailable") {
                if workload::amount(rolling, "maxUnavailable", &path, errors) == Some(0) {
                    let shown = get(rolling, "maxUnavailable").clone();
                    errors.invalid(&path.child("maxUnavailable"), shown, "cannot be 0");
                }
                workload::not_more_than_all(rolling, "maxUnavailable", &path, errors);
            }
        }
        other => {
            errors.invalid(&path, other, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

/// The template as it is in pods: each has a name for host and subdomain, and each claim is a volume of its name.
fn as_in_pods(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let pod = spec.get_mut("template").and_then(|template| template.get_mut("spec"));
    if let Some(pod) = pod.and_then(Value::as_object_mut) {
        pod.retain(|field, _| !["hostname", "subdomain"].contains(&field.as_str()));
    }
    let claims: Vec<Value> = items(&spec, "volumeClaimTemplates")
        .iter()
        .map(|claim| json!(text(claim, "metadata.name")))
        .collect();
    if claims.is_empty() {
        return spec;
    }
    let pod = spec.get_mut("template").and_then(|template| template.get_mut("spec"));
    if let Some(pod) = pod.and_then(Value::as_object_mut) {
        let volumes = pod.entry("volumes").or_insert_with(|| json!([]));
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.retain(|volume| !claims.contains(get(volume, "name")));
            volumes.extend(claims.into_iter().map(|name| json!({"name": name, "emptyDir": {}})));
        }
    }
    spec
}

/// A change of a StatefulSet: what its pods and claims are called and found by stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let fixed = |value: &Value| {
        let mut spec = get(value, "spec").clone();
        // Statuses and versions of claims come and go with what made the object.
        items_mut(&mut spec, "volumeClaimTemplates").for_each(|claim| {
            if let Some(claim) = claim.as_object_mut() {
                claim.retain(|field, _| ["metadata", "spec"].contains(&field.as_str()));
            }
        });
        if let Some(spec) = spec.as_object_mut() {
            spec.retain(|field, _| !MUTABLE.contains(&field.as_str()));
        }
        spec
    };
    let mut changed = Errors::default();
    immutable(&fixed(old), &fixed(new), &Path::new("spec"), &mut changed);
    if !changed.0.is_empty() {
        errors.forbidden(&Path::new("spec"), RULE);
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "Number of the pods with ready state, of the desired ones."),
    AGE,
    CONTAINERS,
    IMAGES,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!("{}/{}", number(value, "status.readyReplicas"), number(value, "spec.replicas"));
    let mut cells = vec![name(value), ready.into(), age(value, now)];
    cells.extend(containers_and_images(at(value, "spec.template")));
    cells
}
