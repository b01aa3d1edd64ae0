//! Collects what is so on this machine. Nothing is changed, and nothing here decides.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use ipnet::Ipv4Net;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use warren_controller::dns_address;
use warren_netd::{
    kernel::{firewall::Firewall, underlay::Underlay, xtables},
    plan::firewall,
};
use warren_runtime::identity::Identity;

use super::{Docker, Facts, Firewalls, Listener, Route, Wanted};
use crate::{args::JoinedNetworks, local::engine::LocalDocker};

/// How long the controller and the engine may take.
const PATIENCE: Duration = Duration::from_secs(5);
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Who wants to join, and where.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) gateway: bool,
    pub(crate) controller: String,
    pub(crate) state_dir: PathBuf,
    pub(crate) docker_socket: PathBuf,
    pub(crate) networks: JoinedNetworks,
    /// The gateway's listeners.
    pub(crate) listeners: Vec<SocketAddr>,
}

/// Looks at everything.
pub(crate) async fn collect(candidate: &Candidate) -> Facts {
    let joined_as = Identity::load(&candidate.state_dir).ok().flatten().map(|identity| identity.name);
    let (clock, docker) = tokio::join!(clock_ahead(&candidate.controller), docker(&candidate.docker_socket));
    let (nf_tables, firewalls) = firewalls().await;
    Facts {
        root: nix::unistd::geteuid().is_root(),
        gateway: candidate.gateway,
        name: candidate.name.clone(),
        joined_as,
        docker: said(docker),
        wireguard: has_module("wireguard"),
        tun: Path::new("/dev/net/tun").exists(),
        nf_tables,
        clock_ahead_seconds: said(clock),
        routes: host_routes(),
        networks: super::purposes(candidate.networks),
        listeners: listeners(),
        wanted: wanted(candidate),
        mtu: said(mtu(&candidate.controller).await),
        firewalls,
    }
}

fn said<T>(outcome: anyhow::Result<T>) -> Result<T, String> {
    outcome.map_err(|error| crate::output::chain(&error))
}

async fn docker(socket: &Path) -> anyhow::Result<Docker> {
    let asked = async {
        let engine = LocalDocker::open(socket).await?;
        let (info, version) = (engine.docker.info().await?, engine.docker.version().await?);
        let cgroup = |text: Option<String>| text.unwrap_or_default();
        anyhow::Ok(Docker {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            os: info.os_type.unwrap_or_else(|| "linux".into()),
            rootless: info.security_options.iter().flatten().any(|option| option.contains("name=rootless")),
            cgroup_version: cgroup(info.cgroup_version.map(|version| version.to_string())),
            cgroup_driver: cgroup(info.cgroup_driver.map(|driver| driver.to_string())),
            limits_memory: info.memory_limit.unwrap_or(true),
        })
    };
    tokio::time::timeout(PATIENCE, asked).await.context("the Docker engine does not answer")?
}

/// Whether the kernel has a module, built in, loaded, or to be loaded.
fn has_module(name: &str) -> bool {
    if Path::new("/sys/module").join(name).exists() {
        return true;
    }
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else { return false };
    let modules = Path::new("/lib/modules").join(release.trim());
    let file = format!("/{name}.ko");
    ["modules.builtin", "modules.dep"].iter().any(|list| {
        let list = fs::read_to_string(modules.join(list)).unwrap_or_default();
        list.lines().any(|line| line.split(':').next().is_some_and(|path| path.contains(&file)))
    })
}

/// nf_tables itself, and the firewalls that it holds.
async fn firewalls() -> (Result<(), String>, Firewalls) {
    let looked = async {
        let handle = Firewall::open()?;
        let (forward, input) = (handle.observe().await?, handle.observe_input().await?);
        Ok::<_, warren_netd::kernel::Error>((forward, input))
    };
    let legacy =
        xtables::legacy_forward().ok().flatten().filter(|legacy| legacy.drops && !legacy.accepts_pods);
    let legacy = legacy.map(|_| xtables::mend("warren0"));
    match looked.await {
        Ok((forward, input)) => {
            let names = |chains| firewall::chain_ids(chains).iter().map(ToString::to_string).collect();
            (Ok(()), Firewalls { opened: names(&forward), inbound: names(&input), legacy })
        }
        Err(error) => (Err(error.to_string()), Firewalls { legacy, ..Firewalls::default() }),
    }
}

/// The routes of this machine.
pub(crate) fn host_routes() -> Vec<Route> {
    routes(&fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// Routes of the main table, from the text of `/proc/net/route`.
fn routes(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let number = |field: usize| u32::from_str_radix(fields.get(field)?, 16).ok().map(u32::from_be);
        let (address, mask) = (number(1)?, number(7)?);
        let network = Ipv4Net::new(address.into(), u8::try_from(mask.count_ones()).ok()?).ok()?;
        Some(Route { network, link: (*fields.first()?).to_owned() })
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// Sockets that listen, with their holders as far as this user may know them.
fn listeners() -> Vec<Listener> {
    let mut found = Vec::new();
    for (file, udp) in [("tcp", false), ("tcp6", false), ("udp", true), ("udp6", true)] {
        found.extend(sockets(&fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default(), udp));
    }
    let holders = holders();
    let name =
        |(listener, inode): (Listener, String)| Listener { holder: holders.get(&inode).cloned(), ..listener };
    found.into_iter().map(name).collect()
}

/// The listening sockets of a table in `/proc/net`, with their inodes.
fn sockets(text: &str, udp: bool) -> Vec<(Listener, String)> {
    const LISTEN: &str = "0A";
    const UNCONNECTED: &str = "07";
    let socket = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (address, port) = fields.get(1)?.split_once(':')?;
        (*fields.get(3)? == if udp { UNCONNECTED } else { LISTEN }).then_some(())?;
        let listener = Listener {
            udp,
            address: read_address(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            holder: None,
        };
        Some((listener, (*fields.get(9)?).to_owned()))
    };
    text.lines().skip(1).filter_map(socket).collect()
}

/// An address as the kernel prints it: words in the machine's order.
fn read_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?).into());
    }
    let words: Vec<u8> = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
    let octets: [u8; 16] = words.try_into().ok()?;
    Some(Ipv6Addr::from(octets).to_canonical())
}

/// Processes by the inodes of their sockets.
fn holders() -> BTreeMap<String, String> {
    let mut holders = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for link in descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()) {
            let Some(inode) = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'))
            else {
                continue;
            };
            holders.insert(inode.to_owned(), format!("{} ({pid})", process(pid)));
        }
    }
    holders
}

/// A process's name. The supervisor starts our daemons by a descriptor, so the kernel calls them `exe`.
fn process(pid: u32) -> String {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let program = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if program.split(' ').next() == Some("warren") {
        return "warren".to_owned();
    }
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn wanted(candidate: &Candidate) -> Vec<Wanted> {
    const METRICS: &str = "give `warren node` another --metrics";
    const MOVE: &str = "have it listen on another port";
    let dns = IpAddr::V4(dns_address(candidate.networks.service_network));
    let port = |purpose, udp, address, port, mend| Wanted { purpose, udp, address, port, mend };
    let mut wanted = vec![
        port("WireGuard", true, ANY, warren_proto::WIREGUARD_PORT, MOVE),
        port(
            "names for pods",
            true,
            dns,
            53,
            "have it listen on its own addresses only (dnsmasq: bind-interfaces)",
        ),
        port(
            "names for pods",
            false,
            dns,
            53,
            "have it listen on its own addresses only (dnsmasq: bind-interfaces)",
        ),
        port("metrics", false, LOOPBACK, 9400, METRICS),
        port("netd's metrics", false, LOOPBACK, 9402, MOVE),
    ];
    if candidate.gateway {
        wanted.push(port("the gateway's metrics", false, LOOPBACK, 9404, MOVE));
        let mend = "give the gateway another --http or --https";
        wanted.extend(
            candidate.listeners.iter().map(|at| port("the gateway", false, at.ip(), at.port(), mend)),
        );
    } else {
        wanted.push(port("the agent's metrics", false, LOOPBACK, 9403, MOVE));
    }
    wanted
}

async fn mtu(controller: &str) -> anyhow::Result<u32> {
    let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(controller)).await;
    let address = found.context("looking the controller up took too long")??.next();
    let address = address.with_context(|| format!("{controller} has no address"))?;
    Ok(Underlay::towards(address)?.mtu)
}

/// The controller's clock minus ours, by the Date of any answer of its.
async fn clock_ahead(controller: &str) -> anyhow::Result<i64> {
    let asked = tokio::time::timeout(PATIENCE, ask_date(controller));
    let date = asked.await.context("the controller does not answer")??;
    let ours =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    Ok(date - i64::try_from(ours.as_secs())?)
}

async fn ask_date(controller: &str) -> anyhow::Result<i64> {
    let (host, _) = controller.rsplit_once(':').context("--controller is not HOST:PORT")?;
    let name =
        ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).context("--controller is no name")?;
    // A machine whose clock is wrong could verify no certificate; nothing is told to the server.
    let config = warren_runtime::tls::config_for_anybody()?;
    let stream =
        TcpStream::connect(controller).await.with_context(|| format!("cannot connect to {controller}"))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, stream).await.context("no TLS")?;
    let request = format!("GET /version HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") && answer.len() < 65_536 {
        match stream.read(&mut buffer).await? {
            0 => break,
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    let Some(date) = date_of(&String::from_utf8_lossy(&answer)) else { bail!("its answer has no Date") };
    Ok(date)
}

/// The Date header of an HTTP answer, in seconds since 1970.
fn date_of(answer: &str) -> Option<i64> {
    let value = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then_some(value)
    })?;
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_prints_them() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\nrubbish\n";
        let routes: Vec<_> =
            routes(text).iter().map(|route| format!("{} {}", route.network, route.link)).collect();
        assert_eq!(routes, ["0.0.0.0/0 eth0", "172.17.0.0/16 docker0"]);
    }

    #[test]
    fn sockets_are_read_as_the_kernel_prints_them() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n   \
                   1: 0100007F:1F90 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        let found = sockets(tcp, false);
        assert_eq!(found.len(), 1, "a connection is no listener");
        let (listener, inode) = &found[0];
        assert_eq!((listener.address, listener.port, inode.as_str()), (LOOPBACK, 8080, "4711"));
        assert_eq!(read_address("00000000000000000000000000000000"), Some(Ipv6Addr::UNSPECIFIED.into()));
        assert_eq!(read_address("0000000000000000FFFF00000100007F"), Some(LOOPBACK));
        assert_eq!(read_address("zz"), None);
    }

    #[test]
    fn our_own_listener_is_found_with_its_holder() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = listeners().into_iter().find(|listener| !listener.udp && listener.port == port).unwrap();
        let holder = found.holder.unwrap();
        assert!(holder.ends_with(&format!("({})", std::process::id())), "{holder}");
    }

    #[test]
    fn a_date_is_read_whatever_its_case() {
        let answer = "HTTP/1.1 401 Unauthorized\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        assert_eq!(date_of(answer), Some(784_111_777));
        assert_eq!(date_of("HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(date_of("HTTP/1.1 200 OK\r\nDate: today\r\n\r\n"), None);
    }
}
