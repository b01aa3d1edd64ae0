//! Where a service leads now, read from its endpoint slices.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::ServicePort,
    discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
};
use warren_proto::control::{Endpoint, NamedEndpoint};
use warren_state::{Difference, Key, Object};
use warren_vocabulary::resources::{SERVICE_NAME, SERVICES};

/// How many endpoints one object's instruction may name: each port of a service, and each path of an Ingress, names
/// them all again.
pub const OBJECT_ENDPOINTS: usize = 50_000;
/// Where a port leads to more pods than this, none of them is named to the gateways.
const MOST_NAMED: usize = 2_000;
const LONGEST_NAME: usize = 253;

/// Every IPv4 endpoint slice, by the service it belongs to.
#[derive(Default)]
pub(crate) struct Slices {
    /// By name, so that several slices of a service always come in the same order.
    by_service: BTreeMap<Key, BTreeMap<Arc<str>, Slice>>,
    allowed: Cell<usize>,
    /// How many endpoints may still be named; what comes behind gets none.
    room: Cell<usize>,
    exceeded: Cell<bool>,
}

struct Slice {
    slice: Arc<EndpointSlice>,
    /// By name and protocol.
    ports: BTreeMap<(String, String), u32>,
}

impl Slice {
    fn new(slice: Arc<EndpointSlice>) -> Self {
        let mut ports = BTreeMap::new();
        for port in slice.ports.iter().flatten() {
            let Some(number) = port.port.and_then(|number| u32::try_from(number).ok()) else { continue };
            ports.entry(name(port.name.as_ref(), port.protocol.as_ref())).or_insert(number);
        }
        Self { slice, ports }
    }
}

impl Slices {
    /// From now on so many endpoints may be named.
    pub(crate) fn allow(&self, endpoints: usize) {
        self.allowed.set(endpoints);
        self.room.set(endpoints);
        self.exceeded.set(false);
    }

    /// Whether that was not enough.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.get()
    }

    /// How many were named of those that may be; more than all when that was not enough.
    pub(crate) fn taken(&self) -> usize {
        let taken = self.allowed.get().saturating_sub(self.room.get());
        if self.exceeded() { self.allowed.get().saturating_add(1) } else { taken }
    }

    /// Takes a change of a slice in; the services that it concerns.
    pub(crate) fn change(&mut self, difference: &Difference) -> [Option<Key>; 2] {
        let name = &difference.key().name;
        let former = difference.previous.as_deref().and_then(of_service).map(|(service, _)| service);
        if let Some(service) = &former
            && let Some(slices) = self.by_service.get_mut(service)
        {
            slices.remove(name);
            if slices.is_empty() {
                self.by_service.remove(service);
            }
        }
        let current = difference.current.as_deref().and_then(of_service).map(|(service, slice)| {
            let slices = self.by_service.entry(service.clone()).or_default();
            slices.insert(Arc::clone(name), Slice::new(slice));
            service
        });
        [former, current]
    }

    fn service(&self, namespace: &str, service: &str) -> impl Iterator<Item = &Slice> + Clone {
        self.by_service.get(&Key::new(SERVICES, namespace, service)).into_iter().flat_map(BTreeMap::values)
    }

    /// Endpoints of one port: the ready ones, or if there are none those that still serve while terminating.
    pub(crate) fn of_port(&self, namespace: &str, service: &str, port: &ServicePort) -> Vec<Endpoint> {
        self.with_pods(namespace, service, port).0
    }

    /// The same, and the names of the pods behind them: in their order, empty where there is none; none at all where there
    /// are too many.
    pub(crate) fn with_pods(
        &self,
        namespace: &str,
        service: &str,
        port: &ServicePort,
    ) -> (Vec<Endpoint>, Vec<String>) {
        let (mut ready, mut draining) = (Vec::new(), Vec::new());
        let wanted = name(port.name.as_ref(), port.protocol.as_ref());
        let slices = self.service(namespace, service);
        let numbered = || slices.clone().filter_map(|slice| Some((slice, *slice.ports.get(&wanted)?)));
        let all = numbered().map(|(slice, _)| slice.slice.endpoints.len()).fold(0, usize::saturating_add);
        let Some(room) = self.room.get().checked_sub(all) else {
            self.exceeded.set(true);
            return (Vec::new(), Vec::new());
        };
        self.room.set(room);
        for (slice, number) in numbered() {
            for endpoint in &slice.slice.endpoints {
                let target = if is_ready(endpoint) {
                    &mut ready
                } else if is_draining(endpoint) {
                    &mut draining
                } else {
                    continue;
                };
                target.extend(endpoint.addresses.first().map(|address| {
                    let node = endpoint.node_name.clone().unwrap_or_default();
                    (Endpoint { address: address.clone(), port: number, node }, pod(endpoint))
                }));
            }
        }
        let mut chosen = if ready.is_empty() { draining } else { ready };
        chosen
            .sort_by(|(a, a_pod), (b, b_pod)| (&a.address, a.port, a_pod).cmp(&(&b.address, b.port, b_pod)));
        chosen.dedup_by(|(a, _), (b, _)| a.address == b.address && a.port == b.port);
        let (endpoints, mut pods): (Vec<_>, Vec<_>) = chosen.into_iter().unzip();
        if pods.len() > MOST_NAMED || pods.iter().all(String::is_empty) {
            pods.clear();
        }
        (endpoints, pods)
    }

    /// Ready endpoints with their host names, for the records of a headless service.
    pub(crate) fn named(&self, namespace: &str, service: &str) -> Vec<NamedEndpoint> {
        let endpoints = self.service(namespace, service).flat_map(|slice| &slice.slice.endpoints);
        let mut named: Vec<_> = endpoints
            .filter(|endpoint| is_ready(endpoint))
            .filter_map(|endpoint| {
                Some(NamedEndpoint {
                    address: endpoint.addresses.first()?.clone(),
                    hostname: endpoint.hostname.clone().unwrap_or_default(),
                    node: endpoint.node_name.clone().unwrap_or_default(),
                })
            })
            .collect();
        named.sort_by(|a, b| (&a.address, &a.hostname).cmp(&(&b.address, &b.hostname)));
        named.dedup_by(|a, b| a.address == b.address && a.hostname == b.hostname);
        named
    }
}

/// The service that a slice belongs to, if its addresses are of use.
fn of_service(object: &Object) -> Option<(Key, Arc<EndpointSlice>)> {
    let slice = object.typed::<EndpointSlice>().ok()?;
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    let key = Key::new(SERVICES, &object.key.namespace, service);
    (slice.address_type == "IPv4").then_some((key, slice))
}

/// The name of the pod that an endpoint stands for; a longer one than any pod has is none.
fn pod(endpoint: &SliceEndpoint) -> String {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    let name = target.and_then(|target| target.name.as_deref());
    name.filter(|name| name.len() <= LONGEST_NAME).unwrap_or_default().to_owned()
}

/// An unknown readiness means ready, as Kubernetes says.
fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn is_draining(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|conditions| {
        conditions.serving.unwrap_or(false) && conditions.terminating.unwrap_or(false)
    })
}

/// What a port of a slice and a port of a service have in common: name and protocol.
fn name(name: Option<&String>, protocol: Option<&String>) -> (String, String) {
    (name.cloned().unwrap_or_default(), protocol.cloned().unwrap_or_else(|| "TCP".into()))
}
