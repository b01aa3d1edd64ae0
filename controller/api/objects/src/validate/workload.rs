//! The rules of Deployments and ReplicaSets.

use serde_json::Value;

use super::{formats, immutable, meta, not_negative, pod};
use crate::{
    field::{Errors, Path},
    json::{at, get, int, is_empty, text},
};

/// A Deployment.
pub(crate) fn deployment(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    replicas_selector_and_template(spec, &path, "deployment", errors);
    strategy(get(spec, "strategy"), &path.child("strategy"), errors);
    not_negative(spec, "revisionHistoryLimit", &path, errors);
    not_negative(spec, "progressDeadlineSeconds", &path, errors);
    let ready = int(spec, "minReadySeconds").unwrap_or(0);
    if let Some(deadline) = int(spec, "progressDeadlineSeconds").filter(|deadline| *deadline <= ready) {
        errors.invalid(
            &path.child("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        );
    }
}

/// A ReplicaSet.
pub(crate) fn replica_set(value: &Value, errors: &mut Errors) {
    replicas_selector_and_template(get(value, "spec"), &Path::new("spec"), "ReplicaSet", errors);
}

/// A change of either: the selector stays.
pub(crate) fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("selector");
    immutable(at(old, "spec.selector"), at(new, "spec.selector"), &path, errors);
}

fn replicas_selector_and_template(spec: &Value, path: &Path, kind: &str, errors: &mut Errors) {
    not_negative(spec, "replicas", path, errors);
    not_negative(spec, "minReadySeconds", path, errors);
    let selector = get(spec, "selector");
    if selector.is_null() {
        errors.required(&path.child("selector"), "");
    } else {
        meta::selector(selector, &path.child("selector"), errors);
        if is_empty(get(selector, "matchLabels")) && is_empty(get(selector, "matchExpressions")) {
            let detail = format!("empty selector is invalid for {kind}");
            errors.invalid(&path.child("selector"), selector.clone(), detail);
        }
    }
    template(spec, path, errors);
}

fn template(spec: &Value, path: &Path, errors: &mut Errors) {
    let (template, path) = (get(spec, "template"), path.child("template"));
    let (metadata, selector) = (get(template, "metadata"), get(spec, "selector"));
    let labels = get(metadata, "labels");
    if !is_empty(selector) && !meta::selects(selector, labels) {
        let shown = if labels.is_null() { Value::Object(serde_json::Map::new()) } else { labels.clone() };
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&path.child("metadata").child("labels"), shown, detail);
    }
    meta::labels_and_annotations(metadata, &path.child("metadata"), errors);
    let (pod_spec, path) = (get(template, "spec"), path.child("spec"));
    pod::spec(pod_spec, &path, errors);
    let policy = text(pod_spec, "restartPolicy");
    if ["OnFailure", "Never"].contains(&policy) {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if int(pod_spec, "activeDeadlineSeconds").is_some() {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        errors.forbidden(&path.child("activeDeadlineSeconds"), detail);
    }
}

fn strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
    let rolling = get(strategy, "rollingUpdate");
    match text(strategy, "type") {
        "Recreate" => {
            if !rolling.is_null() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.forbidden(&path.child("rollingUpdate"), detail);
            }
        }
        "RollingUpdate" => {
            let path = path.child("rollingUpdate");
            let surge = amount(rolling, "maxSurge", &path, errors);
            let unavailable = amount(rolling, "maxUnavailable", &path, errors);
            if (surge, unavailable) == (Some(0), Some(0)) {
                let shown = get(rolling, "maxUnavailable").clone();
                errors.invalid(&path.child("maxUnavailable"), shown, "may not be 0 when `maxSurge` is 0");
            }
            let percent = text(rolling, "maxUnavailable");
            if percent.ends_with('%') && unavailable.is_some_and(|percent| percent > 100) {
                errors.invalid(&path.child("maxUnavailable"), percent, "must not be greater than 100%");
            }
        }
        "" => errors.required(&path.child("type"), ""),
        other => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

/// A number of pods or a percentage; its number when it is well formed.
fn amount(rolling: &Value, field: &str, path: &Path, errors: &mut Errors) -> Option<i64> {
    let path = path.child(field);
    match get(rolling, field) {
        Value::String(text) => {
            let faults = formats::percent(text);
            for message in &faults {
                errors.invalid(&path, text.as_str(), message.as_str());
            }
            faults.is_empty().then(|| text.trim_end_matches('%').parse().unwrap_or(i64::MAX))
        }
        value => {
            let number = value.as_i64()?;
            if number < 0 {
                errors.invalid(&path, number, "must be greater than or equal to 0");
            }
            Some(number)
        }
    }
}
