//! The tables of what keeps pods running.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, age, column, containers_and_images, labels, name,
    number, selector,
};
use crate::json::{at, items, text, truth};

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

pub(crate) const DAEMON_SET_COLUMNS: &[Column] = &[
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

pub(crate) const STATEFUL_SET_COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "Number of the pods with ready state, of the desired ones."),
    AGE,
    CONTAINERS,
    IMAGES,
];

pub(crate) const CONTROLLER_REVISION_COLUMNS: &[Column] = &[
    NAME,
    column("Controller", "string", "Whose revision it is."),
    column("Revision", "integer", "Its number."),
    AGE,
];

pub(crate) const POD_TEMPLATE_COLUMNS: &[Column] = &[
    NAME,
    column("Containers", "string", "Names of each container in the template."),
    column("Images", "string", "Images referenced by each container in the template."),
    column("Pod Labels", "string", "The labels of the pods."),
];

fn template_cells(value: &Value) -> [Value; 3] {
    let [containers, images] = containers_and_images(at(value, "spec.template"));
    [containers, images, selector(at(value, "spec.selector"))]
}

/// The cells of a DaemonSet.
pub(crate) fn daemon_set_row(value: &Value, now: Timestamp) -> Vec<Value> {
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

/// The cells of a StatefulSet.
pub(crate) fn stateful_set_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let ready = format!("{}/{}", number(value, "status.readyReplicas"), number(value, "spec.replicas"));
    let mut cells = vec![name(value), ready.into(), age(value, now)];
    cells.extend(containers_and_images(at(value, "spec.template")));
    cells
}

/// The cells of a ControllerRevision.
pub(crate) fn controller_revision_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let owner = items(value, "metadata.ownerReferences").iter().find(|owner| truth(owner, "controller"));
    let controller = owner.map_or_else(
        || "<none>".to_owned(),
        |owner| {
            let kind = text(owner, "kind").to_lowercase();
            match text(owner, "apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "name")),
                None => format!("{kind}/{}", text(owner, "name")),
            }
        },
    );
    vec![name(value), controller.into(), number(value, "revision").into(), age(value, now)]
}

/// The cells of a PodTemplate.
pub(crate) fn pod_template_row(value: &Value, _: Timestamp) -> Vec<Value> {
    let [containers, images] = containers_and_images(at(value, "template"));
    vec![name(value), containers, images, labels(value, "template.metadata.labels")]
}

/// The cells of a ReplicationController, whose selector is a map of labels.
pub(crate) fn replication_controller_row(value: &Value, now: Timestamp) -> Vec<Value> {
    let mut cells = replica_set_row(value, now);
    if let Some(last) = cells.last_mut() {
        *last = labels(value, "spec.selector");
    }
    cells
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
