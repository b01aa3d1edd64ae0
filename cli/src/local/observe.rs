//! Looks at what Docker has of a cluster, and completes the user's options from it.

use std::collections::BTreeSet;

use anyhow::Context as _;
use bollard::{
    errors::Error,
    models::{ContainerSummary, ContainerSummaryStateEnum, NetworkInspect},
    query_parameters::{InspectNetworkOptions, ListContainersOptionsBuilder},
};
use futures_util::future;

use super::{
    containers::{
        API_PORT_LABEL, HTTP_PORT_LABEL, HTTPS_PORT_LABEL, Member, PROXIES_LABEL, Ports, ROLE_LABEL, Role,
        SPECIFICATION_LABEL,
    },
    engine::{CLUSTER_LABEL, Engine},
    names::ClusterName,
    plan::{Observed, Seen, State},
};
use crate::args::UpOptions;

const DEFAULT_NODES: u16 = 3;
const DEFAULT_PORTS: Ports = Ports { api: 6443, http: 8080, https: 8443 };

/// What Docker has.
#[derive(Debug)]
pub(crate) struct Sight {
    /// The cluster's controller, gateway and nodes.
    pub(crate) members: Vec<ContainerSummary>,
    /// All other containers of the machine.
    pub(crate) others: Vec<ContainerSummary>,
    pub(crate) network: Option<NetworkInspect>,
}

impl Sight {
    pub(crate) async fn take(engine: &Engine, cluster: &ClusterName) -> anyhow::Result<Self> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let all = engine.docker.list_containers(Some(options)).await.context("cannot list containers")?;
        let (members, others) = all.into_iter().partition(|container| {
            label(container, CLUSTER_LABEL) == Some(cluster.as_str()) && role(container).is_some()
        });
        let network =
            match engine.docker.inspect_network(cluster.network(), None::<InspectNetworkOptions>).await {
                Ok(network) => Some(network),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => None,
                Err(error) => return Err(error).context("cannot look at the cluster's network"),
            };
        Ok(Self { members, others, network })
    }

    /// The ports of the cluster: as given, else as they are, else the defaults.
    pub(crate) fn ports(&self, options: &UpOptions) -> Ports {
        let remembered =
            |name| self.members.iter().find_map(|container| label(container, name)?.parse().ok());
        Ports {
            api: options.api_port.or_else(|| remembered(API_PORT_LABEL)).unwrap_or(DEFAULT_PORTS.api),
            http: options.gateway_http.or_else(|| remembered(HTTP_PORT_LABEL)).unwrap_or(DEFAULT_PORTS.http),
            https: options
                .gateway_https
                .or_else(|| remembered(HTTPS_PORT_LABEL))
                .unwrap_or(DEFAULT_PORTS.https),
        }
    }

    /// The proxies that the gateway believes: as given, else as they are, else none.
    pub(crate) fn trusted_proxies(&self, options: &UpOptions) -> String {
        let gateway = options.cluster.name.gateway();
        let known = || {
            let mut gateways = self.members.iter().filter(|container| name(container) == gateway);
            gateways.find_map(|container| label(container, PROXIES_LABEL))
        };
        match &options.trusted_proxies {
            Some(networks) => networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            None => known().unwrap_or_default().to_owned(),
        }
    }

    /// The ports that the cluster's running containers hold.
    pub(crate) fn held_ports(&self) -> Vec<u16> {
        self.members
            .iter()
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| port.public_port)
            .collect()
    }

    /// All members the cluster shall have: those it has, and nodes up to the wanted number.
    pub(crate) fn desired(&self, cluster: &ClusterName, nodes: Option<u16>) -> Vec<Member> {
        let existing: BTreeSet<u16> =
            self.members.iter().filter_map(|container| cluster.node_number(name(container))).collect();
        let default = if existing.is_empty() { DEFAULT_NODES } else { 0 };
        let numbers: BTreeSet<u16> = (1..=nodes.unwrap_or(default)).chain(existing).collect();
        let nodes = numbers.into_iter().map(|number| Member { role: Role::Node, name: cluster.node(number) });
        [
            Member { role: Role::Controller, name: cluster.controller() },
            Member { role: Role::Gateway, name: cluster.gateway() },
        ]
        .into_iter()
        .chain(nodes)
        .collect()
    }

    /// What the planner needs to know.
    pub(crate) async fn observed(&self, engine: &Engine, cluster: &ClusterName) -> anyhow::Result<Observed> {
        let network = self.network.as_ref().and_then(|network| network.id.as_deref());
        let seen = self.members.iter().map(|container| async move {
            let name = name(container);
            let identity = cluster.state_root().join(name).join("identity/node.pem");
            let joined =
                role(container) == Some(Role::Controller) || engine.has_file(name, &identity).await?;
            let seen = Seen {
                state: state(container),
                fingerprint: label(container, SPECIFICATION_LABEL).map(str::to_owned),
                joined,
                attached: network.is_some_and(|network| attached(container, cluster.network(), network)),
            };
            anyhow::Ok((name.to_owned(), seen))
        });
        let containers = future::try_join_all(seen).await?.into_iter().collect();
        Ok(Observed { network: self.network.is_some(), containers })
    }

    /// The images that the cluster's members were made from.
    pub(crate) fn images(&self) -> BTreeSet<String> {
        self.members.iter().filter_map(|container| container.image_id.clone()).collect()
    }
}

/// The container's name, without Docker's slash.
pub(crate) fn name(container: &ContainerSummary) -> &str {
    container.names.iter().flatten().next().map_or("", |name| name.trim_start_matches('/'))
}

/// A label of the container.
pub(crate) fn label<'a>(container: &'a ContainerSummary, name: &str) -> Option<&'a str> {
    container.labels.as_ref()?.get(name).map(String::as_str)
}

/// What the container is for, if it is a member.
pub(crate) fn role(container: &ContainerSummary) -> Option<Role> {
    label(container, ROLE_LABEL)?.parse().ok()
}

fn state(container: &ContainerSummary) -> State {
    match container.state {
        Some(ContainerSummaryStateEnum::RUNNING) => State::Running,
        Some(ContainerSummaryStateEnum::PAUSED) => State::Paused,
        _ => State::Stopped,
    }
}

/// A container remembers the identifier of its network; one that never ran remembers none yet.
fn attached(container: &ContainerSummary, network: &str, identifier: &str) -> bool {
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let remembered = networks.and_then(|networks| networks.get(network)?.network_id.as_deref());
    matches!(remembered, None | Some("")) || remembered == Some(identifier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ClusterOption;

    fn container(name: &str, role: &str, labels: &[(&str, &str)]) -> ContainerSummary {
        let role = [(ROLE_LABEL, role)];
        let labels = labels.iter().chain(&role);
        ContainerSummary {
            names: Some(vec![format!("/{name}")]),
            labels: Some(labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()),
            ..ContainerSummary::default()
        }
    }

    fn sight(members: Vec<ContainerSummary>) -> Sight {
        Sight { members, others: Vec::new(), network: None }
    }

    fn options(api_port: Option<u16>) -> UpOptions {
        let cluster = ClusterOption { name: "dev".parse().unwrap() };
        UpOptions {
            cluster,
            nodes: None,
            api_port,
            gateway_http: None,
            gateway_https: None,
            trusted_proxies: None,
        }
    }

    fn names(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| member.name.as_str()).collect()
    }

    #[test]
    fn options_left_out_keep_what_is_there() {
        let sight = sight(vec![container("dev-controller", "controller", &[(API_PORT_LABEL, "7000")])]);
        assert_eq!(sight.ports(&options(None)), Ports { api: 7000, ..DEFAULT_PORTS });
        assert_eq!(sight.ports(&options(Some(9000))), Ports { api: 9000, ..DEFAULT_PORTS });
    }

    #[test]
    fn missing_nodes_are_added_and_none_is_taken_away() {
        let dev = "dev".parse().unwrap();
        let new = sight(Vec::new());
        assert_eq!(
            names(&new.desired(&dev, None)),
            ["dev-controller", "dev-gateway", "dev-node-1", "dev-node-2", "dev-node-3"]
        );
        let old = sight(vec![container("dev-node-1", "node", &[]), container("dev-node-4", "node", &[])]);
        assert_eq!(names(&old.desired(&dev, None))[2..], ["dev-node-1", "dev-node-4"]);
        assert_eq!(names(&old.desired(&dev, Some(2)))[2..], ["dev-node-1", "dev-node-2", "dev-node-4"]);
    }
}
