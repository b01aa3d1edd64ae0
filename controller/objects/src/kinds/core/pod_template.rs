//! PodTemplate: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    defaults::workload::fill_template,
    field::{Errors, Path},
    json::{at, get},
    kinds::{Entry, PLAIN},
    table::{Column, NAME, column, containers_and_images, labels, name},
    validate::workload::template,
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "PodTemplate",
    plural: "podtemplates",
    has_generation: true,
    returns_deleted: true,
    defaults,
    validate,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// A PodTemplate, whose template is at its root.
fn defaults(value: &mut Value) {
    fill_template(value);
}

fn validate(value: &Value, errors: &mut Errors) {
    template(get(value, "template"), &Path::new("template"), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Containers", "string", "Names of each container in the template."),
    column("Images", "string", "Images referenced by each container in the template."),
    column("Pod Labels", "string", "The labels of the pods."),
];

fn row(value: &Value, _: Timestamp) -> Vec<Value> {
    let [containers, images] = containers_and_images(at(value, "template"));
    vec![name(value), containers, images, labels(value, "template.metadata.labels")]
}
