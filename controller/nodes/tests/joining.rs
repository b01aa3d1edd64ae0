//! Joining and identity over a real connection.

mod harness;

use std::time::Duration;

use harness::{Controller, csr, request_as};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tonic::Code;
use warren_proto::{
    control::{
        Consumer, HeartbeatRequest, NetworkReport, NodeReport, RenewRequest, Role, SessionsRequest, Subscribe,
    },
    vocabulary::WireGuardKey,
};
use warren_runtime::tls::PeerIdentity;
use warren_store::Store as _;

const MEND: &str = "make a new one with `warren token create`";

#[tokio::test]
async fn a_token_lets_exactly_one_join_win() {
    let controller = Controller::start().await;
    let token = controller.nodes.create_token(Duration::from_secs(60)).await.expect("a token");
    assert_eq!(controller.nodes.list_tokens().len(), 1);
    let names: Vec<_> = (0..8).map(|i| format!("node-{i}")).collect();
    let joins = names.iter().map(|name| controller.join(&token, name, Role::Node));
    let outcomes = futures_util::future::join_all(joins).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    for status in lost.into_iter().filter_map(Result::err) {
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(MEND), "{}", status.message());
    }
    let snapshot = controller.store.snapshot();
    assert_eq!(snapshot.list("members.warren.internal").count(), 1);
    assert_eq!(snapshot.list("nodes").count(), 1);
    assert!(controller.nodes.list_tokens().is_empty());
}

#[tokio::test]
async fn a_join_makes_member_node_and_certificate() {
    let controller = Controller::start().await;
    let token = controller.nodes.create_token(Duration::from_secs(60)).await.expect("a token");
    let joined = controller.join(&token, "node-1", Role::Node).await.expect("joined");
    let peer = PeerIdentity::from_der(&joined.certificate).expect("a subject");
    assert_eq!(peer.common_name, "system:warren:node:node-1");
    assert_eq!(token.rsplit('.').next(), Some(warren_runtime::tls::certificate_sha256(&joined.ca).as_str()));
    let node = controller.get("nodes", "", "node-1").expect("a node");
    assert_eq!(node.value["metadata"]["labels"]["kubernetes.io/hostname"], "node-1");
    let member = controller.get("members.warren.internal", "", "node-1").expect("a member");
    assert_eq!(node.value["spec"]["podCIDR"], member.value["spec"]["podCidr"]);
    controller.member("gw", Role::Gateway).await;
    assert!(controller.get("nodes", "", "gw").is_none(), "a gateway runs no pods");
    let gateway = controller.get("members.warren.internal", "", "gw").expect("a member");
    assert_ne!(gateway.value["spec"]["podCidr"], member.value["spec"]["podCidr"]);
}

#[tokio::test]
async fn a_wrong_expired_or_revoked_token_is_refused() {
    let controller = Controller::start().await;
    let token = controller.nodes.create_token(Duration::from_secs(60)).await.expect("a token");
    let parts: Vec<_> = token.split('.').collect();
    let hash: String = Sha256::digest(b"secret").iter().map(|byte| format!("{byte:02x}")).collect();
    let spec = json!({"secretSha256": hash, "expires": "2020-01-01T00:00:00Z"});
    controller.put("tokens.warren.internal", "", json!({"metadata": {"name": "old"}, "spec": spec})).await;
    let wrong_secret = format!("wrn1.{}.{}.x", parts[1], "0".repeat(32));
    for token in ["", "wrn1", "wrn1.nobody.x.y", "wrn1.old.secret.x", &wrong_secret] {
        let status = controller.join(token, "node-1", Role::Node).await.expect_err(token);
        assert_eq!(status.code(), Code::Unauthenticated, "{token}");
        assert!(status.message().contains(MEND), "{token}: {}", status.message());
    }
    controller.nodes.revoke_token(parts[1]).await.expect("revoked");
    assert!(controller.nodes.revoke_token(parts[1]).await.is_err());
    assert!(controller.join(&token, "node-1", Role::Node).await.is_err());
    assert_eq!(controller.store.snapshot().list("members.warren.internal").count(), 0);
    assert!(controller.nodes.create_token(Duration::ZERO).await.is_err());
}

#[tokio::test]
async fn bad_input_does_not_use_up_the_token() {
    let controller = Controller::start().await;
    let token = controller.nodes.create_token(Duration::from_secs(60)).await.expect("a token");
    for (name, role) in [("Node_1", Role::Node), ("", Role::Node), ("node-1", Role::Unspecified)] {
        let status = controller.join(&token, name, role).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
    }
    controller.join(&token, "node-1", Role::Node).await.expect("still good");
}

#[tokio::test]
async fn a_machine_that_lost_its_state_takes_its_own_name_again_and_no_other_machine_does() {
    let controller = Controller::start().await;
    let token = async || controller.nodes.create_token(Duration::from_secs(60)).await.expect("a token");
    controller.join_from(&token().await, "node-1", Role::Node, "machine-1").await.expect("joined");
    let mut first = controller.as_member("node-1", Role::Node).await;
    let report = NetworkReport {
        public_key: WireGuardKey([7; 32]).to_string(),
        listen_port: 51820,
        underlay_address: "192.0.2.1".into(),
        ..NetworkReport::default()
    };
    first.client.report_network(first.request(report)).await.expect("reported");
    let node = controller.get("nodes", "", "node-1").expect("a node").value["metadata"]["uid"].clone();
    let alive = first.beating(Consumer::Agent).await;
    let status = controller.join_from(&token().await, "node-1", Role::Node, "machine-1").await;
    let status = status.expect_err("it runs");
    assert!(status.message().contains("still runs on this very machine"), "{}", status.message());
    drop(alive);
    // From here on it falls silent; whoever is the same machine waits for that.
    for machine in ["", "machine-2"] {
        let status = controller.join_from(&token().await, "node-1", Role::Node, machine).await;
        let status = status.expect_err("another machine");
        assert!(status.message().contains("warren member remove node-1"), "{}", status.message());
        assert!(!status.message().contains("very machine"), "{}", status.message());
    }
    controller.join_from(&token().await, "node-1", Role::Node, "machine-1").await.expect("recognised");
    let member = controller.get("members.warren.internal", "", "node-1").expect("a member");
    assert_eq!(member.value["spec"]["machine"], "machine-1");
    let same = controller.get("nodes", "", "node-1").expect("a node").value["metadata"]["uid"].clone();
    assert_eq!(same, node, "its pods stay bound to it");
}

#[tokio::test]
async fn a_name_is_taken_until_its_node_is_deleted() {
    let controller = Controller::start().await;
    let mut first = controller.member("node-1", Role::Node).await;
    let member = || controller.get("members.warren.internal", "", "node-1").expect("a member");
    let slice = member().value["spec"]["podCidr"].clone();
    let token = controller.nodes.create_token(Duration::from_secs(60)).await.expect("a token");
    // The answer to its join may have been lost: until it has spoken, the name can join again.
    controller.join(&token, "node-1", Role::Node).await.expect("it has not come to life yet");
    let report = NetworkReport {
        public_key: WireGuardKey([7; 32]).to_string(),
        listen_port: 51820,
        underlay_address: "192.0.2.1".into(),
        ..NetworkReport::default()
    };
    first.client.report_network(first.request(report)).await.expect("reported");
    let token = controller.nodes.create_token(Duration::from_secs(60)).await.expect("a token");
    let gateway = controller.join(&token, "node-1", Role::Gateway).await.expect_err("another role");
    assert_eq!(gateway.code(), Code::AlreadyExists);
    let status = controller.join(&token, "node-1", Role::Node).await.expect_err("taken");
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("warren member remove node-1"), "{}", status.message());
    controller.delete("nodes", "", "node-1").await;
    controller.join(&token, "node-1", Role::Node).await.expect("joined again");
    assert_eq!(member().value["spec"]["podCidr"], slice, "pods of the old life keep their addresses");
    assert!(controller.get("nodes", "", "node-1").is_some());
}

#[tokio::test]
async fn only_members_that_still_exist_are_served() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let renewed = member.client.renew(member.request(RenewRequest { csr: csr() })).await.expect("renewed");
    let peer = PeerIdentity::from_der(&renewed.into_inner().certificate).expect("a subject");
    assert_eq!(peer.common_name, "system:warren:node:node-1");

    let unnamed = member.client.report_node(NodeReport::default()).await.expect_err("no certificate");
    assert_eq!(unnamed.code(), Code::Unauthenticated);
    for subject in [
        "warren-admin/system:masters",
        "system:warren:node:node-1/system:masters",
        "system:warren:node:other/system:warren:members",
        "system:warren:gateway:node-1/system:warren:members",
    ] {
        let status =
            member.client.report_node(request_as(subject, NodeReport::default())).await.expect_err(subject);
        assert_eq!(status.code(), Code::PermissionDenied, "{subject}");
    }
    let mut gateway = controller.member("gw", Role::Gateway).await;
    let status = gateway.client.sessions(gateway.request(SessionsRequest {})).await.expect_err("a gateway");
    assert_eq!(status.code(), Code::PermissionDenied);

    assert!(controller.nodes.remove_member("node-1").await.expect("stored"));
    assert!(!controller.nodes.remove_member("node-1").await.expect("stored"));
    let status = member.client.report_node(member.request(NodeReport::default())).await.expect_err("removed");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("join with a new token"), "{}", status.message());
}

#[tokio::test]
async fn a_second_machine_with_the_same_identity_is_refused_everywhere() {
    let controller = Controller::start().await;
    let mut first = controller.member("node-1", Role::Node).await;
    first.machine = Some("boot-1.1".into());
    let agent = first.beating(Consumer::Agent).await;
    let netd = first.beating(Consumer::Netd).await;
    let mut copy = controller.as_member("node-1", Role::Node).await;
    copy.machine = Some("boot-2.1".into());

    let refused =
        copy.subscribe(Subscribe { consumer: Consumer::Agent.into(), ..Subscribe::default() }).await;
    let refused = refused.err().expect("no feed for a copy");
    assert_eq!(refused.code(), Code::AlreadyExists);
    for part in [
        "node-1 is connected from another machine",
        "clear this machine's state directory",
        "warren token create",
    ] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    let report = copy.request(NodeReport::default());
    assert_eq!(copy.client.report_node(report).await.expect_err("refused").code(), Code::AlreadyExists);
    let (beats, outgoing) = tokio::sync::mpsc::channel(1);
    let heartbeat = copy.request(tokio_stream::wrappers::ReceiverStream::new(outgoing));
    let beat = HeartbeatRequest { consumer: Consumer::Agent.into(), sequence: 0 };
    beats.send(beat).await.expect("room");
    assert_eq!(copy.client.heartbeat(heartbeat).await.expect_err("refused").code(), Code::AlreadyExists);

    // The first goes on undisturbed, another process of its machine too.
    first.feed(Consumer::Agent).await.snapshot().await;
    // When it has left, the copy may take its place.
    drop((agent, netd));
    harness::within("the copy is let in", async {
        while let Err(status) =
            copy.subscribe(Subscribe { consumer: Consumer::Agent.into(), ..Subscribe::default() }).await
        {
            assert_eq!(status.code(), Code::AlreadyExists);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let _beating = copy.beating(Consumer::Agent).await;
    let refused =
        first.subscribe(Subscribe { consumer: Consumer::Agent.into(), ..Subscribe::default() }).await;
    assert_eq!(refused.err().expect("the first is the second now").code(), Code::AlreadyExists);
}
