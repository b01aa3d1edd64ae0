//! What a pod may refer to: ConfigMaps and Secrets of its namespace, its own fields, its containers' resources.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Container, Node, ObjectFieldSelector, Pod, ResourceFieldSelector, Secret},
    apimachinery::pkg::api::resource::Quantity,
};
use warren_objects::quantity;
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::resources::{CONFIGMAPS, NODES, SECRETS};

/// Which objects a compilation has looked at, those that are not there among them: it is out of date when one changes.
#[derive(Default)]
pub(crate) struct ReadSet(RefCell<BTreeSet<Key>>);

impl ReadSet {
    pub(crate) fn note(&self, key: &Key) {
        let mut reads = self.0.borrow_mut();
        if !reads.contains(key) {
            reads.insert(key.clone());
        }
    }

    pub(crate) fn into_keys(self) -> BTreeSet<Key> {
        self.0.into_inner()
    }
}

/// The pod under compilation and where its references lead. Errors are messages in Kubernetes' words.
pub(crate) struct References<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) reads: &'a ReadSet,
    pub(crate) pod: &'a Pod,
    pub(crate) namespace: &'a str,
}

impl References<'_> {
    fn find(&self, key: &Key) -> Option<&Arc<Object>> {
        self.reads.note(key);
        self.snapshot.get(key)
    }

    /// `Ok(None)` when the reference is optional and leads nowhere.
    pub(crate) fn config_map(
        &self,
        name: &str,
        optional: Option<bool>,
    ) -> Result<Option<Arc<ConfigMap>>, String> {
        let found = self
            .find(&Key::new(CONFIGMAPS, self.namespace, name))
            .and_then(|object| object.typed::<ConfigMap>().ok());
        match found {
            None if optional != Some(true) => Err(format!("configmap \"{name}\" not found")),
            found => Ok(found),
        }
    }

    /// `Ok(None)` when the reference is optional and leads nowhere.
    pub(crate) fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<Arc<Secret>>, String> {
        let found = self
            .find(&Key::new(SECRETS, self.namespace, name))
            .and_then(|object| object.typed::<Secret>().ok());
        match found {
            None if optional != Some(true) => Err(format!("secret \"{name}\" not found")),
            found => Ok(found),
        }
    }

    fn node(&self) -> Option<Arc<Node>> {
        let name = self.pod.spec.as_ref()?.node_name.as_deref()?;
        self.find(&Key::new(NODES, "", name))?.typed().ok()
    }

    /// The node's address in the underlay: as already reported in the pod's status, else from the node.
    fn host_ip(&self) -> String {
        let reported = self.pod.status.as_ref().and_then(|status| status.host_ip.clone());
        reported.or_else(|| internal_ip(&*self.node()?)).unwrap_or_default()
    }

    /// The value of a field of the pod.
    pub(crate) fn field(&self, selector: &ObjectFieldSelector) -> Result<String, String> {
        let (metadata, spec, status) = (&self.pod.metadata, self.pod.spec.as_ref(), self.pod.status.as_ref());
        let path = selector.field_path.as_str();
        if let Some((map, key)) = subscript(path) {
            let map = match map {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => return Err(format!("unsupported fieldPath: {path}")),
            };
            return Ok(map.as_ref().and_then(|map| map.get(key).cloned()).unwrap_or_default());
        }
        let value = match path {
            "metadata.name" => metadata.name.clone(),
            "metadata.namespace" => metadata.namespace.clone(),
            "metadata.uid" => metadata.uid.clone(),
            "metadata.labels" => Some(lines(metadata.labels.as_ref())),
            "metadata.annotations" => Some(lines(metadata.annotations.as_ref())),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
            "status.podIP" | "status.podIPs" => status.and_then(|status| status.pod_ip.clone()),
            "status.hostIP" | "status.hostIPs" => Some(self.host_ip()),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        Ok(value.unwrap_or_default())
    }

    /// A container's request or limit in units of the divisor, rounded up.
    pub(crate) fn resource(
        &self,
        selector: &ResourceFieldSelector,
        own: Option<&Container>,
    ) -> Result<String, String> {
        let container = match &selector.container_name {
            Some(name) => {
                let spec = self.pod.spec.as_ref();
                let init = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
                spec.iter()
                    .flat_map(|spec| &spec.containers)
                    .chain(init)
                    .find(|candidate| candidate.name == *name)
            }
            None => own,
        };
        let container = container.ok_or_else(|| {
            format!("container {} not found", selector.container_name.as_deref().unwrap_or_default())
        })?;
        let (kind, resource) = selector
            .resource
            .split_once('.')
            .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
        let amount = self.amount(container, kind, resource)?;
        let divisor =
            selector.divisor.as_ref().map_or(1000, |divisor| quantity::parse(&divisor.0).unwrap_or(0));
        let divisor = if divisor <= 0 { 1000 } else { divisor };
        // Division goes towards zero: that is up for what is below it.
        let (whole, rest) = (amount / divisor, amount % divisor);
        Ok(whole.saturating_add(i128::from(rest > 0)).to_string())
    }

    /// In thousandths. A missing limit is what the node can give, a missing request is nothing.
    fn amount(&self, container: &Container, kind: &str, resource: &str) -> Result<i128, String> {
        let resources = container.resources.as_ref();
        let map = match kind {
            "limits" => resources.and_then(|resources| resources.limits.as_ref()),
            "requests" => resources.and_then(|resources| resources.requests.as_ref()),
            _ => return Err(format!("unsupported container resource : {kind}.{resource}")),
        };
        let parse =
            |amount: &Quantity| quantity::parse(&amount.0).map_err(|error| format!("{}: {error}", amount.0));
        match map.and_then(|map| map.get(resource)) {
            Some(amount) => parse(amount),
            None if kind == "requests" => Ok(0),
            None => {
                let node = self.node();
                let allocatable = node.as_ref().and_then(|node| node.status.as_ref()?.allocatable.as_ref());
                allocatable.and_then(|allocatable| allocatable.get(resource)).map_or(Ok(0), parse)
            }
        }
    }
}

/// The address by which a node is known in the underlay.
pub(crate) fn internal_ip(node: &Node) -> Option<String> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    Some(addresses.iter().find(|address| address.type_ == "InternalIP")?.address.clone())
}

/// `metadata.labels['app']` as ("metadata.labels", "app").
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

/// A map as the downward API writes it: one `key="value"` a line.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<_> = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}
