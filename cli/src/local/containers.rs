//! PURE: what each member's container is.

use std::{collections::HashMap, fmt, path::PathBuf, str::FromStr};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use sha2::{Digest as _, Sha256};
use warren_controller::Networks;

use super::{engine::CLUSTER_LABEL, names::ClusterName};

/// The label that says what a member's container is.
pub(crate) const ROLE_LABEL: &str = "warren.role";
/// The label that tells whether a container is as this binary would make it.
pub(crate) const SPECIFICATION_LABEL: &str = "warren.specification";
/// The labels that remember the published ports, also while the container is stopped.
pub(crate) const API_PORT_LABEL: &str = "warren.port.api";
pub(crate) const HTTP_PORT_LABEL: &str = "warren.port.http";
pub(crate) const HTTPS_PORT_LABEL: &str = "warren.port.https";
pub(crate) const PROXIES_LABEL: &str = "warren.trusted-proxies";
/// The label that remembers the networks of a cluster that has others than by default: cluster, services, prefix.
pub(crate) const NETWORKS_LABEL: &str = "warren.networks";

/// Ports inside the containers; outside they are the user's choice.
const API_PORT: u16 = 6443;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
const SOCKET_INSIDE: &str = "/var/run/docker.sock";
/// How long Docker waits for a member to stop; longer than the supervisor waits for its daemons.
const STOP_SECONDS: i64 = 20;

/// What a container of the cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Controller,
    Gateway,
    Node,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Controller => "controller",
            Self::Gateway => "gateway",
            Self::Node => "node",
        })
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Controller, Self::Gateway, Self::Node]
            .into_iter()
            .find(|role| role.to_string() == text)
            .ok_or(())
    }
}

/// One container of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) name: String,
}

/// The ports published on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    pub(crate) http: u16,
    pub(crate) https: u16,
}

/// A port of a container that is published, and the label that remembers where.
#[derive(Debug, Clone, Copy)]
struct Published {
    inside: u16,
    outside: u16,
    label: &'static str,
}

/// All that determines the containers of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) cluster: ClusterName,
    pub(crate) image: String,
    /// The Docker socket on this machine.
    pub(crate) socket: PathBuf,
    pub(crate) ports: Ports,
    /// Proxies before the gateway whose word is taken, as CIDRs with commas; empty for none.
    pub(crate) trusted_proxies: String,
    pub(crate) networks: Networks,
}

/// What a label says of a cluster's networks.
pub(crate) fn networks_label(networks: &Networks) -> String {
    format!("{} {} {}", networks.cluster(), networks.services(), networks.node_prefix())
}

/// The networks that a label names.
pub(crate) fn labelled_networks(label: &str) -> Option<Networks> {
    let [cluster, services, prefix] = label.split(' ').collect::<Vec<_>>()[..] else { return None };
    Networks::new(cluster.parse().ok()?, services.parse().ok()?, prefix.parse().ok()?).ok()
}

impl Layout {
    /// Where the member keeps its state: the same path inside and outside its container, because
    /// Docker resolves the mounts of pods outside.
    pub(crate) fn state_dir(&self, member: &str) -> PathBuf {
        self.cluster.state_root().join(member)
    }

    /// The request that creates a member's container. The token is a credential, not a property of
    /// the container: it does not count towards the specification.
    pub(crate) fn body(&self, member: &Member, token: Option<&str>) -> ContainerCreateBody {
        let mut body = self.specification(member);
        let fingerprint = fingerprint(&body);
        body.labels.get_or_insert_default().insert(SPECIFICATION_LABEL.to_owned(), fingerprint);
        body.env = token.map(|token| vec![format!("WARREN_TOKEN={token}")]);
        body
    }

    /// What `body` writes into the specification's label.
    pub(crate) fn fingerprint(&self, member: &Member) -> String {
        fingerprint(&self.specification(member))
    }

    fn specification(&self, member: &Member) -> ContainerCreateBody {
        let published = self.published(member.role);
        let mut labels = HashMap::from([
            (CLUSTER_LABEL.to_owned(), self.cluster.to_string()),
            (ROLE_LABEL.to_owned(), member.role.to_string()),
        ]);
        if member.role == Role::Gateway && !self.trusted_proxies.is_empty() {
            labels.insert(PROXIES_LABEL.to_owned(), self.trusted_proxies.clone());
        }
        if member.role == Role::Controller && self.networks != Networks::default() {
            labels.insert(NETWORKS_LABEL.to_owned(), networks_label(&self.networks));
        }
        labels.extend(published.iter().map(|port| (port.label.to_owned(), port.outside.to_string())));
        ContainerCreateBody {
            image: Some(self.image.clone()),
            hostname: Some(member.name.clone()),
            cmd: Some(self.command(member)),
            labels: Some(labels),
            stop_timeout: Some(STOP_SECONDS),
            exposed_ports: Some(published.iter().map(|port| format!("{}/tcp", port.inside)).collect()),
            host_config: Some(self.host_config(member, &published)),
            ..ContainerCreateBody::default()
        }
    }

    fn published(&self, role: Role) -> Vec<Published> {
        let Ports { api, http, https } = self.ports;
        match role {
            Role::Controller => vec![Published { inside: API_PORT, outside: api, label: API_PORT_LABEL }],
            Role::Gateway => vec![
                Published { inside: HTTP_PORT, outside: http, label: HTTP_PORT_LABEL },
                Published { inside: HTTPS_PORT, outside: https, label: HTTPS_PORT_LABEL },
            ],
            Role::Node => Vec::new(),
        }
    }

    /// The options that tell a process of the cluster's networks, if they are not those by default.
    fn network_options(&self, role: Role) -> Vec<String> {
        let networks = &self.networks;
        let mut options = Vec::new();
        if *networks != Networks::default() {
            options.push(format!("--cluster-network={}", networks.cluster()));
            options.push(format!("--service-network={}", networks.services()));
            options.extend(
                (role == Role::Controller)
                    .then(|| format!("--node-network-prefix={}", networks.node_prefix())),
            );
        }
        options
    }

    fn command(&self, member: &Member) -> Vec<String> {
        let state_dir = self.state_dir(&member.name).display().to_string();
        let controller = self.cluster.controller();
        let address = format!("{controller}:{API_PORT}");
        let member_name = member.name.as_str();
        let node = ["node", "--controller", &address, "--name", member_name, "--state-dir", &state_dir];
        let (http, https) = (format!("0.0.0.0:{HTTP_PORT}"), format!("0.0.0.0:{HTTPS_PORT}"));
        let host_paths = format!("{state_dir}/host");
        let listen = format!("0.0.0.0:{API_PORT}");
        let words: Vec<&str> = match member.role {
            Role::Controller => {
                let sans = ["--tls-san", &controller, "--tls-san", "localhost", "--tls-san", "127.0.0.1"];
                ["controller", "--data-dir", &state_dir, "--listen", &listen]
                    .into_iter()
                    .chain(sans)
                    .collect()
            }
            Role::Gateway => {
                let proxies = ["--trusted-proxies", &self.trusted_proxies];
                let proxies = proxies.into_iter().filter(|_| !self.trusted_proxies.is_empty());
                node.into_iter()
                    .chain(["--gateway", "--http", &http, "--https", &https])
                    .chain(proxies)
                    .collect()
            }
            Role::Node => {
                let cluster = self.cluster.as_str();
                let engine = ["--docker-socket", SOCKET_INSIDE, "--cluster", cluster];
                let pods = ["--host-path-prefix", &host_paths, "--sandbox-image", &self.image];
                node.into_iter().chain(engine).chain(pods).collect()
            }
        };
        words.into_iter().map(str::to_owned).chain(self.network_options(member.role)).collect()
    }

    fn host_config(&self, member: &Member, published: &[Published]) -> HostConfig {
        let state_dir = self.state_dir(&member.name).display().to_string();
        let base = HostConfig {
            binds: Some(vec![format!("{state_dir}:{state_dir}")]),
            network_mode: Some(self.cluster.network().to_owned()),
            port_bindings: Some(published.iter().map(publish).collect()),
            // A cluster comes back with the machine; a user who kills or stops a member wants it down.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size", "10m"), ("max-file", "3")].map(owned))),
            }),
            ..HostConfig::default()
        };
        match member.role {
            Role::Controller => HostConfig { cap_drop: Some(vec!["ALL".to_owned()]), ..base },
            // It meets strangers: Docker's own seccomp and AppArmor profiles and masks stay, and all capabilities go but
            // these: interfaces and rules, pings, and ports below 1024.
            Role::Gateway => HostConfig {
                cap_drop: Some(vec!["ALL".to_owned()]),
                cap_add: capabilities(&["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                ..member_of_overlay(base)
            },
            Role::Node => self.node_config(member, unmasked(member_of_overlay(base))),
        }
    }

    /// What a node needs beyond the overlay: the machine's process identifiers, to enter its pods'
    /// namespaces; its true cgroup; a directory in memory for secrets; and Docker.
    fn node_config(&self, member: &Member, base: HostConfig) -> HostConfig {
        let memory = self.cluster.memory_root().join(&member.name).display().to_string();
        let mut binds = base.binds.clone().unwrap_or_default();
        // Docker makes the directory in the machine's memory; a container has a /dev/shm of its own.
        binds.push(format!("{memory}:{memory}"));
        binds.push(format!("{}:{SOCKET_INSIDE}", self.socket.display()));
        HostConfig {
            binds: Some(binds),
            cap_add: capabilities(&["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "NET_RAW"]),
            pid_mode: Some("host".to_owned()),
            cgroupns_mode: Some(HostConfigCgroupnsModeEnum::HOST),
            // Its pods' groups lie in its own, and a privileged pod may use every device.
            device_cgroup_rules: Some(vec!["a *:* rwm".to_owned()]),
            ..base
        }
    }
}

/// What a node needs beside it: to enter its pods' namespaces, and to write settings of their interfaces below /proc/sys,
/// which Docker mounts read-only otherwise.
fn unmasked(base: HostConfig) -> HostConfig {
    HostConfig {
        security_opt: Some(vec!["apparmor=unconfined".to_owned(), "seccomp=unconfined".to_owned()]),
        masked_paths: Some(Vec::new()),
        readonly_paths: Some(Vec::new()),
        ..base
    }
}

/// What every member of the overlay needs: to make interfaces, routes and rules in its own namespace.
fn member_of_overlay(base: HostConfig) -> HostConfig {
    let tun = "/dev/net/tun".to_owned();
    HostConfig {
        sysctls: Some(HashMap::from([owned(("net.ipv4.ip_forward", "1"))])),
        devices: Some(vec![DeviceMapping {
            path_on_host: Some(tun.clone()),
            path_in_container: Some(tun),
            cgroup_permissions: Some("rwm".to_owned()),
        }]),
        ..base
    }
}

fn publish(port: &Published) -> (String, Option<Vec<PortBinding>>) {
    let binding =
        PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.outside.to_string()) };
    (format!("{}/tcp", port.inside), Some(vec![binding]))
}

fn capabilities(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn fingerprint(body: &ContainerCreateBody) -> String {
    let mut text = String::new();
    write_sorted(&serde_json::to_value(body).unwrap_or_default(), &mut text);
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Writes JSON with sorted keys: the maps of a request have no order of their own.
fn write_sorted(value: &serde_json::Value, text: &mut String) {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            for (name, value) in entries {
                text.push_str(&format!("{name:?}:"));
                write_sorted(value, text);
                text.push(';');
            }
        }
        serde_json::Value::Array(items) => {
            text.push('[');
            items.iter().for_each(|item| {
                write_sorted(item, text);
                text.push(',');
            });
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout {
            cluster: "dev".parse().unwrap(),
            image: "warren/node:1".into(),
            socket: "/run/docker.sock".into(),
            ports: Ports { api: 6443, http: 8080, https: 8443 },
            trusted_proxies: String::new(),
            networks: Networks::default(),
        }
    }

    fn large() -> Layout {
        let net = |text: &str| text.parse().unwrap();
        Layout { networks: Networks::new(net("10.64.0.0/11"), net("10.43.0.0/16"), 25).unwrap(), ..layout() }
    }

    #[test]
    fn networks_are_told_and_remembered_where_they_are_not_the_defaults() {
        let label = |layout: &Layout, role| {
            layout.body(&member(role, "m"), None).labels.unwrap().get(NETWORKS_LABEL).cloned()
        };
        assert_eq!(label(&layout(), Role::Controller), None);
        assert_eq!(label(&large(), Role::Node), None);
        let remembered = label(&large(), Role::Controller).unwrap();
        assert_eq!(labelled_networks(&remembered), Some(large().networks));
        for bad in ["", "10.64.0.0/11 10.43.0.0/16", "10.64.0.0/11 10.43.0.0/16 99", "a b c"] {
            assert_eq!(labelled_networks(bad), None, "{bad}");
        }
        assert_eq!(large().network_options(Role::Controller).len(), 3);
        assert_eq!(large().network_options(Role::Gateway).len(), 2);
        assert!(layout().network_options(Role::Controller).is_empty());
    }

    fn member(role: Role, name: &str) -> Member {
        Member { role, name: name.into() }
    }

    #[test]
    fn the_fingerprint_tells_changes_but_not_the_token() {
        let node = member(Role::Node, "dev-node-1");
        let label =
            |layout: &Layout, token| layout.body(&node, token).labels.unwrap()[SPECIFICATION_LABEL].clone();
        let first = label(&layout(), None);
        for _ in 0..20 {
            assert_eq!(label(&layout(), Some("wrn1.x")), first);
        }
        assert_eq!(layout().fingerprint(&node), first);
        assert_ne!(label(&Layout { image: "warren/node:2".into(), ..layout() }, None), first);
    }

    #[test]
    fn ports_are_published_on_the_loopback_address_alone() {
        for (role, name) in [(Role::Controller, "dev-controller"), (Role::Gateway, "dev-gateway")] {
            let body = layout().body(&member(role, name), None);
            let bindings = body.host_config.unwrap().port_bindings.unwrap();
            assert!(!bindings.is_empty());
            for binding in bindings.values().flatten().flatten() {
                assert_eq!(binding.host_ip.as_deref(), Some("127.0.0.1"));
            }
        }
    }

    #[test]
    fn rights_are_given_by_need() {
        let config = |role| layout().body(&member(role, "m"), None).host_config.unwrap();
        assert_eq!(config(Role::Controller).cap_drop, capabilities(&["ALL"]));
        assert_eq!(config(Role::Controller).cap_add, None);
        let gateway = config(Role::Gateway);
        assert_eq!(gateway.pid_mode, None);
        assert_eq!(gateway.cap_drop, capabilities(&["ALL"]));
        assert_eq!(gateway.cap_add, capabilities(&["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"]));
        assert_eq!(gateway.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert_eq!((gateway.masked_paths, gateway.readonly_paths), (None, None), "Docker's own");
        assert!(!config(Role::Gateway).binds.unwrap().iter().any(|bind| bind.contains("docker.sock")));
        let node = config(Role::Node);
        assert_eq!(node.pid_mode.as_deref(), Some("host"));
        assert_ne!(node.privileged, Some(true));
        assert!(node.binds.unwrap().contains(&"/var/lib/warren/dev/m:/var/lib/warren/dev/m".to_owned()));
    }

    #[test]
    fn the_token_is_in_the_environment_and_not_on_the_command_line() {
        let body = layout().body(&member(Role::Node, "dev-node-1"), Some("wrn1.secret"));
        assert!(!body.cmd.unwrap().iter().any(|word| word.contains("secret")));
        assert_eq!(body.env.unwrap(), ["WARREN_TOKEN=wrn1.secret"]);
    }

    #[test]
    fn every_command_line_is_understood() {
        use clap::Parser as _;
        let roles = [Role::Controller, Role::Gateway, Role::Node];
        for (layout, role) in roles.iter().flat_map(|role| [(layout(), *role), (large(), *role)]) {
            let command = layout.body(&member(role, "dev-node-1"), None).cmd.unwrap();
            let line = std::iter::once("warren".to_owned()).chain(command);
            crate::args::Arguments::try_parse_from(line).unwrap_or_else(|error| panic!("{role}: {error}"));
        }
    }
}
