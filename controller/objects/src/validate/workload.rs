//! The rules of what keeps pods running, and of pod templates.

use serde_json::{Value, json};

use super::{formats, immutable, meta, not_negative, pod};
use crate::{
    field::{Errors, Path},
    json::{at, get, has, int, is_empty, text},
};

/// A Deployment.
pub(crate) fn deployment(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    replicas_selector_and_template(spec, &path, ("deployment", "ReplicaSet"), errors);
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
    replicas_selector_and_template(
        get(value, "spec"),
        &Path::new("spec"),
        ("ReplicaSet", "ReplicaSet"),
        errors,
    );
}

/// A change of either: the selector stays.
pub(crate) fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("selector");
    immutable(at(old, "spec.selector"), at(new, "spec.selector"), &path, errors);
}

/// A DaemonSet.
pub(crate) fn daemon_set(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    replicas_selector_and_template(spec, &path, ("daemonset", "DaemonSet"), errors);
    not_negative(spec, "revisionHistoryLimit", &path, errors);
    let (strategy, path) = (get(spec, "updateStrategy"), path.child("updateStrategy"));
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (rolling, path) = (get(strategy, "rollingUpdate"), path.child("rollingUpdate"));
            let unavailable = amount(rolling, "maxUnavailable", &path, errors);
            let surge = amount(rolling, "maxSurge", &path, errors);
            let set = |amount: Option<i64>| amount.is_some_and(|amount| amount != 0);
            match (set(unavailable), set(surge)) {
                (false, false) => {
                    let shown = get(rolling, "maxUnavailable").clone();
                    errors.invalid(&path.child("maxUnavailable"), shown, "cannot be 0 when maxSurge is 0");
                }
                (true, true) => {
                    let shown = get(rolling, "maxSurge").clone();
                    errors.invalid(
                        &path.child("maxSurge"),
                        shown,
                        "may not be set when maxUnavailable is non-zero",
                    );
                }
                _ => {}
            }
        }
        other => errors.not_supported(&path.child("type"), other, &["RollingUpdate", "OnDelete"]),
    }
}

/// A ReplicationController, whose selector is a map of labels.
pub(crate) fn replication_controller(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    not_negative(spec, "replicas", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    let selector = get(spec, "selector");
    if is_empty(selector) {
        errors.required(&path.child("selector"), "");
    }
    meta::labels(selector, &path.child("selector"), errors);
    selected(&json!({"matchLabels": selector}), spec, &path, errors);
    template(get(spec, "template"), &path.child("template"), errors);
    runs_for_ever(spec, &path, "ReplicationController", errors);
}

/// A PodTemplate.
pub(crate) fn pod_template(value: &Value, errors: &mut Errors) {
    template(get(value, "template"), &Path::new("template"), errors);
}

/// A ControllerRevision.
pub(crate) fn controller_revision(value: &Value, errors: &mut Errors) {
    if !has(value, "data") {
        errors.required(&Path::new("data"), "data is mandatory");
    }
    not_negative(value, "revision", &Path::default(), errors);
}

/// A change of a ControllerRevision: its data stays.
pub(crate) fn controller_revision_update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "data"), get(new, "data"), &Path::new("data"), errors);
}

/// `names`: of the kind in messages about its selector, and about its pods.
pub(super) fn replicas_selector_and_template(
    spec: &Value,
    path: &Path,
    names: (&str, &str),
    errors: &mut Errors,
) {
    not_negative(spec, "replicas", path, errors);
    not_negative(spec, "minReadySeconds", path, errors);
    let selector = get(spec, "selector");
    if selector.is_null() {
        errors.required(&path.child("selector"), "");
    } else {
        meta::selector(selector, &path.child("selector"), errors);
        if is_empty(get(selector, "matchLabels")) && is_empty(get(selector, "matchExpressions")) {
            let detail = format!("empty selector is invalid for {}", names.0);
            errors.invalid(&path.child("selector"), selector.clone(), detail);
        }
    }
    selected(selector, spec, path, errors);
    template(get(spec, "template"), &path.child("template"), errors);
    runs_for_ever(spec, path, names.1, errors);
}

/// The selector must choose the pods of the template.
pub(super) fn selected(selector: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let labels = at(spec, "template.metadata.labels");
    if !is_empty(selector) && !meta::selects(selector, labels) {
        let shown = if labels.is_null() { json!({}) } else { labels.clone() };
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&path.child("template").child("metadata").child("labels"), shown, detail);
    }
}

/// A pod template.
pub(super) fn template(template: &Value, path: &Path, errors: &mut Errors) {
    meta::labels_and_annotations(get(template, "metadata"), &path.child("metadata"), errors);
    pod::spec(get(template, "spec"), &path.child("spec"), errors);
}

/// Pods that are replaced when they end have no end of their own.
pub(super) fn runs_for_ever(spec: &Value, path: &Path, kind: &str, errors: &mut Errors) {
    let (pod_spec, path) = (at(spec, "template.spec"), path.child("template").child("spec"));
    let policy = text(pod_spec, "restartPolicy");
    if ["OnFailure", "Never"].contains(&policy) {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if int(pod_spec, "activeDeadlineSeconds").is_some() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
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
pub(super) fn amount(rolling: &Value, field: &str, path: &Path, errors: &mut Errors) -> Option<i64> {
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
