//! Feeds, acknowledgements and heartbeats over a real connection.

mod harness;

use harness::{Controller, until, within};
use serde_json::{Value, json};
use tonic::Code;
use warren_proto::control::{
    Acknowledge, Consumer, FeedRequest, NetworkReport, Role, Subscribe, feed_item::Item, feed_request::Kind,
};
use warren_store::Store as _;

fn service() -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.43.0.20", "ports": [{"name": "http", "port": 80}]}})
}

fn slice(address: &str) -> Value {
    json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address], "nodeName": "node-1", "conditions": {"ready": true}}],
    })
}

const SLICES: &str = "endpointslices.discovery.k8s.io";

#[tokio::test]
async fn snapshot_deltas_and_acknowledgement() {
    let controller = Controller::start().await;
    controller.put("services", "shop", service()).await;
    let mut member = controller.member("node-1", Role::Node).await;
    let _beating = member.beating(Consumer::Netd).await;
    assert!(!controller.network_ready("node-1"));
    let mut feed = member.feed(Consumer::Netd).await;
    let (keys, revision) = feed.snapshot().await;
    assert_eq!(keys, ["network", "service/shop/web"]);
    assert!(!controller.network_ready("node-1"), "not acknowledged yet");
    assert!(controller.nodes.observe().acknowledged < revision);
    feed.acknowledge(revision).await;
    until("the node's network is ready", || controller.network_ready("node-1")).await;
    until("the snapshot is in force", || controller.nodes.observe().acknowledged >= revision).await;

    // A change with content holds the barrier until it is acknowledged.
    let changed = controller.put(SLICES, "shop", slice("10.42.1.2")).await;
    let delta = feed.next().await;
    assert!(!delta.snapshot && delta.complete && delta.revision >= changed);
    let [item] = &delta.upserts[..] else { panic!("{delta:?}") };
    assert!(matches!(&item.item, Some(Item::Service(service)) if service.ports[0].endpoints.len() == 1));
    assert!(controller.nodes.observe().acknowledged < changed);
    feed.acknowledge(delta.revision).await;
    until("the change is in force", || controller.nodes.observe().acknowledged >= changed).await;

    // One without content passes without a message.
    let silent = controller.put("configmaps", "shop", json!({"metadata": {"name": "m"}, "data": {}})).await;
    until("nothing to do is done", || controller.nodes.observe().acknowledged >= silent).await;

    let gone = controller.delete("services", "shop", "web").await;
    let delta = feed.next().await;
    assert_eq!((delta.deletes, delta.upserts.len()), (vec!["service/shop/web".to_owned()], 0));
    assert!(delta.revision >= gone);
}

#[tokio::test]
async fn the_barrier_waits_for_every_live_consumer() {
    let controller = Controller::start().await;
    let mut node = controller.member("node-1", Role::Node).await;
    let mut gateway = controller.member("gw", Role::Gateway).await;
    let _beats = (
        node.beating(Consumer::Netd).await,
        gateway.beating(Consumer::Gateway).await,
        gateway.beating(Consumer::Netd).await,
    );
    let mut feeds = vec![
        node.feed(Consumer::Netd).await,
        gateway.feed(Consumer::Netd).await,
        gateway.feed(Consumer::Gateway).await,
    ];
    for feed in &mut feeds {
        let (_, revision) = feed.snapshot().await;
        feed.acknowledge(revision).await;
    }
    controller.put("services", "shop", service()).await;
    let ingress = json!({"metadata": {"name": "front"}, "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}});
    controller.put("ingresses.networking.k8s.io", "shop", ingress).await;
    let changed = controller.put(SLICES, "shop", slice("10.42.1.2")).await;
    for feed in &mut feeds {
        assert!(controller.nodes.observe().acknowledged < changed);
        // The three commits may arrive in one delta or in several.
        let mut revision = 0;
        while revision < changed {
            revision = feed.next().await.revision;
        }
        feed.acknowledge(revision).await;
    }
    until("all have it", || controller.nodes.observe().acknowledged >= changed).await;

    // One that hangs up is not waited for.
    let changed = controller.put(SLICES, "shop", slice("10.42.1.3")).await;
    for feed in &mut feeds[..2] {
        let revision = feed.next().await.revision;
        feed.acknowledge(revision).await;
    }
    feeds.pop();
    until("the gateway is gone", || controller.nodes.observe().acknowledged >= changed).await;
}

#[tokio::test]
async fn a_reconnected_consumer_gets_a_whole_snapshot_and_replaces_its_predecessor() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut first = member.feed(Consumer::Netd).await;
    let (_, revision) = first.snapshot().await;
    first.acknowledge(revision).await;
    until("ready", || controller.network_ready("node-1")).await;
    drop(first);
    let changed = controller.put("services", "shop", service()).await;
    assert!(controller.network_ready("node-1"), "a short reconnect does not count");
    let mut second = member.feed(Consumer::Netd).await;
    let mut keys = second.snapshot().await.0;
    if !keys.contains(&"service/shop/web".to_owned()) {
        keys.extend(second.next().await.upserts.into_iter().map(|item| item.key));
    }
    assert!(keys.contains(&"service/shop/web".to_owned()), "{keys:?} at {changed}");
    let mut third = member.feed(Consumer::Netd).await;
    third.snapshot().await;
    controller.put(SLICES, "shop", slice("10.42.1.2")).await;
    assert_eq!(second.end().await.code(), Code::Aborted);
    assert_eq!(third.next().await.upserts.len(), 1);
}

#[tokio::test]
async fn a_consumer_is_never_taken_back_in_time() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    member.feed(Consumer::Agent).await.snapshot().await;
    let now = controller.store.snapshot();
    for (epoch, revision, accepted) in [
        (now.epoch, now.revision, true),
        (now.epoch, now.revision + 100, false),
        (now.epoch + 1, 0, false),
        (0, u64::MAX, true),
    ] {
        let outcome = member.subscribe(Subscribe { consumer: Consumer::Agent.into(), epoch, revision }).await;
        match outcome {
            Ok(_) => assert!(accepted, "{epoch} {revision}"),
            Err(status) => {
                assert!(!accepted, "{epoch} {revision}: {status}");
                assert_eq!(status.code(), Code::FailedPrecondition);
                assert!(status.message().contains("this controller was set back"), "{}", status.message());
            }
        }
    }
}

#[tokio::test]
async fn a_feed_that_is_misused_ends_with_a_reason() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    member.feed(Consumer::Agent).await;
    let wrong = Subscribe { consumer: Consumer::Gateway.into(), ..Subscribe::default() };
    assert_eq!(member.subscribe(wrong).await.err().map(|status| status.code()), Some(Code::InvalidArgument));
    let (requests, outgoing) = tokio::sync::mpsc::channel(1);
    requests
        .send(FeedRequest { kind: Some(Kind::Acknowledge(Acknowledge { revision: 1 })) })
        .await
        .expect("room");
    let request = member.request(tokio_stream::wrappers::ReceiverStream::new(outgoing));
    let status = within("refused", member.client.feed(request)).await.expect_err("no subscription");
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut feed = member.feed(Consumer::Agent).await;
    feed.snapshot().await;
    let again = FeedRequest { kind: Some(Kind::Subscribe(Subscribe::default())) };
    feed.requests.send(again).await.expect("open");
    assert_eq!(feed.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_removed_member_loses_its_feed() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut feed = member.feed(Consumer::Agent).await;
    feed.snapshot().await;
    controller.nodes.remove_member("node-1").await.expect("removed");
    assert_eq!(feed.end().await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_tunnel_report_makes_the_member_a_peer_of_the_others() {
    let controller = Controller::start().await;
    let mut one = controller.member("node-1", Role::Node).await;
    let mut two = controller.member("node-2", Role::Node).await;
    let mut feed = two.feed(Consumer::Netd).await;
    assert_eq!(feed.snapshot().await.0, ["network"]);
    let report = NetworkReport {
        public_key: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into(),
        listen_port: 51820,
        underlay_address: "192.0.2.1".into(),
        backend: "kernel".into(),
        mtu: 1420,
        ..NetworkReport::default()
    };
    one.client.report_network(one.request(report.clone())).await.expect("reported");
    let delta = feed.next().await;
    let [item] = &delta.upserts[..] else { panic!("{delta:?}") };
    assert!(
        matches!(&item.item, Some(Item::Peer(peer)) if peer.endpoint == "192.0.2.1:51820" && item.key == "peer/node-1")
    );

    let revision = controller.store.snapshot().revision;
    one.client.report_network(one.request(report.clone())).await.expect("reported again");
    assert_eq!(controller.store.snapshot().revision, revision, "nothing new, nothing written");
    let status = two.client.report_network(two.request(report.clone())).await.expect_err("a cloned key");
    assert_eq!(status.code(), Code::AlreadyExists);
    let bad = NetworkReport { public_key: "short".into(), ..report };
    let status = two.client.report_network(two.request(bad)).await.expect_err("no key");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("public_key: "), "{}", status.message());
    let status = controller.nodes.network_status();
    assert_eq!(status["members"][0]["backend"], "kernel");
    assert_eq!(status["members"][1]["processes"]["netd"]["connected"], true);
}

#[tokio::test]
async fn stopping_ends_every_stream() {
    let mut controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let mut feed = member.feed(Consumer::Agent).await;
    feed.snapshot().await;
    let _beating = member.beating(Consumer::Agent).await;
    controller.stop().await;
    assert_eq!(feed.end().await.code(), Code::Unavailable);
}
