//! DaemonSet: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    defaults::workload::fill_template,
    field::{Errors, Path},
    json::{at, default_to, ensure_map, get, text},
    kinds::{ALL, Entry, PLAIN, STATUS},
    table::{
        AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, age, column, labels, name, number,
        workload::template_cells,
    },
    validate::{
        self, not_negative,
        workload::{amount, not_more_than_all, replicas_selector_and_template},
    },
};

pub(crate) const ENTRY: Entry = Entry {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    short_names: &["ds"],
    categories: ALL,
    subresources: &[STATUS],
    counters: &["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"],
    has_generation: true,
    defaults,
    validate,
    update: validate::workload::update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = ensure_map(spec, "updateStrategy") {
        default_to(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = ensure_map(strategy, "rollingUpdate")
        {
            default_to(rolling, "maxUnavailable", 1);
            default_to(rolling, "maxSurge", 0);
        }
    }
    fill_template(spec);
}

fn validate(value: &Value, errors: &mut Errors) {
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
            for field in ["maxUnavailable", "maxSurge"] {
                not_more_than_all(rolling, field, &path, errors);
            }
            let set = |amount: Option<i64>| amount.is_some_and(|amount| amount != 0);
            match (set(unavailable), set(surge)) {
                (false, false) => {
                    errors.required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
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

const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "The number of nodes that should run the pod."),
    column("Current", "integer", "The number of nodes that run it."),
    column("Ready", "integer", "The number of nodes on which it is ready."),
    column("Up-to-date", "integer", "The number of nodes that run the present template."),
    column("Available", "integer", "The number of nodes on which it has been ready for minReadySeconds."),
    column("Node Selector", "string", "The labels of nodes that should run it."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![name(value)];
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    ];
    cells.extend(counts.map(|field| Value::from(number(at(value, "status"), field))));
    cells.extend([labels(value, "spec.template.spec.nodeSelector"), age(value, now)]);
    cells.extend(template_cells(value));
    cells
}
