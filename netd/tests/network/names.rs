//! DNS as pods use it: by UDP and TCP, at the service address, from pods and from the node.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
    serialize::binary::{BinDecodable, BinEncodable},
};
use warren_proto::control;

use crate::lab::{DNS, Lab, PATIENCE, Space, eventually, service};

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let name = Name::from_ascii(name).expect("a name");
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message
}

fn ask_message(from: &Space, message: Message) -> Message {
    let bytes = message.to_bytes().expect("encoded");
    let socket = from.udp((DNS, 53));
    eventually("a DNS answer", || {
        let mut buffer = [0; 4096];
        socket.send(&bytes).ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        Message::from_bytes(&buffer[..length]).ok()
    })
}

pub(crate) fn ask(from: &Space, name: &str, kind: RecordType) -> Message {
    ask_message(from, question(name, kind))
}

fn ask_tcp(from: &Space, name: &str, kind: RecordType) -> Message {
    let bytes = question(name, kind).to_bytes().expect("encoded");
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&(DNS, 53).into(), PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.write_all(&(bytes.len() as u16).to_be_bytes()).expect("sent");
        stream.write_all(&bytes).expect("sent");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("a length");
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).expect("an answer");
        Message::from_bytes(&answer).expect("decoded")
    })
}

pub(crate) fn addresses(message: &Message) -> Vec<Ipv4Addr> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    };
    message.answers.iter().filter_map(address).collect()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

/// A nameserver outside that knows one name, and counts.
fn stub(space: &Space, address: Ipv4Addr) {
    let socket = space.run(move || UdpSocket::bind((address, 53)).expect("port 53"));
    space.spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let Ok(asked) = Message::from_bytes(&buffer[..length]) else { continue };
            let query = asked.queries[0].clone();
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            answer.metadata.recursion_available = true;
            if query.name().to_ascii().eq_ignore_ascii_case("outside.example.") {
                if query.query_type() == RecordType::A {
                    let data = RData::A(A::new(192, 0, 2, 1));
                    answer.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                }
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            answer.add_query(query);
            let _ = socket.send_to(&answer.to_bytes().expect("encoded"), from);
        }
    });
}

#[test]
fn services_are_named_everywhere_and_other_names_are_forwarded() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    stub(&lab.router, Ipv4Addr::new(10, 9, 1, 1));
    let address = Ipv4Addr::new(10, 43, 7, 7);
    lab.publish_services(vec![service("web", "10.43.7.7", "TCP", &[(&pod, 8080)])]);
    let web = "web.default.svc.cluster.local.";
    for from in [&pod.space, &lab.nodes[0].space] {
        let answer = ask(from, web, RecordType::A);
        assert_eq!((code(&answer), addresses(&answer)), (ResponseCode::NoError, vec![address]));
        assert_eq!(addresses(&ask_tcp(from, web, RecordType::A)), [address]);
        // No IPv6: an empty answer, not an error, so that clients take the address above.
        let answer = ask(from, web, RecordType::AAAA);
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(answer.authorities.len(), 1);
        // What search domains make of an outside name does not exist.
        for absent in ["nothing.default.svc.cluster.local.", "outside.example.default.svc.cluster.local."] {
            assert_eq!(code(&ask(from, absent, RecordType::A)), ResponseCode::NXDomain, "{absent}");
        }
        let answer = ask(from, "outside.example.", RecordType::A);
        assert_eq!(
            (code(&answer), addresses(&answer)),
            (ResponseCode::NoError, vec![Ipv4Addr::new(192, 0, 2, 1)])
        );
        let answer = ask(from, "outside.example.", RecordType::AAAA);
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(code(&ask(from, "absent.example.", RecordType::A)), ResponseCode::NXDomain);
    }
    let answer = ask(&pod.space, "7.7.43.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(answer.answers[0].data.to_string(), web);
    let answer = ask(&pod.space, "_main._tcp.web.default.svc.cluster.local.", RecordType::SRV);
    assert_eq!(answer.answers[0].data.to_string(), format!("0 100 80 {web}"));
    // A removed service is forgotten with the revision that removed it.
    lab.publish_services(vec![]);
    assert_eq!(code(&ask(&pod.space, web, RecordType::A)), ResponseCode::NXDomain);
}

#[test]
fn an_external_name_brings_the_outside_address_along() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    stub(&lab.router, Ipv4Addr::new(10, 9, 1, 1));
    let mut out = service("out", "", "TCP", &[]);
    out.external_name = "outside.example".into();
    lab.publish_services(vec![out]);
    let answer = ask(&pod.space, "out.default.svc.cluster.local.", RecordType::A);
    assert_eq!(answer.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(addresses(&answer), [Ipv4Addr::new(192, 0, 2, 1)]);
}

#[test]
fn a_large_headless_service_fits_by_edns_or_by_tcp() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    let mut many = service("many", "", "TCP", &[]);
    let named = |n: u8| control::NamedEndpoint { address: format!("10.42.9.{n}"), ..Default::default() };
    many.endpoints = (1..=60).map(named).collect();
    lab.publish_services(vec![many]);
    let name = "many.default.svc.cluster.local.";
    let answer = ask(&pod.space, name, RecordType::A);
    assert!(answer.metadata.truncation, "512 bytes cannot hold 60 addresses");
    let mut sized = question(name, RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    sized.set_edns(edns);
    let answer = ask_message(&pod.space, sized);
    assert_eq!((answer.metadata.truncation, answer.answers.len()), (false, 60));
    assert_eq!(ask_tcp(&pod.space, name, RecordType::A).answers.len(), 60);
}

#[test]
fn without_a_nameserver_the_answer_is_a_failure_and_the_cluster_still_answers() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    lab.publish_services(vec![service("web", "10.43.7.7", "TCP", &[])]);
    // Nobody listens at the router's port 53. While one question waits, others are answered.
    let asker = pod.space.clone();
    let waiting = std::thread::spawn(move || {
        let socket = asker.udp((DNS, 53));
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        socket.send(&question("outside.example.", RecordType::A).to_bytes().expect("encoded")).expect("sent");
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).expect("an answer");
        code(&Message::from_bytes(&buffer[..length]).expect("decoded"))
    });
    let answer = ask(&pod.space, "web.default.svc.cluster.local.", RecordType::A);
    assert_eq!(addresses(&answer), [Ipv4Addr::new(10, 43, 7, 7)]);
    assert_eq!(waiting.join().expect("answered"), ResponseCode::ServFail);
}
