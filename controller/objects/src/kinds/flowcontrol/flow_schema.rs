//! FlowSchema: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use super::FLOW_CONTROL;
use crate::{
    field::{Errors, Path},
    json::{default_number, ensure_map, get, has, int, items, text},
    kinds::Entry,
    table::{AGE, Column, NAME, age, column, name, number, or_none},
    validate::{formats, formed, in_range, one_of, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "FlowSchema",
    plural: "flowschemas",
    idle: "warren does not share the API by FlowSchemas yet: the object is only kept",
    defaults,
    validate,
    columns: COLUMNS,
    row,
    ..FLOW_CONTROL
};

/// How late a schema is asked that does not say.
const PRECEDENCE: i64 = 1_000;
const LAST: i64 = 10_000;

fn defaults(value: &mut Value) {
    if let Some(spec) = ensure_map(value, "spec") {
        if int(spec, "matchingPrecedence") == Some(0) {
            spec["matchingPrecedence"] = PRECEDENCE.into();
        }
        default_number(spec, "matchingPrecedence", PRECEDENCE);
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    in_range(spec, "matchingPrecedence", &path, (1, LAST), errors);
    let (level, below) = (get(spec, "priorityLevelConfiguration"), path.child("priorityLevelConfiguration"));
    if required_text(level, "name", &below, errors) {
        formed(level, "name", &below, formats::subdomain, errors);
    }
    if has(spec, "distinguisherMethod") {
        let below = path.child("distinguisherMethod");
        one_of(get(spec, "distinguisherMethod"), "type", &below, &["ByNamespace", "ByUser"], errors);
    }
    for (index, rule) in items(spec, "rules").iter().enumerate() {
        validate_rule(rule, &path.child("rules").index(index), errors);
    }
}

fn validate_rule(rule: &Value, path: &Path, errors: &mut Errors) {
    if items(rule, "subjects").is_empty() {
        errors.required(&path.child("subjects"), "subjects must contain at least one value");
    }
    if items(rule, "resourceRules").is_empty() && items(rule, "nonResourceRules").is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (index, subject) in items(rule, "subjects").iter().enumerate() {
        validate_subject(subject, &path.child("subjects").index(index), errors);
    }
    for (list, fields) in [
        ("resourceRules", &["verbs", "apiGroups", "resources"][..]),
        ("nonResourceRules", &["verbs", "nonResourceURLs"]),
    ] {
        for (index, rule) in items(rule, list).iter().enumerate() {
            for field in fields.iter().filter(|field| items(rule, field).is_empty()) {
                let path = path.child(list).index(index).child(field);
                errors.required(&path, format!("{field} must contain at least one value"));
            }
        }
    }
}

/// Of a subject, the field that its kind names is given, and no other.
fn validate_subject(subject: &Value, path: &Path, errors: &mut Errors) {
    const KINDS: [(&str, &str); 3] =
        [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")];
    one_of(subject, "kind", path, &["Group", "ServiceAccount", "User"], errors);
    let kind = text(subject, "kind");
    for (of, field) in KINDS {
        if of == kind && !has(subject, field) {
            errors.required(&path.child(field), format!("{field} is required when subject kind is '{of}'"));
        } else if of == kind {
            required_text(get(subject, field), "name", &path.child(field), errors);
        } else if has(subject, field) {
            errors.forbidden(
                &path.child(field),
                format!("{field} is forbidden when subject kind is not '{of}'"),
            );
        }
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("PriorityLevel", "string", "The level of the requests that match."),
    column("MatchingPrecedence", "integer", "The lower, the earlier it is asked."),
    column("DistinguisherMethod", "string", "What tells flows apart."),
    AGE,
    column("MissingPL", "string", "Whether its level is not there."),
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let dangling =
        items(value, "status.conditions").iter().find(|condition| text(condition, "type") == "Dangling");
    vec![
        name(value),
        text(value, "spec.priorityLevelConfiguration.name").into(),
        number(value, "spec.matchingPrecedence").into(),
        or_none(text(value, "spec.distinguisherMethod.type")),
        age(value, now),
        dangling.map_or("?", |condition| text(condition, "status")).into(),
    ]
}
