//! Requests while things move.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use warren_tests::{capture::Capture, cluster::Cluster, eventually, load::Load};

use crate::usage::{demo, gateway};

/// The demo with all its pods in the traffic, and no pod of an earlier life.
pub fn prepare(cluster: &Cluster) {
    cluster.nodes_ready(3);
    cluster.apply(demo());
    cluster.rolled_out("deployment/hello");
    settled(cluster, 6);
}

/// Answers every connection on this side of the bridge: a place outside the cluster.
fn outside(cluster: &Cluster) -> String {
    let address = cluster.machines.outside().address;
    let listener = TcpListener::bind(format!("{address}:0")).expect("the bridge's address is ours");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
            let _ = stream.read(&mut [0; 4096]);
            let body = format!("seen from {peer}\n");
            let _ = write!(stream, "HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    format!("{address}:{port}")
}

pub fn names_lead_across_nodes_and_the_underlay_is_encrypted(cluster: &Cluster) {
    let node = |number: u32| format!("{}-node-{number}", cluster.name);
    let manifest = include_str!("../../manifests/across.yaml")
        .replace("NODE_1", &node(1))
        .replace("NODE_3", &node(3))
        .replace("OUTSIDE", &outside(cluster));
    let underlay: Vec<String> = (1..=3).map(|number| cluster.machines.address(&node(number))).collect();
    let capture = Capture::start(&cluster.machines.outside().bridge, &underlay);
    cluster.apply(&manifest);
    let expected = [
        "env=swordfish file=a file from a ConfigMap mode=400",
        "by name: Welcome to nginx",
        "by search: Welcome to nginx",
        // Masqueraded: the outside sees the node, not the pod.
        &format!("outside: seen from {}", underlay[0]),
        "nobody: refused",
        "api: reached",
    ];
    let by_its_name = ["--tls-server-name=kubernetes.default.svc.cluster.local", "get", "--raw", "/readyz"];
    assert_eq!(cluster.kubectl(&by_its_name), "ok");
    eventually("the client has reached everything", || {
        let output = cluster.try_kubectl(&["-n", "shop", "logs", "client"]);
        let logs = String::from_utf8_lossy(&output.stdout).into_owned();
        match expected.iter().find(|line| !logs.contains(**line)) {
            None => Ok(()),
            Some(missing) => Err(format!("{missing:?} is missing in:\n{}", tail(&logs))),
        }
    });
    let pods = cluster.items(&["-n", "shop", "pods"]);
    let on = |name: &str| {
        let pod = pods.iter().find(|pod| pod["metadata"]["name"] == name).expect("the pod exists");
        pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!((on("client"), on("server")), (node(1), node(3)));
    let (tunnel, foreign) = capture.stop(51_820);
    assert!(tunnel > 0 && foreign.is_empty(), "{tunnel} WireGuard packets, and in the clear: {foreign:#?}");
    cluster.kubectl(&["delete", "namespace", "shop", "--timeout=120s"]);
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

pub fn rollouts_and_scaling_lose_no_request(cluster: &Cluster) {
    cluster.apply(demo());
    cluster.rolled_out("deployment/hello");
    let deployment = cluster.get(&["deployment", "hello"]);
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("an image");
    let repository = image.rsplit_once(':').map_or(image, |(repository, _)| repository);
    let newer = format!("{repository}:e2e-newer");
    cluster.machines.tag(image, &newer);

    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    cluster.kubectl(&["set", "image", "deployment/hello", &format!("*={newer}")]);
    cluster.rolled_out("deployment/hello");
    load.more(100);
    for replicas in ["9", "2", "6"] {
        cluster.kubectl(&["scale", "deployment/hello", &format!("--replicas={replicas}")]);
        cluster.rolled_out("deployment/hello");
        settled(cluster, replicas.parse().expect("a number"));
        load.more(100);
    }
    cluster.kubectl(&["rollout", "undo", "deployment/hello"]);
    cluster.rolled_out("deployment/hello");
    settled(cluster, 6);
    load.more(100);
    let report = load.stop();
    println!("rollouts and scaling: {} requests, {} failed", report.requests, report.failures.len());
    report.assert_flawless();
    cluster.machines.untag(&newer);
}

/// Waits until exactly `count` pods of the demo exist and none is terminating.
pub fn settled(cluster: &Cluster, count: usize) {
    eventually("the demo has settled", || match cluster.items(&["pods", "-l", "app=hello"]).len() {
        found if found == count => Ok(()),
        found => Err(format!("{found} of {count} pods")),
    });
}
