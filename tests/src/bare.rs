//! A cluster of plain processes, as on real machines: the controller, a gateway and nodes, each in a network
//! namespace of its own, each node with a Docker engine of its own.
//!
//! ```text
//!  NAME-hub (bridge 10.90.0.1: controller, kubectl) ── NAME-gw ── NAME-n1 (dockerd, warren node) ── NAME-n2 ...
//! ```
//! Forwarding is off when an engine starts, so it sets its FORWARD policy to DROP, as on a fresh machine.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use crate::{cluster::warren_binary, eventually};

/// The controller's address, on the bridge.
const CONTROLLER: &str = "10.90.0.1:6443";

/// A cluster; every process and namespace goes when it is dropped.
pub struct Bare {
    name: String,
    directory: PathBuf,
    /// In the order in which they are to be stopped.
    processes: Vec<(String, Child)>,
    spaces: Vec<String>,
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot start: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything that a command printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

impl Bare {
    /// Starts a cluster of `nodes` nodes and a gateway.
    pub fn up(name: &str, nodes: u8) -> Self {
        let directory = Path::new("/var/lib").join(name);
        let mut bare = Self { name: name.to_owned(), directory, processes: Vec::new(), spaces: Vec::new() };
        bare.remove_leftovers();
        bare.make_hub();
        bare.start_controller();
        bare.add_gateway();
        for number in 1..=nodes {
            bare.add_node(number);
        }
        bare
    }

    /// The namespace of a member: `hub`, `gw`, `n1`, ...
    pub fn space(&self, member: &str) -> String {
        format!("{}-{member}", self.name)
    }

    /// A command in a member's namespace.
    pub fn command(&self, member: &str, program: impl AsRef<Path>) -> Command {
        // Not `ip netns exec`: that hides the cgroups' mounts, which an engine needs.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.space(member))).arg("--").arg(program.as_ref());
        command
    }

    /// Runs a shell command in a member's namespace; it must succeed.
    pub fn shell(&self, member: &str, line: &str) -> String {
        succeed(self.command(member, "sh").args(["-c", line]))
    }

    /// Runs kubectl, which must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        succeed(self.kubectl_command(arguments).args(arguments))
    }

    /// Runs kubectl whatever comes of it.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_command(arguments).args(arguments).output().expect("kubectl starts")
    }

    /// `kubectl apply -f -`.
    pub fn apply(&self, manifest: &str) {
        let mut command = self.kubectl_command(&[]);
        let mut child =
            command.args(["apply", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("kubectl starts");
        child.stdin.take().expect("piped").write_all(manifest.as_bytes()).expect("kubectl reads");
        assert!(child.wait().expect("kubectl ends").success(), "apply failed");
    }

    fn kubectl_command(&self, _: &[&str]) -> Command {
        let mut command = self.command("hub", crate::cluster::kubectl_binary());
        command
            .env("KUBECONFIG", self.directory.join("controller/admin.kubeconfig"))
            .env("HOME", &self.directory);
        command
    }

    /// Runs docker against a node's own engine.
    pub fn docker(&self, node: &str, arguments: &[&str]) -> String {
        let host = format!("unix://{}", self.socket(node).display());
        succeed(Command::new("docker").args(["-H", &host]).args(arguments))
    }

    fn socket(&self, node: &str) -> PathBuf {
        self.directory.join(node).join("docker.sock")
    }

    fn state(&self, member: &str) -> PathBuf {
        self.directory.join(member).join("state")
    }

    fn make_hub(&mut self) {
        self.add_space("hub");
        self.shell(
            "hub",
            "ip link add br0 type bridge && ip addr add 10.90.0.1/24 dev br0 && ip link set br0 up",
        );
    }

    fn add_space(&mut self, member: &str) {
        let space = self.space(member);
        succeed(Command::new("ip").args(["netns", "add", &space]));
        self.spaces.push(space);
        self.shell(member, "ip link set lo up; echo 0 > /proc/sys/net/ipv4/ip_forward");
        fs::create_dir_all(self.directory.join(member)).expect("a directory");
    }

    /// Plugs a member into the bridge.
    fn plug(&self, member: &str, address: &str) {
        let (space, hub) = (self.space(member), self.space("hub"));
        let line = format!(
            "ip link add eth0 netns {space} type veth peer name {member} netns {hub} && \
             ip -n {hub} link set {member} master br0 up && ip -n {space} addr add {address}/24 dev eth0 && \
             ip -n {space} link set eth0 up && ip -n {space} route add default via 10.90.0.1"
        );
        succeed(Command::new("sh").args(["-c", &line]));
    }

    /// Starts a daemon whose output goes to a file beside its state.
    fn start(&mut self, member: &str, what: &str, command: &mut Command) {
        let log = File::create(self.directory.join(member).join(format!("{what}.log"))).expect("a log");
        let errors = log.try_clone().expect("a descriptor");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("it starts");
        self.processes.push((format!("{member} {what}"), child));
    }

    fn start_controller(&mut self) {
        fs::create_dir_all(self.directory.join("controller")).expect("a directory");
        let mut command = self.command("hub", warren_binary());
        command.args(["controller", "--listen", "0.0.0.0:6443", "--tls-san", "10.90.0.1", "--data-dir"]);
        command.arg(self.directory.join("controller"));
        self.start("hub", "controller", &mut command);
        eventually("the controller answers", || {
            let output = self.try_kubectl(&["get", "namespaces"]);
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        });
    }

    /// A join token, as an administrator makes it at the controller.
    pub fn token(&self) -> String {
        let mut command = self.command("hub", warren_binary());
        command.arg("token").arg("--kubeconfig").arg(self.directory.join("controller/admin.kubeconfig"));
        succeed(command.arg("create")).trim().to_owned()
    }

    fn add_gateway(&mut self) {
        self.add_space("gw");
        self.plug("gw", "10.90.0.2");
        let (token, state) = (self.token(), self.state("gw"));
        let mut command = self.command("gw", warren_binary());
        command.args(["node", "--gateway", "--join", CONTROLLER, "--name", "gw", "--state-dir"]).arg(state);
        command.env("WARREN_TOKEN", token);
        self.start("gw", "node", &mut command);
    }

    fn add_node(&mut self, number: u8) {
        let member = format!("n{number}");
        self.add_space(&member);
        self.plug(&member, &format!("10.90.0.{}", 10 + number));
        self.start_engine(&member);
        let join = self.join(&member, &["--check"]);
        assert!(join.status.success(), "the preflight refuses {member}: {}", text(&join));
        let mut command = self.command(&member, warren_binary());
        command
            .args(["node", "--join", CONTROLLER, "--name", &member, "--state-dir"])
            .arg(self.state(&member));
        command.arg("--docker-socket").arg(self.socket(&member)).args(["--cluster", &self.name]);
        command.env("WARREN_TOKEN", self.token());
        self.start(&member, "node", &mut command);
    }

    /// `warren join` on a node.
    pub fn join(&self, member: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(member, warren_binary());
        command
            .args(["join", "--controller", CONTROLLER, "--name", member, "--state-dir"])
            .arg(self.state(member));
        command.arg("--docker-socket").arg(self.socket(member)).args(arguments);
        command.output().expect("warren starts")
    }

    /// Starts a node's engine, and waits until it answers.
    pub fn start_engine(&mut self, member: &str) {
        let root = self.directory.join(member);
        let _ = fs::remove_file(root.join("docker.pid"));
        let mut command = self.command(member, "dockerd");
        command.arg("--data-root").arg(root.join("docker")).arg("--exec-root").arg(root.join("exec"));
        command.arg("--pidfile").arg(root.join("docker.pid"));
        command.arg("-H").arg(format!("unix://{}", self.socket(member).display()));
        command.args(["--live-restore", "--userland-proxy=false", "--log-level", "warn"]);
        self.start(member, "dockerd", &mut command);
        let host = format!("unix://{}", self.socket(member).display());
        eventually("the engine answers", || {
            let output =
                Command::new("docker").args(["-H", &host, "version"]).output().expect("docker starts");
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        });
    }

    /// Stops a node's engine; with live restore its containers go on.
    pub fn stop_engine(&mut self, member: &str) {
        self.stop_processes(|name| name == format!("{member} dockerd"));
    }

    /// SIGTERM, and a wait for each: nsenter becomes the program, so these are the daemons themselves.
    fn stop_processes(&mut self, wanted: impl Fn(&str) -> bool) {
        let mut kept = Vec::new();
        for (name, mut child) in std::mem::take(&mut self.processes) {
            if !wanted(&name) {
                kept.push((name, child));
                continue;
            }
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let ended = (0..300).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(100));
                matches!(child.try_wait(), Ok(Some(_)))
            });
            if !ended {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        self.processes = kept;
    }

    /// Everything that helps to understand a failure.
    pub fn describe(&self) {
        eprintln!("{}", text(&self.try_kubectl(&["get", "nodes,pods", "-A", "-o", "wide"])));
        for (name, _) in &self.processes {
            let (member, what) = name.split_once(' ').unwrap_or((name, ""));
            let log = fs::read_to_string(self.directory.join(member).join(format!("{what}.log")))
                .unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(25).collect();
            eprintln!("--- {name}");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }

    /// What an interrupted run of the same name left behind.
    fn remove_leftovers(&self) {
        let spaces = succeed(Command::new("ip").args(["netns", "list"]));
        let own = spaces.lines().filter_map(|line| line.split_whitespace().next());
        for space in own.filter(|space| space.starts_with(&format!("{}-", self.name))) {
            remove_space(space);
        }
        unmount_beneath(&self.directory);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Ends whatever still runs in a namespace of ours, and the namespace.
fn remove_space(space: &str) {
    let pids = Command::new("ip").args(["netns", "pids", space]).output().map(|output| text(&output));
    for pid in pids.unwrap_or_default().split_whitespace() {
        let _ = Command::new("kill").args(["-9", pid]).status();
    }
    let _ = Command::new("ip").args(["netns", "delete", space]).status();
}

/// An engine that was killed leaves mounts.
fn unmount_beneath(directory: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(directory)) {
        let _ = Command::new("umount").args(["-l", point]).status();
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop_processes(|name| name.ends_with(" node"));
        // Pods of engines with live restore outlive them: they go first.
        for node in self.spaces.clone() {
            let node = node.trim_start_matches(&format!("{}-", self.name)).to_owned();
            if self.socket(&node).exists() {
                let host = format!("unix://{}", self.socket(&node).display());
                let line = format!("docker -H {host} ps -aq | xargs -r docker -H {host} rm -f");
                let _ = Command::new("sh").args(["-c", &line]).output();
            }
        }
        self.stop_processes(|_| true);
        for space in std::mem::take(&mut self.spaces) {
            remove_space(&space);
        }
        unmount_beneath(&self.directory);
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("cannot remove {}: {error}", self.directory.display());
        }
    }
}
