//! Looks at what Docker has of a cluster, and completes the user's options from it.

use std::collections::BTreeSet;

use anyhow::Context as _;
use bollard::{
    errors::Error,
    models::{ContainerSummary, ContainerSummaryStateEnum, NetworkInspect},
    query_parameters::{InspectNetworkOptions, ListContainersOptionsBuilder},
};
use futures_util::future;
use warren_controller::Networks;

use super::{
    containers::{
        API_PORT_LABEL, HTTP_PORT_LABEL, HTTPS_PORT_LABEL, Member, NETWORKS_LABEL, PROXIES_LABEL, Ports,
        ROLE_LABEL, Role, SPECIFICATION_LABEL, labelled_networks,
    },
    engine::{CLUSTER_LABEL, LocalDocker},
    names::ClusterName,
    plan::{Observed, ObservedContainer, RunState},
    ports,
};
use crate::args::UpOptions;

const DEFAULT_NODES: u16 = 3;
const DEFAULT_PORTS: Ports = Ports { api: 6443, http: 8080, https: 8443 };

/// The ports of the cluster that is there, as far as there is one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Remembered {
    pub(crate) api: Option<u16>,
    pub(crate) http: Option<u16>,
    pub(crate) https: Option<u16>,
}

/// What Docker has.
#[derive(Debug)]
pub(crate) struct DockerSnapshot {
    /// The cluster's controller, gateway and nodes.
    pub(crate) members: Vec<ContainerSummary>,
    /// All other containers of the machine.
    pub(crate) others: Vec<ContainerSummary>,
    pub(crate) network: Option<NetworkInspect>,
}

impl DockerSnapshot {
    pub(crate) async fn take(engine: &LocalDocker, cluster: &ClusterName) -> anyhow::Result<Self> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let all = engine.docker.list_containers(Some(options)).await.context("cannot list containers")?;
        let (members, others) = all.into_iter().partition(|container| is_member(container, cluster));
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
        let remembered = self.remembered_ports();
        Ports {
            api: options.api_port.or(remembered.api).unwrap_or(DEFAULT_PORTS.api),
            http: options.gateway_http.or(remembered.http).unwrap_or(DEFAULT_PORTS.http),
            https: options.gateway_https.or(remembered.https).unwrap_or(DEFAULT_PORTS.https),
        }
    }

    /// The ports that the members' labels remember.
    pub(crate) fn remembered_ports(&self) -> Remembered {
        let remembered =
            |name| self.members.iter().find_map(|container| label(container, name)?.parse().ok());
        Remembered {
            api: remembered(API_PORT_LABEL),
            http: remembered(HTTP_PORT_LABEL),
            https: remembered(HTTPS_PORT_LABEL),
        }
    }

    /// How many nodes there are.
    pub(crate) fn node_count(&self, cluster: &ClusterName) -> usize {
        self.members.iter().filter(|container| cluster.node_number(name(container)).is_some()).count()
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

    /// The cluster's networks: as they were decided when it was made, which cannot be changed; for a new one as given,
    /// else the defaults.
    pub(crate) fn networks(&self, options: &UpOptions) -> anyhow::Result<Networks> {
        let wanted = options.networks.wanted();
        let controller = options.cluster.name.controller();
        let Some(controller) = self.members.iter().find(|container| name(container) == controller) else {
            return wanted.or(Networks::default());
        };
        let decided = match label(controller, NETWORKS_LABEL) {
            Some(text) => labelled_networks(text).with_context(|| {
                format!("the label {NETWORKS_LABEL}={text:?} of the controller names no networks")
            })?,
            None => Networks::default(),
        };
        wanted.agree(decided)?;
        Ok(decided)
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
    pub(crate) async fn observed(
        &self,
        engine: &LocalDocker,
        cluster: &ClusterName,
    ) -> anyhow::Result<Observed> {
        let network = self.network.as_ref().and_then(|network| network.id.as_deref());
        let seen = self.members.iter().map(|container| async move {
            let name = name(container);
            let identity = cluster.state_root().join(name).join("identity/node.pem");
            let joined =
                role(container) == Some(Role::Controller) || engine.has_file(name, &identity).await?;
            let seen = ObservedContainer {
                state: state(container),
                reachable: state(container) != RunState::Running || ports::answer(container).await,
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

/// What the container's label says that it is for. Labels of an image become its containers' labels, so a pod's may say
/// anything here: [`is_member`] decides.
fn role(container: &ContainerSummary) -> Option<Role> {
    label(container, ROLE_LABEL)?.parse().ok()
}

/// Whether the container is a member of the cluster: it has the name of one, and its labels agree. Only `warren up` gives
/// these names; the agent's containers have others, whatever labels come with their images.
pub(crate) fn is_member(container: &ContainerSummary, cluster: &ClusterName) -> bool {
    let name = name(container);
    let expected = match role(container) {
        Some(Role::Controller) => name == cluster.controller(),
        Some(Role::Gateway) => name == cluster.gateway(),
        Some(Role::Node) => cluster.node_number(name).is_some(),
        None => false,
    };
    expected && label(container, CLUSTER_LABEL) == Some(cluster.as_str())
}

/// Whether the container is one that an agent made: its name has the agent's form, in which no member's is (a cluster's
/// name has no underscore).
pub(crate) fn is_pods(container: &ContainerSummary) -> bool {
    name(container).starts_with(warren_agent::runtime::spec::CONTAINER_PREFIX)
}

fn state(container: &ContainerSummary) -> RunState {
    match container.state {
        Some(ContainerSummaryStateEnum::RUNNING) => RunState::Running,
        Some(ContainerSummaryStateEnum::PAUSED) => RunState::Paused,
        _ => RunState::Stopped,
    }
}

/// A container remembers the identifier of its network; one that never ran remembers none yet.
fn attached(container: &ContainerSummary, network: &str, identifier: &str) -> bool {
    let networks = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let remembered = networks.and_then(|networks| networks.get(network)?.network_id.as_deref());
    matches!(remembered, None | Some("")) || remembered == Some(identifier)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::args::{ClusterOption, NetworkOptions};

    impl DockerSnapshot {
        pub(crate) fn nothing() -> Self {
            snapshot(Vec::new())
        }
    }

    /// A whole cluster, as Docker lists it.
    pub(crate) fn running(cluster: &ClusterName, ports: Ports, nodes: u16) -> DockerSnapshot {
        let (api, http, https) = (ports.api.to_string(), ports.http.to_string(), ports.https.to_string());
        let gateway = [(HTTP_PORT_LABEL, http.as_str()), (HTTPS_PORT_LABEL, https.as_str())];
        let mut members = vec![
            container(&cluster.controller(), "controller", &[(API_PORT_LABEL, &api)]),
            container(&cluster.gateway(), "gateway", &gateway),
        ];
        members.extend((1..=nodes).map(|number| container(&cluster.node(number), "node", &[])));
        snapshot(members)
    }

    fn container(name: &str, role: &str, labels: &[(&str, &str)]) -> ContainerSummary {
        let role = [(ROLE_LABEL, role)];
        let labels = labels.iter().chain(&role);
        ContainerSummary {
            names: Some(vec![format!("/{name}")]),
            labels: Some(labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()),
            ..ContainerSummary::default()
        }
    }

    fn snapshot(members: Vec<ContainerSummary>) -> DockerSnapshot {
        DockerSnapshot { members, others: Vec::new(), network: None }
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
            networks: NetworkOptions::default(),
        }
    }

    fn names(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| member.name.as_str()).collect()
    }

    #[test]
    fn options_left_out_keep_what_is_there() {
        let snapshot = snapshot(vec![container("dev-controller", "controller", &[(API_PORT_LABEL, "7000")])]);
        assert_eq!(snapshot.ports(&options(None)), Ports { api: 7000, ..DEFAULT_PORTS });
        assert_eq!(snapshot.ports(&options(Some(9000))), Ports { api: 9000, ..DEFAULT_PORTS });
    }

    #[test]
    fn networks_are_chosen_once() {
        let asks = |cluster: Option<&str>| UpOptions {
            networks: NetworkOptions {
                cluster_network: cluster.map(|text| text.parse().unwrap()),
                ..NetworkOptions::default()
            },
            ..options(None)
        };
        let large = DockerSnapshot::nothing().networks(&asks(Some("10.64.0.0/11"))).unwrap();
        assert_eq!((large.members(), Networks::default().members()), (8_191, 255));
        assert!(
            DockerSnapshot::nothing().networks(&asks(Some("10.32.0.0/12"))).is_err(),
            "it overlaps with services"
        );
        let made =
            |labels: &[(&str, &str)]| snapshot(vec![container("dev-controller", "controller", labels)]);
        let before = made(&[]);
        assert_eq!(before.networks(&asks(None)).unwrap(), Networks::default());
        let error = before.networks(&asks(Some("10.64.0.0/11"))).unwrap_err().to_string();
        assert!(
            error.contains("--cluster-network 10.64.0.0/11 is not what this cluster was founded with"),
            "{error}"
        );
        let label = crate::local::containers::networks_label(&large);
        let known = made(&[(NETWORKS_LABEL, &label)]);
        assert_eq!(known.networks(&asks(None)).unwrap(), large);
        assert!(known.networks(&asks(Some("10.42.0.0/16"))).is_err());
        assert!(made(&[(NETWORKS_LABEL, "x")]).networks(&asks(None)).is_err());
    }

    #[test]
    fn labels_that_come_with_a_pods_image_make_no_member() {
        let dev: ClusterName = "dev".parse().unwrap();
        let with = |name: &str, role: &str, cluster: &str| {
            is_member(&container(name, role, &[(CLUSTER_LABEL, cluster)]), &dev)
        };
        assert!(with("dev-controller", "controller", "dev"));
        assert!(with("dev-node-7", "node", "dev"));
        for (name, role, cluster) in [
            ("warren-0c1d-web", "controller", "dev"),
            ("dev-controller", "gateway", "dev"),
            ("dev-controller", "controller", "other"),
            ("dev-node-x", "node", "dev"),
            ("dev-node-1", "sandbox", "dev"),
        ] {
            assert!(!with(name, role, cluster), "{name} {role} {cluster}");
        }
    }

    #[test]
    fn missing_nodes_are_added_and_none_is_taken_away() {
        let dev = "dev".parse().unwrap();
        let new = snapshot(Vec::new());
        assert_eq!(
            names(&new.desired(&dev, None)),
            ["dev-controller", "dev-gateway", "dev-node-1", "dev-node-2", "dev-node-3"]
        );
        let old = snapshot(vec![container("dev-node-1", "node", &[]), container("dev-node-4", "node", &[])]);
        assert_eq!(names(&old.desired(&dev, None))[2..], ["dev-node-1", "dev-node-4"]);
        assert_eq!(names(&old.desired(&dev, Some(2)))[2..], ["dev-node-1", "dev-node-2", "dev-node-4"]);
    }
}
