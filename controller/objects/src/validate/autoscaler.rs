//! The rules of HorizontalPodAutoscalers.

use serde_json::Value;

use super::{in_range, one_of, one_of_if_set, required_text};
use crate::{
    field::{Errors, Path},
    json::{get, has, int, items, text},
    quantity as quantities,
};

/// What metrics are about, and the field that says more.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

/// A HorizontalPodAutoscaler.
pub(crate) fn autoscaler(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    let (least, most) = (int(spec, "minReplicas"), int(spec, "maxReplicas").unwrap_or(0));
    if let Some(least) = least.filter(|least| *least < 1) {
        errors.invalid(&path.child("minReplicas"), least, "must be greater than or equal to 1");
    }
    if most < 1 {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than 0");
    } else if least.is_some_and(|least| most < least) {
        errors.invalid(&path.child("maxReplicas"), most, "must be greater than or equal to `minReplicas`");
    }
    let target = path.child("scaleTargetRef");
    for field in ["kind", "name"] {
        required_text(get(spec, "scaleTargetRef"), field, &target, errors);
    }
    for (index, metric) in items(spec, "metrics").iter().enumerate() {
        self::metric(metric, &path.child("metrics").index(index), errors);
    }
    let path = path.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if has(get(spec, "behavior"), direction) {
            rules(get(get(spec, "behavior"), direction), &path.child(direction), errors);
        }
    }
}

fn metric(metric: &Value, path: &Path, errors: &mut Errors) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        return errors.required(&path.child("type"), "must specify a metric source type");
    }
    let Some((_, field)) = SOURCES.iter().find(|(name, _)| *name == kind) else {
        return errors.not_supported(&path.child("type"), kind, &SOURCES.map(|(name, _)| name));
    };
    for (_, other) in SOURCES.iter().filter(|(_, other)| other != field && has(metric, other)) {
        errors.forbidden(&path.child(other), format!("must populate the given metric source only: {field}"));
    }
    if !has(metric, field) {
        return errors.required(&path.child(field), "must populate information for the given metric source");
    }
    let (source, path) = (get(metric, field), path.child(field));
    match *field {
        "resource" | "containerResource" => {
            if text(source, "name").is_empty() {
                errors.required(&path.child("name"), "must specify a resource name");
            }
            if *field == "containerResource" {
                required_text(source, "container", &path, errors);
            }
        }
        _ => {
            required_text(get(source, "metric"), "name", &path.child("metric"), errors);
        }
    }
    self::target(get(source, "target"), field, &path.child("target"), errors);
}

fn target(target: &Value, source: &str, path: &Path, errors: &mut Errors) {
    let kind = text(target, "type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    } else {
        one_of(target, "type", path, &["AverageValue", "Utilization", "Value"], errors);
    }
    let utilization = int(target, "averageUtilization");
    if let Some(percent) = utilization.filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
    for field in ["value", "averageValue"] {
        let amount = get(target, field);
        let spelling = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        if !amount.is_null() && !quantities::parse(&spelling).is_ok_and(|milli| milli > 0) {
            errors.invalid(&path.child(field), spelling, "must be positive");
        }
    }
    let average = has(target, "averageValue");
    if source == "resource" || source == "containerResource" {
        match (utilization.is_some(), average) {
            (false, false) => {
                let detail = "must set either a target raw value or a target utilization";
                errors.required(&path.child("averageUtilization"), detail);
            }
            (true, true) => {
                let detail = "may not set both a target raw value and a target utilization";
                errors.forbidden(&path.child("averageValue"), detail);
            }
            _ => {}
        }
    } else if source == "pods" && !average {
        errors.required(&path.child("averageValue"), "must specify a positive target averageValue");
    } else if source != "pods" && !average && !has(target, "value") {
        errors.required(&path.child("averageValue"), "must set either a target value or averageValue");
    }
}

fn rules(rules: &Value, path: &Path, errors: &mut Errors) {
    one_of_if_set(rules, "selectPolicy", path, &["Disabled", "Max", "Min"], errors);
    in_range(rules, "stabilizationWindowSeconds", path, (0, 3600), errors);
    let path = path.child("policies");
    if items(rules, "policies").is_empty() {
        errors.required(&path, "must specify at least one Policy");
    }
    for (index, policy) in items(rules, "policies").iter().enumerate() {
        let path = path.index(index);
        one_of(policy, "type", &path, &["Percent", "Pods"], errors);
        for field in ["value", "periodSeconds"] {
            let number = int(policy, field).unwrap_or(0);
            if number <= 0 {
                errors.invalid(&path.child(field), number, "must be greater than zero");
            }
        }
        if let Some(period) = int(policy, "periodSeconds").filter(|period| *period > 1800) {
            errors.invalid(&path.child("periodSeconds"), period, "must be less than or equal to 1800");
        }
    }
}
