//! The rules of EndpointSlices.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::{Unique, formats, formed, handlers, immutable, one_of};
use crate::{
    field::{Errors, Path},
    json::{get, has, items, text},
};

/// An EndpointSlice.
pub(crate) fn slice(value: &Value, errors: &mut Errors) {
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
pub(crate) fn slice_update(old: &Value, new: &Value, errors: &mut Errors) {
    immutable(get(old, "addressType"), get(new, "addressType"), &Path::new("addressType"), errors);
}
