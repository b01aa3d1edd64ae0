//! The overlay has one entrance: what the underlay sends to overlay and service addresses, or from them, does not
//! come in. Each packet is sent by a raw socket, and looked for in the pod and at the node's input and forward hooks.

use std::{
    net::{Ipv4Addr, SocketAddrV6, UdpSocket},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    capture::{Capture, CapturedPacket, is_inside},
    lab::{DNS, Lab, OUTSIDE, Pod, Space, ask_udp, eventually, service, source},
};

const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 43, 7, 7);
/// The first packets' source port, or ICMP identifier: nothing else in a lab has it. Each attack has the next, because
/// late answers to an earlier one look alike.
const MARK: u16 = 40_404;
/// An ICMP echo request's type and code.
const ECHO: u16 = 0x0800;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

#[derive(Debug, Clone, Copy)]
struct Forged {
    from: Ipv4Addr,
    to: Ipv4Addr,
    protocol: u8,
    port: u16,
    mark: u16,
}

/// The Internet checksum.
fn checksum(words: &[u8]) -> u16 {
    let words =
        words.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

impl Forged {
    fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self.protocol {
            ICMP => {
                // An echo request.
                body.extend([8, 0, 0, 0]);
                body.extend(self.mark.to_be_bytes());
                body.extend(1u16.to_be_bytes());
                let sum = checksum(&body);
                body[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            TCP => {
                body.extend(self.mark.to_be_bytes());
                body.extend(self.port.to_be_bytes());
                // A SYN, and a window of 1,024 bytes.
                body.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 4, 0, 0, 0, 0, 0]);
                let mut covered = [self.from.octets(), self.to.octets()].concat();
                covered.extend([0, TCP, 0, body.len() as u8]);
                covered.extend(&body);
                let sum = checksum(&covered);
                body[16..18].copy_from_slice(&sum.to_be_bytes());
            }
            _ => {
                body.extend(self.mark.to_be_bytes());
                body.extend(self.port.to_be_bytes());
                // Without a checksum.
                body.extend([0, 12, 0, 0]);
                body.extend(b"seen");
            }
        }
        let length = (20 + body.len()) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, self.protocol, 0, 0]);
        packet.extend(self.from.octets());
        packet.extend(self.to.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(body);
        packet
    }

    fn is(&self, seen: &CapturedPacket) -> bool {
        let first = if self.protocol == ICMP { ECHO } else { self.mark };
        (seen.from, seen.protocol, seen.ports.0) == (self.from, self.protocol, first)
    }
}

fn send(from: &Space, packets: Vec<Forged>) {
    from.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).expect("a raw socket");
        socket.set_header_included_v4(true).expect("own headers");
        for packet in packets {
            let to = std::net::SocketAddr::from((packet.to, 0)).into();
            socket.send_to(&packet.bytes(), &to).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
        }
    });
}

/// Everything that must not come in: to what is inside from the underlay, and to anything as if from inside.
fn forbidden(lab: &Lab, pod: &Pod, attack: u16) -> Vec<Forged> {
    let (node, underlay, mark) = (lab.nodes[0].address(), lab.nodes[0].underlay(), MARK + attack);
    // Another node, its pod, a pod of this node, a service, and the honest router.
    let sources = [[10, 42, 2, 1], [10, 42, 2, 9], [10, 42, 1, 3], [10, 43, 7, 9], ROUTER.octets()];
    let inside = [(pod.address, 8080), (WEB, 80), (DNS, 53), (node, 53)];
    let mut packets = Vec::new();
    for from in sources.map(Ipv4Addr::from) {
        let outer = (from != ROUTER).then_some((underlay, 7_000));
        for (to, port) in inside.into_iter().chain(outer) {
            packets.extend([TCP, UDP, ICMP].map(|protocol| Forged { from, to, protocol, port, mark }));
        }
    }
    packets
}

/// Counts at the node what came past the entrance. Made again: a flush takes it along.
fn watch(node: &Space) {
    node.shell(
        "nft 'table ip look {}; delete table ip look; table ip look {
            chain input { type filter hook input priority -400; iifname \"eth0\" ip saddr 10.42.0.0/15 counter comment \"x\"; iifname \"eth0\" ip daddr 10.42.0.0/15 counter comment \"x\"; };
            chain forward { type filter hook forward priority -400; iifname \"eth0\" ip saddr 10.42.0.0/15 counter comment \"x\"; iifname \"eth0\" ip daddr 10.42.0.0/15 counter comment \"x\"; };
        }'",
    );
}

fn counted(node: &Space) -> u64 {
    let listed = node.shell("nft list table ip look");
    let mut words = listed.split_whitespace().peekable();
    let mut sum = 0;
    while let Some(word) = words.next() {
        if word == "packets" {
            sum += words.next().expect("a number").parse::<u64>().expect("a number");
        }
    }
    sum
}

/// What of `packets` is seen in the pod, and how many came past the entrance of its node.
fn attack(lab: &Lab, pod: &Pod, packets: &[Forged]) -> (Vec<Forged>, u64) {
    let node = &lab.nodes[0];
    watch(&node.space);
    let capture = Capture::start(&pod.space);
    send(&lab.router, packets.to_vec());
    // What is sent last and is permitted arrives last: the links keep the order.
    let socket = lab.router.udp((node.underlay(), 7_001));
    assert!(ask_udp(&socket).starts_with("open"));
    assert_eq!(ask_udp(&node.space.udp((pod.address, 5353))).split(' ').next(), Some("pod"));
    let seen = capture.finish();
    assert!(
        seen.iter().any(|packet| packet.from == node.address()),
        "the capture sees nothing at all: {seen:?}"
    );
    let arrived = packets.iter().filter(|packet| seen.iter().any(|seen| packet.is(seen)));
    (arrived.copied().collect(), counted(&node.space))
}

fn lab() -> (Lab, Pod, Pod) {
    let mut lab = Lab::new(2);
    let (pod, far) = (lab.nodes[0].pod(2), lab.nodes[1].pod(2));
    for served in [&pod, &far] {
        served.space.serve_tcp(8080, "pod");
        served.space.serve_udp(5353, "pod");
    }
    let node = lab.nodes[0].space.clone();
    node.serve_tcp(7_000, "open");
    node.serve_udp(7_001, "open");
    lab.router.serve_tcp(8080, "outside");
    for network in ["10.42.0.0/16", "10.43.0.0/16"] {
        lab.router.shell(&format!("ip route add {network} via 10.9.1.2"));
    }
    let mut udp = service("web", &WEB.to_string(), "TCP", &[(&pod, 8080)]);
    udp.ports.push(service("", "", "UDP", &[(&pod, 5353)]).ports.remove(0));
    lab.publish_services(vec![udp]);
    // Nothing but our own rules stands in the way: machines have reverse path filters of all kinds.
    loosen(&node);
    (lab, pod, far)
}

fn loosen(node: &Space) {
    node.shell("for file in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $file; done");
    node.shell("for file in /proc/sys/net/ipv4/conf/*/accept_local; do echo 1 > $file; done");
}

/// What a cluster and its machine are for goes on.
fn assert_open(lab: &Lab, pod: &Pod, far: &Pod) {
    let node = &lab.nodes[0];
    for (from, own) in [(&far.space, far.address), (&node.space, node.address())] {
        for to in [(pod.address, 8080), (WEB, 80)] {
            let answer = eventually("the overlay is open", || from.ask(to).ok());
            assert_eq!(source(&answer), std::net::IpAddr::from(own), "to {to:?}");
        }
        assert!(from.can_connect((DNS, 53)));
    }
    assert!(pod.space.can_connect((DNS, 53)) && pod.space.can_connect((WEB, 80)));
    assert_eq!(source(&pod.space.ask((OUTSIDE, 8080)).expect("the outside")), node.underlay());
    // The machine's own servers, from outside, from pods and from itself.
    for from in [&lab.router, &pod.space, &node.space] {
        assert!(from.can_connect((node.underlay(), 7_000)));
    }
}

#[test]
fn nothing_comes_into_the_overlay_from_the_underlay_and_nothing_poses_as_inside() {
    let (mut lab, pod, far) = lab();
    assert_open(&lab, &pod, &far);
    let packets = forbidden(&lab, &pod, 0);
    let (arrived, passed) = attack(&lab, &pod, &packets);
    assert!(arrived.is_empty() && passed == 0, "{passed} passed the entrance, seen in the pod: {arrived:#?}");

    // Without the entrance they do arrive: what was looked for above can be seen.
    lab.nodes[0].stop();
    lab.nodes[0].space.shell("nft flush chain ip warren entrance");
    let packets = forbidden(&lab, &pod, 1);
    let node = lab.nodes[0].space.clone();
    watch(&node);
    let capture = Capture::start(&pod.space);
    send(&lab.router, packets.clone());
    eventually("all pass", || (counted(&node) >= packets.len() as u64).then_some(()));
    eventually("the packets are in the pod", || {
        let to_pod = packets.iter().filter(|packet| [pod.address, WEB].contains(&packet.to));
        let echo_of_service = |packet: &Forged| packet.to == WEB && packet.protocol == ICMP;
        // What claims to come from this node's own pod is answered there, but it arrives, too.
        to_pod
            .filter(|packet| !echo_of_service(packet))
            .all(|packet| capture.has(|seen| packet.is(seen)))
            .then_some(())
    });
    drop(capture.finish());

    // The next netd mends it, and the table is mended when all of nftables was flushed.
    lab.nodes[0].start();
    lab.publish();
    let harms = [
        "true",
        "nft flush ruleset",
        "nft delete chain ip warren entrance",
        "nft flush chain ip warren entrance",
    ];
    for (number, harm) in (2..).zip(harms) {
        lab.nodes[0].space.shell(harm);
        loosen(&lab.nodes[0].space);
        eventually("the entrance is back", || {
            let rules = lab.nodes[0].space.shell("nft list chain ip warren entrance 2>/dev/null || true");
            (rules.matches(" drop").count() == 5).then_some(())
        });
        let packets = forbidden(&lab, &pod, number);
        let (arrived, passed) = attack(&lab, &pod, &packets);
        assert!(
            arrived.is_empty() && passed == 0,
            "after {harm}: {passed} passed, seen in the pod: {arrived:#?}"
        );
        assert_open(&lab, &pod, &far);
    }
}

#[test]
fn a_pod_cannot_pose_as_its_neighbour_even_where_the_machine_filters_loosely() {
    let (lab, pod, _) = lab();
    let liar = lab.nodes[0].pod(3);
    loosen(&lab.nodes[0].space);
    let forge = |from: [u8; 4], protocol| Forged {
        from: from.into(),
        to: pod.address,
        protocol,
        port: 8080,
        mark: MARK,
    };
    let sources = [[10, 42, 1, 4], [10, 42, 2, 2], [10, 42, 1, 1], [10, 43, 7, 7], [192, 0, 2, 1]];
    let lies: Vec<_> =
        sources.into_iter().flat_map(|from| [TCP, UDP, ICMP].map(|protocol| forge(from, protocol))).collect();
    let honest = [TCP, UDP, ICMP].map(|protocol| forge(liar.address.octets(), protocol));
    let capture = Capture::start(&pod.space);
    send(&liar.space, lies.iter().copied().chain(honest).collect());
    for packet in honest {
        eventually("the truth arrives", || capture.has(|seen| packet.is(seen)).then_some(()));
    }
    let seen = capture.finish();
    let believed: Vec<_> = lies.iter().filter(|lie| seen.iter().any(|seen| lie.is(seen))).collect();
    assert!(believed.is_empty(), "{believed:#?}");
}

#[test]
fn others_on_the_machine_keep_their_ways_and_find_none_into_the_overlay() {
    let (lab, pod, _) = lab();
    let node = &lab.nodes[0].space;
    // A container on a bridge of Docker's: its own network, translated by the machine.
    let container = Space::new();
    crate::lab::connect(node, "docker0", &container, "eth0");
    node.shell("ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up");
    node.shell("nft 'table ip theirs { chain nat { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 oifname \"eth0\" masquerade; }; }'");
    container.shell(
        "ip addr add 172.17.0.2/16 dev eth0 && ip link set eth0 up && ip route add default via 172.17.0.1",
    );
    container.serve_tcp(8080, "container");
    assert_eq!(source(&container.ask((OUTSIDE, 8080)).expect("the outside")), lab.nodes[0].underlay());
    assert!(container.can_connect((lab.nodes[0].underlay(), 7_000)));
    assert!(
        pod.space.ask((Ipv4Addr::new(172, 17, 0, 2), 8080)).expect("a container").starts_with("container")
    );
    let forge =
        |to, port, protocol| Forged { from: Ipv4Addr::new(172, 17, 0, 2), to, protocol, port, mark: MARK };
    let inside = [(pod.address, 8080), (WEB, 80), (DNS, 53), (lab.nodes[0].address(), 53)];
    let packets: Vec<_> = inside
        .into_iter()
        .flat_map(|(to, port)| [TCP, UDP, ICMP].map(|protocol| forge(to, port, protocol)))
        .collect();
    let (outer, inner) = (Capture::start(&container), Capture::start(&pod.space));
    send(&container, packets.clone());
    assert!(container.can_connect((lab.nodes[0].underlay(), 7_000)));
    assert_eq!(ask_udp(&node.udp((pod.address, 5353))).split(' ').next(), Some("pod"));
    let (outer, inner) = (outer.finish(), inner.finish());
    assert!(!inner.iter().any(|seen| packets.iter().any(|packet| packet.is(seen))), "{inner:?}");
    let answers: Vec<_> = outer.iter().filter(|seen| is_inside(seen.from)).collect();
    assert!(answers.is_empty(), "{answers:?}");
}

#[test]
fn overlay_addresses_are_not_told_on_other_links() {
    let (mut lab, _, _) = lab();
    let asked = [DNS, lab.nodes[0].address()];
    for address in asked {
        lab.router.shell(&format!("ip route replace {address}/32 dev node1"));
    }
    let state =
        |router: &Space, address: Ipv4Addr| router.shell(&format!("ip neigh show {address} dev node1"));
    let ask = |router: &Space, address: Ipv4Addr| drop(router.udp((address, 9)).send(b"who has it?"));
    for address in asked {
        ask(&lab.router, address);
        eventually("the router gives up", || {
            let text = state(&lab.router, address);
            assert!(!text.contains("lladdr"), "{address} was told: {text}");
            text.contains("FAILED").then_some(())
        });
    }
    assert!(lab.router.shell("ip neigh show 10.9.1.2 dev node1").contains("lladdr"));
    lab.nodes[0].stop();
    lab.nodes[0].space.shell("nft delete table arp warren");
    for address in asked {
        let told = || {
            ask(&lab.router, address);
            state(&lab.router, address).contains("lladdr").then_some(())
        };
        eventually("without our table the kernel answers", told);
    }
}

#[test]
fn pods_have_no_ipv6_that_leads_anywhere() {
    let (mut lab, pod, _) = lab();
    let node = lab.nodes[0].space.clone();
    // A server of the machine's, by the address that its end of every pod's link has.
    let server = node.run(|| UdpSocket::bind("[::]:7002").expect("a port"));
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..length], from);
        }
    });
    let echo = |pod: &Pod| {
        pod.space
            .run(|| {
                let index = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
                let index =
                    index.lines().find(|line| line.ends_with(" eth0"))?.split_whitespace().nth(1)?.to_owned();
                let scope = u32::from_str_radix(&index, 16).ok()?;
                let machine = "fe80::ecee:eeff:feee:eeee".parse().ok()?;
                let socket = UdpSocket::bind("[::]:0").ok()?;
                socket.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
                socket.send_to(b"hello", SocketAddrV6::new(machine, 7_002, 0, scope)).ok()?;
                socket.recv(&mut [0; 64]).ok()
            })
            .is_some()
    };
    let dropped = || !node.shell("nft list chain ip6 warren entrance | grep wrn").contains("packets 0 ");
    eventually("the pod speaks and is not heard", || (!echo(&pod) && dropped()).then_some(()));
    lab.nodes[0].stop();
    node.shell("nft delete table ip6 warren");
    eventually("without our table the machine answers", || echo(&pod).then_some(()));
    lab.nodes[0].start();
    lab.publish();
    assert!(!echo(&pod) && !echo(&pod));
    node.shell("nft flush ruleset");
    eventually("the table is back", || node.shell("nft list tables").contains("ip6 warren").then_some(()));
    assert!(!echo(&pod));
}
