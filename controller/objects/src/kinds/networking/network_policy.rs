//! NetworkPolicy: its entry and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    json::at,
    kinds::{Entry, PLAIN, REFUSED},
    table::{AGE, Column, NAME, age, column, name, selector},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "networking.k8s.io",
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    short_names: &["netpol"],
    verbs: REFUSED,
    refusal: "NetworkPolicies are refused by this version of Warren because it does not enforce them: \
              a policy that is stored and lets everything through is worse than none",
    columns: COLUMNS,
    row,
    ..PLAIN
};

const COLUMNS: &[Column] = &[NAME, column("Pod-Selector", "string", "The pods it is about."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(value), selector(at(value, "spec.podSelector")), age(value, now)]
}
