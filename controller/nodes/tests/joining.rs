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
use warren_vocabulary::{ClusterConfig, Networks, member::MemberRole};

const MEND: &str = "make a new one with `warren token create`";

#[tokio::test]
async fn a_token_lets_exactly_one_join_win() {
    let controller = Controller::start().await;
    let token = controller.token().await;
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
async fn a_full_cluster_refuses_and_names_the_setting() {
    let net = |text: &str| text.parse().expect("a network");
    let networks = Networks::new(net("10.42.0.0/27"), net("10.43.0.0/24"), 28).expect("fit");
    let controller = Controller::start_with(ClusterConfig::of(networks)).await;
    let mut node = controller.member("node-1", Role::Node).await;
    let member = controller.get("members.warren.internal", "", "node-1").expect("a member");
    assert_eq!(member.value["spec"]["podCidr"], "10.42.0.16/28");
    let machine = NodeReport { max_pods: 110, runtime_ready: true, ..NodeReport::default() };
    node.client.report_node(node.request(machine)).await.expect("reported");
    let status = controller.get("nodes", "", "node-1").expect("a node").value["status"].clone();
    assert_eq!(status["allocatable"]["pods"], "13", "as many as it has addresses for");
    let token = controller.token().await;
    let full = controller.join(&token, "node-2", Role::Node).await.expect_err("there is one slice");
    assert_eq!(full.code(), Code::ResourceExhausted);
    for said in ["10.42.0.0/27", "/28", "--cluster-network", "--node-network-prefix", "warren member remove"]
    {
        assert!(full.message().contains(said), "{said}: {}", full.message());
    }
    assert!(controller.nodes.remove_member("node-1").await.expect("removed"));
    controller
        .join(&token, "node-2", Role::Node)
        .await
        .expect("the token was not used up, and the slice is free");
}

#[tokio::test]
async fn a_join_makes_member_node_and_certificate() {
    let controller = Controller::start().await;
    let token = controller.token().await;
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
    let token = controller.token().await;
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
    assert!(controller.nodes.create_token(MemberRole::Node, Duration::ZERO).await.is_err());
}

#[tokio::test]
async fn bad_input_does_not_use_up_the_token() {
    let controller = Controller::start().await;
    let token = controller.token().await;
    for (name, role) in [("Node_1", Role::Node), ("", Role::Node), ("node-1", Role::Unspecified)] {
        let status = controller.join(&token, name, role).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}");
    }
    controller.join(&token, "node-1", Role::Node).await.expect("still good");
}

#[tokio::test]
async fn a_machine_that_lost_its_state_takes_its_own_name_again_and_no_other_machine_does() {
    let controller = Controller::start().await;

    let joined = controller.join_from(&controller.token().await, "node-1", Role::Node, "machine-1").await;
    let mut first = controller.with_certificate("node-1", &joined.expect("joined").certificate).await;
    let report = NetworkReport {
        public_key: WireGuardKey([7; 32]).to_string(),
        listen_port: 51820,
        underlay_address: "192.0.2.1".into(),
        ..NetworkReport::default()
    };
    first.client.report_network(first.request(report)).await.expect("reported");
    let node = controller.get("nodes", "", "node-1").expect("a node").value["metadata"]["uid"].clone();
    let alive = first.beating(Consumer::Agent).await;
    let status = controller.join_from(&controller.token().await, "node-1", Role::Node, "machine-1").await;
    let status = status.expect_err("it runs");
    assert!(status.message().contains("still runs on this very machine"), "{}", status.message());
    drop(alive);
    // From here on it falls silent; whoever is the same machine waits for that.
    for machine in ["", "machine-2"] {
        let status = controller.join_from(&controller.token().await, "node-1", Role::Node, machine).await;
        let status = status.expect_err("another machine");
        assert!(status.message().contains("warren member remove node-1"), "{}", status.message());
        assert!(!status.message().contains("very machine"), "{}", status.message());
    }
    controller
        .join_from(&controller.token().await, "node-1", Role::Node, "machine-1")
        .await
        .expect("recognised");
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
    let token = controller.token().await;
    // The answer to its join may have been lost: until it has spoken, the name can join again.
    let joined = controller.join(&token, "node-1", Role::Node).await.expect("it has not come to life yet");
    let old = first
        .client
        .report_network(first.request(NetworkReport::default()))
        .await
        .expect_err("another's now");
    assert_eq!(old.code(), Code::PermissionDenied, "the certificate of the join before opens nothing");
    let mut first = controller.with_certificate("node-1", &joined.certificate).await;
    let report = NetworkReport {
        public_key: WireGuardKey([7; 32]).to_string(),
        listen_port: 51820,
        underlay_address: "192.0.2.1".into(),
        ..NetworkReport::default()
    };
    first.client.report_network(first.request(report)).await.expect("reported");
    let token = controller.token_for(Role::Gateway).await;
    let gateway = controller.join(&token, "node-1", Role::Gateway).await.expect_err("another role");
    assert_eq!(gateway.code(), Code::AlreadyExists);
    let token = controller.token().await;
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
    let agent = first.beating(Consumer::Agent).await;
    let netd = first.beating(Consumer::Netd).await;
    let mut copy = controller.again(&first).await;
    copy.boot = "boot-2.1".into();

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

#[tokio::test]
async fn a_copy_that_does_not_say_which_machine_it_is_is_refused() {
    let controller = Controller::start().await;
    let token = controller.token().await;
    let joined = controller.join_from(&token, "node-1", Role::Node, "machine-1").await.expect("joined");
    let mut first = controller.with_certificate("node-1", &joined.certificate).await;
    assert_eq!(first.host.as_deref(), Some("machine-1"));
    first.client.report_node(first.request(NodeReport::default())).await.expect("its own machine");
    let mut copy = controller.again(&first).await;
    // Nobody else speaks as this member; its identity is bound all the same.
    for host in [None, Some("machine-2".to_owned()), Some(String::new())] {
        copy.host = host;
        let refused = copy.client.report_node(copy.request(NodeReport::default())).await.expect_err("a copy");
        assert_eq!(refused.code(), Code::AlreadyExists, "{:?}", copy.host);
        assert!(refused.message().contains("issued to another machine"), "{}", refused.message());
    }
    (copy.host, copy.boot) = (first.host.clone(), String::new());
    let refused = copy.client.report_node(copy.request(NodeReport::default())).await.expect_err("no word");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_removal_ends_every_stream_at_once_and_no_later_join_revives_them() {
    let controller = Controller::start().await;
    let mut member = controller.member("node-1", Role::Node).await;
    let _other = controller.member("node-2", Role::Node).await;
    let mut feeds = Vec::new();
    for consumer in [Consumer::Agent, Consumer::Netd] {
        let mut feed = member.feed(consumer).await;
        feed.snapshot().await;
        feeds.push(feed);
    }
    let mut sessions =
        member.client.sessions(member.request(SessionsRequest {})).await.expect("open").into_inner();
    let (beats, outgoing) = tokio::sync::mpsc::channel(4);
    beats.send(HeartbeatRequest { consumer: Consumer::Agent.into(), sequence: 0 }).await.expect("room");
    let heartbeat = member.request(tokio_stream::wrappers::ReceiverStream::new(outgoing));
    let mut answers = member.client.heartbeat(heartbeat).await.expect("open").into_inner();
    harness::within("a beat", answers.message()).await.expect("answered");

    assert!(controller.nodes.remove_member("node-1").await.expect("stored"));
    for feed in &mut feeds {
        assert_eq!(feed.end().await.code(), Code::PermissionDenied);
    }
    let end = harness::within("sessions end", sessions.message()).await.expect_err("removed");
    assert!(end.message().contains("was removed"), "{end}");
    // Nothing is asked for: the stream ends by itself.
    let end = harness::within("beats end", answers.message()).await.expect_err("removed");
    assert_eq!(end.code(), Code::PermissionDenied);

    let again = controller.member("node-1", Role::Node).await;
    let subscribe = Subscribe { consumer: Consumer::Agent.into(), ..Subscribe::default() };
    let old = member.subscribe(subscribe).await.err().expect("the old certificate");
    assert_eq!(old.code(), Code::PermissionDenied);
    let renewed =
        member.client.renew(member.request(RenewRequest { csr: csr() })).await.expect_err("the old one");
    assert_eq!(renewed.code(), Code::PermissionDenied);
    let mut again = again;
    again.feed(Consumer::Agent).await.snapshot().await;
}

#[tokio::test]
async fn a_token_is_for_its_role_and_is_not_used_up_by_another() {
    let controller = Controller::start().await;
    for (made, asked, word) in [(Role::Node, Role::Gateway, "gateway"), (Role::Gateway, Role::Node, "node")] {
        let token = controller.token_for(made).await;
        let refused = controller.join(&token, "member-1", asked).await.expect_err("another role");
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains(&format!("warren token create --role {word}")), "{refused}");
        controller.join(&token, &format!("a-{word}"), made).await.expect("its own role");
    }
}

#[tokio::test]
async fn a_member_of_an_earlier_version_is_bound_once_it_shows_its_new_certificate() {
    let controller = Controller::start().await;
    let token = controller.token().await;
    let joined = controller.join_from(&token, "node-1", Role::Node, "machine-1").await.expect("joined");
    // As it was stored and certified before there were ids.
    let mut stored = controller.get("members.warren.internal", "", "node-1").expect("a member").value.clone();
    stored["spec"].as_object_mut().expect("a map").remove("id");
    controller.put("members.warren.internal", "", stored).await;
    let mut old = controller.with_certificate("node-1", &joined.certificate).await;
    old.subject = "system:warren:node:node-1/system:warren:members".into();
    old.host = None;
    old.client.report_node(old.request(NodeReport::default())).await.expect("it goes on");
    let renew = |member: &mut harness::Member| {
        let request = member.request(RenewRequest { csr: csr() });
        let mut client = member.client.clone();
        async move { client.renew(request).await.expect("renewed").into_inner().certificate }
    };
    // The first answer is lost on the way: its certificate is never used.
    let lost = renew(&mut old).await;
    let certificate = renew(&mut old).await;
    let mut new = controller.with_certificate("node-1", &certificate).await;
    assert_eq!(new.host.as_deref(), Some("machine-1"));
    new.client.report_node(new.request(NodeReport::default())).await.expect("bound now");
    let refused =
        old.client.report_node(old.request(NodeReport::default())).await.expect_err("the one before");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut lost = controller.with_certificate("node-1", &lost).await;
    assert!(lost.client.report_node(lost.request(NodeReport::default())).await.is_err());
    let again = renew(&mut new).await;
    assert_eq!(PeerIdentity::from_der(&again), PeerIdentity::from_der(&certificate));
}
