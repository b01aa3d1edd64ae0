//! ServiceCIDR: its entry, its rules and its columns.

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, items},
    kinds::{Entry, PLAIN, STATUS},
    table::{AGE, Column, NAME, age, column, name},
    validate::immutable,
};

pub(crate) const ENTRY: Entry = Entry {
    group: "networking.k8s.io",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    namespaced: false,
    subresources: &[STATUS],
    idle: "warren gives services addresses of the network that the cluster began with, whatever ServiceCIDRs say",
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

fn validate(value: &Value, errors: &mut Errors) {
    let (cidrs, path) = (items(value, "spec.cidrs"), Path::new("spec").child("cidrs"));
    if cidrs.is_empty() {
        errors.required(&path, "at least one CIDR required");
    }
    if cidrs.len() > 2 {
        errors.invalid(&path, cidrs.len(), "may only hold up to 2 values");
    }
    let mut families = Vec::new();
    for (index, cidr) in cidrs.iter().enumerate() {
        let (text, path) = (cidr.as_str().unwrap_or_default(), path.index(index));
        match text.parse::<IpNet>() {
            Ok(network) if network.trunc() != network => {
                errors.invalid(&path, text, "must not have bits set beyond the prefix length");
            }
            Ok(network) => families.push(network.addr().is_ipv4()),
            Err(_) => {
                errors.invalid(&path, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")
            }
        }
    }
    if let [first, second] = families[..]
        && first == second
    {
        errors.wrong(
            &path,
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        );
    }
}

/// A change of a ServiceCIDR: its networks stay.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "spec"), get(new, "spec"), &Path::new("spec"), errors);
}

const COLUMNS: &[Column] = &[NAME, column("CIDRs", "string", "The networks."), AGE];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let cidrs: Vec<&str> = items(value, "spec.cidrs").iter().filter_map(Value::as_str).collect();
    vec![name(value), cidrs.join(",").into(), age(value, now)]
}
