//! The rules of what keeps pods running, and of pod templates.

use serde_json::{Value, json};

use crate::{
    field::{Errors, Path},
    json::{at, get, int, is_empty, text},
    validate::{formats, immutable, meta, not_negative, pod},
};

/// A change of either: the selector stays.
pub(crate) fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("spec").child("selector");
    immutable(at(old, "spec.selector"), at(new, "spec.selector"), &path, errors);
}

/// `names`: of the kind in messages about its selector, and about its pods.
pub(crate) fn replicas_selector_and_template(
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
pub(crate) fn selected(selector: &Value, spec: &Value, path: &Path, errors: &mut Errors) {
    let labels = at(spec, "template.metadata.labels");
    if !is_empty(selector) && !meta::selects(selector, labels) {
        let shown = if labels.is_null() { json!({}) } else { labels.clone() };
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&path.child("template").child("metadata").child("labels"), shown, detail);
    }
}

/// A pod template.
pub(crate) fn template(template: &Value, path: &Path, errors: &mut Errors) {
    meta::labels_and_annotations(get(template, "metadata"), &path.child("metadata"), errors);
    pod::spec(get(template, "spec"), &path.child("spec"), errors);
}

/// Pods that are replaced when they end have no end of their own.
pub(crate) fn runs_for_ever(spec: &Value, path: &Path, kind: &str, errors: &mut Errors) {
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

pub(crate) fn strategy(strategy: &Value, path: &Path, errors: &mut Errors) {
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
            not_more_than_all(rolling, "maxUnavailable", &path, errors);
        }
        "" => errors.required(&path.child("type"), ""),
        other => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

/// A percentage of what there is at most.
pub(crate) fn not_more_than_all(rolling: &Value, field: &str, path: &Path, errors: &mut Errors) {
    let percent = text(rolling, field);
    if formats::percent(percent).is_empty() && percent.trim_end_matches('%').parse().unwrap_or(i64::MAX) > 100
    {
        errors.invalid(&path.child(field), percent, "must not be greater than 100%");
    }
}

/// A number of pods or a percentage; its number when it is well formed.
pub(crate) fn amount(rolling: &Value, field: &str, path: &Path, errors: &mut Errors) -> Option<i64> {
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
