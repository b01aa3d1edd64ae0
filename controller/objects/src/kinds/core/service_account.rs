//! ServiceAccount: its entry and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    json::items,
    kinds::{Entry, PLAIN, PLAIN_SUBRESOURCE, Subresource},
    table::{AGE, Column, NAME, age, column, name},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
        verbs: &["create"],
        ..PLAIN_SUBRESOURCE
    }],
    returns_deleted: true,
    columns: COLUMNS,
    row,
    ..PLAIN
};

const COLUMNS: &[Column] =
    &[NAME, column("Secrets", "integer", "The number of secrets that the account may use."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), items(value, "secrets").len().into(), age(value, now)]
}
