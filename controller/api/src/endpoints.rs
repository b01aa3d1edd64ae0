//! core/v1 Endpoints, for clients that know no EndpointSlices: made of those when they are read. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warren_plan::resources::{ENDPOINTSLICES, SERVICE_NAME, SERVICES};
use warren_store::{Key, Object, Snapshot};

use crate::Observations;

/// The Endpoints of every Service that has a slice, in one namespace or (empty) in all.
pub(crate) fn derive(snapshot: &Snapshot, _: &dyn Observations, namespace: &str) -> Vec<Object> {
    let mut slices: BTreeMap<Key, Vec<&Object>> = BTreeMap::new();
    let all = snapshot.list(ENDPOINTSLICES);
    for slice in all.filter(|slice| namespace.is_empty() || &*slice.key.namespace == namespace) {
        if let Some(service) = slice.value["metadata"]["labels"][SERVICE_NAME].as_str() {
            let service = Key::new(SERVICES, &slice.key.namespace, service);
            slices.entry(service).or_default().push(slice);
        }
    }
    let of = |(service, slices): (&Key, &Vec<&Object>)| Some(endpoints(snapshot.get(service)?, slices));
    slices.iter().filter_map(of).collect()
}

fn endpoints(service: &Object, slices: &[&Object]) -> Object {
    let (namespace, name) = (&*service.key.namespace, &*service.key.name);
    let revision = slices.iter().fold(service.revision, |latest, slice| latest.max(slice.revision));
    let (service, mut subsets) = (&service.value["metadata"], BTreeMap::<String, Value>::new());
    for slice in slices.iter().filter(|slice| slice.value["addressType"] != "FQDN") {
        gather(&slice.value, &mut subsets);
    }
    let mut value = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": name, "namespace": namespace, "resourceVersion": revision.to_string(),
            "creationTimestamp": service["creationTimestamp"],
        },
        "subsets": subsets.into_values().collect::<Vec<_>>(),
    });
    if service["labels"].is_object() {
        value["metadata"]["labels"] = service["labels"].clone();
    }
    Object::new(Key::new("endpoints", namespace, name), revision, value)
}

/// Adds a slice to the subset of its ports. Endpoints on their way out are in none.
fn gather(slice: &Value, subsets: &mut BTreeMap<String, Value>) {
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let ports = items(&slice["ports"]).into_iter().map(|port| picked(&port, PORT)).collect::<Vec<_>>();
    let (mut ready, mut unready) = (Vec::new(), Vec::new());
    for endpoint in items(&slice["endpoints"]) {
        let is = |condition: &str| endpoint["conditions"][condition].as_bool();
        let mut address = picked(&endpoint, ADDRESS);
        address["ip"] = endpoint["addresses"][0].clone();
        match (is("ready"), is("terminating")) {
            (Some(false), Some(true)) => {}
            (Some(false), _) => unready.push(address),
            // What is not said counts as ready.
            _ => ready.push(address),
        }
    }
    for (field, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
        if addresses.is_empty() {
            continue;
        }
        let ports = Value::Array(ports.clone());
        let subset = subsets.entry(ports.to_string()).or_insert_with(|| json!({}));
        let mut all = items(&subset[field]);
        all.extend(addresses);
        subset[field] = Value::Array(all);
        subset["ports"] = ports;
    }
}

const PORT: &[&str] = &["name", "port", "protocol", "appProtocol"];
const ADDRESS: &[&str] = &["hostname", "nodeName", "targetRef"];

/// Some fields of an object, without those that say nothing.
fn picked(from: &Value, fields: &[&str]) -> Value {
    let given = |field: &&&str| !from[**field].is_null() && from[**field] != "";
    let fields = fields.iter().filter(given);
    Value::Object(fields.map(|field| ((*field).to_owned(), from[*field].clone())).collect())
}
