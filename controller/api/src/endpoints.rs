//! core/v1 Endpoints, for clients that know no EndpointSlices: made of those when they are read, and followed with them
//! when they are watched.
//!
//! Their `resourceVersion` is the revision at which the Service or one of its slices changed last. A slice that is
//! gone says nothing any more, so removals are remembered: a list and a watch never tell different revisions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use warren_store::{Change, Event, Key, Object, Snapshot, Store, Watch};
use warren_vocabulary::resources::{ENDPOINTSLICES, SERVICE_NAME, SERVICES};

/// What Endpoints are called in the table of kinds; no store holds any.
pub(crate) const RESOURCE: &str = "endpoints";

/// The Endpoints of every Service that has a slice, in one namespace or (empty) in all.
pub(crate) fn derive(snapshot: &Snapshot, removals: &Removals, namespace: &str) -> Vec<Object> {
    let sources = Sources::of(snapshot, namespace);
    let removed = |service: &Key| removals.last(service, snapshot.revision);
    sources.slices.keys().filter_map(|service| sources.endpoints(service, removed(service))).collect()
}

/// The Service that a slice belongs to.
fn service_of(slice: &Object) -> Option<Key> {
    let service = slice.value["metadata"]["labels"][SERVICE_NAME].as_str()?;
    Some(Key::new(SERVICES, &slice.key.namespace, service))
}

/// When a slice of each Service was last removed, as far as this process has seen it.
#[derive(Default)]
pub(crate) struct Removals {
    watch: Mutex<Option<Watch>>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// Of Services that are there.
    last: BTreeMap<Key, u64>,
    /// What happened before is not known in full: it counts as if each Service had lost a slice then.
    floor: u64,
}

impl Removals {
    /// Reads history up to a revision.
    pub(crate) async fn follow(&self, store: &dyn Store, revision: u64) {
        let mut watch = self.watch.lock().await;
        if watch.is_none() {
            // No client has heard anything of this process before.
            *watch = store.watch(store.snapshot().revision).ok();
        }
        while let Some(history) = watch.as_mut().filter(|history| history.position() < revision) {
            match history.next().await {
                Ok(changes) if changes.is_empty() => return,
                Ok(changes) => {
                    let now = store.snapshot();
                    let mut known = self.known.write();
                    changes
                        .iter()
                        .flat_map(|change| change.events.iter().map(|event| (event, change.revision)))
                        .for_each(|(event, revision)| known.note(event, revision, &now));
                }
                Err(_) => {
                    let newest = store.snapshot().revision;
                    self.known.write().floor = newest;
                    *watch = store.watch(newest).ok();
                }
            }
        }
    }

    /// The last removal up to a revision; 0 when none is known.
    fn last(&self, service: &Key, revision: u64) -> u64 {
        let known = self.known.read();
        let removed = known.last.get(service).copied().unwrap_or_default();
        [removed, known.floor].into_iter().filter(|at| *at <= revision).max().unwrap_or_default()
    }
}

impl Known {
    fn note(&mut self, event: &Event, revision: u64, now: &Snapshot) {
        if &*event.key.resource == SERVICES && event.current.is_none() {
            self.last.remove(&event.key);
        }
        if &*event.key.resource != ENDPOINTSLICES {
            return;
        }
        let service = |object: &Option<Arc<Object>>| object.as_deref().and_then(service_of);
        let (before, after) = (service(&event.previous), service(&event.current));
        if let Some(service) = before.filter(|before| after.as_ref() != Some(before))
            && now.get(&service).is_some()
        {
            self.last.insert(service, revision);
        }
    }
}

/// What Endpoints are made of: Services, and slices by their Service and name.
pub(crate) struct Sources {
    /// Empty for all.
    namespace: String,
    services: BTreeMap<Key, Arc<Object>>,
    slices: BTreeMap<Key, BTreeMap<Arc<str>, Arc<Object>>>,
}

/// What a commit did to the Endpoints of one Service.
pub(crate) struct Turn {
    pub(crate) before: Option<Arc<Object>>,
    pub(crate) after: Option<Arc<Object>>,
}

impl Turn {
    /// The last state, at the revision at which it ended.
    pub(crate) fn departed(&self, revision: u64) -> Option<Arc<Object>> {
        let last = self.before.as_ref()?;
        Some(Arc::new(Object::new(last.key.clone(), revision, last.value.clone())))
    }
}

impl Sources {
    /// Those of a namespace, or (empty) of all.
    pub(crate) fn of(snapshot: &Snapshot, namespace: &str) -> Self {
        let mut sources =
            Self { namespace: namespace.to_owned(), services: BTreeMap::new(), slices: BTreeMap::new() };
        for resource in [SERVICES, ENDPOINTSLICES] {
            for object in snapshot.list(resource) {
                sources.put(object);
            }
        }
        sources
    }

    fn covers(&self, key: &Key) -> bool {
        self.namespace.is_empty() || *key.namespace == *self.namespace
    }

    fn put(&mut self, object: &Arc<Object>) {
        if !self.covers(&object.key) {
            return;
        }
        if &*object.key.resource == SERVICES {
            self.services.insert(object.key.clone(), Arc::clone(object));
        } else if let Some(service) = service_of(object) {
            let slices = self.slices.entry(service).or_default();
            slices.insert(Arc::clone(&object.key.name), Arc::clone(object));
        }
    }

    fn remove(&mut self, object: &Object) {
        if &*object.key.resource == SERVICES {
            self.services.remove(&object.key);
        } else if let Some(service) = service_of(object)
            && let Some(slices) = self.slices.get_mut(&service)
        {
            slices.remove(&object.key.name);
            if slices.is_empty() {
                self.slices.remove(&service);
            }
        }
    }

    /// Takes a commit in; the answer is what it did to the Endpoints of each Service that it touched.
    pub(crate) fn advance(&mut self, change: &Change) -> Vec<Turn> {
        let is_ours = |event: &&Event| {
            [SERVICES, ENDPOINTSLICES].contains(&&*event.key.resource) && self.covers(&event.key)
        };
        let events: Vec<&Event> = change.events.iter().filter(is_ours).collect();
        let states = events.iter().flat_map(|event| [&event.previous, &event.current]).flatten();
        let touched: BTreeSet<Key> = states
            .filter_map(|object| {
                if &*object.key.resource == SERVICES { Some(object.key.clone()) } else { service_of(object) }
            })
            .collect();
        let state = |sources: &Self| -> Vec<Option<Arc<Object>>> {
            touched.iter().map(|service| sources.endpoints(service, change.revision).map(Arc::new)).collect()
        };
        let before = state(self);
        for event in events {
            event.previous.iter().for_each(|object| self.remove(object));
            event.current.iter().for_each(|object| self.put(object));
        }
        before.into_iter().zip(state(self)).map(|(before, after)| Turn { before, after }).collect()
    }

    /// The Endpoints of a Service that has a slice; `removed` is when it last lost one.
    fn endpoints(&self, service: &Key, removed: u64) -> Option<Object> {
        let (service, slices) = (self.services.get(service)?, self.slices.get(service)?);
        let revisions = slices.values().map(|slice| slice.revision);
        let revision = revisions.chain([service.revision, removed]).max().unwrap_or_default();
        Some(endpoints(service, slices.values(), revision))
    }
}

fn endpoints<'a>(service: &Object, slices: impl Iterator<Item = &'a Arc<Object>>, revision: u64) -> Object {
    let (namespace, name) = (&*service.key.namespace, &*service.key.name);
    let (service, mut subsets) = (&service.value["metadata"], BTreeMap::<String, Value>::new());
    for slice in slices.filter(|slice| slice.value["addressType"] != "FQDN") {
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
    Object::new(Key::new(RESOURCE, namespace, name), revision, value)
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
