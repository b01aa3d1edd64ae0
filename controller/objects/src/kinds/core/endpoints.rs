//! Endpoints: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{default_to, get, int, items, items_mut, text},
    kinds::{Entry, PLAIN},
    table::{AGE, Column, NAME, age, column, first_few, name, or_none},
    validate::{formats, formed, handlers, required_text},
};

pub(crate) const ENTRY: Entry = Entry {
    kind: "Endpoints",
    plural: "endpoints",
    short_names: &["ep"],
    defaults,
    validate,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn defaults(value: &mut Value) {
    for subset in items_mut(value, "subsets") {
        items_mut(subset, "ports").for_each(|port| default_to(port, "protocol", "TCP"));
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    for (index, subset) in items(value, "subsets").iter().enumerate() {
        let path = Path::new("subsets").index(index);
        if items(subset, "addresses").is_empty() && items(subset, "notReadyAddresses").is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            for (index, address) in items(subset, list).iter().enumerate() {
                validate_address(address, &path.child(list).index(index), errors);
            }
        }
        let ports = items(subset, "ports");
        for (index, port) in ports.iter().enumerate() {
            validate_port(port, ports.len() > 1, &path.child("ports").index(index), errors);
        }
    }
}

fn validate_address(address: &Value, path: &Path, errors: &mut Errors) {
    let (ip, field) = (text(address, "ip"), path.child("ip"));
    let wrong = formats::ip(ip);
    let wrong = if wrong.is_empty() { formats::endpoint_ip(ip) } else { wrong };
    wrong.into_iter().for_each(|why| errors.invalid(&field, ip, why));
    formed(address, "hostname", path, formats::label, errors);
    formed(address, "nodeName", path, formats::subdomain, errors);
}

/// Where there are several ports, each has a name.
fn validate_port(port: &Value, is_named: bool, path: &Path, errors: &mut Errors) {
    if is_named {
        required_text(port, "name", path, errors);
    }
    formed(port, "name", path, formats::label, errors);
    handlers::port_number(get(port, "port"), &path.child("port"), errors);
    handlers::protocol(port, path, errors);
    formed(port, "appProtocol", path, formats::qualified_name, errors);
}

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
