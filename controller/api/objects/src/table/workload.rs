//! The tables of Deployments and ReplicaSets.

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, age, column, joined, name, selector, wide};
use crate::json::{at, int};

const CONTAINERS: Column = wide("Containers", "Names of each container in the template.");
const IMAGES: Column = wide("Images", "Images referenced by each container in the template.");
const SELECTOR: Column = wide("Selector", "The label selector of the pods.");

pub(crate) const DEPLOYMENT_COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "Number of the pods with ready state, of the desired ones."),
    column("Up-to-date", "integer", "Number of the pods made from the present template."),
    column("Available", "integer", "Number of the pods ready for at least minReadySeconds."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

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

fn number(value: &Value, path: &str) -> i64 {
    int(value, path).unwrap_or(0)
}

fn template_cells(value: &Value) -> [Value; 3] {
    let containers = "spec.template.spec.containers";
    [
        joined(value, containers, "name").into(),
        joined(value, containers, "image").into(),
        selector(at(value, "spec.selector")),
    ]
}

/// The cells of a Deployment.
pub(crate) fn deployment_row(value: &Value, now: Timestamp) -> Vec<Value> {
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
