//! What a netd that ends and starts again costs: with the sockets held for it, nothing that has begun.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::Message,
    rr::RecordType,
    serialize::binary::{BinDecodable as _, BinEncodable as _},
};

use crate::{
    lab::{DNS, Lab, PATIENCE, service},
    names::{addresses, ask, question},
};

/// As many as fit in the kernel's default buffers, the asker's and the held socket's: both must keep them all.
const QUESTIONS: usize = 200;
/// WireGuard itself notices after 15 s that a peer has forgotten the session.
const BEFORE_WIREGUARD_NOTICES: Duration = Duration::from_secs(12);

#[test]
fn questions_wait_while_netd_starts_again() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    lab.publish_services(vec![service("web", "10.43.1.1", "TCP", &[(&pod, 80)])]);
    let name = "web.default.svc.cluster.local.";
    assert_eq!(addresses(&ask(&pod.space, name, RecordType::A)).len(), 1);
    lab.nodes[0].stop();
    // Asked once, of nobody: without the held socket the kernel would refuse.
    let (bytes, socket) =
        (question(name, RecordType::A).to_bytes().expect("encoded"), pod.space.udp((DNS, 53)));
    for _ in 0..QUESTIONS {
        socket.send(&bytes).expect("sent");
    }
    let mut stream =
        pod.space.run(|| TcpStream::connect_timeout(&(DNS, 53).into(), PATIENCE).expect("queued"));
    stream.write_all(&(bytes.len() as u16).to_be_bytes()).expect("sent");
    stream.write_all(&bytes).expect("sent");
    lab.nodes[0].start();
    lab.publish();
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    for number in 0..QUESTIONS {
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("answer {number}: {error}"));
        let answer = Message::from_bytes(&buffer[..length]).expect("decoded");
        assert_eq!(addresses(&answer), ["10.43.1.1".parse::<std::net::Ipv4Addr>().expect("an address")]);
    }
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut length = [0; 2];
    std::io::Read::read_exact(&mut stream, &mut length).expect("an answer by TCP");
}

#[test]
fn an_established_connection_survives_its_nodes_netd_and_the_sessions_are_made_anew_at_once() {
    let mut lab = Lab::new(2);
    let (a, b) = (lab.nodes[0].pod(2), lab.nodes[1].pod(2));
    let listener = b.space.run(|| TcpListener::bind("0.0.0.0:9000").expect("a port"));
    let accepting = b.space.spawn(move || listener.accept().expect("a connection").0);
    let to = (b.address, 9000).into();
    let near = a.space.run(move || TcpStream::connect_timeout(&to, PATIENCE).expect("a connection"));
    let mut far = accepting.join().expect("accepted");
    near.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut lines = BufReader::new(near).lines();
    let mut tell = |text: &str| {
        writeln!(far, "{text}").expect("sent");
        assert_eq!(lines.next().expect("open").expect("received"), text);
    };
    tell("before");
    for round in 0..3 {
        lab.nodes[0].stop();
        lab.nodes[0].start();
        lab.publish();
        let started = Instant::now();
        // Only the other side sends, with the old session's keys: the new netd must speak first.
        tell(&format!("after {round}"));
        let took = started.elapsed();
        println!("round {round}: heard again after {took:?}");
        assert!(took < BEFORE_WIREGUARD_NOTICES, "the session was not made anew: {took:?}");
    }
}
