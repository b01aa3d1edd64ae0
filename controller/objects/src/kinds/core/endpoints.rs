//! Endpoints: its entry and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    json::{int, items, text},
    kinds::{Entry, PLAIN, Source},
    table::{AGE, Column, NAME, age, column, first_few, name, or_none},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "Endpoints",
    plural: "endpoints",
    short_names: &["ep"],
    source: Source::Derived,
    verbs: &["get", "list", "watch"],
    refusal: "Endpoints are derived from EndpointSlices, to be read only: write \
              endpointslices.discovery.k8s.io with the label kubernetes.io/service-name instead",
    columns: COLUMNS,
    row,
    ..PLAIN
};

const COLUMNS: &[Column] =
    &[NAME, column("Endpoints", "string", "The addresses that are ready, with their ports."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let subsets = items(value, "subsets");
    let mut all = Vec::new();
    for subset in subsets {
        let addresses: Vec<&str> = items(subset, "addresses").iter().map(|ready| text(ready, "ip")).collect();
        let ports = items(subset, "ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(ToString::to_string));
        }
        for port in ports {
            let port = int(port, "port").unwrap_or(0);
            all.extend(
                addresses.iter().map(|ip| {
                    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
                }),
            );
        }
    }
    // As in Kubernetes: nothing at all is <none>, nothing that is ready is empty.
    let shown = if subsets.is_empty() { or_none("") } else { first_few(&all, 3).into() };
    vec![name(value), shown, age(value, now)]
}
