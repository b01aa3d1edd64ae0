//! Other people's firewalls on a node: Docker's, with its FORWARD policy DROP, made by iptables as Docker does.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::lab::{AT_ONCE, Lab, Node, Pod, Space, eventually, service};

/// What dockerd 20.10 makes of the filter table when it starts, in the order in which it does.
const DOCKER: &str = "
    iptables-nft -t filter -N DOCKER 2>/dev/null; iptables-nft -t filter -F DOCKER
    iptables-nft -N DOCKER-ISOLATION-STAGE-1 2>/dev/null; iptables-nft -F DOCKER-ISOLATION-STAGE-1
    iptables-nft -N DOCKER-ISOLATION-STAGE-2 2>/dev/null; iptables-nft -F DOCKER-ISOLATION-STAGE-2
    iptables-nft -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
    iptables-nft -A DOCKER-ISOLATION-STAGE-1 -j RETURN
    iptables-nft -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
    iptables-nft -A DOCKER-ISOLATION-STAGE-2 -j RETURN
    iptables-nft -C FORWARD -i docker0 -o docker0 -j ACCEPT 2>/dev/null || iptables-nft -I FORWARD -i docker0 -o docker0 -j ACCEPT
    iptables-nft -C FORWARD -i docker0 ! -o docker0 -j ACCEPT 2>/dev/null || iptables-nft -I FORWARD -i docker0 ! -o docker0 -j ACCEPT
    iptables-nft -C FORWARD -o docker0 -j DOCKER 2>/dev/null || iptables-nft -I FORWARD -o docker0 -j DOCKER
    iptables-nft -D FORWARD -j DOCKER-ISOLATION-STAGE-1 2>/dev/null; iptables-nft -I FORWARD -j DOCKER-ISOLATION-STAGE-1
    iptables-nft -P FORWARD DROP
    iptables-nft -N DOCKER-USER 2>/dev/null
    iptables-nft -C DOCKER-USER -j RETURN 2>/dev/null || iptables-nft -A DOCKER-USER -j RETURN
    iptables-nft -D FORWARD -j DOCKER-USER 2>/dev/null; iptables-nft -I FORWARD -j DOCKER-USER
";

/// iptables' own view, with our rules and without.
fn rules(space: &Space) -> (Vec<String>, Vec<String>) {
    let all = space.shell("iptables-nft -S");
    all.lines().map(str::to_owned).partition(|line| line.contains("warren: "))
}

fn is_open(space: &Space) -> bool {
    rules(space).0.len() == 4
}

/// A server on the second node, a client on the first.
fn pods(lab: &Lab) -> (Pod, Pod) {
    let (client, server) = (lab.nodes[0].pod(2), lab.nodes[1].pod(2));
    server.space.serve_tcp(8080, "server");
    (client, server)
}

fn reaches(client: &Pod, server: &Pod) -> bool {
    client.space.ask((server.address, 8080)).is_ok_and(|answer| answer.starts_with("server"))
}

fn warnings(node: &Node) -> String {
    let data_plane = node.data_plane();
    let status = node.block(async move { data_plane.status().await.expect("a status") });
    status["warnings"].to_string()
}

#[test]
fn pods_reach_each_other_although_dockers_forward_policy_is_drop() {
    let lab = Lab::new(2);
    let (client, server) = pods(&lab);
    for node in &lab.nodes {
        node.space.shell(DOCKER);
    }
    for node in &lab.nodes {
        // While Docker is at it, they may be in FORWARD for a moment.
        let ours = eventually("the way is open, by Docker's chain for others", || {
            let (ours, _) = rules(&node.space);
            (ours.len() == 4 && ours.iter().all(|rule| rule.starts_with("-A DOCKER-USER "))).then_some(ours)
        });
        assert!(ours.iter().any(|rule| rule.contains("-i wrn+ ") && rule.ends_with("-j ACCEPT")), "{ours:?}");
        let list = node.space.shell("nft list chain ip filter DOCKER-USER");
        assert!(
            list.contains("iifname \"wrn*\"") && list.contains("comment \"warren: from wrn*\""),
            "{list}"
        );
        assert_eq!(warnings(node), "[]");
    }
    assert!(reaches(&client, &server) && reaches(&client, &server));
    // What is not pods' stays closed: the drop is still there for everyone else.
    let (_, theirs) = rules(&lab.nodes[0].space);
    assert!(theirs.contains(&"-P FORWARD DROP".to_owned()), "{theirs:?}");
}

#[test]
fn the_path_is_repaired_at_once_after_each_harm_and_nothing_foreign_is_lost() {
    let lab = Lab::new(2);
    let (client, server) = pods(&lab);
    let space = &lab.nodes[0].space;
    space.shell(DOCKER);
    space.shell("iptables-nft -I DOCKER-USER -s 203.0.113.7 -j DROP");
    eventually("the way is open", || is_open(space).then_some(()));
    let saved = "iptables-nft-save | grep -v warren: > /tmp/wn-saved-$$ && iptables-nft-restore < /tmp/wn-saved-$$; s=$?; rm -f /tmp/wn-saved-$$; exit $s";
    let (_, before) = rules(space);
    let harms = [
        ("the firewall is loaded anew", saved.to_owned(), true),
        (
            "our rules are deleted",
            "for i in 1 2 3 4; do iptables-nft -D DOCKER-USER 1; done".to_owned(),
            false,
        ),
        ("the engine restarts", DOCKER.to_owned(), true),
        (
            "everything is flushed, then the engine restarts",
            format!("iptables-nft -F; iptables-nft -X; {DOCKER}"),
            false,
        ),
    ];
    let mut slowest = Duration::ZERO;
    for (harm, command, keeps) in harms {
        space.shell(&command);
        let harmed = Instant::now();
        eventually(harm, || is_open(space).then_some(()));
        let took = harmed.elapsed();
        assert!(took < AT_ONCE, "{harm}: repaired after {took:?}");
        slowest = slowest.max(took);
        assert!(reaches(&client, &server), "{harm}");
        if keeps {
            let mut after = rules(space).1;
            let mut before = before.clone();
            after.sort();
            before.sort();
            assert_eq!(after, before, "{harm}");
        }
    }
    eprintln!("slowest repair as seen by iptables: {slowest:?}");
}

#[test]
fn a_flush_of_everything_takes_our_rules_away_for_a_moment_only() {
    let mut lab = Lab::new(2);
    let (client, server) = pods(&lab);
    lab.publish_services(vec![service("web", "10.43.7.7", "TCP", &[(&server, 8080)])]);
    let service: (Ipv4Addr, u16) = ([10, 43, 7, 7].into(), 80);
    let answers = || client.space.ask(service).is_ok_and(|answer| answer.starts_with("server"));
    eventually("the service answers", || answers().then_some(()));
    let space = &lab.nodes[0].space;
    let ours = || space.shell("nft -s list table ip warren 2>/dev/null || true");
    let before = ours();
    // As a firewall's service loads its file; and somebody who takes single things away.
    for harm in [
        "nft 'flush ruleset; table inet theirs { chain gate { type filter hook forward priority 0; policy drop; }; }'",
        "nft delete table ip warren",
        "nft flush table ip warren",
    ] {
        space.shell(harm);
        let harmed = Instant::now();
        eventually(harm, || (ours().len() == before.len()).then_some(()));
        let took = harmed.elapsed();
        assert!(took < AT_ONCE, "{harm}: repaired after {took:?}");
        eventually(harm, || answers().then_some(()));
    }
    let gate = space.shell("nft list table inet theirs");
    assert_eq!(gate.matches("comment \"warren: ").count(), 4, "{gate}");
}

#[test]
fn without_docker_user_the_dropping_chain_itself_is_opened_and_left_when_it_accepts() {
    let lab = Lab::new(2);
    let (client, server) = pods(&lab);
    let space = &lab.nodes[1].space;
    space.shell(
        "nft add table inet theirs && nft 'add chain inet theirs gate { type filter hook forward priority 10; policy drop; }' \
         && nft add rule inet theirs gate ip saddr 203.0.113.0/24 counter accept",
    );
    let ours = || space.shell("nft list chain inet theirs gate").matches("comment \"warren: ").count();
    eventually("the chain is opened", || (ours() == 4).then_some(()));
    assert!(reaches(&client, &server));
    // firewalld's way: the policy accepts, the last rule refuses.
    space.shell("nft 'chain inet theirs gate { policy accept; }' && nft add rule inet theirs gate reject with icmpx admin-prohibited");
    eventually("still open", || (ours() == 4).then_some(()));
    assert!(reaches(&client, &server));
    space.shell("nft flush chain inet theirs gate && nft add rule inet theirs gate counter accept");
    eventually("left", || (ours() == 0).then_some(()));
    space.shell("nft flush chain inet theirs gate && nft 'chain inet theirs gate { policy drop; }'");
    eventually("opened again", || (ours() == 4).then_some(()));
    space.shell("nft 'chain inet theirs gate { policy accept; }'");
    eventually("cleared", || (ours() == 0).then_some(()));
    assert!(reaches(&client, &server));
}

#[test]
fn the_old_iptables_are_named_with_the_mend_and_the_mend_works() {
    let lab = Lab::new(2);
    let (client, server) = pods(&lab);
    let node = &lab.nodes[0];
    if !node.space.shell("iptables-legacy -P FORWARD DROP 2>&1 || echo absent").trim().is_empty() {
        eprintln!("this kernel has no iptables-legacy");
        return;
    }
    let (world, _) = warren_netd::world::DesiredNetwork::read(&lab.items(node));
    let look = |world: &warren_netd::world::DesiredNetwork| {
        let (data_plane, world) = (node.data_plane(), world.clone());
        node.block(async move { assert_eq!(data_plane.enforce(&world, true).await, Vec::<String>::new()) });
        warnings(node)
    };
    let warning = look(&world);
    assert!(warning.contains("iptables-legacy -I CHAIN -i wrn+ -j ACCEPT"), "{warning}");
    for rule in ["-i wrn+", "-o wrn+", "-i warren0", "-o warren0"] {
        node.space.shell(&format!("iptables-legacy -I FORWARD {rule} -j ACCEPT"));
    }
    assert_eq!(look(&world), "[]");
    assert!(reaches(&client, &server));
}
