//! One machine that is fit, and what is said about each way of not being so.

use super::*;

fn listener(udp: bool, address: &str, port: u16, holder: Option<&str>) -> Listener {
    Listener { udp, address: address.parse().unwrap(), port, holder: holder.map(str::to_owned) }
}

fn network(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn route(text: &str, link: &str) -> Route {
    Route { network: network(text), link: link.into() }
}

fn fit() -> Facts {
    Facts {
        root: true,
        gateway: false,
        name: "node-1".into(),
        joined_as: None,
        docker: Ok(Docker {
            version: "20.10.24".into(),
            api: "1.41".into(),
            os: "linux".into(),
            rootless: false,
            cgroup_version: "2".into(),
            cgroup_driver: "systemd".into(),
            limits_memory: true,
        }),
        wireguard: true,
        tun: true,
        nf_tables: Ok(()),
        clock_ahead_seconds: Ok(0),
        routes: vec![
            route("0.0.0.0/0", "eth0"),
            route("192.168.1.0/24", "eth0"),
            route("172.17.0.0/16", "docker0"),
            route("10.42.0.0/16", "*"),
            route("10.42.3.0/24", "warren0"),
            route("10.42.1.7/32", "wrn0123456789ab"),
        ],
        networks: [("cluster", network("10.42.0.0/16")), ("service", network("10.43.0.0/16"))],
        listeners: vec![
            listener(false, "0.0.0.0", 22, Some("sshd (1)")),
            listener(true, "127.0.0.53", 53, None),
            listener(false, "0.0.0.0", 51_820, Some("other (2)")),
        ],
        wanted: vec![
            Wanted {
                purpose: "WireGuard",
                udp: true,
                address: "0.0.0.0".parse().unwrap(),
                port: 51_820,
                mend: "move it",
            },
            Wanted {
                purpose: "names",
                udp: true,
                address: "10.43.0.10".parse().unwrap(),
                port: 53,
                mend: "bind it to its own address",
            },
            Wanted {
                purpose: "names",
                udp: false,
                address: "10.43.0.10".parse().unwrap(),
                port: 53,
                mend: "bind it to its own address",
            },
        ],
        mtu: Ok(1500),
        firewalls: Firewalls::default(),
    }
}

/// The checks that are not fine.
fn trouble(change: impl FnOnce(&mut Facts)) -> Vec<Check> {
    let mut facts = fit();
    change(&mut facts);
    judge(&facts).into_iter().filter(|check| check.level != Level::Fine).collect()
}

fn engine_with(change: impl FnOnce(&mut Docker)) -> impl FnOnce(&mut Facts) {
    |facts| change(facts.docker.as_mut().unwrap())
}

#[test]
fn a_fit_machine_passes_every_check() {
    assert_eq!(trouble(|_| {}), []);
    assert!(passed(&judge(&fit())));
}

type Case = (&'static str, Box<dyn FnOnce(&mut Facts)>, Level, &'static [&'static str]);

fn case(
    name: &'static str,
    change: impl FnOnce(&mut Facts) + 'static,
    level: Level,
    said: &'static [&'static str],
) -> Case {
    (name, Box::new(change), level, said)
}

#[test]
fn each_fault_is_one_line_that_says_the_mend() {
    use Level::{Failure, Warning};
    let cases = [
        case("rights", |facts| facts.root = false, Failure, &["not root", "run as root"]),
        case(
            "identity",
            |facts| facts.joined_as = Some("node-2".into()),
            Failure,
            &["belongs to node-2", "--name node-2", "copied"],
        ),
        case(
            "docker",
            |facts| facts.docker = Err("nobody answers".into()),
            Failure,
            &["nobody answers", "apt-get install docker.io"],
        ),
        case("docker", engine_with(|docker| docker.api = "1.40".into()), Failure, &["1.40", "20.10"]),
        case("docker", engine_with(|docker| docker.api = "new".into()), Failure, &["20.10"]),
        case("docker", engine_with(|docker| docker.rootless = true), Failure, &["rootless", "runs as root"]),
        case(
            "docker",
            engine_with(|docker| docker.os = "windows".into()),
            Failure,
            &["windows", "Linux containers"],
        ),
        case(
            "cgroups",
            engine_with(|docker| docker.cgroup_version = "3".into()),
            Warning,
            &["\"3\"", "1 and 2"],
        ),
        case(
            "memory limits",
            engine_with(|docker| docker.limits_memory = false),
            Warning,
            &["cgroup_enable=memory"],
        ),
        case(
            "tunnel",
            |facts| (facts.wireguard, facts.tun) = (false, false),
            Failure,
            &["/dev/net/tun", "modprobe wireguard"],
        ),
        case(
            "nf_tables",
            |facts| facts.nf_tables = Err("no such protocol".into()),
            Failure,
            &["no such protocol", "modprobe nf_tables"],
        ),
        case("clock", |facts| facts.clock_ahead_seconds = Ok(86_400), Failure, &["86400 s behind", "NTP"]),
        case("clock", |facts| facts.clock_ahead_seconds = Ok(-86_400), Failure, &["86400 s ahead", "NTP"]),
        case("clock", |facts| facts.clock_ahead_seconds = Ok(30), Warning, &["30 s behind"]),
        case(
            "controller",
            |facts| facts.clock_ahead_seconds = Err("refused".into()),
            Failure,
            &["refused", "HOST:PORT", "runs"],
        ),
        // A member goes on without its controller.
        case(
            "controller",
            |facts| {
                facts.clock_ahead_seconds = Err("refused".into());
                facts.joined_as = Some("node-1".into());
            },
            Warning,
            &["refused"],
        ),
        case(
            "docker",
            |facts| facts.docker = Err("Permission denied (os error 13)".into()),
            Failure,
            &["Permission denied", "run as root"],
        ),
        case(
            "networks",
            |facts| facts.routes.push(route("10.0.0.0/8", "tun3")),
            Failure,
            &["10.0.0.0/8 by tun3", "cluster network 10.42.0.0/16", "ip route del 10.0.0.0/8 dev tun3"],
        ),
        case(
            "networks",
            |facts| {
                facts.networks[0].1 = network("172.16.0.0/12");
            },
            Failure,
            &["172.17.0.0/16 by docker0", "cluster network 172.16.0.0/12"],
        ),
        case(
            "networks",
            |facts| facts.routes.push(route("10.43.9.0/24", "br-1")),
            Failure,
            &["10.43.9.0/24 by br-1", "service network 10.43.0.0/16", "default-address-pools"],
        ),
        case(
            "ports",
            |facts| facts.listeners.push(listener(true, "0.0.0.0", 51_820, Some("wg-quick (7)"))),
            Failure,
            &["UDP 51820 (WireGuard)", "stop wg-quick (7), or move it"],
        ),
        case(
            "ports",
            |facts| facts.listeners.push(listener(true, "::", 53, None)),
            Failure,
            &["UDP 53 (names)", "another process"],
        ),
        case("mtu", |facts| facts.mtu = Ok(1280), Failure, &["1280 bytes", "1360"]),
        case("mtu", |facts| facts.mtu = Err("no such name".into()), Warning, &["no such name"]),
        case(
            "forwarding",
            |facts| facts.firewalls.legacy = Some("do this".into()),
            Warning,
            &["iptables-legacy", "do this"],
        ),
        case(
            "firewall",
            |facts| facts.firewalls.inbound = vec!["ip filter INPUT".into()],
            Warning,
            &["ip filter INPUT", "51820/udp"],
        ),
    ];
    for (name, change, level, said) in cases {
        let found = trouble(change);
        let shown: Vec<_> = found.iter().filter(|check| (check.name, check.level) == (name, level)).collect();
        assert!(!shown.is_empty() && found.len() == shown.len(), "{name} {said:?}: {found:?}");
        assert!(shown.iter().all(|check| !check.mend.is_empty()), "{name}: no mend: {found:?}");
        let text = table(&found);
        for part in said {
            assert!(text.contains(part), "{name}: {part:?} is missing in\n{text}");
        }
        assert_eq!(passed(&found), level < Failure);
    }
}

#[test]
fn a_port_is_named_once() {
    let server = |facts: &mut Facts| {
        for udp in [true, false] {
            facts.listeners.push(listener(udp, "0.0.0.0", 53, Some("dnsmasq (7)")));
        }
    };
    let found = trouble(server);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].found.starts_with("UDP and TCP 53 (names) is taken by dnsmasq"), "{found:?}");
    let free = judge(&fit()).into_iter().find(|check| check.name == "ports").unwrap().found;
    let ports: Vec<_> = free.trim_end_matches(" are free").split(", ").collect();
    let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
    assert_eq!(distinct.len(), ports.len(), "{free}");
}

#[test]
fn both_networks_are_named_when_a_route_covers_both() {
    let found = trouble(|facts| facts.routes.push(route("10.0.0.0/8", "tun0")));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_gateway_needs_no_engine() {
    assert_eq!(trouble(|facts| (facts.gateway, facts.docker) = (true, Err("none".into()))), []);
}

#[test]
fn a_member_that_runs_may_be_checked_again() {
    let running = |facts: &mut Facts| {
        facts.listeners.push(listener(true, "0.0.0.0", 51_820, Some("warren (9)")));
        facts.joined_as = Some("node-1".into());
    };
    assert_eq!(trouble(running), []);
    let stranger =
        |facts: &mut Facts| facts.listeners.push(listener(true, "0.0.0.0", 51_820, Some("warren (9)")));
    assert_eq!(trouble(stranger).len(), 1, "another member's daemon is in the way");
}

#[test]
fn dockers_forward_policy_is_no_trouble_but_told() {
    let mut facts = fit();
    facts.firewalls.opened = vec!["ip filter DOCKER-USER".into()];
    let checks = judge(&facts);
    assert!(passed(&checks));
    assert!(table(&checks).contains("netd opens ip filter DOCKER-USER for pods"), "{}", table(&checks));
}
