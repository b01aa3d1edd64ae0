//! Pods' links: plugging in, again, elsewhere, and out; across restarts of netd; by the agent's socket.

use std::{net::Ipv4Addr, os::unix::fs::PermissionsExt};

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use warren_proto::attach::{
    AttachRequest, DetachRequest, ListRequest, StatusRequest, attachments_client::AttachmentsClient,
};

use crate::lab::{Lab, Pod, Space, eventually};

/// The index of a pod's link on the node, which a new link would change.
fn link_index(lab: &Lab, node: usize, pod: &Pod) -> String {
    let interface = pod.attachment().interface();
    lab.nodes[node].space.shell(&format!(
        "cat /sys/class/net/{interface}/ifindex 2>/dev/null || ip -o link show {interface} | cut -d: -f1"
    ))
}

#[test]
fn plugging_in_is_idempotent_and_another_namespace_replaces() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let pod = node.pod(2);
    pod.space.serve_tcp(8080, "first");
    let alias = node.space.shell(&format!("ip link show {}", pod.attachment().interface()));
    assert!(alias.contains("alias warren:") && alias.contains("10.42.1.2 default/pod-1-2"), "{alias}");
    assert!(alias.contains("ee:ee:ee:ee:ee:ee") && alias.contains("mtu 1420"), "{alias}");
    let index = link_index(&lab, 0, &pod);
    node.attach(&pod).expect("again");
    assert_eq!(link_index(&lab, 0, &pod), index, "the link was made anew");
    assert_eq!(node.attachments(), [pod.attachment()]);
    // The sandbox was made anew: the same pod, another namespace.
    let moved = Pod { space: Space::new(), address: pod.address };
    moved.space.serve_tcp(8080, "second");
    node.attach(&moved).expect("moved");
    assert_eq!(node.space.ask((pod.address, 8080)).expect("an answer"), "second 10.42.1.1");
    assert_eq!(node.attachments(), [pod.attachment()]);
    assert!(!pod.space.shell("ip link").contains("eth0"), "the old namespace kept its link");
}

#[test]
fn unplugging_removes_every_trace_and_twice_is_fine() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let pod = node.pod(2);
    assert!(node.space.shell("ip route").contains("10.42.1.2"));
    assert!(node.space.shell("nft list set ip warren hairpin").contains("10.42.1.2"));
    for _ in 0..2 {
        let (data_plane, uid) = (node.data_plane(), pod.attachment().uid);
        node.block(async move { data_plane.detach(&uid).await.expect("unplugged") });
    }
    assert_eq!(node.attachments(), []);
    assert!(!node.space.shell("ip link; ip route; nft list set ip warren hairpin").contains("10.42.1.2"));
    // Its address may be used again.
    let next = Pod { space: Space::new(), address: pod.address };
    node.attach(&next).expect("plugged in");
}

#[test]
fn a_namespace_that_is_gone_takes_its_link_along() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let pod = node.pod(2);
    let gone = pod.attachment();
    drop(pod);
    eventually("the kernel removes the link", || node.attachments().is_empty().then_some(()));
    let (world, _) = warren_netd::world::DesiredNetwork::read(&lab.items(node));
    let data_plane = node.data_plane();
    assert_eq!(node.block(async move { data_plane.enforce(&world, false).await }), Vec::<String>::new());
    let left = node.space.shell("nft list set ip warren hairpin");
    assert!(!left.contains(&gone.address.to_string()), "{left}");
}

#[test]
fn what_must_not_be_plugged_in_is_refused_with_a_reason() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let refuse = |pod: &Pod| node.attach(pod).expect_err("refused");
    let own = Pod { space: node.space.clone(), address: Ipv4Addr::new(10, 42, 1, 2) };
    assert!(refuse(&own).contains("the node's own network namespace"));
    let foreign = Pod { space: Space::new(), address: Ipv4Addr::new(10, 42, 2, 2) };
    assert!(refuse(&foreign).contains("10.42.2.2 is not one of this node's pod addresses in 10.42.1.0/24"));
    let member = Pod { space: Space::new(), address: Ipv4Addr::new(10, 42, 1, 1) };
    assert!(refuse(&member).contains("10.42.1.1 is not one of"));
    let bridged = Pod { space: Space::new(), address: Ipv4Addr::new(10, 42, 1, 2) };
    bridged.space.shell("ip link add eth0 type veth peer name other");
    assert!(refuse(&bridged).contains("an eth0 that is not Warren's"));
    let taken = node.pod(3);
    let (data_plane, mut wanted, space) = (node.data_plane(), taken.attachment(), Space::new());
    wanted.uid = "ffffffff-0000-4000-8000-000000000000".parse().expect("a uid");
    let path = space.path();
    let error =
        node.block(async move { data_plane.attach(&wanted, &path).await.expect_err("taken").to_string() });
    assert!(error.contains("address 10.42.1.3 is held by pod"), "{error}");
    let (data_plane, wanted) = (node.data_plane(), bridged.attachment());
    let error = node.block(async move {
        data_plane.attach(&wanted, "/etc/hostname".as_ref()).await.expect_err("no namespace").to_string()
    });
    assert!(error.contains("is no network namespace"), "{error}");
}

#[test]
fn pods_stay_plugged_in_while_netd_is_away_and_when_it_returns() {
    let mut lab = Lab::new(2);
    let (a, b, far) = (lab.nodes[0].pod(2), lab.nodes[0].pod(3), lab.nodes[1].pod(2));
    for pod in [&a, &b, &far] {
        pod.space.serve_tcp(8080, &pod.address.to_string());
    }
    lab.publish_services(vec![crate::lab::service("web", "10.43.7.7", "TCP", &[(&b, 8080)])]);
    let (index, key) = (link_index(&lab, 0, &a), lab.nodes[0].data_plane().public_key());
    lab.nodes[0].stop();
    // The kernel goes on: pods on the node, and service addresses. What is meant for others stays inside.
    let capture = crate::capture::Capture::start(&lab.router);
    assert!(a.space.ask((b.address, 8080)).is_ok());
    assert!(a.space.ask((Ipv4Addr::new(10, 43, 7, 7), 80)).is_ok());
    assert!(lab.nodes[0].space.ask((b.address, 8080)).is_ok());
    a.space.udp((far.address, 8080)).send(b"secret").expect("sent");
    assert!(capture.finish().iter().all(|packet| !crate::capture::is_inside(packet.to)), "leaked");
    lab.nodes[0].start();
    assert_eq!(lab.nodes[0].data_plane().public_key(), key, "the key was made anew");
    lab.publish();
    assert_eq!(lab.nodes[0].attachments().len(), 2);
    assert_eq!(link_index(&lab, 0, &a), index, "the pod was plugged in anew");
    let answer = a.space.ask((far.address, 8080)).expect("the tunnel is back");
    assert_eq!(answer, format!("{} {}", far.address, a.address));
    assert!(far.space.ask((a.address, 8080)).is_ok());
    lab.nodes[0].attach(&a).expect("plugged in");
    assert_eq!(link_index(&lab, 0, &a), index, "plugging in again made a new link");
}

#[test]
fn lists_and_passes_may_come_at_once() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let pod = node.pod(2);
    let (world, _) = warren_netd::world::DesiredNetwork::read(&lab.items(node));
    let data_plane = node.data_plane();
    let (lists, problems) = node.block(async move {
        let lists = futures_util::future::join_all((0..20).map(|_| data_plane.attachments()));
        tokio::join!(lists, data_plane.enforce(&world, true))
    });
    assert_eq!(problems, Vec::<String>::new());
    for list in lists {
        assert_eq!(list.expect("a list"), [pod.attachment()]);
    }
}

#[test]
fn without_a_place_in_the_overlay_nothing_is_plugged_in() {
    let mut lab = Lab::new(1);
    lab.nodes[0].stop();
    lab.nodes[0].start();
    let pod = Pod { space: Space::new(), address: Ipv4Addr::new(10, 42, 1, 2) };
    assert!(lab.nodes[0].attach(&pod).expect_err("too early").contains("no place in the overlay yet"));
}

async fn connect(socket: std::path::PathBuf) -> AttachmentsClient<Channel> {
    let dial = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?)) }
    });
    let channel = Endpoint::from_static("http://netd").connect_with_connector(dial).await.expect("connected");
    AttachmentsClient::new(channel)
}

#[test]
fn the_agents_socket_is_private_and_speaks_the_contract() {
    let lab = Lab::new(2);
    let node = &lab.nodes[0];
    let socket = node.state.path().join(warren_proto::ATTACH_SOCKET);
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let pod = Pod { space: Space::new(), address: Ipv4Addr::new(10, 42, 1, 2) };
    let request = AttachRequest {
        pod_uid: pod.attachment().uid.to_string(),
        address: pod.address.to_string(),
        namespace_path: pod.space.path().display().to_string(),
        pod: "default/web".into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut client = connect(socket).await;
        client.attach(request.clone()).await.expect("attached");
        let listed = client.list(ListRequest {}).await.expect("listed").into_inner().attachments;
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (listed[0].pod_uid.as_str(), listed[0].address.as_str()),
            (request.pod_uid.as_str(), "10.42.1.2")
        );
        let status = client.status(StatusRequest {}).await.expect("status").into_inner().json;
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        assert_eq!(status["address"], "10.42.1.1");
        assert_eq!(status["peers"][0]["name"], "node-2");
        assert_eq!(status["attachments"][0]["pod"], "default/web");
        assert!(["kernel", "userspace"].contains(&status["backend"].as_str().expect("a backend")));
        for (broken, field) in [
            (AttachRequest { address: "nowhere".into(), ..request.clone() }, "address"),
            (AttachRequest { pod_uid: "x".into(), ..request.clone() }, "pod_uid"),
            (AttachRequest { namespace_path: "relative".into(), ..request.clone() }, "namespace_path"),
        ] {
            let status = client.attach(broken).await.expect_err("refused");
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(field), "{status}");
        }
        client.detach(DetachRequest { pod_uid: request.pod_uid }).await.expect("detached");
        assert!(client.list(ListRequest {}).await.expect("listed").into_inner().attachments.is_empty());
    });
}
