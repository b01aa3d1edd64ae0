//! core/v1 Endpoints, for clients that know no EndpointSlices.
//!
//! For a service that selects pods they are made of its slices. For one that does not, users fill them by hand, and they
//! are mirrored to slices, which is where all else looks.
//!
//! Sources: <https://kubernetes.io/docs/concepts/services-networking/service/#endpoints>,
//! <https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#endpointslice-mirroring>.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::api::core::v1::Service;
use serde_json::{Map, Value, json};
use warren_state::{Key, Object, Transaction};
use warren_vocabulary::resources::{ENDPOINTS, ENDPOINTSLICES, SERVICE_NAME, SERVICES};

use super::{HEADLESS, MANAGED_BY, is_headless_service, selects};
use crate::{
    object,
    outcome::Outcome,
    view::{Typed, View},
};

/// By which clients tell the Endpoints that are made here.
const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const ENDPOINTS_MANAGER: &str = "endpoint-controller";
/// Who signs the slices that are made of Endpoints.
const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
/// Says that Endpoints are not to be mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that are a lock, of programs from before Leases.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Says that not all addresses are there.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// How many addresses Endpoints hold, and a subset of those that are mirrored.
const MOST: usize = 1_000;

/// Whether a slice mirrors Endpoints.
pub(crate) fn is_mirror(slice: &Value) -> bool {
    object::label(slice, MANAGED_BY) == Some(MIRROR)
}

/// The service of Endpoints, which has their name.
pub(crate) fn service_of(endpoints: &Key) -> Key {
    Key::new(SERVICES, &endpoints.namespace, &endpoints.name)
}

/// The keys are those of services, which need not be there.
pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let service = view.typed::<Service>(key).filter(|service| !service.deleting());
            let is_external = |service: &Typed<'_, Service>| {
                service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName"))
            };
            let wanted = match &service {
                Some(service) if selects(service) => {
                    keep(view, service, outcome);
                    BTreeMap::new()
                }
                Some(service) if !is_external(service) => mirrored(view, key),
                _ => BTreeMap::new(),
            };
            mirror(view, key, wanted, outcome);
        });
    }
}

/// Makes the Endpoints of a service say what its slices say.
fn keep(view: &View<'_>, service: &Typed<'_, Service>, outcome: &mut Outcome<'_>) {
    let slices = view.slices_of(service.namespace(), service.name());
    let is_own = |slice: &&std::sync::Arc<Object>| {
        object::owners(slice).any(|owner| object::owner_uid(owner) == service.uid())
    };
    let slices: Vec<&Object> = slices.filter(is_own).map(|slice| &**slice).collect();
    if slices.is_empty() {
        return;
    }
    let (subsets, is_truncated) = subsets(&slices);
    let key = Key::new(ENDPOINTS, service.namespace(), service.name());
    let step = format!("endpoints of {}", service.object.key);
    let Some(found) = view.read(&key) else {
        let mut value = json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {
                "name": service.name(),
                "namespace": service.namespace(),
                "uid": object::uuid(&["endpoints", service.uid(), &view.world.snapshot.revision.to_string()]),
                "creationTimestamp": object::time_text(view.now),
            },
        });
        fill(&mut value, service, subsets, is_truncated);
        outcome.step(step, Transaction::new().create(key, value));
        return;
    };
    let is_foreign = object::owners(found).any(|owner| object::owner_uid(owner) != service.uid());
    // Those of an earlier service of this name go first.
    if object::is_deleting(found) || is_foreign {
        return;
    }
    let edited = object::edited(found, |value| fill(value, service, subsets, is_truncated));
    if let Some(value) = edited {
        outcome.step(step, Transaction::new().replace(key, found.revision, value));
    }
}

fn fill(value: &mut Value, service: &Typed<'_, Service>, subsets: Vec<Value>, is_truncated: bool) {
    let own = service.metadata.labels.iter().flatten();
    let mut labels: Map<_, _> = own.map(|(name, text)| (name.clone(), text.clone().into())).collect();
    labels.insert(ENDPOINTS_MANAGED_BY.into(), ENDPOINTS_MANAGER.into());
    if is_headless_service(service) {
        labels.insert(HEADLESS.into(), "".into());
    }
    *object::object_at(value, &["metadata", "labels"]) = labels;
    object::own(value, service.object);
    if is_truncated {
        object::annotate(value, OVER_CAPACITY, "truncated");
    } else if object::annotation(value, OVER_CAPACITY).is_some() {
        object::object_at(value, &["metadata", "annotations"]).remove(OVER_CAPACITY);
    }
    let fields = object::object_at(value, &[]);
    if subsets.is_empty() {
        fields.remove("subsets");
    } else {
        fields.insert("subsets".into(), subsets.into());
    }
}

/// The subsets that slices make, and whether addresses had to be left out: first those that are not ready.
fn subsets(slices: &[&Object]) -> (Vec<Value>, bool) {
    let mut groups = BTreeMap::<String, Subset>::new();
    for slice in slices.iter().filter(|slice| slice.value["addressType"] == "IPv4") {
        gather(&slice.value, &mut groups);
    }
    let count =
        |list: fn(&Subset) -> &Vec<Value>| groups.values().map(|subset| list(subset).len()).sum::<usize>();
    let (ready, unready) = (count(|subset| &subset.ready), count(|subset| &subset.unready));
    let mut room = (MOST.min(ready), MOST.saturating_sub(ready).min(unready));
    let is_truncated = ready.saturating_add(unready) > MOST;
    let subsets = groups.into_values().filter_map(|mut subset| {
        subset.ready.truncate(room.0);
        subset.unready.truncate(room.1);
        room = (room.0 - subset.ready.len(), room.1 - subset.unready.len());
        subset.value()
    });
    (subsets.collect(), is_truncated)
}

/// Addresses with the same ports.
#[derive(Default)]
struct Subset {
    ready: Vec<Value>,
    unready: Vec<Value>,
    ports: Vec<Value>,
}

impl Subset {
    fn value(self) -> Option<Value> {
        let mut value = Map::new();
        let lists = [("addresses", self.ready), ("notReadyAddresses", self.unready), ("ports", self.ports)];
        for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            value.insert(field.into(), list.into());
        }
        let has_addresses = value.contains_key("addresses") || value.contains_key("notReadyAddresses");
        has_addresses.then_some(Value::Object(value))
    }
}

/// Adds a slice to the subset of its ports. Endpoints on their way out are in none.
fn gather(slice: &Value, groups: &mut BTreeMap<String, Subset>) {
    let ports: Vec<Value> = items(&slice["ports"]).iter().map(|port| picked(port, PORT)).collect();
    let subset = groups.entry(Value::from(ports.clone()).to_string()).or_default();
    subset.ports = ports;
    for endpoint in items(&slice["endpoints"]) {
        let is = |condition: &str| endpoint["conditions"][condition].as_bool();
        let mut address = picked(endpoint, ADDRESS);
        address["ip"] = endpoint["addresses"][0].clone();
        match (is("ready"), is("terminating")) {
            (Some(false), Some(true)) => {}
            (Some(false), _) => subset.unready.push(address),
            // What is not said counts as ready.
            _ => subset.ready.push(address),
        }
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

const PORT: &[&str] = &["name", "port", "protocol", "appProtocol"];
const ADDRESS: &[&str] = &["hostname", "nodeName", "targetRef"];

/// Some fields of an object, without those that say nothing.
fn picked(from: &Value, fields: &[&str]) -> Value {
    let given = |field: &&&str| !from[**field].is_null() && from[**field] != "";
    let fields = fields.iter().filter(given);
    Value::Object(fields.map(|field| ((*field).to_owned(), from[*field].clone())).collect())
}

/// The slices that mirror the Endpoints of a service, by name, each with what it says.
fn mirrored(view: &View<'_>, service: &Key) -> BTreeMap<String, Value> {
    let Some(endpoints) = view.read(&Key::new(ENDPOINTS, &service.namespace, &service.name)) else {
        return BTreeMap::new();
    };
    let skips = object::label(&endpoints.value, SKIP) == Some("true")
        || object::annotation(&endpoints.value, LEADER).is_some();
    if skips || object::is_deleting(endpoints) {
        return BTreeMap::new();
    }
    let mut slices = BTreeMap::new();
    for (index, subset) in items(&endpoints.value["subsets"]).iter().enumerate() {
        for (family, is_of_family) in FAMILIES {
            let mirrored = mirrored_addresses(subset, *is_of_family);
            if mirrored.is_empty() {
                continue;
            }
            let parts = ["mirror", object::uid(endpoints), &index.to_string(), family];
            let name = format!("{}-{}", service.name, object::letters(&parts, 5));
            slices.insert(name, mirror_of(endpoints, family, mirrored, &subset["ports"]));
        }
    }
    slices
}

type IsOfFamily = fn(&IpAddr) -> bool;

const FAMILIES: &[(&str, IsOfFamily)] = &[("IPv4", IpAddr::is_ipv4), ("IPv6", IpAddr::is_ipv6)];

fn mirrored_addresses(subset: &Value, is_of_family: IsOfFamily) -> Vec<Value> {
    let lists = [("addresses", true), ("notReadyAddresses", false)];
    let all = lists.into_iter().flat_map(|(list, is_ready)| {
        items(&subset[list]).iter().filter_map(move |address| {
            let ip = address["ip"].as_str()?;
            is_of_family(&ip.parse().ok()?).then(|| {
                let mut endpoint = picked(address, ADDRESS);
                endpoint["addresses"] = json!([ip]);
                endpoint["conditions"] = json!({"ready": is_ready});
                endpoint
            })
        })
    });
    all.take(MOST).collect()
}

fn mirror_of(endpoints: &Object, family: &str, mirrored: Vec<Value>, ports: &Value) -> Value {
    let own = endpoints.value["metadata"]["labels"].as_object();
    let mut labels = own.cloned().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), (*endpoints.key.name).into());
    labels.insert(MANAGED_BY.into(), MIRROR.into());
    let port = |port: &Value| {
        let mut port = picked(port, PORT);
        if port.get("name").is_none() {
            port["name"] = "".into();
        }
        port
    };
    let ports: Vec<Value> = items(ports).iter().map(port).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": &*endpoints.key.namespace,
            "labels": labels,
            "ownerReferences": [object::controller_reference(endpoints)],
        },
        "addressType": family,
        "endpoints": mirrored,
        "ports": ports,
    })
}

/// Makes the slices that mirror Endpoints be those that are wanted.
fn mirror(view: &View<'_>, service: &Key, wanted: BTreeMap<String, Value>, outcome: &mut Outcome<'_>) {
    let mut transaction = Transaction::new();
    for slice in view.mirrors_of(&service.namespace, &service.name) {
        if !wanted.contains_key(&*slice.key.name) {
            transaction = transaction.delete(slice.key.clone(), slice.revision);
        }
    }
    for (name, wanted) in wanted {
        let key = Key::new(ENDPOINTSLICES, &service.namespace, &name);
        let Some(found) = view.read(&key) else {
            transaction = transaction.create(key.clone(), new_mirror(view, &key, wanted));
            continue;
        };
        if !is_mirror(&found.value) {
            continue;
        }
        let edited = object::edited(found, |value| {
            let is_changed = ["endpoints", "ports"].iter().any(|field| value[*field] != wanted[*field]);
            for field in ["addressType", "endpoints", "ports"] {
                object::object_at(value, &[]).insert(field.into(), wanted[field].clone());
            }
            for field in ["labels", "ownerReferences"] {
                object::object_at(value, &["metadata"])
                    .insert(field.into(), wanted["metadata"][field].clone());
            }
            if is_changed {
                object::bump_generation(value);
            }
        });
        if let Some(value) = edited {
            transaction = transaction.replace(key, found.revision, value);
        }
    }
    outcome.step(format!("mirrored endpoints of {service}"), transaction);
}

fn new_mirror(view: &View<'_>, key: &Key, mut value: Value) -> Value {
    let owner = value["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default().to_owned();
    let uid = object::uuid(&["mirror", &owner, &key.name, &view.world.snapshot.revision.to_string()]);
    let metadata = object::object_at(&mut value, &["metadata"]);
    metadata.insert("name".into(), (*key.name).into());
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), object::time_text(view.now).into());
    metadata.insert("generation".into(), 1.into());
    value
}
