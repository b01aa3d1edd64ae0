//! What a local cluster needs of its machine, checked before anything is made. Each failure is one
//! line with its mend.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use bollard::models::{ContainerSummary, NetworkInspect, SystemInfo};
use ipnet::Ipv4Net;
use warren_controller::{Networks, overlap};

use super::{
    containers::{Member, Ports},
    engine::LocalDocker,
    names::ClusterName,
    ports,
};

/// The first engine API that knows all that Warren asks for (Docker 20.10).
const OLDEST_API: (u64, u64) = (1, 41);

/// Checks the machine and the engine.
pub(crate) async fn machine(engine: &LocalDocker) -> anyhow::Result<()> {
    ensure!(
        Path::new("/dev/net/tun").exists(),
        "/dev/net/tun is missing, and the overlay needs it: load the module (as root: modprobe tun)"
    );
    let info = engine.docker.info().await.context("the Docker engine does not answer")?;
    engine_is_fit(&info)?;
    let version = engine.docker.version().await.context("the Docker engine does not answer")?;
    let api = version.api_version.unwrap_or_default();
    ensure!(
        version_number(&api).is_some_and(|number| number >= OLDEST_API),
        "the Docker engine is too old (API {api}): Docker 20.10 (API 1.41) or newer is needed"
    );
    Ok(())
}

fn engine_is_fit(info: &SystemInfo) -> anyhow::Result<()> {
    let os = info.os_type.as_deref().unwrap_or("linux");
    ensure!(
        os == "linux",
        "the Docker engine runs {os} containers, and nodes are Linux: switch it to Linux containers"
    );
    let rootless = info.security_options.iter().flatten().any(|option| option.contains("name=rootless"));
    ensure!(
        !rootless,
        "the Docker engine is rootless, so nodes could not make network interfaces: use an engine that runs as root \
         (DOCKER_HOST=unix:///var/run/docker.sock)"
    );
    Ok(())
}

fn version_number(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Checks that each port is free, or already this cluster's own.
pub(crate) fn ports_are_free(
    cluster: &ClusterName,
    ports: &Ports,
    own: &[u16],
    running: &[ContainerSummary],
) -> anyhow::Result<()> {
    let wanted =
        [("--api-port", ports.api), ("--gateway-http", ports.http), ("--gateway-https", ports.https)];
    for (index, (option, port)) in wanted.iter().enumerate() {
        if let Some((other, _)) = wanted[..index].iter().find(|(_, other)| other == port) {
            bail!("{other} and {option} are both {port}: choose different ports");
        }
    }
    for (option, port) in wanted {
        if own.contains(&port) {
            continue;
        }
        if let Some(holder) = ports::holder(port, running) {
            bail!(
                "port {port} of 127.0.0.1 is taken by {holder}: choose another with {option} (cluster {cluster})"
            );
        }
    }
    Ok(())
}

/// Checks that no container of someone else bears a name that the cluster needs.
pub(crate) fn names_are_free(
    cluster: &ClusterName,
    members: &[Member],
    foreign: &[ContainerSummary],
) -> anyhow::Result<()> {
    for container in foreign {
        for name in container.names.iter().flatten().map(|name| name.trim_start_matches('/')) {
            ensure!(
                !members.iter().any(|member| member.name == name),
                "a container called {name} exists and is not part of the cluster {cluster}: remove or rename it, or \
                 choose another --name"
            );
        }
    }
    Ok(())
}

/// Checks that Docker gave the cluster's network addresses that are not the cluster's own inside.
pub(crate) fn network_is_apart(network: &NetworkInspect, networks: &Networks) -> anyhow::Result<()> {
    let subnets = network.ipam.iter().flat_map(|ipam| ipam.config.iter().flatten());
    for subnet in subnets.filter_map(|config| config.subnet.as_deref()) {
        let Ok(parsed) = subnet.parse::<Ipv4Net>() else { continue };
        let overlaps = |own: &Ipv4Net| overlap(*own, parsed);
        if let Some(own) = [networks.cluster(), networks.services()].into_iter().find(overlaps) {
            bail!(
                "Docker's network {} has the subnet {subnet}, which overlaps the cluster's {own}: create it \
                 with another subnet first (docker network create --subnet 172.30.0.0/24 --label warren.cluster={} {})",
                network.name.as_deref().unwrap_or_default(),
                network.name.as_deref().unwrap_or_default(),
                network.name.as_deref().unwrap_or_default(),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bollard::models::{Ipam, IpamConfig, PortSummary};

    use super::*;

    fn refusal(ports: Ports, own: &[u16], running: &[ContainerSummary]) -> String {
        ports_are_free(&"dev".parse().unwrap(), &ports, own, running)
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_taken_port_is_named_with_its_holder_and_its_option() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = free.local_addr().unwrap().port();
        let ports = Ports { api: 1, http: taken, https: 2 };
        let message = refusal(ports, &[], &[]);
        assert!(
            message.contains(&format!("port {taken} ")) && message.contains("--gateway-http"),
            "{message}"
        );
        assert_eq!(refusal(ports, &[taken], &[]), "");
        let other = ContainerSummary {
            labels: Some([("warren.cluster".to_owned(), "prod".to_owned())].into()),
            ports: Some(vec![PortSummary { public_port: Some(1), ..PortSummary::default() }]),
            ..ContainerSummary::default()
        };
        let message = refusal(ports, &[taken], &[other]);
        assert!(message.contains("taken by cluster prod") && message.contains("--api-port"), "{message}");
    }

    #[test]
    fn two_ports_that_are_one_are_refused() {
        let message = refusal(Ports { api: 7, http: 8, https: 7 }, &[], &[]);
        assert!(message.contains("--api-port and --gateway-https are both 7"), "{message}");
    }

    #[test]
    fn an_overlapping_subnet_is_refused() {
        let network = |subnet: &str| NetworkInspect {
            name: Some("dev".into()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig { subnet: Some(subnet.into()), ..IpamConfig::default() }]),
                ..Ipam::default()
            }),
            ..NetworkInspect::default()
        };
        for bad in ["10.42.5.0/24", "10.43.0.0/16", "10.0.0.0/8", "0.0.0.0/0"] {
            assert!(network_is_apart(&network(bad), &Networks::default()).is_err(), "{bad}");
        }
        let net = |text: &str| text.parse().unwrap();
        let other = Networks::new(net("172.16.0.0/12"), net("10.43.0.0/16"), 24).unwrap();
        assert!(network_is_apart(&network("172.18.0.0/16"), &other).is_err());
        for good in ["172.18.0.0/16", "10.44.0.0/16", "192.168.0.0/20", "fd00::/64"] {
            assert!(network_is_apart(&network(good), &Networks::default()).is_ok(), "{good}");
        }
    }

    #[test]
    fn engines_that_cannot_do_it_are_refused() {
        let info =
            SystemInfo { security_options: Some(vec!["name=rootless".into()]), ..SystemInfo::default() };
        assert!(engine_is_fit(&info).unwrap_err().to_string().contains("rootless"));
        assert!(engine_is_fit(&SystemInfo::default()).is_ok());
        assert!(version_number("1.41") >= Some(OLDEST_API) && version_number("1.40") < Some(OLDEST_API));
        assert_eq!(version_number("x"), None);
    }

    #[test]
    fn a_foreign_container_with_our_name_is_refused() {
        let members = [Member { role: super::super::containers::Role::Gateway, name: "dev-gateway".into() }];
        let container =
            ContainerSummary { names: Some(vec!["/dev-gateway".into()]), ..ContainerSummary::default() };
        let refused = names_are_free(&"dev".parse().unwrap(), &members, &[container]).unwrap_err();
        assert!(refused.to_string().contains("dev-gateway exists"), "{refused}");
    }
}
