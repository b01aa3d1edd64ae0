//! Where a service leads now, read from its endpoint slices.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::ServicePort,
    discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
};
use warren_proto::control::{Endpoint, NamedEndpoint};
use warren_state::Snapshot;
use warren_vocabulary::resources::{ENDPOINTSLICES, SERVICE_NAME};

/// How many endpoints one object's instruction may name: each port of a service, and each path of an Ingress, names
/// them all again.
pub(crate) const OBJECT_ENDPOINTS: usize = 50_000;

/// Every IPv4 endpoint slice, by the service it belongs to.
pub(crate) struct Slices {
    by_service: BTreeMap<(String, String), Vec<Slice>>,
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
        self.room.set(endpoints);
        self.exceeded.set(false);
    }

    /// Whether that was not enough.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.get()
    }

    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut by_service = BTreeMap::<_, Vec<_>>::new();
        for (object, slice) in snapshot.typed::<EndpointSlice>(ENDPOINTSLICES) {
            let labels = slice.metadata.labels.as_ref();
            let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME)) else { continue };
            if slice.address_type == "IPv4" {
                let key = (object.key.namespace.to_string(), service.clone());
                by_service.entry(key).or_default().push(Slice::new(slice));
            }
        }
        Self { by_service, room: Cell::new(usize::MAX), exceeded: Cell::new(false) }
    }

    fn service(&self, namespace: &str, service: &str) -> &[Slice] {
        self.by_service.get(&(namespace.to_owned(), service.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Endpoints of one port: the ready ones, or if there are none those that still serve while terminating.
    pub(crate) fn of_port(&self, namespace: &str, service: &str, port: &ServicePort) -> Vec<Endpoint> {
        let (mut ready, mut draining) = (Vec::new(), Vec::new());
        let wanted = name(port.name.as_ref(), port.protocol.as_ref());
        let slices = self.service(namespace, service);
        let numbered = || slices.iter().filter_map(|slice| Some((slice, *slice.ports.get(&wanted)?)));
        let all = numbered().map(|(slice, _)| slice.slice.endpoints.len()).fold(0, usize::saturating_add);
        let Some(room) = self.room.get().checked_sub(all) else {
            self.exceeded.set(true);
            return Vec::new();
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
                target.extend(endpoint.addresses.first().map(|address| Endpoint {
                    address: address.clone(),
                    port: number,
                    node: endpoint.node_name.clone().unwrap_or_default(),
                }));
            }
        }
        let mut chosen = if ready.is_empty() { draining } else { ready };
        chosen.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
        chosen.dedup_by(|a, b| a.address == b.address && a.port == b.port);
        chosen
    }

    /// Ready endpoints with their host names, for the records of a headless service.
    pub(crate) fn named(&self, namespace: &str, service: &str) -> Vec<NamedEndpoint> {
        let endpoints = self.service(namespace, service).iter().flat_map(|slice| &slice.slice.endpoints);
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
