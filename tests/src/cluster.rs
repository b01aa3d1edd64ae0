//! A cluster, whatever it runs on, driven by kubectl.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::{bare::Bare, eventually, local::Local, machines::Machines, succeed};

/// A running cluster; taken down when dropped.
pub struct Cluster {
    /// Its name: the prefix of its members' names.
    pub name: String,
    /// What its members run on.
    pub machines: Box<dyn Machines>,
    kubeconfig: PathBuf,
    is_up: bool,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// The binary under test: `WARREN_BIN`, else `bin/warren`.
pub fn warren_binary() -> PathBuf {
    std::env::var_os("WARREN_BIN").map_or_else(|| repository().join("bin/warren"), PathBuf::from)
}

/// Debian's kubectl as `deploy/prerequisites.sh --test` unpacked it, else the one in PATH.
pub(crate) fn kubectl_binary() -> PathBuf {
    let debian = repository().join("target/tools/kubectl/usr/bin/kubectl");
    if debian.exists() { debian } else { "kubectl".into() }
}

/// Every kubectl at hand with its version, each version once: Debian's, the newest as `deploy/prerequisites.sh --test`
/// unpacked it, the one in PATH, and those that `WARREN_KUBECTL` names (separated by colons).
pub fn kubectl_versions() -> Vec<(String, PathBuf)> {
    let more = std::env::var("WARREN_KUBECTL").unwrap_or_default();
    let more = more.split(':').filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut versions: Vec<(String, PathBuf)> = Vec::new();
    let newest = repository().join("target/tools/kubectl-sid/usr/bin/kubectl");
    let newest = newest.exists().then_some(newest);
    for binary in [kubectl_binary()].into_iter().chain(newest).chain([PathBuf::from("kubectl")]).chain(more) {
        let printed = succeed(Command::new(&binary).args(["version", "--client", "-o", "json"]));
        let printed: Value = serde_json::from_str(&printed).expect("kubectl prints JSON");
        let version = printed["clientVersion"]["gitVersion"].as_str().unwrap_or_default().to_owned();
        if !versions.iter().any(|(known, _)| *known == version) {
            versions.push((version, binary));
        }
    }
    versions
}

/// Runs docker against this machine's engine and returns what it printed.
pub fn docker(arguments: &[&str]) -> String {
    succeed(Command::new("docker").args(arguments)).trim().to_owned()
}

impl Cluster {
    /// Starts a cluster by `warren up`. Ports follow from `first_port`.
    pub fn local(name: &str, nodes: usize, first_port: u16) -> Self {
        Self::of(name, Box::new(Local::up(name, nodes, first_port)))
    }

    /// Starts a cluster of plain processes; the calling thread can reach it, others must
    /// [enter](Machines::enter) first.
    pub fn bare(name: &str, nodes: u8) -> Self {
        Self::of(name, Box::new(Bare::up(name, nodes)))
    }

    fn of(name: &str, machines: Box<dyn Machines>) -> Self {
        let kubeconfig = std::env::temp_dir().join(format!("{name}-{}.kubeconfig", std::process::id()));
        std::fs::write(&kubeconfig, machines.kubeconfig()).expect("the temporary directory is writable");
        Self { name: name.to_owned(), machines, kubeconfig, is_up: true }
    }

    /// The administrator's kubeconfig, in a file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs `warren` as the cluster's administrator; it must succeed.
    pub fn warren(&self, arguments: &[&str]) -> String {
        self.machines.warren(arguments)
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.kubectl_command_of(&kubectl_binary(), arguments)
    }

    /// A command of this kubectl for this cluster.
    pub fn kubectl_command_of(&self, binary: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", std::env::temp_dir()).args(arguments);
        command
    }

    /// Runs kubectl, which must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        succeed(&mut self.kubectl_command(arguments))
    }

    /// Runs kubectl whatever comes of it.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_command(arguments).output().expect("kubectl starts")
    }

    /// Starts kubectl and reads its output in the background; it is killed when dropped.
    pub fn spawn_kubectl(&self, arguments: &[&str]) -> Following {
        let mut command = self.kubectl_command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("kubectl starts");
        let output = child.stdout.take().expect("piped");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                sink.lock().expect("no reader panicked").push(line);
            }
        });
        Following { child, lines }
    }

    /// Runs kubectl with a manifest on its standard input.
    pub fn try_kubectl_with_input(&self, arguments: &[&str], manifest: &str) -> Output {
        let mut command = self.kubectl_command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        child.stdin.take().expect("piped").write_all(manifest.as_bytes()).expect("kubectl reads");
        child.wait_with_output().expect("kubectl ends")
    }

    /// `kubectl apply -f -`, which must succeed.
    pub fn apply(&self, manifest: &str) -> String {
        let output = self.try_kubectl_with_input(&["apply", "-f", "-"], manifest);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "apply failed: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    /// `kubectl get ... -o json`.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        serde_json::from_str(&self.kubectl(&all)).expect("kubectl prints JSON")
    }

    /// The items of a list.
    pub fn items(&self, arguments: &[&str]) -> Vec<Value> {
        self.get(arguments)["items"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for a Deployment's rollout.
    pub fn rolled_out(&self, deployment: &str) {
        self.kubectl(&["rollout", "status", deployment, "--timeout=180s"]);
    }

    /// Waits until every node is Ready.
    pub fn nodes_ready(&self, count: usize) {
        eventually("all nodes are Ready", || {
            let ready =
                self.items(&["nodes"]).iter().filter(|node| condition(node, "Ready") == "True").count();
            if ready == count { Ok(()) } else { Err(format!("{ready} of {count} nodes are Ready")) }
        });
    }

    /// The Docker id of a pod's container.
    pub fn container(&self, pod: &Value, container: &str) -> String {
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let status =
            statuses.iter().find(|status| status["name"] == container).expect("the container is known");
        let id = status["containerID"].as_str().unwrap_or_default();
        id.strip_prefix("docker://").expect("a Docker id").to_owned()
    }

    /// Runs docker against the engine of a pod's node.
    pub fn docker_of(&self, pod: &Value, arguments: &[&str]) -> String {
        self.machines.docker(pod["spec"]["nodeName"].as_str().expect("the pod has a node"), arguments)
    }

    /// The full names of all members.
    pub fn members(&self) -> Vec<String> {
        let roles = ["controller", "gateway", "node-1", "node-2", "node-3"];
        roles.map(|role| format!("{}-{role}", self.name)).into()
    }

    /// Everything that helps to understand a failure.
    pub fn describe(&self) {
        for arguments in [
            &["get", "nodes,pods,svc,endpointslices,ingress", "-A", "-o", "wide"][..],
            &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"][..],
        ] {
            let output = self.try_kubectl(arguments);
            eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        }
        for member in self.members() {
            eprintln!("--- {member}\n{}", self.machines.logs(&member));
        }
        for member in self.machines.engines() {
            let containers = ["ps", "-a", "--format", "{{.Names}} {{.Status}}"];
            eprintln!("--- containers\n{}", crate::text(&self.machines.try_docker(&member, &containers)));
        }
    }
}

impl Cluster {
    /// Takes the cluster down unless `WARREN_KEEP` is set; the answer is what is left of it.
    pub fn take_down(&mut self) -> Vec<String> {
        self.is_up = false;
        if std::env::var_os("WARREN_KEEP").is_some() {
            eprintln!("WARREN_KEEP is set: cluster {} stays", self.name);
            return Vec::new();
        }
        let _ = std::fs::remove_file(&self.kubeconfig);
        self.machines.down();
        self.machines.left()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_up {
            self.take_down();
        }
    }
}

/// A kubectl that goes on, and what it has printed.
pub struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Following {
    /// What it has printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no reader panicked").clone()
    }

    /// Waits for a line that contains both texts.
    pub fn wait_for(&mut self, one: &str, other: &str) {
        eventually("kubectl prints the line", || {
            let lines = self.lines.lock().expect("no reader panicked");
            if lines.iter().any(|line| line.contains(one) && line.contains(other)) {
                return Ok(());
            }
            Err(format!("no line with {one:?} and {other:?} in {lines:#?}"))
        });
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of an object's condition, or "".
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|c| c["type"] == kind).and_then(|c| c["status"].as_str()).unwrap_or_default()
}
