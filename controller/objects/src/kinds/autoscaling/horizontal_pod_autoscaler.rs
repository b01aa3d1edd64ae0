//! HorizontalPodAutoscaler: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    conversions,
    field::{Errors, Path},
    json::{at, default_to, ensure_map, get, has, int, is_empty, items, text},
    kinds::{ALL, Conversion, Entry, PLAIN, STATUS, Source},
    quantity as quantities,
    table::{AGE, Column, NAME, age, column, name, number},
    validate::{in_range, one_of, one_of_if_set, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    short_names: &["hpa"],
    categories: ALL,
    subresources: &[STATUS],
    counters: &["currentReplicas", "desiredReplicas"],
    defaults,
    validate,
    columns: COLUMNS,
    row,
    ..PLAIN
};

// What `kubectl autoscale` writes.
pub(crate) const V1: Entry = Entry {
    version: "v1",
    source: Source::Converted(Conversion {
        show: conversions::autoscaler_v1,
        store: Some(conversions::autoscaler_from_v1),
    }),
    ..ENTRY
};

/// A HorizontalPodAutoscaler. Its behaviour is filled in only when some of it is given.
fn defaults(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "minReplicas", 1);
    if is_empty(get(spec, "metrics")) {
        spec["metrics"] = json!([{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|behavior| behavior.is_object()) else { return };
    if let Some(up) = ensure_map(behavior, "scaleUp") {
        default_to(up, "stabilizationWindowSeconds", 0);
        default_to(up, "selectPolicy", "Max");
        default_to(up, "policies", json!([policy("Pods", 4), policy("Percent", 100)]));
    }
    if let Some(down) = ensure_map(behavior, "scaleDown") {
        default_to(down, "selectPolicy", "Max");
        default_to(down, "policies", json!([policy("Percent", 100)]));
    }
}

fn policy(kind: &str, value: i64) -> Value {
    json!({"type": kind, "value": value, "periodSeconds": 15})
}

/// What metrics are about, and the field that says more.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];

fn validate(value: &Value, errors: &mut Errors) {
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
    let tolerance = text(rules, "tolerance");
    if has(rules, "tolerance") && !quantities::parse(tolerance).is_ok_and(|milli| milli >= 0) {
        errors.invalid(&path.child("tolerance"), tolerance, "must be greater than or equal to 0");
    }
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

const COLUMNS: &[Column] = &[
    NAME,
    column("Reference", "string", "What is scaled."),
    column("Targets", "string", "Each metric as it is, and as it should be."),
    column("MinPods", "string", "The fewest pods."),
    column("MaxPods", "integer", "The most pods."),
    column("Replicas", "integer", "The number of pods now."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let target = at(value, "spec.scaleTargetRef");
    let least =
        int(value, "spec.minReplicas").map_or_else(|| "<unset>".to_owned(), |least| least.to_string());
    vec![
        name(value),
        format!("{}/{}", text(target, "kind"), text(target, "name")).into(),
        targets(value).into(),
        least.into(),
        number(value, "spec.maxReplicas").into(),
        number(value, "status.currentReplicas").into(),
        age(value, now),
    ]
}

/// The first two metrics, and how many more there are.
fn targets(value: &Value) -> String {
    let (wanted, current) = (items(value, "spec.metrics"), items(value, "status.currentMetrics"));
    if wanted.is_empty() {
        return "<none>".to_owned();
    }
    let shown: Vec<String> = wanted
        .iter()
        .enumerate()
        .take(2)
        .map(|(index, metric)| shown_metric(metric, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    let shown = shown.join(", ");
    if wanted.len() > 2 { format!("{shown} + {} more...", wanted.len() - 2) } else { shown }
}

fn shown_metric(wanted: &Value, now: &Value) -> String {
    let field = match text(wanted, "type") {
        "ContainerResource" => "containerResource",
        "External" => "external",
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        _ => return "<unknown type>".to_owned(),
    };
    let (source, now) = (get(wanted, field), get(get(now, field), "current"));
    let target = get(source, "target");
    let known = |amount: &Value| match amount {
        Value::Null => "<unknown>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let resource = field == "resource" || field == "containerResource";
    let amounts = match get(target, "averageValue") {
        Value::Null if resource => {
            let percent = |amount: &Value, absent: &str| {
                amount.as_i64().map_or_else(|| absent.to_owned(), |percent| format!("{percent}%"))
            };
            let field = "averageUtilization";
            format!("{}/{}", percent(get(now, field), "<unknown>"), percent(get(target, field), "<auto>"))
        }
        Value::Null => format!("{}/{}", known(get(now, "value")), known(get(target, "value"))),
        average => {
            let unit = if ["external", "object"].contains(&field) { " (avg)" } else { "" };
            format!("{}/{}{unit}", known(get(now, "averageValue")), known(average))
        }
    };
    if resource { format!("{}: {amounts}", text(source, "name")) } else { amounts }
}
