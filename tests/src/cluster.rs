//! A cluster made by the `warren` binary, driven by kubectl.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::eventually;

/// A running local cluster; taken down when dropped.
pub struct Cluster {
    /// Its name: the prefix of its containers.
    pub name: String,
    /// The gateway's HTTP port on 127.0.0.1.
    pub http: u16,
    api: u16,
    https: u16,
    kubeconfig: PathBuf,
    /// Seconds that `warren up` took by its own account.
    pub up_output: String,
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

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot start: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs docker and returns what it printed.
pub fn docker(arguments: &[&str]) -> String {
    succeed(Command::new("docker").args(arguments)).trim().to_owned()
}

impl Cluster {
    /// Starts a cluster of `nodes` nodes. Ports follow from `first_port`.
    pub fn up(name: &str, nodes: usize, first_port: u16) -> Self {
        let mut cluster = Self {
            name: name.to_owned(),
            api: first_port,
            http: first_port + 1,
            https: first_port + 2,
            kubeconfig: std::env::temp_dir().join(format!("{name}-{}.kubeconfig", std::process::id())),
            up_output: String::new(),
        };
        // What an interrupted run left behind.
        succeed(Command::new(warren_binary()).args(["down", "--name", name]));
        cluster.up_output = cluster.up_again(nodes);
        let kubeconfig = succeed(Command::new(warren_binary()).args(["kubeconfig", "--name", name]));
        std::fs::write(&cluster.kubeconfig, kubeconfig).expect("the temporary directory is writable");
        cluster
    }

    /// Runs `warren up` once more with the same arguments.
    pub fn up_again(&self, nodes: usize) -> String {
        let (nodes, api) = (nodes.to_string(), self.api.to_string());
        let (http, https) = (self.http.to_string(), self.https.to_string());
        succeed(Command::new(warren_binary()).args([
            "up",
            "--name",
            &self.name,
            "--nodes",
            &nodes,
            "--api-port",
            &api,
            "--gateway-http",
            &http,
            "--gateway-https",
            &https,
        ]))
    }

    /// Runs a `warren` command for this cluster.
    pub fn warren(&self, arguments: &[&str]) -> String {
        succeed(Command::new(warren_binary()).args(arguments).args(["--name", &self.name]))
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

    /// Everything that helps to understand a failure.
    pub fn describe(&self) {
        for arguments in [
            &["get", "nodes,pods,svc,endpointslices,ingress", "-A", "-o", "wide"][..],
            &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"][..],
        ] {
            let output = self.try_kubectl(arguments);
            eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        }
        let filter = format!("label=warren.cluster={}", self.name);
        eprintln!("{}", docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}} {{.Status}}"]));
        for role in ["controller", "gateway", "node-1", "node-2", "node-3"] {
            let container = format!("{}-{role}", self.name);
            let logs = Command::new("docker").args(["logs", "--tail", "40", &container]).output();
            if let Ok(logs) = logs {
                eprintln!("--- {container}\n{}", String::from_utf8_lossy(&logs.stdout));
                eprintln!("{}", String::from_utf8_lossy(&logs.stderr));
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::env::var_os("WARREN_KEEP").is_some() {
            return eprintln!("WARREN_KEEP is set: cluster {} stays", self.name);
        }
        let down = Command::new(warren_binary()).args(["down", "--name", &self.name]).output();
        if !down.is_ok_and(|output| output.status.success()) {
            eprintln!("warren down --name {} failed", self.name);
        }
        let _ = std::fs::remove_file(&self.kubeconfig);
    }
}

/// A kubectl that goes on, and what it has printed.
pub struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Following {
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
