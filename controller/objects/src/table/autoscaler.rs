//! The table of HorizontalPodAutoscalers.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, name, number};
use crate::json::{at, get, int, items, text};

pub(crate) const COLUMNS: &[Column] = &[
    NAME,
    column("Reference", "string", "What is scaled."),
    column("Targets", "string", "Each metric as it is, and as it should be."),
    column("MinPods", "string", "The fewest pods."),
    column("MaxPods", "integer", "The most pods."),
    column("Replicas", "integer", "The number of pods now."),
    AGE,
];

/// The cells of a HorizontalPodAutoscaler.
pub(crate) fn row(value: &Value, now: Timestamp) -> Vec<Value> {
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
        .map(|(index, metric)| self::metric(metric, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    let shown = shown.join(", ");
    if wanted.len() > 2 { format!("{shown} + {} more...", wanted.len() - 2) } else { shown }
}

fn metric(wanted: &Value, now: &Value) -> String {
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
