//! PriorityLevelConfiguration: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use super::FLOW_CONTROL;
use crate::{
    field::{Errors, Path},
    json::{default_number, get, has, int, text},
    kinds::Entry,
    table::{AGE, Column, NAME, age, column, name},
    validate::{in_range, one_of},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    idle: "warren does not share the API by PriorityLevelConfigurations yet: the object is only kept",
    defaults,
    validate,
    columns: COLUMNS,
    row,
    ..FLOW_CONTROL
};

fn defaults(value: &mut Value) {
    let Some(spec) = value.get_mut("spec") else { return };
    if let Some(limited) = spec.get_mut("limited").filter(|limited| limited.is_object()) {
        default_number(limited, "nominalConcurrencyShares", 30);
        default_number(limited, "lendablePercent", 0);
        if let Some(queuing) =
            limited.get_mut("limitResponse").and_then(|response| response.get_mut("queuing"))
        {
            for (field, default) in [("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)] {
                default_number(queuing, field, default);
            }
        }
    }
    if let Some(exempt) = spec.get_mut("exempt").filter(|exempt| exempt.is_object()) {
        default_number(exempt, "nominalConcurrencyShares", 0);
        default_number(exempt, "lendablePercent", 0);
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    one_of(spec, "type", &path, &["Exempt", "Limited"], errors);
    let is_exempt = text(spec, "type") == "Exempt";
    let (limited, exempt) = (has(spec, "limited"), has(spec, "exempt"));
    match (is_exempt, limited, exempt) {
        (true, true, _) => errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited"),
        (false, false, _) => {
            errors.required(&path.child("limited"), "must not be empty when type is Limited")
        }
        (false, _, true) => errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited"),
        _ => {}
    }
    for (kind, least) in [("limited", 0), ("exempt", 0)] {
        let (share, path) = (get(spec, kind), path.child(kind));
        in_range(share, "nominalConcurrencyShares", &path, (least, i64::from(i32::MAX)), errors);
        in_range(share, "lendablePercent", &path, (0, 100), errors);
    }
    if limited {
        validate_response(
            get(get(spec, "limited"), "limitResponse"),
            &path.child("limited").child("limitResponse"),
            errors,
        );
    }
}

fn validate_response(response: &Value, path: &Path, errors: &mut Errors) {
    one_of(response, "type", path, &["Queue", "Reject"], errors);
    let (queuing, path) = (get(response, "queuing"), path.child("queuing"));
    match (text(response, "type"), queuing.is_null()) {
        ("Reject", false) => {
            errors.forbidden(&path, "must be nil if limited.limitResponse.type is not Limited")
        }
        ("Queue", true) => {
            errors.required(&path, "must not be empty if limited.limitResponse.type is Limited")
        }
        _ => {}
    }
    for field in ["queues", "handSize", "queueLengthLimit"] {
        in_range(queuing, field, &path, (1, 10_000_000), errors);
    }
    if let (Some(queues), Some(hand)) = (int(queuing, "queues"), int(queuing, "handSize"))
        && hand > queues
    {
        errors.invalid(
            &path.child("handSize"),
            hand,
            format!("should not be greater than queues ({queues})"),
        );
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "Whether its requests are limited."),
    column("NominalConcurrencyShares", "string", "Its share of the requests that run at a time."),
    column("Queues", "string", "How many queues it has."),
    column("HandSize", "string", "How many of them a flow may use."),
    column("QueueLengthLimit", "string", "How many requests wait in one."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let shown =
        |path: &str| int(value, path).map_or_else(|| "<none>".to_owned(), |number| number.to_string());
    let queue = |field: &str| shown(&format!("spec.limited.limitResponse.queuing.{field}"));
    vec![
        name(value),
        text(value, "spec.type").into(),
        shown("spec.limited.nominalConcurrencyShares").into(),
        queue("queues").into(),
        queue("handSize").into(),
        queue("queueLengthLimit").into(),
        age(value, now),
    ]
}
