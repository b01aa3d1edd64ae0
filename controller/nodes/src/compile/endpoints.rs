//! Where a service leads now, read from its endpoint slices.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    core::v1::ServicePort,
    discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice},
};
use warren_plan::resources::{ENDPOINTSLICES, SERVICE_NAME};
use warren_proto::control::{Endpoint, NamedEndpoint};
use warren_store::Snapshot;

/// Every IPv4 endpoint slice, by the service it belongs to.
pub(crate) struct Slices(BTreeMap<(String, String), Vec<Arc<EndpointSlice>>>);

impl Slices {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let mut slices = BTreeMap::<_, Vec<_>>::new();
        for (object, slice) in snapshot.typed::<EndpointSlice>(ENDPOINTSLICES) {
            let labels = slice.metadata.labels.as_ref();
            let Some(service) = labels.and_then(|labels| labels.get(SERVICE_NAME)) else { continue };
            if slice.address_type == "IPv4" {
                let key = (object.key.namespace.to_string(), service.clone());
                slices.entry(key).or_default().push(slice);
            }
        }
        Self(slices)
    }

    fn service(&self, namespace: &str, service: &str) -> &[Arc<EndpointSlice>] {
        self.0.get(&(namespace.to_owned(), service.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Endpoints of one port: the ready ones, or if there are none those that still serve while terminating.
    pub(crate) fn of_port(&self, namespace: &str, service: &str, port: &ServicePort) -> Vec<Endpoint> {
        let (mut ready, mut draining) = (Vec::new(), Vec::new());
        for slice in self.service(namespace, service) {
            let Some(number) = port_number(slice, port) else { continue };
            for endpoint in &slice.endpoints {
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
        let endpoints = self.service(namespace, service).iter().flat_map(|slice| &slice.endpoints);
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

/// The slice's number for a service port: same name, same protocol.
fn port_number(slice: &EndpointSlice, port: &ServicePort) -> Option<u32> {
    let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".into());
    let found = slice.ports.iter().flatten().find(|candidate| {
        candidate.name.as_deref().unwrap_or("") == port.name.as_deref().unwrap_or("")
            && protocol(&candidate.protocol) == protocol(&port.protocol)
    })?;
    u32::try_from(found.port?).ok()
}
