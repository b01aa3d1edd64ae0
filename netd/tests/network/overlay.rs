//! The tunnel: who reaches whom, what others see, and what a change disturbs.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use warren_proto::control;

use crate::{
    capture::{Capture, is_inside, v4},
    lab::{AT_ONCE, Lab, OUTSIDE, PATIENCE, eventually, source},
};

#[test]
fn pods_reach_each_other_across_nodes_and_the_underlay_sees_only_wireguard() {
    let lab = Lab::new(3);
    let capture = Capture::start(&lab.router);
    let pods: Vec<_> = lab.nodes.iter().map(|node| node.pod(7)).collect();
    for (number, pod) in pods.iter().enumerate() {
        pod.space.serve_tcp(8080, &format!("pod-{number}"));
    }
    for from in &pods {
        for (number, to) in pods.iter().enumerate() {
            let answer = from.space.ask((to.address, 8080)).expect("an answer");
            assert_eq!(answer, format!("pod-{number} {}", from.address), "the pod's own address arrives");
        }
    }
    // Nodes reach pods everywhere, by their overlay address.
    for node in &lab.nodes {
        let answer = node.space.ask((pods[2].address, 8080)).expect("an answer");
        assert_eq!(source(&answer), IpAddr::from(node.address()));
    }
    let seen = capture.finish();
    assert!(seen.iter().any(|packet| packet.is_wireguard()), "no packet was captured at all");
    let nodes: Vec<_> = lab.nodes.iter().map(|node| node.underlay()).collect();
    for packet in seen {
        assert!(!is_inside(packet.from) && !is_inside(packet.to), "leaked to the underlay: {packet:?}");
        if nodes.contains(&packet.from) && nodes.contains(&packet.to) {
            assert!(packet.is_wireguard(), "not encrypted: {packet:?}");
        }
    }
}

#[test]
fn bulk_traffic_crosses_the_tunnel_whole() {
    let lab = Lab::new(2);
    let (a, b) = (lab.nodes[0].pod(2), lab.nodes[1].pod(2));
    const SIZE: usize = 32 << 20;
    let listener = b.space.run(|| TcpListener::bind("0.0.0.0:9000").expect("a port"));
    let receiver = b.space.spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut sum = 0u64;
        let mut count = 0;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = std::io::Read::read(&mut stream, &mut buffer).expect("data");
            if length == 0 {
                return (count, sum);
            }
            count += length;
            sum = buffer[..length]
                .iter()
                .fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        }
    });
    let to = (b.address, 9000).into();
    let sent = a.space.run(move || {
        let data: Vec<u8> = (0..SIZE).map(|n| (n * 7 + n / 251) as u8).collect();
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
        stream.write_all(&data).expect("sent");
        data.iter().fold(0u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
    });
    assert_eq!(receiver.join().expect("received"), (SIZE, sent));
    // The largest packet fits exactly: 1420 bytes with its headers.
    b.space.serve_udp(9001, "b");
    let socket = a.space.udp((b.address, 9001));
    let length = eventually("an answer to the largest packet", || {
        socket.send(&[0; 1392]).ok()?;
        socket.recv(&mut [0; 64]).ok()
    });
    assert!(length > 0);
}

#[test]
fn pods_leave_the_cluster_with_the_nodes_address_and_never_inside_it() {
    let lab = Lab::new(2);
    lab.router.serve_tcp(8080, "outside");
    let (a, b) = (lab.nodes[0].pod(2), lab.nodes[1].pod(2));
    b.space.serve_tcp(8080, "inside");
    let answer = a.space.ask((OUTSIDE, 8080)).expect("the outside answers");
    assert_eq!(source(&answer), IpAddr::from(lab.nodes[0].underlay()));
    let answer = a.space.ask((b.address, 8080)).expect("the inside answers");
    assert_eq!(source(&answer), IpAddr::from(a.address));
}

#[test]
fn addresses_that_nobody_has_are_unreachable_at_once_and_never_leak() {
    let lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    let capture = Capture::start(&lab.router);
    for nobody in [Ipv4Addr::new(10, 42, 99, 9), Ipv4Addr::new(10, 42, 1, 77)] {
        let start = Instant::now();
        let error = pod.space.ask((nobody, 80)).expect_err("nobody is there");
        assert!(start.elapsed() < AT_ONCE, "{nobody} was not refused at once: {error}");
    }
    assert!(capture.finish().iter().all(|packet| !is_inside(packet.to)), "leaked to the underlay");
}

#[test]
fn a_pod_cannot_send_from_another_address() {
    let lab = Lab::new(2);
    let (a, b) = (lab.nodes[0].pod(2), lab.nodes[1].pod(2));
    b.space.serve_udp(9000, "b");
    let honest = a.space.udp((b.address, 9000));
    assert_eq!(v4(source(&crate::lab::ask_udp(&honest))), a.address);
    a.space.shell("ip addr add 10.42.1.99/32 dev eth0");
    let to = (b.address, 9000);
    let outcome = a.space.run(move || {
        let socket = std::net::UdpSocket::bind("10.42.1.99:0").expect("a port");
        socket.connect(to).expect("a route");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
        socket.send(b"spoofed").expect("sent");
        socket.recv(&mut [0; 64])
    });
    assert!(outcome.is_err(), "a spoofed packet was answered");
    let entrance = lab.nodes[0].space.shell("nft list chain ip warren entrance");
    let dropped = entrance.lines().find(|line| line.contains("fib saddr")).expect("the rule");
    assert!(!dropped.contains("packets 0 "), "the packet was not stopped on its own node: {dropped}");
}

#[test]
fn changing_peers_leaves_other_sessions_alone() {
    let mut lab = Lab::new(2);
    let (a, b) = (lab.nodes[0].pod(2), lab.nodes[1].pod(2));
    let listener = b.space.run(|| TcpListener::bind("0.0.0.0:9000").expect("a port"));
    b.space.spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut writer = stream.try_clone().expect("a clone");
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let _ = writeln!(writer, "{line}");
        }
    });
    let to = (b.address, 9000).into();
    let mut stream = a.space.run(move || TcpStream::connect_timeout(&to, PATIENCE).expect("a connection"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
    let mut echo = |text: &str| {
        writeln!(stream, "{text}").expect("sent");
        let mut line = String::new();
        reader.read_line(&mut line).expect("echoed");
        assert_eq!(line.trim(), text);
    };
    echo("before");
    let session = |lab: &Lab| {
        let data_plane = lab.nodes[0].data_plane();
        let report = lab.nodes[0]
            .block(async move { data_plane.report(None, &Default::default()).await.expect("a report") });
        report.peers.into_iter().find(|peer| peer.name == "node-2").expect("the peer")
    };
    let before = session(&lab);
    // Measured from outside: were the session made anew, its age would begin anew too.
    eventually("the session grows old", || {
        (session(&lab).handshake_age_seconds > Some(before.handshake_age_seconds.unwrap_or(0) + 1))
            .then_some(())
    });
    let aged = session(&lab);
    let stranger = |number: u8| control::Peer {
        name: format!("stranger-{number}"),
        public_key: warren_netd::tunnel::key::PrivateKey::generate().public().to_string(),
        endpoint: format!("10.9.1.{number}:51820"),
        pod_cidr: format!("10.42.{number}.0/24"),
        address: format!("10.42.{number}.1"),
    };
    lab.strangers = vec![stranger(100), stranger(101)];
    lab.publish();
    echo("peers were added");
    lab.strangers = vec![stranger(102)];
    lab.publish();
    echo("peers were replaced");
    lab.strangers.clear();
    lab.publish();
    echo("peers were removed");
    let after = session(&lab);
    assert!(after.handshake_age_seconds >= aged.handshake_age_seconds, "{aged:?} became {after:?}");
    assert!(after.received_bytes > aged.received_bytes, "{aged:?} became {after:?}");
    assert_eq!(after.endpoint, "10.9.2.2:51820");
}

#[test]
fn a_report_tells_key_backend_and_round_trips() {
    let lab = Lab::new(2);
    let data_plane = lab.nodes[0].data_plane();
    let report = eventually("the peer's echo", || {
        let data_plane = lab.nodes[0].data_plane();
        lab.nodes[0].block(async move {
            let round_trips = data_plane.round_trips().await;
            let report = data_plane.report(Some([10, 9, 1, 2].into()), &round_trips).await.expect("a report");
            report.peers[0].round_trip_micros.is_some().then_some(report)
        })
    });
    assert_eq!(report.public_key, data_plane.public_key().to_string());
    assert_eq!(report.underlay_address, "10.9.1.2");
    assert_eq!((report.listen_port, report.mtu), (51_820, 1420));
    assert!(["kernel", "userspace"].contains(&report.backend.as_str()));
    assert_eq!(report.peers[0].name, "node-2");
    assert!(report.peers[0].handshake_age_seconds.is_some());
}

#[test]
fn a_node_that_moved_is_found_by_its_new_endpoint() {
    let mut lab = Lab::new(2);
    let (a, b) = (lab.nodes[0].pod(2), lab.nodes[1].pod(2));
    b.space.serve_tcp(8080, "b");
    // Node 1 is told a wrong place for node 2, which cannot know better.
    let wrong = |lab: &Lab| {
        let mut items = lab.items(&lab.nodes[0]);
        if let Some(control::feed_item::Item::Peer(peer)) = items.get_mut("peer/node-2") {
            peer.endpoint = "10.9.2.99:51820".into();
        }
        items
    };
    let (world, problems) = warren_netd::world::DesiredNetwork::read(&wrong(&lab));
    assert!(problems.is_empty(), "{problems:?}");
    let data_plane = lab.nodes[0].data_plane();
    lab.nodes[0]
        .block(async move { assert_eq!(data_plane.enforce(&world, false).await, Vec::<String>::new()) });
    lab.publish();
    let answer = a.space.ask((b.address, 8080)).expect("an answer");
    assert_eq!(source(&answer), IpAddr::from(a.address));
}
