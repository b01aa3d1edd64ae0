//! netd as a whole, while its controller is away: the last accepted feed comes into force.

use std::{net::Ipv4Addr, sync::mpsc};

use prost::Message as _;
use warren_netd::{Config, run};
use warren_proto::control::{FeedBatch, FeedItem};
use warren_runtime::{CancellationToken, identity::Identity};

use crate::lab::{Lab, PATIENCE, service};

#[test]
fn without_a_controller_the_kept_feed_is_put_in_force() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    pod.space.serve_tcp(8080, "web");
    lab.services = vec![service("web", "10.43.7.7", "TCP", &[(&pod, 8080)])];
    let upserts =
        lab.items(&lab.nodes[0]).into_iter().map(|(key, item)| FeedItem { key, item: Some(item) }).collect();
    lab.nodes[0].stop();

    // What a node has after a reboot: an identity and a feed on disk. Nobody answers at the controller's.
    let state_dir = lab.nodes[0].state.path().to_owned();
    let pem = String::new();
    let identity =
        Identity { name: "node-1".into(), ca_pem: pem.clone(), certificate_pem: pem.clone(), key_pem: pem };
    identity.save(&state_dir).expect("saved");
    std::fs::create_dir_all(state_dir.join("feeds")).expect("a directory");
    let batch =
        FeedBatch { epoch: 1, revision: 9, snapshot: true, complete: true, upserts, deletes: Vec::new() };
    std::fs::write(state_dir.join("feeds/netd.bin"), batch.encode_to_vec()).expect("written");

    let stop = CancellationToken::new();
    let (stopping, (up, started)) = (stop.clone(), mpsc::channel());
    let descriptors = lab.nodes[0].descriptors();
    let thread = lab.nodes[0].space.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let config = Config {
                state_dir,
                controller: "10.9.1.1:6443".into(),
                interface: "warren0".into(),
                port: 51_820,
                descriptors,
            };
            let bound = run(config, stopping).await.expect("netd starts alone");
            up.send(()).expect("the test waits");
            bound.tasks.wait().await.expect("netd ends well");
        });
    });
    started.recv_timeout(PATIENCE).expect("netd starts");
    let answer = crate::lab::eventually("the service is in force", || {
        pod.space.ask((Ipv4Addr::new(10, 43, 7, 7), 80)).ok()
    });
    assert!(answer.starts_with("web"));
    stop.cancel();
    thread.join().expect("netd ends");
}

#[test]
fn a_machine_that_never_joined_is_told_so() {
    let state = tempfile::tempdir().expect("a directory");
    let config = Config {
        state_dir: state.path().to_owned(),
        controller: "127.0.0.1:1".into(),
        interface: "warren0".into(),
        port: 0,
        descriptors: Default::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let error = runtime.block_on(run(config, CancellationToken::new())).err().expect("refused");
    assert!(error.to_string().contains("has not joined a cluster"), "{error}");
}
