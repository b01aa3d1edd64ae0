//! A cluster of plain processes, as on real machines: the controller, a gateway and nodes, each on a machine of its
//! own (see [`machine`]), each node with a Docker engine of its own.
//!
//! ```text
//!  the hub (bridge 10.90.0.1: kubectl and the clients of the scenarios)
//!   ├── NAME-controller 10.90.0.2    ├── NAME-node-1 10.90.0.11 (dockerd, warren node)
//!   └── NAME-gateway    10.90.0.3    └── NAME-node-2 10.90.0.12 ...
//! ```
//! The hub is a network namespace that the threads of the scenarios enter, so that two clusters do not meet.

pub mod machine;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::sched::{CloneFlags, setns, unshare};

use self::machine::Machine;
use crate::{
    clock::Launch,
    cluster::{docker, warren_binary},
    eventually,
    machines::{Machines, Outside},
    succeed, text,
};

const HUB: &str = "10.90.0.1";
const CONTROLLER: &str = "10.90.0.2";
const GATEWAY: &str = "10.90.0.3";
/// What every engine needs for the scenarios; `images/build.sh` makes them.
const IMAGES: [&str; 3] = ["busybox:1.36", "nginx:1.14.2", "nginx:1.16.1"];

/// The cluster; every process and namespace goes when it is dropped.
pub struct Bare {
    name: String,
    directory: PathBuf,
    hub: File,
    machines: Mutex<BTreeMap<String, Machine>>,
}

impl Bare {
    /// Starts a cluster of `nodes` nodes and a gateway, and leaves the calling thread in its hub.
    pub fn up(name: &str, nodes: u8) -> Self {
        let directory = Path::new("/var/lib").join(name);
        remove_leftovers(&directory);
        let (name, machines) = (name.to_owned(), Mutex::default());
        let bare = Self { name, directory, hub: new_network(), machines };
        bare.enter();
        succeed(Command::new("sh").args([
            "-c",
            &format!("ip link set lo up && ip link add br0 type bridge && ip addr add {HUB}/24 dev br0 && ip link set br0 up"),
        ]));
        bare.start_all(nodes);
        bare
    }

    fn start_all(&self, nodes: u8) {
        // What debuggers need is most of a development build, and every agent makes an image of its program.
        fs::create_dir_all(&self.directory).expect("a directory");
        let mut strip = Command::new("strip");
        succeed(strip.arg("-o").arg(self.directory.join("warren")).arg(warren_binary()));
        let members: Vec<_> = (1..=nodes).map(|number| self.member(&format!("node-{number}"))).collect();
        for (member, number) in members.iter().zip(11..) {
            self.add(member, &format!("10.90.0.{number}"));
            // All engines start at once; they are waited for later.
            self.with(member, |machine| machine.start_engine(true));
        }
        self.add(&self.member("controller"), CONTROLLER);
        self.start_controller();
        self.add(&self.member("gateway"), GATEWAY);
        self.start_member(&self.member("gateway"), Some(&self.gateway_token()));
        let archive = self.directory.join("images.tar");
        docker(&[&["save", "-o", &archive.to_string_lossy()][..], &IMAGES].concat());
        for member in &members {
            self.with(member, |machine| machine.engine_answers());
            let join = self.join(member, member, &["--check"]);
            assert!(join.status.success(), "the preflight refuses {member}: {}", text(&join));
            self.start_member(member, Some(&self.token()));
        }
        self.load(&archive);
        for member in &members {
            // `warren up` gives the demonstration its image; elsewhere it comes from a registry.
            let image = eventually("the agent has brought its image", || {
                let images = self.docker(member, &["images", "-q", "warren/node"]);
                images.lines().next().map(str::to_owned).ok_or_else(|| "no image".to_owned())
            });
            self.docker(member, &["tag", &image, "warren/hello:latest"]);
        }
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<String, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a machine.
    pub fn with<T>(&self, member: &str, action: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machines = self.machines();
        action(machines.get_mut(member).unwrap_or_else(|| panic!("there is no machine {member}")))
    }

    /// The full name of `controller`, `gateway`, `node-1` and so on.
    pub fn member(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }

    fn nodes(&self) -> Vec<String> {
        let nodes = self.member("node-");
        self.machines().keys().filter(|name| name.starts_with(&nodes)).cloned().collect()
    }

    /// Adds a machine and switches it on.
    pub fn add(&self, name: &str, address: &str) {
        let directory = self.directory.join(name);
        let machine = Machine::new(name, address, directory, &self.directory.join("warren"));
        self.machines().insert(name.to_owned(), machine);
        self.boot(name);
    }

    /// Removes a machine.
    pub fn remove(&self, name: &str) {
        let machine = self.machines().remove(name);
        drop(machine);
        let _ = fs::remove_dir_all(self.directory.join(name));
    }

    /// Switches a machine on and plugs it into the bridge.
    fn boot(&self, name: &str) {
        self.with(name, Machine::boot);
        let port = name.strip_prefix(&format!("{}-", self.name)).unwrap_or(name).to_owned();
        self.with(name, |machine| {
            let (first, address) = (machine.first(), &machine.address);
            // A machine has the same card after a boot: others remember its address.
            let card = format!("02:00:00:00:00:{:02x}", address.rsplit('.').next().map_or(0, |n| n.parse().unwrap_or(0u8)));
            // The kernel removes the port of a machine that lost its power, but not at once.
            let plug = format!(
                "ip link del {port} 2>/dev/null; ip link add eth0 address {card} netns {first} type veth peer name {port} && \
                 ip link set {port} master br0 up"
            );
            succeed(Command::new("sh").args(["-c", &plug]));
            machine.shell(&format!(
                "ip addr add {address}/24 dev eth0 && ip link set eth0 up && ip route add default via {HUB}"
            ));
        });
    }

    fn launch_controller(&self) {
        self.with(&self.member("controller"), |machine| {
            let mut command = machine.command(machine.warren());
            command.args(controller_arguments(machine));
            machine.daemon("controller", command);
        });
    }

    fn start_controller(&self) {
        self.launch_controller();
        eventually("the controller serves its API", || {
            let output = self.administrate(&["token", "list"]);
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        });
    }

    /// Starts `warren node` of a member on its machine.
    pub fn start_member(&self, member: &str, token: Option<&str>) {
        self.start_as(member, member, token);
    }

    /// Starts `warren node` on a machine under a name that may be another's.
    pub fn start_as(&self, machine: &str, name: &str, token: Option<&str>) {
        let (gateway, cluster) = (self.member("gateway"), &self.name);
        self.with(machine, |machine| {
            let mut command = machine.command(machine.warren());
            command.args(["node", "--join", &format!("{CONTROLLER}:6443"), "--name", name, "--state-dir"]);
            command.arg(machine.state());
            if machine.name == gateway {
                command.args(["--gateway", "--https", "0.0.0.0:443"]);
            } else {
                command.arg("--docker-socket").arg(machine.socket()).args(["--cluster", cluster]);
            }
            token.map(|token| command.env("WARREN_TOKEN", token));
            machine.daemon("node", command);
        });
    }

    /// `warren join` on a machine, under a name.
    pub fn join(&self, machine: &str, name: &str, arguments: &[&str]) -> Output {
        self.with(machine, |machine| {
            let controller = format!("{CONTROLLER}:6443");
            let (state, socket) = (machine.state(), machine.socket());
            let own = ["join", "--controller", &controller, "--name", name, "--state-dir"];
            let own = [&own[..], &[&state.to_string_lossy(), "--docker-socket", &socket.to_string_lossy()]];
            machine.run_warren(&[&own.concat()[..], arguments].concat())
        })
    }

    /// What an administrator runs at the controller, with its own kubeconfig.
    pub fn administrate(&self, arguments: &[&str]) -> Output {
        self.with(&self.member("controller"), |machine| {
            let kubeconfig = machine.state().join("admin.kubeconfig");
            machine.run_warren(&[arguments, &["--kubeconfig", &kubeconfig.to_string_lossy()]].concat())
        })
    }

    /// The name of a member's own process.
    fn own(&self, member: &str) -> &'static str {
        if member == self.member("controller") { "controller" } else { "node" }
    }

    fn administrated(&self, arguments: &[&str]) -> String {
        let output = self.administrate(arguments);
        assert!(output.status.success(), "warren {arguments:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A join token for a node, as an administrator makes it at the controller.
    pub fn token(&self) -> String {
        self.administrated(&["token", "create", "--token-only"]).trim().to_owned()
    }

    fn gateway_token(&self) -> String {
        self.administrated(&["token", "create", "--role", "gateway", "--token-only"]).trim().to_owned()
    }

    /// Gives every engine what is in an archive of images.
    fn load(&self, archive: &Path) {
        let loading: Vec<_> = self
            .nodes()
            .iter()
            .map(|node| self.docker_command(node, &["load", "-q", "-i", &archive.to_string_lossy()]))
            .map(|mut command| std::thread::spawn(move || succeed(&mut command)))
            .collect();
        for load in loading {
            load.join().expect("docker load succeeds");
        }
        fs::remove_file(archive).expect("the archive can be removed");
    }
}

fn controller_arguments(machine: &Machine) -> Vec<String> {
    let state = machine.state().to_string_lossy().into_owned();
    let fixed = ["controller", "--listen", "0.0.0.0:6443", "--tls-san", CONTROLLER, "--data-dir"];
    fixed.into_iter().map(str::to_owned).chain([state]).collect()
}

/// A network namespace of its own, held open by a file; the calling thread stays where it is.
fn new_network() -> File {
    let made = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("this must run as root");
        File::open("/proc/thread-self/ns/net").expect("a namespace")
    });
    made.join().expect("the namespace is made")
}

/// What an interrupted run of the same name left behind.
fn remove_leftovers(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        machine::remove_leftover(&entry.path(), &entry.file_name().to_string_lossy());
    }
    let _ = fs::remove_dir_all(directory);
}

impl Machines for Bare {
    fn enter(&self) {
        setns(&self.hub, CloneFlags::CLONE_NEWNET).expect("this must run as root");
    }

    fn kubeconfig(&self) -> String {
        let path = self.with(&self.member("controller"), |machine| machine.state().join("admin.kubeconfig"));
        let text = fs::read_to_string(path).expect("the controller has written it");
        text.replace("127.0.0.1", CONTROLLER)
    }

    fn gateway(&self) -> SocketAddr {
        format!("{GATEWAY}:80").parse().expect("an address")
    }

    fn spare_port(&self) -> u16 {
        20_000
    }

    fn outside(&self) -> Outside {
        Outside { address: HUB.to_owned(), bridge: "br0".to_owned() }
    }

    fn address(&self, member: &str) -> String {
        self.with(member, |machine| machine.address.clone())
    }

    fn command(&self, member: &str, program: &str) -> Command {
        self.with(member, |machine| machine.command(program))
    }

    fn kill(&self, member: &str) {
        self.with(member, Machine::cut);
    }

    fn start(&self, member: &str) {
        self.boot(member);
        if member == self.member("controller") {
            return self.start_controller();
        }
        if member != self.member("gateway") {
            self.with(member, |machine| machine.start_engine(true));
        }
        self.start_member(member, None);
    }

    fn halt(&self, member: &str, signal: &str) {
        self.with(member, |machine| machine.end(self.own(member), signal));
    }

    fn resume(&self, member: &str) {
        let own = self.own(member);
        if self.with(member, |machine| machine.runs(own)) {
            return;
        }
        match own {
            "controller" => self.launch_controller(),
            _ => self.start_member(member, None),
        }
    }

    fn latest_log(&self, member: &str) -> String {
        self.with(member, |machine| machine.latest_log(self.own(member)))
    }

    fn admit(&self, member: &str) {
        self.halt(member, "TERM");
        self.start_member(member, Some(&self.token()));
    }

    fn stand_in(&self) -> Launch {
        let controller = self.member("controller");
        self.halt(&controller, "TERM");
        self.with(&controller, |machine| {
            Launch::beside(machine.first(), &machine.warren()).arguments(&controller_arguments(machine))
        })
    }

    fn state(&self, member: &str) -> PathBuf {
        self.with(member, |machine| machine.state())
    }

    fn shell(&self, member: &str, line: &str) -> Output {
        self.command(member, "sh").args(["-ec", line]).output().expect("sh starts")
    }

    fn restore(&self, arguments: &[&str]) -> Output {
        self.with(&self.member("controller"), |machine| {
            let state = machine.state();
            machine.run_warren(&[&["restore"], arguments, &["--data-dir", &state.to_string_lossy()]].concat())
        })
    }

    fn processes(&self, member: &str) -> BTreeMap<String, u32> {
        self.with(member, |machine| machine.daemons())
    }

    fn install(&self, member: &str, program: &Path) {
        self.with(member, |machine| machine.install(program));
    }

    fn logs(&self, member: &str) -> String {
        let logs = self.with(member, |machine| machine.logs());
        let tail = |text: &str| {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(200)..].join("\n")
        };
        logs.iter().map(|(what, log)| format!("[{what}]\n{}\n", tail(log))).collect()
    }

    fn again(&self) {
        for member in self.nodes().into_iter().chain([self.member("gateway")]) {
            let is_gateway = member == self.member("gateway");
            let role: &[&str] = if is_gateway { &["--gateway"] } else { &[] };
            let token = if is_gateway { self.gateway_token() } else { self.token() };
            let joined = self.join(&member, &member, &[role, &["--token", &token]].concat());
            assert!(joined.status.success(), "joining {member} again: {}", text(&joined));
        }
    }

    fn warren(&self, arguments: &[&str]) -> String {
        self.administrated(arguments)
    }

    fn docker_command(&self, member: &str, arguments: &[&str]) -> Command {
        self.with(member, |machine| machine.docker(arguments))
    }

    fn engines(&self) -> Vec<String> {
        self.nodes()
    }

    fn bring(&self, images: &[&str]) {
        let archive = self.directory.join("images.tar");
        docker(&[&["save", "-o", &archive.to_string_lossy()][..], images].concat());
        self.load(&archive);
    }

    fn down(&mut self) {
        self.machines().clear();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("cannot remove {}: {error}", self.directory.display());
        }
    }

    fn left(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let directory = self.directory.display().to_string();
        let mounts = mounts.lines().filter(|line| line.contains(&directory)).map(str::to_owned);
        let kept = self.directory.exists().then(|| directory.clone());
        mounts.chain(kept).collect()
    }

    fn bare(&self) -> Option<&Bare> {
        Some(self)
    }
}
