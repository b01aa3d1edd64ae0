//! Deployment: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    defaults::workload::fill_template,
    field::{Errors, Path},
    json::{default_to, ensure_map, get, int, text},
    kinds::{ALL, Entry, PLAIN, SCALE, STATUS},
    table::{
        AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, age, column, name, number, workload::template_cells,
    },
    validate::{
        self, not_negative,
        workload::{replicas_selector_and_template, strategy},
    },
};

pub(crate) const ENTRY: Entry = Entry {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    short_names: &["deploy"],
    categories: ALL,
    subresources: &[SCALE, STATUS],
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
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", 10);
    default_to(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = ensure_map(spec, "strategy") {
        default_to(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = ensure_map(strategy, "rollingUpdate")
        {
            default_to(rolling, "maxUnavailable", "25%");
            default_to(rolling, "maxSurge", "25%");
        }
    }
    fill_template(spec);
}

fn validate(value: &Value, errors: &mut Errors) {
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

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "Number of the pods with ready state, of the desired ones."),
    column("Up-to-date", "integer", "Number of the pods made from the present template."),
    column("Available", "integer", "Number of the pods ready for at least minReadySeconds."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![
        name(value),
        format!("{}/{}", number(value, "status.readyReplicas"), number(value, "spec.replicas")).into(),
        number(value, "status.updatedReplicas").into(),
        number(value, "status.availableReplicas").into(),
        age(value, now),
    ];
    cells.extend(template_cells(value));
    cells
}
