//! Names of others: a scripted nameserver outside, and what of it arrives at clients.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, NULL, SOA},
    },
    serialize::binary::{BinDecodable as _, BinEncodable as _},
};

use crate::{
    lab::{DNS, Lab, OUTSIDE, PATIENCE, Space, eventually, service},
    names::{addresses, ask, question},
};

/// What a client of resolvers waits for an answer.
const CLIENTS_PATIENCE: Duration = Duration::from_secs(5);
const UPSTREAM: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);

/// A question as it came.
#[derive(Clone)]
struct Asked {
    bytes: Vec<u8>,
    message: Message,
    by_tcp: bool,
}

impl Asked {
    fn name(&self) -> String {
        self.message.queries[0].name().to_ascii().to_ascii_lowercase()
    }

    /// An answer in the same words.
    fn reply(&self) -> Message {
        let mut reply = self.message.clone().into_response();
        reply.metadata.recursion_available = true;
        reply.additionals.clear();
        reply
    }

    fn address(&self, ttl: u32) -> Option<Vec<u8>> {
        let mut reply = self.reply();
        let owner = reply.queries[0].name().clone();
        reply.add_answer(Record::from_rdata(owner, ttl, RData::A(A::new(192, 0, 2, 1))));
        encode(&reply)
    }
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    Some(message.to_bytes().expect("encoded"))
}

/// A nameserver by UDP and TCP that says what its script says.
struct Upstream(Arc<Mutex<Vec<Asked>>>);

impl Upstream {
    fn start(
        space: &Space,
        address: Ipv4Addr,
        script: impl Fn(&Asked) -> Option<Vec<u8>> + Clone + Send + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (socket, listener) = space.run(move || {
            let socket = UdpSocket::bind((address, 53)).expect("port 53");
            (socket, TcpListener::bind((address, 53)).expect("port 53"))
        });
        let (noted, say) = (Arc::clone(&seen), script.clone());
        space.spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if let Some(answer) = answer(&buffer[..length], false, &noted, &say) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        let noted = Arc::clone(&seen);
        space.spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let Ok(bytes) = read(&mut stream) else { continue };
                if let Some(answer) = answer(&bytes, true, &noted, &script) {
                    let _ = write(&mut stream, &answer);
                }
            }
        });
        Self(seen)
    }

    fn seen(&self, name: &str) -> Vec<Asked> {
        self.0.lock().expect("not poisoned").iter().filter(|asked| asked.name() == name).cloned().collect()
    }
}

fn answer(
    bytes: &[u8],
    by_tcp: bool,
    noted: &Mutex<Vec<Asked>>,
    script: &impl Fn(&Asked) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let message = Message::from_bytes(bytes).ok()?;
    let asked = Asked { bytes: bytes.to_vec(), message, by_tcp };
    noted.lock().expect("not poisoned").push(asked.clone());
    script(&asked)
}

fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(&(bytes.len() as u16).to_be_bytes())?;
    stream.write_all(bytes)
}

/// Asks once by UDP. Answers the raw answer, and how long it took.
fn ask_raw(from: &Space, bytes: &[u8]) -> (Vec<u8>, Duration) {
    let socket = from.udp((DNS, 53));
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let start = Instant::now();
    socket.send(bytes).expect("sent");
    let mut buffer = [0; 65_535];
    let length = socket.recv(&mut buffer).expect("an answer");
    (buffer[..length].to_vec(), start.elapsed())
}

fn ask_once(from: &Space, message: &Message) -> (Message, Duration) {
    let (bytes, took) = ask_raw(from, &message.to_bytes().expect("encoded"));
    (Message::from_bytes(&bytes).expect("decoded"), took)
}

fn ask_tcp(from: &Space, message: &Message) -> Message {
    let bytes = message.to_bytes().expect("encoded");
    let answer = from.run(move || {
        let mut stream = TcpStream::connect_timeout(&(DNS, 53).into(), PATIENCE).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        write(&mut stream, &bytes).expect("sent");
        read(&mut stream).expect("an answer")
    });
    Message::from_bytes(&answer).expect("decoded")
}

fn with_edns(name: &str, size: u16) -> Message {
    let mut message = question(name, RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(size).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[test]
fn one_pod_that_floods_does_not_take_the_lookups_of_others() {
    let lab = Lab::new(1);
    let (flooder, other) = (lab.nodes[0].pod(2), lab.nodes[0].pod(3));
    let script = |asked: &Asked| if asked.name().ends_with("silent.") { None } else { asked.address(60) };
    let upstream = Upstream::start(&lab.router, UPSTREAM, script);
    let (stop, space) = (Arc::new(AtomicBool::new(false)), flooder.space.clone());
    let stopped = Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        let sockets: Vec<_> = (0..4).map(|_| space.udp((DNS, 53))).collect();
        let mut sent = 0u32;
        while !stopped.load(Ordering::SeqCst) {
            let bytes = question(&format!("n{sent}.silent."), RecordType::A).to_bytes().expect("encoded");
            let _ = sockets[sent as usize % sockets.len()].send(&bytes);
            sent += 1;
            if sent > 1_000 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        sent
    });
    eventually("the nameserver is silent to many", || {
        let silent = |asked: &&Asked| asked.name().ends_with("silent.");
        (upstream.0.lock().expect("not poisoned").iter().filter(silent).count() > 60).then_some(())
    });
    // Far more than all places, while those that are taken are held for seconds.
    for number in 0..200 {
        let name = format!("q{number}.outside.example.");
        let answer = ask(&other.space, &name, RecordType::A);
        assert_eq!((code(&answer), addresses(&answer)), (ResponseCode::NoError, vec![OUTSIDE]), "{name}");
    }
    stop.store(true, Ordering::SeqCst);
    let sent = flood.join().expect("the flood ends");
    assert!(sent > 1_000, "{sent} questions are no flood");
    // The one who floods is refused, in time for its own resolver, and heard again when it stops.
    let (answer, took) = ask_once(&flooder.space, &question("again.silent.", RecordType::A));
    assert_eq!(code(&answer), ResponseCode::ServFail);
    assert!(took < 2 * CLIENTS_PATIENCE, "{took:?}");
    eventually("its lookups are answered again", || {
        let (answer, _) = ask_once(&flooder.space, &question("late.outside.example.", RecordType::A));
        (code(&answer) == ResponseCode::NoError).then_some(())
    });
}

#[test]
fn the_same_question_of_many_is_asked_once_and_its_answer_kept_for_its_time() {
    let lab = Lab::new(1);
    let pods = [lab.nodes[0].pod(2), lab.nodes[0].pod(3)];
    let upstream = Upstream::start(&lab.router, UPSTREAM, |asked| {
        std::thread::sleep(Duration::from_millis(200));
        asked.address(if asked.name().starts_with("short") { 0 } else { 300 })
    });
    let sockets: Vec<_> = (0..60).map(|n| pods[n % 2].space.udp((DNS, 53))).collect();
    for (number, socket) in sockets.iter().enumerate() {
        // Each in its own case.
        let name = if number % 3 == 0 { "Shared.Example." } else { "shared.eXample." };
        socket.send(&question(name, RecordType::A).to_bytes().expect("encoded")).expect("sent");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    }
    for (number, socket) in sockets.iter().enumerate() {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).expect("an answer");
        let answer = Message::from_bytes(&buffer[..length]).expect("decoded");
        let name = if number % 3 == 0 { "Shared.Example." } else { "shared.eXample." };
        assert_eq!((addresses(&answer), answer.queries[0].name().to_ascii().as_str()), (vec![OUTSIDE], name));
    }
    let asked = upstream.seen("shared.example.").len();
    // A machine so slow that the nameserver seems silent asks it twice.
    assert!(asked <= 2, "asked {asked} times");
    let answer = eventually("the time to live goes down", || {
        let answer = ask(&pods[0].space, "shared.example.", RecordType::A);
        (answer.answers[0].ttl < 300).then_some(answer)
    });
    assert_eq!(addresses(&answer), [OUTSIDE]);
    assert_eq!(upstream.seen("shared.example.").len(), asked);
    for _ in 0..2 {
        ask(&pods[0].space, "short.example.", RecordType::A);
    }
    assert!(upstream.seen("short.example.").len() >= 2, "an answer without time was kept");
}

#[test]
fn questions_and_answers_pass_in_their_own_words() {
    let lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    let upstream = Upstream::start(&lab.router, UPSTREAM, |asked| {
        let mut reply = asked.reply();
        let owner = reply.queries[0].name().clone();
        let record = |data| Record::from_rdata(owner.clone(), 60, data);
        match asked.name().as_str() {
            "order.example." => {
                let end = Name::from_ascii("EnD.example.").expect("a name");
                reply.add_answer(record(RData::CNAME(CNAME(end.clone()))));
                for n in [9, 3, 7, 1, 5] {
                    reply.add_answer(Record::from_rdata(end.clone(), 60, RData::A(A::new(192, 0, 2, n))));
                }
                reply.metadata.authentic_data = true;
            }
            "unknown.example." => {
                let rdata = NULL::with(vec![0, 255, 1, 0xc0, 0x0c]);
                reply.add_answer(record(RData::Unknown { code: RecordType::Unknown(65_400), rdata }));
            }
            _ => {
                let name = |text| Name::from_ascii(text).expect("a name");
                let soa = SOA::new(name("ns.example."), name("you.example."), 1, 2, 3, 4, 5);
                reply.add_authority(Record::from_rdata(name("example."), 60, RData::SOA(soa)));
                reply.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        encode(&reply)
    });
    for (name, kind) in [
        ("oRdEr.Example.", RecordType::A),
        ("UNKNOWN.example.", RecordType::Unknown(65_400)),
        ("Absent.example.", RecordType::MX),
    ] {
        let mut asked = question(name, kind);
        asked.metadata.checking_disabled = true;
        asked.metadata.authentic_data = true;
        let bytes = asked.to_bytes().expect("encoded");
        let (answer, _) = ask_raw(&pod.space, &bytes);
        let seen = upstream.seen(&name.to_ascii_lowercase());
        assert_eq!(seen[0].bytes[2..], bytes[2..], "the question was put in other words");
        assert!(seen.iter().any(|seen| seen.bytes[..2] != bytes[..2]), "the client's identifier was used");
        // The nameserver's very bytes, under the client's identifier.
        let said = Message::from_bytes(&answer).expect("decoded");
        assert_eq!(answer[..2], bytes[..2]);
        assert_eq!(said.queries[0].name().to_ascii(), name);
        match name {
            "oRdEr.Example." => {
                let last: Vec<_> = addresses(&said).iter().map(|address| address.octets()[3]).collect();
                assert_eq!(last, [9, 3, 7, 1, 5]);
                assert!(said.answers[0].data.to_string() == "EnD.example." && said.metadata.authentic_data);
            }
            "UNKNOWN.example." => {
                let RData::Unknown { rdata, .. } = &said.answers[0].data else { panic!("{said:?}") };
                assert_eq!(rdata.anything, [0, 255, 1, 0xc0, 0x0c]);
            }
            _ => assert_eq!((code(&said), said.authorities.len()), (ResponseCode::NXDomain, 1)),
        }
    }
    // EDNS as the client said it, and its answer with it.
    let asked = with_edns("edns.example.", 1_400);
    let (answer, _) = ask_once(&pod.space, &asked);
    let seen = &upstream.seen("edns.example.")[0].message;
    let edns = seen.edns.as_ref().expect("EDNS");
    assert!(edns.max_payload() == 1_400 && edns.flags().dnssec_ok);
    assert!(answer.edns.is_some());
}

#[test]
fn a_nameserver_that_does_not_understand_edns_is_asked_without() {
    for says_so in [true, false] {
        let lab = Lab::new(1);
        let pod = lab.nodes[0].pod(2);
        let upstream = Upstream::start(&lab.router, UPSTREAM, move |asked| {
            if asked.message.edns.is_none() {
                return asked.address(60);
            }
            // The header alone, as old servers do.
            let mut reply = asked.reply();
            reply.queries.clear();
            reply.edns = None;
            reply.metadata.response_code = ResponseCode::FormErr;
            says_so.then(|| encode(&reply)).flatten()
        });
        let (answer, took) = ask_once(&pod.space, &with_edns("one.example.", 1_232));
        assert_eq!((code(&answer), addresses(&answer)), (ResponseCode::NoError, vec![OUTSIDE]), "{says_so}");
        assert!(took < CLIENTS_PATIENCE, "after {took:?}");
        // It is remembered: the next one does not wait.
        let (answer, _) = ask_once(&pod.space, &with_edns("two.example.", 1_232));
        assert_eq!(addresses(&answer), [OUTSIDE]);
        let seen = upstream.seen("two.example.");
        assert!(seen.iter().all(|asked| asked.message.edns.is_none()), "asked with EDNS again");
        // Who speaks without EDNS is passed on without.
        ask(&pod.space, "three.example.", RecordType::A);
        assert!(upstream.seen("three.example.").iter().all(|asked| asked.message.edns.is_none()));
    }
}

/// A lab whose node asks `UPSTREAM` first, and then one at `OUTSIDE` that knows everything.
fn two_nameservers() -> (Lab, crate::lab::Pod, Upstream) {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    let other = Upstream::start(&lab.router, OUTSIDE, |asked| asked.address(0));
    lab.nodes[0].stop();
    let path = lab.nodes[0].state.path().join("resolv.conf");
    std::fs::write(path, format!("nameserver {UPSTREAM}\nnameserver {OUTSIDE}\n")).expect("written");
    lab.nodes[0].start();
    lab.publish();
    (lab, pod, other)
}

#[test]
fn another_nameserver_is_asked_when_one_is_gone_is_silent_or_fails() {
    let answered = |pod: &crate::lab::Pod, name: &str| {
        let (answer, took) = ask_once(&pod.space, &question(name, RecordType::A));
        assert_eq!(addresses(&answer), [OUTSIDE], "{name}");
        assert!(took < CLIENTS_PATIENCE, "{name} after {took:?}");
    };
    // Nobody is at the first one's port.
    let (lab, pod, _other) = two_nameservers();
    answered(&pod, "gone.example.");
    drop(lab);

    let (lab, pod, other) = two_nameservers();
    let first = Upstream::start(&lab.router, UPSTREAM, |asked| {
        let mut reply = asked.reply();
        reply.metadata.response_code = match asked.name() {
            name if name.starts_with("fails") => ResponseCode::ServFail,
            name if name.starts_with("refuses") => ResponseCode::Refused,
            _ => return None,
        };
        encode(&reply)
    });
    for name in ["fails.example.", "refuses.example.", "silent.example."] {
        answered(&pod, name);
        assert!(!first.seen(name).is_empty(), "{name}");
    }
    // It is remembered that the first one is silent: nobody waits for it again.
    answered(&pod, "next.example.");
    assert!(first.seen("next.example.").is_empty());
    assert_eq!(other.seen("next.example.").len(), 1);
}

#[test]
fn what_does_not_fit_a_datagram_comes_by_tcp() {
    let lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    let upstream = Upstream::start(&lab.router, UPSTREAM, |asked| {
        let mut reply = asked.reply();
        if !asked.by_tcp && asked.name().starts_with("large") {
            reply.metadata.truncation = true;
            return encode(&reply);
        }
        let owner = reply.queries[0].name().clone();
        // "rude" sends by UDP what the client cannot take.
        let count = if asked.name().starts_with("large") { 1_000 } else { 60 };
        for n in 0..count {
            reply.add_answer(Record::from_rdata(
                owner.clone(),
                60,
                RData::A(A(Ipv4Addr::from(0xc000_0200 + n))),
            ));
        }
        encode(&reply)
    });
    for name in ["large.example.", "rude.example."] {
        let (answer, _) = ask_once(&pod.space, &question(name, RecordType::A));
        assert!(answer.metadata.truncation, "{name}");
        assert_eq!(answer.queries.len(), 1);
        let (large, _) = ask_once(&pod.space, &with_edns(name, 4_096));
        assert_eq!(large.metadata.truncation, name.starts_with("large"), "{name}");
        let whole = ask_tcp(&pod.space, &question(name, RecordType::A));
        assert!(!whole.metadata.truncation && whole.answers.len() >= 60, "{name}");
    }
    assert!(upstream.seen("large.example.").iter().any(|asked| asked.by_tcp));
}

#[test]
fn aliases_of_aliases_lead_to_addresses_inside_and_outside() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    let upstream = Upstream::start(&lab.router, UPSTREAM, |asked| match asked.name().as_str() {
        "outside.example." => {
            let mut reply = asked.reply();
            let (first, end) =
                (reply.queries[0].name().clone(), Name::from_ascii("end.example.").expect("a name"));
            reply.add_answer(Record::from_rdata(first, 60, RData::CNAME(CNAME(end.clone()))));
            reply.add_answer(Record::from_rdata(end, 60, RData::A(A(OUTSIDE))));
            encode(&reply)
        }
        _ => {
            let mut reply = asked.reply();
            reply.metadata.response_code = ResponseCode::NXDomain;
            encode(&reply)
        }
    });
    let inside = |short: &str| format!("{short}.default.svc.cluster.local");
    let alias = |name: &str, target: &str| {
        let mut alias = service(name, "", "TCP", &[]);
        alias.external_name = target.to_owned();
        alias
    };
    lab.publish_services(vec![
        service("web", "10.43.7.7", "TCP", &[(&pod, 80)]),
        alias("one", &inside("two")),
        alias("two", &inside("web")),
        alias("out-one", &inside("out-two")),
        alias("out-two", "outside.example"),
        alias("lost", "absent.example"),
        alias("circle", &inside("circle-two")),
        alias("circle-two", &inside("circle")),
    ]);
    let asked = |short: &str| ask(&pod.space, &format!("{}.", inside(short)), RecordType::A);
    let chain = |answer: &Message| -> Vec<String> {
        answer
            .answers
            .iter()
            .filter(|record| record.record_type() == RecordType::CNAME)
            .map(|record| record.data.to_string())
            .collect()
    };
    let answer = asked("one");
    assert_eq!(addresses(&answer), ["10.43.7.7".parse::<Ipv4Addr>().expect("an address")]);
    assert_eq!(chain(&answer), [inside("two") + ".", inside("web") + "."]);
    let answer = asked("out-one");
    assert_eq!(addresses(&answer), [OUTSIDE]);
    assert_eq!(chain(&answer), [inside("out-two") + ".", "outside.example.".into(), "end.example.".into()]);
    let answer = asked("lost");
    assert_eq!((code(&answer), chain(&answer).len()), (ResponseCode::NXDomain, 1));
    assert_eq!(code(&asked("circle")), ResponseCode::ServFail);
    assert!(upstream.seen("outside.example.").iter().all(|asked| asked.message.edns.is_none()));
}

#[test]
fn rubbish_is_refused_or_ignored_and_the_next_question_is_answered() {
    let mut lab = Lab::new(1);
    let pod = lab.nodes[0].pod(2);
    lab.publish_services(vec![service("web", "10.43.7.7", "TCP", &[(&pod, 80)])]);
    let socket = pod.space.udp((DNS, 53));
    for rubbish in [
        vec![],
        vec![0; 5],
        vec![0xff; 512],
        vec![0; 12],
        question("a.", RecordType::A).to_bytes().expect("encoded")[..14].to_vec(),
    ] {
        socket.send(&rubbish).expect("sent");
    }
    // As many idle streams as one source may have, and more.
    let idle: Vec<_> =
        (0..40).map(|_| pod.space.run(|| TcpStream::connect_timeout(&(DNS, 53).into(), PATIENCE))).collect();
    let other = lab.nodes[0].pod(3);
    let web = question("web.default.svc.cluster.local.", RecordType::A);
    assert_eq!(addresses(&ask_tcp(&other.space, &web)).len(), 1);
    assert_eq!(addresses(&ask(&pod.space, "web.default.svc.cluster.local.", RecordType::A)).len(), 1);
    drop(idle);
    let transfer = question("cluster.local.", RecordType::AXFR);
    let answer = ask_tcp(&other.space, &transfer);
    assert!(answer.answers.is_empty());
    let outside = ask_tcp(&other.space, &question("example.", RecordType::AXFR));
    assert_eq!(code(&outside), ResponseCode::Refused);
}
