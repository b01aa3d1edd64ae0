//! Machines that may not join, and machines that pretend to be others.

use serde_json::Value;
use warren_tests::{bare::Bare, cluster::Cluster, eventually, load::Load, machines::Machines as _, text};

use crate::{traffic::settled, usage::gateway};

/// Something wrong with a machine: what makes it so, what mends it, and what the preflight must say.
struct Fault {
    make: &'static str,
    mend: &'static str,
    expected: &'static [&'static str],
}

const FAULTS: &[Fault] = &[
    Fault {
        make: "ip route add 10.42.7.0/24 dev eth0",
        mend: "ip route del 10.42.7.0/24 dev eth0",
        expected: &[
            "the route 10.42.7.0/24 by eth0 overlaps with the cluster network 10.42.0.0/16",
            "ip route del 10.42.7.0/24 dev eth0",
        ],
    },
    Fault {
        make: "ip link add lan0 type bridge && ip addr add 10.43.5.1/16 dev lan0 && ip link set lan0 up",
        mend: "ip link del lan0",
        expected: &["the route 10.43.0.0/16 by lan0 overlaps with the service network 10.43.0.0/16"],
    },
    Fault {
        make: "ip link set eth0 mtu 1300",
        mend: "ip link set eth0 mtu 1500",
        expected: &["1300 bytes on the way to the controller", "raise the link's MTU to at least 1360"],
    },
];

pub fn an_unfit_machine_is_told_why(_: &Cluster, bare: &Bare) {
    let name = bare.member("unfit");
    bare.add(&name, "10.90.0.31");
    bare.with(&name, |machine| {
        machine.start_engine(true);
        machine.engine_answers();
    });
    let check = |arguments: &[&str]| bare.join(&name, &name, &[&["--check"], arguments].concat());
    let fit = |arguments: &[&str]| {
        let output = check(arguments);
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let unfit = |arguments: &[&str], expected: &[&str]| {
        let output = check(arguments);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for expected in expected {
            assert!(said.contains(expected), "no {expected:?} in:\n{said}");
        }
        assert!(said.contains("FAILED") && said.contains("mend: "), "{said}");
    };
    let said = fit(&[]);
    // Docker's policy is no reason to refuse: netd opens it.
    assert!(said.contains("dropped by default; netd opens ip filter DOCKER-USER for pods"), "{said}");
    for fault in FAULTS {
        bare.with(&name, |machine| machine.shell(fault.make));
        unfit(&[], fault.expected);
        bare.with(&name, |machine| machine.shell(fault.mend));
    }
    for (port, purpose, options) in [
        ("9402", "netd's metrics", &[][..]),
        ("9403", "the agent's metrics", &[]),
        ("80", "the gateway", &["--gateway"]),
    ] {
        bare.with(&name, |machine| {
            let mut echo = machine.command(machine.warren());
            echo.args(["echo", "--port", port]);
            machine.daemon("echo", echo);
        });
        let taken = format!("TCP {port} ({purpose}) is taken by warren (");
        eventually("the port is taken", || {
            let said = text(&check(options));
            if said.contains(&taken) { Ok(()) } else { Err(said) }
        });
        unfit(options, &[&taken, "mend: stop "]);
        bare.with(&name, |machine| machine.stop("echo"));
    }
    bare.with(&name, |machine| machine.stop("dockerd"));
    unfit(&[], &["docker.sock", "install and start it"]);
    bare.with(&name, |machine| {
        machine.start_engine(true);
        machine.engine_answers();
    });
    // Another firewall: what comes in is its owner's to open.
    bare.with(&name, |machine| {
        machine.shell(
            "nft 'table inet strict { chain input { type filter hook input priority 0; policy drop; \
             ct state established accept; iif lo accept; }; }'",
        )
    });
    let said = fit(&[]);
    assert!(said.contains("inet strict input refuses what no rule of its accepts"), "{said}");
    bare.with(&name, |machine| machine.shell("nft delete table inet strict"));

    // Without a look, too, the networks must be free.
    bare.with(&name, |machine| machine.shell(FAULTS[0].make));
    bare.start_as(&name, &name, Some(&bare.token()));
    ends_with(bare, &name, FAULTS[0].expected[0]);
    bare.with(&name, |machine| machine.shell(FAULTS[0].mend));
    let used = bare.token();
    let joined = bare.join(&name, &name, &["--token", &used]);
    assert!(joined.status.success(), "{}", text(&joined));
    let other = bare.join(&name, "another", &["--check"]);
    assert!(!other.status.success(), "{}", text(&other));
    assert!(text(&other).contains(&format!("the state directory belongs to {name}, not to another")));
    forget(bare, &name);
    // A token serves once.
    let again = bare.join(&name, "another", &["--token", &used]);
    assert!(!again.status.success() && text(&again).contains("join token is unknown"), "{}", text(&again));
    bare.remove(&name);
}

/// Removes a member, and its identity from its machine.
fn forget(bare: &Bare, name: &str) {
    let removed = bare.administrate(&["member", "remove", name]);
    assert!(removed.status.success(), "{}", text(&removed));
    bare.with(name, |machine| {
        std::fs::remove_dir_all(machine.state()).expect("the state can be removed");
    });
}

/// Waits until the `warren node` of a machine has ended with these words.
fn ends_with(bare: &Bare, machine: &str, expected: &str) {
    eventually("warren node ends", || {
        bare.with(machine, |machine| match machine.runs("node") {
            true => Err(machine.log("node")),
            false => Ok(()),
        })
    });
    let log = bare.with(machine, |machine| machine.log("node"));
    assert!(log.contains(expected), "no {expected:?} in:\n{log}");
}

/// What must not change on the true machine.
fn lives(cluster: &Cluster, bare: &Bare, member: &str) -> (Value, Vec<String>, usize) {
    let node = cluster.get(&["node", member])["metadata"]["uid"].clone();
    let pods = cluster.items(&["pods", "-l", "app=hello"]);
    let pods = pods.iter().filter(|pod| pod["spec"]["nodeName"] == member);
    let mut pods: Vec<_> =
        pods.map(|pod| pod["status"]["containerStatuses"][0]["containerID"].to_string()).collect();
    pods.sort();
    (node, pods, bare.processes(member).len())
}

pub fn a_second_machine_with_a_name_is_refused(cluster: &Cluster, bare: &Bare) {
    crate::engines::prepare(cluster);
    let (first, second) = (bare.member("node-1"), bare.member("second"));
    bare.add(&second, "10.90.0.32");
    bare.with(&second, |machine| {
        machine.start_engine(true);
        machine.engine_answers();
    });
    let before = lives(cluster, bare, &first);
    let load = Load::start(gateway(cluster), "/", 4);
    load.more(100);

    // With a token of its own, under a name that is taken.
    let taken = format!(
        "a member named {first} exists; join under another name, or remove it first with `warren member remove {first}`"
    );
    let joined = bare.join(&second, &first, &["--token", &bare.token()]);
    assert!(!joined.status.success() && text(&joined).contains(&taken), "{}", text(&joined));
    bare.start_as(&second, &first, Some(&bare.token()));
    ends_with(bare, &second, &taken);
    load.more(100);

    // With the state directory of the other.
    let (original, copy) = [&first, &second].map(|name| bare.with(name, |machine| machine.state())).into();
    let copied = || {
        let _ = std::fs::remove_dir_all(&copy);
        warren_tests::succeed(std::process::Command::new("cp").arg("-a").arg(&original).arg(&copy));
    };
    copied();
    bare.start_as(&second, &first, None);
    ends_with(
        bare,
        &second,
        "belongs to another machine and was copied here: clear it and join this machine",
    );
    load.more(100);

    // As a whole clone: the mark of the machine is the same, and only the controller can tell.
    copied();
    std::fs::remove_file(copy.join("identity/machine")).expect("the mark is there");
    bare.start_as(&second, &first, None);
    ends_with(bare, &second, "was issued to another machine");
    load.more(300);
    load.stop().assert_flawless();
    assert_eq!(lives(cluster, bare, &first), before, "the true machine was disturbed");
    cluster.nodes_ready(3);

    // Nor does it get in while the true machine is off.
    bare.kill(&first);
    bare.start_as(&second, &first, None);
    ends_with(bare, &second, "was issued to another machine");
    bare.remove(&second);
    bare.start(&first);
    cluster.nodes_ready(3);
    settled(cluster, 6);
}
