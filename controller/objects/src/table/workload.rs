//! The tables of what keeps pods running.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    json::at,
    table::{
        AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, age, column, containers_and_images, name, number,
        selector,
    },
};

pub(crate) const REPLICA_SET_COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "The number of desired replicas."),
    column("Current", "integer", "The number of replicas that there are."),
    column("Ready", "integer", "The number of ready replicas."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) fn template_cells(value: &Value) -> [Value; 3] {
    let [containers, images] = containers_and_images(at(value, "spec.template"));
    [containers, images, selector(at(value, "spec.selector"))]
}

/// The cells of a ReplicaSet.
pub(crate) fn replica_set_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = vec![
        name(value),
        number(value, "spec.replicas").into(),
        number(value, "status.replicas").into(),
        number(value, "status.readyReplicas").into(),
        age(value, now),
    ];
    cells.extend(template_cells(value));
    cells
}
