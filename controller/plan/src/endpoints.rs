//! Where does a service lead?
//!
//! One slice per service for each set of resolved ports; of more than a hundred pods several, which consumers add up:
//! a pod that changes writes the slice that it is in, and no other. A pod is ready for traffic
//! when it says so, is not being deleted, and its node is not suspect; but suspicion alone never takes a
//! service's last endpoints away.

pub(crate) mod objects;
mod slicing;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use serde_json::{Map, Value, json};
use warren_state::{Key, Transaction};

use crate::{
    object,
    outcome::Outcome,
    view::{PodView, Typed, View},
};
use warren_vocabulary::resources::{ENDPOINTSLICES, SERVICE_NAME};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The name that Kubernetes' own controller goes by: clients look for it.
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// As earlier versions signed; their slices are ours, too.
const EARLIER_MANAGER: &str = "endpointslice-controller.warren.dev";
/// How many ports the slices of one service may name in all: each set of resolved ports has a slice of its own.
const MOST_PORTS: usize = 20_000;
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Whether a slice is ours to write.
pub(crate) fn is_managed(slice: &Value) -> bool {
    object::label(slice, MANAGED_BY).is_some_and(|manager| [MANAGER, EARLIER_MANAGER].contains(&manager))
}

/// The name of the service that a slice belongs to.
pub(crate) fn service_of(slice: &Value) -> Option<&str> {
    object::label(slice, SERVICE_NAME)
}

/// What the slices of a service are looked up by.
pub(crate) fn group(namespace: &str, service: &str) -> String {
    format!("{namespace}\0{service}")
}

/// Whether a slice belongs to a headless service.
pub(crate) fn is_headless(slice: &Value) -> bool {
    object::label(slice, HEADLESS).is_some()
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let service = view.typed::<Service>(key).filter(|service| !service.deleting());
            if let Some(service) = service.filter(|service| selects(service)) {
                plan_service(view, &service, outcome);
            }
        });
    }
}

/// Services without a selector are filled by their owners, by hand.
fn selects(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.selector.as_ref().is_some_and(|selector| !selector.is_empty())
            && spec.type_.as_deref() != Some("ExternalName")
    })
}

fn plan_service(view: &View<'_>, service: &Typed<'_, Service>, outcome: &mut Outcome<'_>) {
    let mut transaction = Transaction::new();
    let wanted = wanted_slices(view, service, outcome);
    for slice in view.slices_of(service.namespace(), service.name()) {
        if !wanted.contains_key(&*slice.key.name) {
            transaction = transaction.delete(slice.key.clone(), slice.revision);
        }
    }
    for (name, (ports, endpoints)) in wanted {
        let key = Key::new(ENDPOINTSLICES, service.namespace(), &name);
        match view.read(&key) {
            None => {
                transaction =
                    transaction.create(key.clone(), new_slice(view, service, &key, ports, endpoints))
            }
            // Not ours, or of an earlier service of this name: garbage collection makes room first.
            Some(slice) if !object::owners(slice).any(|owner| object::owner_uid(owner) == service.uid()) => {
                return;
            }
            Some(slice) if is_filled(&slice.value, service, &ports, &endpoints) => {}
            Some(slice) => {
                let mut value = slice.value.clone();
                fill(&mut value, service, ports, endpoints);
                transaction = transaction.replace(key, slice.revision, value);
            }
        }
    }
    outcome.step(format!("endpoints of {}", service.object.key), transaction);
}

/// Ports and endpoints of every slice, by name. The first set of ports keeps the first name, whatever they are.
fn wanted_slices(
    view: &View<'_>,
    service: &Typed<'_, Service>,
    outcome: &mut Outcome<'_>,
) -> BTreeMap<String, (Value, Vec<Value>)> {
    let pods = selected(view, service);
    let trusting = brake(view, service, &pods, outcome);
    let mut groups = BTreeMap::<Vec<Option<i32>>, Vec<&PodView<'_>>>::new();
    let most = (MOST_PORTS / service_ports(service).len().max(1)).max(1);
    for pod in &pods {
        let targets = targets(service, pod);
        if groups.len() >= most && !groups.contains_key(&targets) {
            let message = format!(
                "its pods have given its port names more than {most} different sets of numbers: further pods get no \
                 traffic; use the same numbers, or fewer ports"
            );
            outcome.problem(service.object.key.clone(), message);
            continue;
        }
        groups.entry(targets).or_default().push(pod);
    }
    // A slice without endpoints stands for a service without pods; no pod, no port.
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    let size = slicing::size(pods.len(), most);
    let mut slices = BTreeMap::new();
    for (index, (targets, pods)) in groups.into_iter().enumerate() {
        let addresses: Vec<u32> = pods.iter().map(|pod| pod.address().map_or(0, u32::from)).collect();
        for (part, range) in slicing::cut(&addresses, size) {
            let index = index.to_string();
            let mut parts = vec!["slice", service.uid(), &index];
            parts.extend((!part.is_empty()).then_some(part.as_str()));
            let endpoints = pods[range].iter().map(|pod| endpoint(view, service, pod, trusting)).collect();
            let name = format!("{}-{}", service.name(), object::letters(&parts, 5));
            slices.insert(name, (ports(service, &targets), endpoints));
        }
    }
    slices
}

/// The service's pods that have an address, in the order of their addresses.
fn selected<'a>(view: &View<'a>, service: &Typed<'_, Service>) -> Vec<PodView<'a>> {
    let Some(wanted) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
        return Vec::new();
    };
    let mut pods = view.pods_labelled(service.namespace(), wanted);
    pods.retain(|pod| pod.address().is_some() && pod.node().is_some() && !pod.terminal());
    pods.sort_by_cached_key(|pod| (pod.address(), pod.uid().to_owned()));
    pods
}

fn suspect(view: &View<'_>, pod: &PodView<'_>) -> bool {
    pod.node().is_some_and(|node| view.is_suspect(node))
}

/// Whether suspicion must be left aside, because it would take the last ready endpoints away.
fn brake(
    view: &View<'_>,
    service: &Typed<'_, Service>,
    pods: &[PodView<'_>],
    outcome: &mut Outcome<'_>,
) -> bool {
    let ready = || pods.iter().filter(|pod| pod.ready_when_last_heard());
    let is_trusted = |pod: &PodView<'_>| !pod.deleting() && !suspect(view, pod);
    // Pods that are being replaced count, too: they serve until their replacement does.
    let braked = ready().any(|pod| suspect(view, pod)) && !ready().any(is_trusted);
    if braked {
        let message =
            "all ready endpoints are on nodes that stopped answering: they are kept until others are ready";
        outcome.problem(service.object.key.clone(), message);
    }
    braked
}

fn endpoint(view: &View<'_>, service: &Typed<'_, Service>, pod: &PodView<'_>, trusting: bool) -> Value {
    let spec = service.spec.as_ref();
    let publish = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let serving = pod.ready_when_last_heard() && (trusting || !suspect(view, pod));
    let mut endpoint = json!({
        "addresses": [pod.address()],
        "conditions": {
            "ready": publish || (serving && !pod.deleting()),
            "serving": publish || serving,
            "terminating": pod.deleting(),
        },
        "nodeName": pod.node(),
        "targetRef": { "kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.uid() },
    });
    let pod_spec = pod.spec.as_ref();
    let subdomain = pod_spec.and_then(|spec| spec.subdomain.as_deref());
    if let Some(hostname) = pod_spec.and_then(|spec| spec.hostname.as_deref())
        && subdomain == Some(service.name())
    {
        object::object_at(&mut endpoint, &[]).insert("hostname".into(), hostname.into());
    }
    endpoint
}

fn service_ports<'s>(service: &'s Typed<'_, Service>) -> &'s [ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

/// Where this pod listens for each of the service's ports.
fn targets(service: &Typed<'_, Service>, pod: &PodView<'_>) -> Vec<Option<i32>> {
    let named = named_ports(pod);
    service_ports(service).iter().map(|port| target(port, &named)).collect()
}

/// The pod's ports that have names, by name and protocol; of several the first.
fn named_ports<'p>(pod: &'p PodView<'_>) -> BTreeMap<(&'p str, &'p str), i32> {
    let containers = pod.spec.as_ref().into_iter().flat_map(|spec| &spec.containers);
    let mut named = BTreeMap::new();
    for port in containers.flat_map(|container| container.ports.iter().flatten()) {
        if let Some(name) = &port.name {
            named.entry((name.as_str(), protocol(port.protocol.as_deref()))).or_insert(port.container_port);
        }
    }
    named
}

/// The ports of a slice; a name that its pods do not know is left out.
fn ports(service: &Typed<'_, Service>, targets: &[Option<i32>]) -> Value {
    let resolved = service_ports(service).iter().zip(targets).filter_map(|(port, target)| {
        let mut value = Map::new();
        value.insert("name".into(), port.name.clone().unwrap_or_default().into());
        value.insert("protocol".into(), protocol(port.protocol.as_deref()).into());
        value.insert("port".into(), (*target)?.into());
        if let Some(application) = &port.app_protocol {
            value.insert("appProtocol".into(), application.clone().into());
        }
        Some(Value::Object(value))
    });
    Value::Array(resolved.collect())
}

fn protocol(text: Option<&str>) -> &str {
    text.unwrap_or("TCP")
}

fn target(port: &ServicePort, named: &BTreeMap<(&str, &str), i32>) -> Option<i32> {
    match &port.target_port {
        None | Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            named.get(&(name.as_str(), protocol(port.protocol.as_deref()))).copied()
        }
    }
}

fn new_slice(
    view: &View<'_>,
    service: &Typed<'_, Service>,
    key: &Key,
    ports: Value,
    endpoints: Vec<Value>,
) -> Value {
    let mut value = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": &*key.name,
            "namespace": &*key.namespace,
            "uid": object::uuid(&["slice", service.uid(), &key.name, &view.world.snapshot.revision.to_string()]),
            "creationTimestamp": object::time_text(view.now),
            "generation": 1,
            "ownerReferences": [object::controller_reference(service.object)],
        },
        "addressType": "IPv4",
    });
    fill(&mut value, service, ports, endpoints);
    value
}

fn is_headless_service(service: &Typed<'_, Service>) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The labels of the service's slices: its own, and ours.
fn labels(service: &Typed<'_, Service>) -> Map<String, Value> {
    let own = service.metadata.labels.iter().flatten();
    let mut labels: Map<_, _> = own.map(|(name, text)| (name.clone(), text.clone().into())).collect();
    labels.insert(SERVICE_NAME.into(), service.name().into());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if is_headless_service(service) {
        labels.insert(HEADLESS.into(), "".into());
    }
    labels
}

/// Whether a slice says what it should say.
fn is_filled(slice: &Value, service: &Typed<'_, Service>, ports: &Value, endpoints: &[Value]) -> bool {
    slice.get("ports") == Some(ports)
        && slice["endpoints"].as_array().is_some_and(|listed| listed == endpoints)
        && warren_state::at(slice, "/metadata/labels").and_then(Value::as_object) == Some(&labels(service))
}

fn fill(value: &mut Value, service: &Typed<'_, Service>, ports: Value, endpoints: Vec<Value>) {
    *object::object_at(value, &["metadata", "labels"]) = labels(service);
    let changed = value.get("ports") != Some(&ports) || value["endpoints"].as_array() != Some(&endpoints);
    if changed && value.get("endpoints").is_some() {
        object::bump_generation(value);
    }
    let fields = object::object_at(value, &[]);
    fields.insert("ports".into(), ports);
    fields.insert("endpoints".into(), Value::Array(endpoints));
}
