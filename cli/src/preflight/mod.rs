//! What a machine must have before it joins. Pure: [`facts`] collects what is so, [`judge`] says what is wrong
//! with it, and how to mend it.

pub(crate) mod facts;

use std::net::IpAddr;

use ipnet::Ipv4Net;
use warren_controller::overlap;

use crate::{args::JoinedNetworks, output};

/// The oldest engine that knows all that the agent asks for (Docker 20.10).
const OLDEST_API: (u64, u64) = (1, 41);
/// What a packet must hold on the way to others: 1280 bytes for pods, and WireGuard's 80.
const SMALLEST_MTU: u32 = 1_360;
/// Certificates and leases bear this much.
const TOLERABLE_SECONDS: i64 = 5;
/// From here on a certificate that was just made counts as not yet valid.
const REFUSED_SECONDS: i64 = 60;

/// The cluster's networks with what they are for: pods, and services.
type Purposes = [(&'static str, Ipv4Net); 2];

fn purposes(networks: JoinedNetworks) -> Purposes {
    [("cluster", networks.cluster_network.trunc()), ("service", networks.service_network.trunc())]
}

/// The Docker engine, as it describes itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Docker {
    pub(crate) version: String,
    pub(crate) api: String,
    pub(crate) os: String,
    pub(crate) rootless: bool,
    pub(crate) cgroup_version: String,
    pub(crate) cgroup_driver: String,
    pub(crate) limits_memory: bool,
}

/// A route of the machine's.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) network: Ipv4Net,
    pub(crate) link: String,
}

/// A socket that a process of this machine has.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) udp: bool,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// The process, as NAME (PID), if this user may know.
    pub(crate) holder: Option<String>,
}

/// A port that a member needs.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) purpose: &'static str,
    pub(crate) udp: bool,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// How to choose another one.
    pub(crate) mend: &'static str,
}

/// Firewalls that stand where pods' packets pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Firewalls {
    /// Chains that netd opens for pods.
    pub(crate) opened: Vec<String>,
    /// Chains that refuse what comes in unless a rule of theirs accepts it.
    pub(crate) inbound: Vec<String>,
    /// What is to be done about the old iptables; `None` when nothing is.
    pub(crate) legacy: Option<String>,
}

/// Everything that is looked at. What could not be found out is an `Err` that says why.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) root: bool,
    pub(crate) gateway: bool,
    /// The member's name.
    pub(crate) name: String,
    /// The name in the state directory's identity.
    pub(crate) joined_as: Option<String>,
    pub(crate) docker: Result<Docker, String>,
    pub(crate) wireguard: bool,
    pub(crate) tun: bool,
    pub(crate) nf_tables: Result<(), String>,
    /// The controller's clock minus ours.
    pub(crate) clock_ahead_seconds: Result<i64, String>,
    pub(crate) routes: Vec<Route>,
    /// Those of the cluster to join.
    pub(crate) networks: Purposes,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) wanted: Vec<Wanted>,
    /// The largest packet on the way to the controller.
    pub(crate) mtu: Result<u32, String>,
    pub(crate) firewalls: Firewalls,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Fine,
    Warning,
    Failure,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Failure => "FAILED",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    pub(crate) found: String,
    /// What to do; empty when it is fine.
    pub(crate) mend: String,
}

fn fine(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, level: Level::Fine, found: found.into(), mend: String::new() }
}

fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { name, level: Level::Warning, found: found.into(), mend: mend.into() }
}

fn failure(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Check {
    Check { level: Level::Failure, ..warning(name, found, mend) }
}

/// Judges everything; the order is the table's.
pub(crate) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![rights(facts), identity(facts)];
    if !facts.gateway {
        checks.extend(docker(facts));
    }
    checks.extend([tunnel(facts), nf_tables(facts), clock(facts)]);
    checks.extend(networks(facts));
    checks.extend(ports(facts));
    checks.push(mtu(facts));
    checks.extend(firewalls(facts));
    checks
}

fn rights(facts: &Facts) -> Check {
    if facts.root {
        return fine("rights", "root");
    }
    failure("rights", "not root", "run as root: a node makes network interfaces and firewall rules")
}

fn identity(facts: &Facts) -> Check {
    match &facts.joined_as {
        None => fine("identity", "none yet"),
        Some(name) if *name == facts.name => fine("identity", format!("joined as {name}")),
        Some(name) => failure(
            "identity",
            format!("the state directory belongs to {name}, not to {}", facts.name),
            format!(
                "give --name {name}, or another --state-dir; one that was copied from another machine must be cleared"
            ),
        ),
    }
}

fn docker(facts: &Facts) -> Vec<Check> {
    let docker = match &facts.docker {
        Ok(docker) => docker,
        Err(error) => {
            let mend = if error.to_ascii_lowercase().contains("permission denied") {
                "run as root, or as a member of the group that owns Docker's socket"
            } else {
                "install and start it (apt-get install docker.io; systemctl enable --now docker), or name its socket \
                 with --docker-socket"
            };
            return vec![failure("docker", error.clone(), mend)];
        }
    };
    let mut checks = vec![engine(docker)];
    checks.push(match docker.cgroup_version.as_str() {
        "1" | "2" => {
            fine("cgroups", format!("version {}, driver {}", docker.cgroup_version, docker.cgroup_driver))
        }
        other => warning("cgroups", format!("version {other:?} is unknown"), "versions 1 and 2 are tested"),
    });
    if !docker.limits_memory {
        checks.push(warning(
            "memory limits",
            "the kernel does not enforce them",
            "boot with cgroup_enable=memory swapaccount=1 (in GRUB_CMDLINE_LINUX, then update-grub)",
        ));
    }
    checks
}

fn engine(docker: &Docker) -> Check {
    let found = format!("{} (API {})", docker.version, docker.api);
    if docker.os != "linux" {
        let found = format!("it runs {} containers", docker.os);
        return failure("docker", found, "switch it to Linux containers");
    }
    if docker.rootless {
        let mend = "use an engine that runs as root: a rootless one has a network of its own";
        return failure("docker", format!("{found}, rootless"), mend);
    }
    if version_number(&docker.api).is_none_or(|number| number < OLDEST_API) {
        return failure("docker", found, "upgrade to Docker 20.10 (API 1.41) or newer");
    }
    fine("docker", found)
}

fn version_number(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn tunnel(facts: &Facts) -> Check {
    match (facts.wireguard, facts.tun) {
        (true, _) => fine("tunnel", "WireGuard in the kernel"),
        (false, true) => fine("tunnel", "/dev/net/tun, for the embedded WireGuard"),
        (false, false) => failure(
            "tunnel",
            "neither WireGuard in the kernel nor /dev/net/tun",
            "modprobe wireguard, or modprobe tun (and put it into /etc/modules-load.d/warren.conf)",
        ),
    }
}

fn nf_tables(facts: &Facts) -> Check {
    match &facts.nf_tables {
        Ok(()) => fine("nf_tables", "present"),
        Err(error) => failure(
            "nf_tables",
            error.clone(),
            "modprobe nf_tables (kernel 5.10 or newer; and put it into /etc/modules-load.d/warren.conf)",
        ),
    }
}

fn clock(facts: &Facts) -> Check {
    let ahead = match &facts.clock_ahead_seconds {
        Ok(ahead) => *ahead,
        Err(error) => {
            let mend = "see that --controller is its HOST:PORT, that it runs, and that its port is open for this machine";
            // A member that runs goes on without it.
            let level = if facts.joined_as.is_some() { Level::Warning } else { Level::Failure };
            return Check { level, ..failure("controller", error.clone(), mend) };
        }
    };
    let found = match ahead {
        0 => "as the controller's".to_owned(),
        1.. => format!("{ahead} s behind the controller's"),
        _ => format!("{} s ahead of the controller's", ahead.unsigned_abs()),
    };
    let mend = "set it by NTP on both machines: timedatectl set-ntp true, or chronyc makestep";
    match ahead.saturating_abs() {
        0..=TOLERABLE_SECONDS => fine("clock", found),
        skew if skew <= REFUSED_SECONDS => warning("clock", found, mend),
        _ => failure("clock", found, mend),
    }
}

/// Refuses to join where a route of the machine's leads into the cluster's networks.
pub(crate) fn networks_are_free(networks: JoinedNetworks) -> anyhow::Result<()> {
    let conflicts = conflicts(&facts::host_routes(), &purposes(networks));
    let said: Vec<_> = conflicts.iter().map(|check| format!("{}: {}", check.found, check.mend)).collect();
    anyhow::ensure!(conflicts.is_empty(), "{}", said.join("; "));
    Ok(())
}

fn networks(facts: &Facts) -> Vec<Check> {
    let conflicts = conflicts(&facts.routes, &facts.networks);
    if conflicts.is_empty() {
        let free: Vec<_> = facts.networks.iter().map(|(_, network)| network.to_string()).collect();
        return vec![fine("networks", format!("{} are free", free.join(" and ")))];
    }
    conflicts
}

fn conflicts(routes: &[Route], networks: &Purposes) -> Vec<Check> {
    let foreign = |route: &&Route| {
        // The default route overlaps with everything, a route to nowhere ("*") leads to nobody, and what is ours
        // is no conflict.
        route.network.prefix_len() > 0
            && route.link != "*"
            && route.link != "warren0"
            && !route.link.starts_with("wrn")
    };
    routes
        .iter()
        .filter(foreign)
        .flat_map(|route| networks.iter().map(move |(purpose, network)| (route, *purpose, *network)))
        .filter(|(route, _, network)| overlap(route.network, *network))
        .map(|(route, purpose, network)| {
            let Route { network: taken, link } = route;
            failure(
                "networks",
                format!("the route {taken} by {link} overlaps with the {purpose} network {network}"),
                format!(
                    "give that network another range (Docker's: default-address-pools in /etc/docker/daemon.json), or \
                     remove the route: ip route del {taken} dev {link}"
                ),
            )
        })
        .collect()
}

fn ports(facts: &Facts) -> Vec<Check> {
    let conflicts: Vec<_> = facts
        .wanted
        .iter()
        .filter_map(|wanted| {
            let taken = facts.listeners.iter().find(|listener| conflict(wanted, listener))?;
            let holder = taken.holder.as_deref().unwrap_or("another process");
            // The member's own daemons hold their ports while it runs.
            if facts.joined_as.is_some() && holder.starts_with("warren ") {
                return None;
            }
            Some((wanted, holder))
        })
        .collect();
    if conflicts.is_empty() {
        let mut free: Vec<_> = facts.wanted.iter().map(|wanted| wanted.port).collect();
        free.dedup();
        let free: Vec<_> = free.iter().map(ToString::to_string).collect();
        return vec![fine("ports", format!("{} are free", free.join(", ")))];
    }
    // One line per port and holder: a DNS server has both of 53.
    conflicts
        .chunk_by(|(one, holder), (other, another)| one.port == other.port && holder == another)
        .map(|same| {
            let kinds: Vec<_> =
                same.iter().map(|(wanted, _)| if wanted.udp { "UDP" } else { "TCP" }).collect();
            let (wanted, holder) = same[0];
            let found =
                format!("{} {} ({}) is taken by {holder}", kinds.join(" and "), wanted.port, wanted.purpose);
            failure("ports", found, format!("stop {holder}, or {}", wanted.mend))
        })
        .collect()
}

/// Whether both cannot be bound at once.
fn conflict(wanted: &Wanted, listener: &Listener) -> bool {
    let same_address = wanted.address == listener.address
        || wanted.address.is_unspecified()
        || listener.address.is_unspecified();
    wanted.udp == listener.udp && wanted.port == listener.port && same_address
}

fn mtu(facts: &Facts) -> Check {
    match &facts.mtu {
        Ok(mtu) if *mtu < SMALLEST_MTU => failure(
            "mtu",
            format!("{mtu} bytes on the way to the controller"),
            format!("raise the link's MTU to at least {SMALLEST_MTU}: ip link set dev LINK mtu 1500"),
        ),
        Ok(mtu) => fine("mtu", format!("{mtu} bytes on the way to the controller")),
        Err(error) => {
            warning("mtu", format!("unknown: {error}"), "see that the controller's name can be looked up")
        }
    }
}

fn firewalls(facts: &Facts) -> Vec<Check> {
    let Firewalls { opened, inbound, legacy } = &facts.firewalls;
    let mut checks = Vec::new();
    checks.push(match &opened[..] {
        [] => fine("forwarding", "nothing is in the way"),
        chains => {
            fine("forwarding", format!("dropped by default; netd opens {} for pods", chains.join(", ")))
        }
    });
    checks.extend(
        legacy.iter().map(|mend| warning("forwarding", "iptables-legacy drops by default", mend.clone())),
    );
    checks.extend(inbound.iter().map(|chain| {
        let mend = "see that it accepts WireGuard from the other members (ufw allow 51820/udp; firewall-cmd --permanent \
                    --add-port=51820/udp && firewall-cmd --reload)";
        warning("firewall", format!("{chain} refuses what no rule of its accepts"), mend)
    }));
    checks
}

/// Whether nothing forbids to join.
pub(crate) fn passed(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.level < Level::Failure)
}

/// For people.
pub(crate) fn table(checks: &[Check]) -> String {
    let rows: Vec<_> = checks
        .iter()
        .map(|check| vec![check.name.to_owned(), check.level.word().to_owned(), check.found.clone()])
        .collect();
    let mends = checks.iter().filter(|check| !check.mend.is_empty()).map(|check| {
        format!("\n{} ({}): {}\n  mend: {}\n", check.name, check.level.word(), check.found, check.mend)
    });
    format!("{}{}", output::table(&["CHECK", "RESULT", "FOUND"], &rows), mends.collect::<String>())
}

#[cfg(test)]
mod tests;
