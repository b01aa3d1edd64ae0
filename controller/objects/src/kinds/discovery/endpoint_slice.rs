//! EndpointSlice: its entry, its defaults, its rules and its columns.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    conversions,
    field::{Errors, Path},
    json::{default_to, get, has, int, items, items_mut, text},
    kinds::{Conversion, Entry, PLAIN, Source},
    table::{AGE, Column, NAME, age, column, first_few, name},
    validate::{Unique, formats, formed, handlers, immutable, one_of},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    has_generation: true,
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

// For kubectl 1.20, whose `describe endpointslice` knows no other version.
pub(crate) const V1BETA1: Entry = Entry {
    version: "v1beta1",
    source: Source::Converted(Conversion { show: conversions::slice_v1beta1, store: None }),
    verbs: &["get", "list", "watch"],
    refusal: "discovery.k8s.io/v1beta1 is served to be read only: write discovery.k8s.io/v1 instead",
    ..ENTRY
};

fn defaults(value: &mut Value) {
    items_mut(value, "ports").for_each(|port| {
        default_to(port, "name", "");
        default_to(port, "protocol", "TCP");
    });
}

fn validate(value: &Value, errors: &mut Errors) {
    let root = Path::default();
    one_of(value, "addressType", &root, &["FQDN", "IPv4", "IPv6"], errors);
    let endpoints = items(value, "endpoints");
    if endpoints.len() > 1000 {
        errors.invalid(&root.child("endpoints"), endpoints.len(), "must have at most 1000 items");
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = root.child("endpoints").index(index);
        let addresses = items(endpoint, "addresses");
        if addresses.is_empty() {
            errors.required(&path.child("addresses"), "must contain at least 1 address");
        }
        for (index, address) in addresses.iter().enumerate() {
            let address = address.as_str().unwrap_or("");
            let good = match text(value, "addressType") {
                "IPv4" => address.parse::<Ipv4Addr>().is_ok(),
                "IPv6" => address.parse::<Ipv6Addr>().is_ok(),
                _ => formats::subdomain(address).is_empty(),
            };
            let path = path.child("addresses").index(index);
            if !good {
                let detail = format!("must be a valid {} address", text(value, "addressType"));
                errors.invalid(&path, address, detail);
            } else if text(value, "addressType") != "FQDN" {
                formats::endpoint_ip(address).into_iter().for_each(|why| errors.invalid(&path, address, why));
            }
        }
        formed(endpoint, "hostname", &path, formats::label, errors);
        formed(endpoint, "nodeName", &path, formats::subdomain, errors);
    }
    ports(value, &root, errors);
}

fn ports(value: &Value, root: &Path, errors: &mut Errors) {
    let mut names = Unique::default();
    let mut unnamed = 0;
    for (index, port) in items(value, "ports").iter().enumerate() {
        let path = root.child("ports").index(index);
        let name = text(port, "name");
        unnamed += usize::from(name.is_empty());
        if name.is_empty() && unnamed > 1 {
            errors.duplicate(&path.child("name"), "");
        }
        formed(port, "name", &path, formats::label, errors);
        names.check(name, &path.child("name"), errors);
        handlers::protocol(port, &path, errors);
        if has(port, "port") {
            handlers::port_number(get(port, "port"), &path.child("port"), errors);
        }
        formed(port, "appProtocol", &path, formats::qualified_name, errors);
    }
}

/// A change of an EndpointSlice: the type of its addresses stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "addressType"), get(new, "addressType"), &Path::new("addressType"), errors);
}

const COLUMNS: &[Column] = &[
    NAME,
    column("AddressType", "string", "The type of all addresses of the slice."),
    column("Ports", "string", "The ports of each endpoint."),
    column("Endpoints", "string", "The addresses of the endpoints."),
    AGE,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let port = |port: &Value| match (int(port, "port"), text(port, "name")) {
        (Some(number), _) => number.to_string(),
        (None, "") => "*".to_owned(),
        (None, name) => name.to_owned(),
    };
    let ports: Vec<String> = items(value, "ports").iter().map(port).collect();
    let addresses: Vec<String> = items(value, "endpoints")
        .iter()
        .flat_map(|endpoint| items(endpoint, "addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let or_unset = |text: String| if text.is_empty() { "<unset>".to_owned() } else { text };
    vec![
        name(value),
        text(value, "addressType").into(),
        or_unset(first_few(&ports, 3)).into(),
        or_unset(first_few(&addresses, 3)).into(),
        age(value, now),
    ]
}
