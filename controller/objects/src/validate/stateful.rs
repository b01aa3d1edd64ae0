//! The rules of StatefulSets.

use serde_json::{Value, json};

use super::{immutable, none_negative, not_negative, one_of_if_set, workload};
use crate::{
    field::{Errors, Path},
    json::{get, has, items, items_mut, text},
};

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

/// A StatefulSet.
pub(crate) fn stateful_set(value: &Value, errors: &mut Errors) {
    let spec = with_claims_as_volumes(get(value, "spec"));
    let path = Path::new("spec");
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
                workload::amount(rolling, "maxUnavailable", &path, errors);
            }
        }
        other => {
            errors.invalid(&path, other, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

/// Each claim is a volume of its name in every pod.
fn with_claims_as_volumes(spec: &Value) -> Value {
    let mut spec = spec.clone();
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
pub(crate) fn stateful_set_update(old: &Value, new: &Value, errors: &mut Errors) {
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
