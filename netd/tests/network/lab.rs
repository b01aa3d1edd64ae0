//! A cluster in network namespaces: a router, members around it, pods inside of them.
//!
//! ```text
//!   pod ── veth ── node 1 (10.9.1.2) ──┐
//!   pod ── veth ── node 2 (10.9.2.2) ──┤── router (10.9.N.1, "outside" at 192.0.2.1)
//!   pod ── veth ── node 3 (10.9.3.2) ──┘
//! ```
//! Namespaces have no names: they end with the last thread and descriptor of this process that holds them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::PathBuf,
    process::Command,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns, unshare};
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::link::{InfoData, InfoVeth},
};
use tokio::sync::watch;
use warren_netd::{
    engine::{Engine, Settings},
    plan::attachments::Attachment,
};
use warren_proto::{
    control::{self, feed_item::Item},
    vocabulary::Cursor,
};
use warren_runtime::{
    CancellationToken,
    descriptors::{self, Descriptors, Message},
    feed::{Feed, State},
    tasks::TaskSet,
};

/// Longer than anything takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// What refuses, refuses faster than this; what is lost takes longer.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(2);
/// An address that only the router has.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);

/// A network namespace without a name.
#[derive(Clone)]
pub(crate) struct Space(Arc<File>);

impl Space {
    pub(crate) fn new() -> Self {
        require_root();
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            File::open("/proc/thread-self/ns/net").expect("its descriptor")
        });
        let space = Self(Arc::new(made.join().expect("the thread ends")));
        space.shell("ip link set lo up");
        space
    }

    /// A path that names the namespace, as the agent would give it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Runs `call` inside.
    pub(crate) fn run<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(call).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Starts a thread inside.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let space = self.clone();
        std::thread::spawn(move || {
            setns(space.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("entering the namespace");
            call()
        })
    }

    /// Runs a command inside; it must succeed.
    pub(crate) fn shell(&self, command: &str) -> String {
        let text = command.to_owned();
        let output = self.run(move || Command::new("sh").args(["-c", &text]).output().expect("a shell"));
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a TCP server says to a new connection from here.
    pub(crate) fn ask(&self, to: impl Into<SocketAddr>) -> io::Result<String> {
        let to = to.into();
        self.run(move || {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    /// Whether somebody accepts a TCP connection from here.
    pub(crate) fn can_connect(&self, to: impl Into<SocketAddr>) -> bool {
        let to = to.into();
        self.run(move || TcpStream::connect_timeout(&to, PATIENCE).is_ok())
    }

    /// A TCP server that says its name and who asks.
    pub(crate) fn serve_tcp(&self, port: u16, name: &str) {
        let name = name.to_owned();
        let listener = self.run(move || TcpListener::bind(("0.0.0.0", port)).expect("a port"));
        self.spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let from = stream.peer_addr().map(|from| from.ip().to_string()).unwrap_or_default();
                let _ = write!(stream, "{name} {from}");
            }
        });
    }

    /// A UDP server that says its name and who asks.
    pub(crate) fn serve_udp(&self, port: u16, name: &str) {
        let name = name.to_owned();
        let socket = self.run(move || UdpSocket::bind(("0.0.0.0", port)).expect("a port"));
        self.spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from);
            }
        });
    }

    /// A UDP socket here, connected.
    pub(crate) fn udp(&self, to: impl Into<SocketAddr>) -> UdpSocket {
        let to = to.into();
        self.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a port");
            socket.connect(to).expect("a route");
            socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
            socket
        })
    }
}

fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces and must run as root, with /dev/net/tun: sudo make test"
    );
}

/// Waits until `check` gives something.
pub(crate) fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A veth pair between two namespaces.
pub(crate) fn connect(a: &Space, a_name: &str, b: &Space, b_name: &str) {
    let (a_name, b_name, b) = (a_name.to_owned(), b_name.to_owned(), b.clone());
    a.run(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
            tokio::spawn(connection);
            let end =
                LinkMessageBuilder::<LinkUnspec>::new().name(b_name).setns_by_fd(b.0.as_raw_fd()).build();
            let pair = LinkMessageBuilder::<LinkVeth>::new(&a_name, "x")
                .set_info_data(InfoData::Veth(InfoVeth::Peer(end)))
                .build();
            handle.link().add(pair).execute().await.expect("a veth pair");
        });
    });
}

/// A member: its namespace, and a netd inside of it while it runs.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) space: Space,
    pub(crate) state: tempfile::TempDir,
    running: Option<Running>,
    /// The supervisor: both ends of the socket to it, and what netd left.
    supervisor: (UnixDatagram, UnixDatagram),
    held: BTreeMap<String, OwnedFd>,
}

struct Running {
    engine: Arc<Engine>,
    runtime: tokio::runtime::Handle,
    states: watch::Sender<Option<Arc<State>>>,
    acknowledged: watch::Receiver<u64>,
    stop: CancellationToken,
    thread: JoinHandle<()>,
}

impl Node {
    fn new(number: u8, router: &Space) -> Self {
        let space = Space::new();
        connect(router, &format!("node{number}"), &space, "eth0");
        router.shell(&format!(
            "ip addr add 10.9.{number}.1/24 dev node{number} && ip link set node{number} up"
        ));
        space.shell(&format!(
            "ip addr add 10.9.{number}.2/24 dev eth0 && ip link set eth0 up && ip route add default via 10.9.{number}.1"
        ));
        let state = tempfile::tempdir().expect("a state directory");
        let resolv = format!("nameserver {DNS}\nnameserver 10.9.{number}.1\n");
        std::fs::write(state.path().join("resolv.conf"), resolv).expect("written");
        let supervisor = UnixDatagram::pair().expect("a pair");
        Self { number, space, state, running: None, supervisor, held: BTreeMap::new() }
    }

    /// What the next netd inherits, as a supervisor would hand it on.
    pub(crate) fn descriptors(&mut self) -> Descriptors {
        while let Ok(Some((message, descriptor))) = descriptors::receive(self.supervisor.0.as_fd()) {
            match (message, descriptor) {
                (Message::Keep(name), Some(descriptor)) => drop(self.held.insert(name, descriptor)),
                (Message::Forget(name), _) => drop(self.held.remove(&name)),
                _ => {}
            }
        }
        let copy = |(name, held): (&String, &OwnedFd)| (name.clone(), held.try_clone().expect("a copy"));
        let theirs = self.supervisor.1.try_clone().expect("a copy");
        Descriptors::new(self.held.iter().map(copy).collect(), Some(theirs.into()))
    }

    pub(crate) fn underlay(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, self.number, 2)
    }
    pub(crate) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 42, self.number, 1)
    }
    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.running().engine)
    }
    fn running(&self) -> &Running {
        self.running.as_ref().expect("netd runs")
    }

    /// Starts a netd in the namespace: everything it opens lives there.
    pub(crate) fn start(&mut self) {
        assert!(self.running.is_none(), "one netd at a time");
        let settings = Settings {
            state_dir: self.state.path().to_owned(),
            interface: "warren0".into(),
            port: 51_820,
            mtu: 1420,
            resolv_conf: self.state.path().join("resolv.conf"),
            descriptors: self.descriptors(),
        };
        let (ready, started) = mpsc::channel();
        let thread = self.space.spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let state_dir = settings.state_dir.clone();
                let engine = Arc::new(Engine::start(settings).await.expect("netd starts"));
                let (feed, states, acknowledged) = Feed::manual();
                let stop = CancellationToken::new();
                let mut tasks = TaskSet::new(stop.clone());
                warren_netd::serve(&mut tasks, Arc::clone(&engine), feed, &state_dir).expect("netd serves");
                let handle = tokio::runtime::Handle::current();
                ready.send((engine, handle, states, acknowledged, stop)).expect("the test waits");
                tasks.wait().await.expect("netd ends well");
            });
        });
        let (engine, runtime, states, acknowledged, stop) =
            started.recv_timeout(PATIENCE).expect("netd starts");
        self.running = Some(Running { engine, runtime, states, acknowledged, stop, thread });
    }

    /// Ends the netd; the kernel keeps what it made.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            let Running { engine, states, stop, thread, .. } = running;
            stop.cancel();
            // The tunnel's link is free only when nobody holds the engine.
            drop(engine);
            let ended = thread.join();
            drop(states);
            assert!(ended.is_ok() || std::thread::panicking(), "netd did not end well");
        }
    }

    /// Runs a future in netd's runtime, in its namespace.
    pub(crate) fn block<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        self.running().runtime.spawn(async move {
            let _ = answer.send(future.await);
        });
        answered.recv_timeout(PATIENCE).expect("netd answers")
    }

    /// Plugs a new pod in.
    pub(crate) fn pod(&self, host: u8) -> Pod {
        let pod = Pod { space: Space::new(), address: Ipv4Addr::new(10, 42, self.number, host) };
        self.attach(&pod).expect("plugged in");
        pod
    }

    pub(crate) fn attach(&self, pod: &Pod) -> Result<(), String> {
        let (engine, wanted, path) = (self.engine(), pod.attachment(), pod.space.path());
        self.block(async move { engine.attach(&wanted, &path).await.map_err(|error| error.to_string()) })
    }

    pub(crate) fn attachments(&self) -> Vec<Attachment> {
        let engine = self.engine();
        self.block(async move { engine.attachments().await.expect("a list") })
    }

    fn publish(&self, revision: u64, items: BTreeMap<String, Item>) {
        let state = State { cursor: Cursor { epoch: 1, revision }, items: items.into() };
        self.running().states.send_replace(Some(Arc::new(state)));
    }

    fn wait_for(&self, revision: u64) {
        let acknowledged = self.running().acknowledged.clone();
        eventually(&format!("node {} has revision {revision} in force", self.number), || {
            (*acknowledged.borrow() == revision).then_some(())
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A pod's namespace.
pub(crate) struct Pod {
    pub(crate) space: Space,
    pub(crate) address: Ipv4Addr,
}

impl Pod {
    /// The UID follows from the address, so that a test can speak of the same pod again.
    pub(crate) fn attachment(&self) -> Attachment {
        let [_, _, node, host] = self.address.octets();
        let uid = format!("{node:04x}{host:04x}-0000-4000-8000-000000000000");
        Attachment {
            uid: uid.parse().expect("a uid"),
            address: self.address,
            pod: format!("default/pod-{node}-{host}"),
        }
    }
}

/// A whole cluster.
pub(crate) struct Lab {
    pub(crate) router: Space,
    pub(crate) nodes: Vec<Node>,
    pub(crate) services: Vec<control::Service>,
    /// Further peers that every node is told of.
    pub(crate) strangers: Vec<control::Peer>,
    revision: u64,
}

impl Lab {
    /// A cluster whose overlay is in force.
    pub(crate) fn new(nodes: u8) -> Self {
        let router = Space::new();
        router.shell(&format!("ip addr add {OUTSIDE}/32 dev lo && echo 1 > /proc/sys/net/ipv4/ip_forward"));
        let nodes = (1..=nodes).map(|number| {
            let mut node = Node::new(number, &router);
            node.start();
            node
        });
        let mut lab =
            Self { nodes: nodes.collect(), router, services: Vec::new(), strangers: Vec::new(), revision: 0 };
        lab.publish();
        lab
    }

    /// Tells every node the world and waits until it is in force.
    pub(crate) fn publish(&mut self) {
        self.revision += 1;
        for node in &self.nodes {
            node.publish(self.revision, self.items(node));
        }
        for node in &self.nodes {
            node.wait_for(self.revision);
        }
    }

    /// Tells the world with other services.
    pub(crate) fn publish_services(&mut self, services: Vec<control::Service>) {
        self.services = services;
        self.publish();
    }

    pub(crate) fn items(&self, node: &Node) -> BTreeMap<String, Item> {
        let network = control::NetworkConfig {
            cluster_cidr: "10.42.0.0/16".into(),
            pod_cidr: format!("10.42.{}.0/24", node.number),
            service_cidr: "10.43.0.0/16".into(),
            address: node.address().to_string(),
            dns_address: DNS.to_string(),
            cluster_domain: "cluster.local".into(),
        };
        let mut items = BTreeMap::from([("network".to_owned(), Item::Network(network))]);
        let others =
            self.nodes.iter().filter(|other| other.number != node.number).map(|other| control::Peer {
                name: format!("node-{}", other.number),
                public_key: other.engine().public_key().to_string(),
                endpoint: format!("{}:51820", other.underlay()),
                pod_cidr: format!("10.42.{}.0/24", other.number),
                address: other.address().to_string(),
            });
        for peer in others.chain(self.strangers.iter().cloned()) {
            items.insert(format!("peer/{}", peer.name), Item::Peer(peer));
        }
        for service in &self.services {
            let key = format!("service/{}/{}", service.namespace, service.name);
            items.insert(key, Item::Service(service.clone()));
        }
        items
    }
}

/// A service in the namespace "default" with one port.
pub(crate) fn service(name: &str, address: &str, protocol: &str, pods: &[(&Pod, u16)]) -> control::Service {
    let endpoint = |(pod, port): &(&Pod, u16)| control::Endpoint {
        address: pod.address.to_string(),
        port: u32::from(*port),
        node: String::new(),
    };
    control::Service {
        namespace: "default".into(),
        name: name.into(),
        address: address.into(),
        ports: vec![control::ServicePort {
            name: "main".into(),
            protocol: protocol.into(),
            port: 80,
            endpoints: pods.iter().map(endpoint).collect(),
        }],
        ..control::Service::default()
    }
}

/// Asks by UDP until an answer comes.
pub(crate) fn ask_udp(socket: &UdpSocket) -> String {
    eventually("an answer by UDP", || {
        let mut buffer = [0; 2048];
        socket.send(b"hello").ok()?;
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

/// The source address that a server saw.
pub(crate) fn source(answer: &str) -> IpAddr {
    answer.split_whitespace().nth(1).expect("a source").parse().expect("an address")
}
