//! The tables that `kubectl get` prints: columns and cells exactly as Kubernetes' own.

pub(crate) mod metrics;
pub(crate) mod pod;
pub(crate) mod service;
pub(crate) mod storage;
pub(crate) mod workload;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    human,
    json::{at, entries, int, items, text},
    kinds::Kind,
};

/// One column; serialises as a `columnDefinitions` entry of a `Table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Column<'c> {
    /// The heading, capitalised as Kubernetes does ("Cluster-IP").
    pub name: &'c str,
    /// "string", "integer", "boolean" or "date".
    #[serde(rename = "type")]
    pub kind: &'c str,
    /// "name" for the column of the object's name, else "".
    pub format: &'c str,
    /// What the cells say.
    pub description: &'c str,
    /// 0 is always shown, 1 only by `-o wide`.
    pub priority: i32,
}

/// What is printed of a kind that has no columns of its own.
/// What is printed of most kinds.
pub const NAME_AND_AGE: &[Column] = &[NAME, AGE];

/// The name, first in every row.
pub const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name must be unique within a namespace.",
    priority: 0,
};
/// How old an object is.
pub const AGE: Column = column("Age", "string", "The time since the object was created.");

/// A column that is always shown.
pub const fn column(name: &'static str, kind: &'static str, description: &'static str) -> Column<'static> {
    Column { name, kind, format: "", description, priority: 0 }
}

pub(crate) const fn wide(name: &'static str, description: &'static str) -> Column<'static> {
    Column { name, kind: "string", format: "", description, priority: 1 }
}

/// The columns of a kind.
pub fn columns(kind: &Kind) -> Vec<Column<'_>> {
    kind.columns()
}

/// The cells of one object, as many as there are columns.
pub fn row(kind: &Kind, value: &Value, now: Timestamp) -> Vec<Value> {
    kind.row(value, now)
}

/// The cells of a kind that has no columns of its own.
/// The row of [`NAME_AND_AGE`].
pub fn name_and_age(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), age(value, now)]
}

/// The cell of [`NAME`].
pub fn name(value: &Value) -> Value {
    text(value, "metadata.name").into()
}

/// The cell of [`AGE`].
pub fn age(value: &Value, now: Timestamp) -> Value {
    human::since(at(value, "metadata.creationTimestamp"), now).into()
}

/// A text, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// A map of labels as "a=b,c=d", or `<none>`.
pub(crate) fn labels(value: &Value, path: &str) -> Value {
    let pairs: Vec<String> =
        entries(value, path).map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    or_none(&pairs.join(","))
}

/// A label selector as kubectl writes it: "a=b,c in (x,y),!d", or `<none>`.
pub(crate) fn selector(selector: &Value) -> Value {
    let mut parts: Vec<(String, String)> = entries(selector, "matchLabels")
        .map(|(key, value)| (key.to_owned(), format!("{key}={}", value.as_str().unwrap_or(""))))
        .collect();
    for requirement in items(selector, "matchExpressions") {
        let key = text(requirement, "key");
        let mut values: Vec<&str> = items(requirement, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let part = match text(requirement, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key.to_owned(), part));
    }
    parts.sort();
    or_none(&parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(","))
}

/// One field of every item of a list, joined.
pub(crate) fn joined(value: &Value, list: &str, field: &str) -> String {
    items(value, list).iter().map(|item| text(item, field)).collect::<Vec<_>>().join(",")
}

/// A whole number, 0 when it is not said.
pub(crate) fn number(value: &Value, path: &str) -> i64 {
    int(value, path).unwrap_or(0)
}

/// Columns of what is in a pod template.
pub(crate) const CONTAINERS: Column = wide("Containers", "Names of each container in the template.");
pub(crate) const IMAGES: Column = wide("Images", "Images referenced by each container in the template.");
pub(crate) const SELECTOR: Column = wide("Selector", "The label selector of the pods.");

/// The cells under Containers and Images.
pub(crate) fn containers_and_images(template: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| joined(template, "spec.containers", field).into())
}

/// A moment as it is written, or `<unknown>`.
pub(crate) fn moment(value: &Value) -> Value {
    value.as_str().unwrap_or("<unknown>").into()
}

/// The first few of many: "a,b,c + 2 more...".
pub(crate) fn first_few(all: &[String], most: usize) -> String {
    let shown = all[..all.len().min(most)].join(",");
    if all.len() > most { format!("{shown} + {} more...", all.len() - most) } else { shown }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kinds::{self, KINDS};
    use serde_json::json;

    #[test]
    fn every_row_has_every_cell() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for kind in KINDS.iter() {
            for value in
                [json!({}), json!(null), json!([1]), json!({"spec": [], "status": 1, "metadata": "x"})]
            {
                assert_eq!(row(kind, &value, now).len(), columns(kind).len(), "{}", kind.resource);
            }
            let names = columns(kind).iter().filter(|column| column.format == "name").count();
            assert_eq!(names, 1, "{}", kind.resource);
        }
    }

    #[test]
    fn cells_have_the_type_of_their_column() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for kind in KINDS.iter() {
            for (column, cell) in columns(kind).iter().zip(row(kind, &json!({}), now)) {
                let fits = match column.kind {
                    "integer" => cell.is_i64() || cell.is_u64(),
                    "boolean" => cell.is_boolean(),
                    _ => cell.is_string(),
                };
                assert!(fits, "{} {}: {cell}", kind.resource, column.name);
            }
        }
    }

    #[test]
    fn columns_serialise_as_definitions() {
        let shown = serde_json::to_value(columns(kinds::of("pods").unwrap())[0]).unwrap();
        assert_eq!(
            (&shown["type"], &shown["format"], &shown["priority"]),
            (&json!("string"), &json!("name"), &json!(0))
        );
    }

    #[test]
    fn selectors_and_lists() {
        let value = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert_eq!(selector(&value), "a in (x,y),b=1,!c");
        assert_eq!(selector(&json!({})), "<none>");
        let all: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
        assert_eq!(first_few(&all, 3), "a,b,c + 1 more...");
        assert_eq!(first_few(&all[..2], 3), "a,b");
    }
}
