//! The machines of `warren up`: containers on this machine's engine, which holds the pods of all of them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    clock::Launch,
    cluster::{docker, warren_binary},
    machines::{Machines, Outside},
    succeed, text,
};

/// A local cluster; ports follow from the first one.
pub struct Local {
    name: String,
    nodes: usize,
    api: u16,
}

impl Local {
    /// Starts a cluster of `nodes` nodes.
    pub fn up(name: &str, nodes: usize, first_port: u16) -> Self {
        let local = Self { name: name.to_owned(), nodes, api: first_port };
        // What an interrupted run left behind.
        local.warren(&["down"]);
        local.again();
        local
    }

    /// The gateway's HTTP port on 127.0.0.1.
    fn http(&self) -> u16 {
        self.api + 1
    }

    /// Where the members keep their state.
    fn directory(&self) -> PathBuf {
        Path::new("/var/lib/warren").join(&self.name)
    }

    fn controller(&self) -> String {
        format!("{}-controller", self.name)
    }

    /// Puts a container that does nothing in the place of the controller's: the same name, network, port and
    /// directory.
    fn empty_place(&self, name: &str, aside: &str) {
        let (data, api) = (self.state(name).display().to_string(), self.api);
        let image = docker(&["inspect", "-f", "{{.Config.Image}}", name]);
        docker(&["rename", name, aside]);
        // As the command line knows a controller.
        let labels = [
            format!("warren.cluster={}", self.name),
            "warren.role=controller".to_owned(),
            format!("warren.port.api={api}"),
        ];
        let labels: Vec<_> = labels.iter().flat_map(|label| ["--label", label]).collect();
        let (publish, mount) = (format!("127.0.0.1:{api}:6443"), format!("{data}:{data}"));
        let place = ["--name", name, "--hostname", name, "--network", &self.name];
        docker(
            &[&["run", "-d"][..], &place, &labels, &["-p", &publish, "-v", &mount, &image, "pause"]].concat(),
        );
    }

    fn network(&self, format: &str) -> String {
        docker(&["network", "inspect", "-f", format, &self.name])
    }
}

/// What the controller's container is called while another has its place.
fn aside(member: &str) -> String {
    format!("{member}-aside")
}

fn exists(container: &str) -> bool {
    !docker(&["ps", "-aq", "--filter", &format!("name=^{container}$")]).is_empty()
}

impl Machines for Local {
    fn enter(&self) {}

    fn kubeconfig(&self) -> String {
        self.warren(&["kubeconfig"])
    }

    fn gateway(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.http()))
    }

    fn spare_port(&self) -> u16 {
        self.http() + 500
    }

    fn outside(&self) -> Outside {
        Outside {
            address: self.network("{{(index .IPAM.Config 0).Gateway}}"),
            bridge: format!("br-{}", &self.network("{{.Id}}")[..12]),
        }
    }

    fn address(&self, member: &str) -> String {
        docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", member])
    }

    fn command(&self, member: &str, program: &str) -> Command {
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", member]);
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-n", program]);
        command
    }

    fn kill(&self, member: &str) {
        docker(&["kill", member]);
    }

    fn start(&self, member: &str) {
        docker(&["start", member]);
    }

    fn halt(&self, member: &str, signal: &str) {
        if signal == "KILL" {
            // It may have ended by itself.
            let _ = Command::new("docker").args(["kill", member]).output();
        }
        // The engine restarts one that has ended, but none that was stopped.
        docker(&["stop", member]);
    }

    fn resume(&self, member: &str) {
        let aside = aside(member);
        if exists(&aside) {
            // A place that could not be made is none.
            let _ = Command::new("docker").args(["rm", "-f", member]).output();
            docker(&["rename", &aside, member]);
        }
        docker(&["start", member]);
    }

    fn latest_log(&self, member: &str) -> String {
        let since = docker(&["inspect", "-f", "{{.State.StartedAt}}", member]);
        text(
            &Command::new("docker")
                .args(["logs", "--since", &since, member])
                .output()
                .expect("docker starts"),
        )
    }

    fn admit(&self, _: &str) {
        // It forgets the former member and hands out a new token.
        self.again();
    }

    fn stand_in(&self) -> Launch {
        let name = self.controller();
        let aside = aside(&name);
        if !exists(&aside) {
            self.halt(&name, "TERM");
            self.empty_place(&name, &aside);
        }
        let own = |format: &str| docker(&["inspect", "-f", format, &aside]);
        let arguments: Vec<String> =
            serde_json::from_str(&own("{{json .Args}}")).expect("the container's arguments");
        let pid = docker(&["inspect", "-f", "{{.State.Pid}}", &name]).parse().expect("a process identifier");
        Launch::beside(pid, Path::new(&own("{{.Path}}"))).arguments(&arguments)
    }

    fn state(&self, member: &str) -> PathBuf {
        self.directory().join(member)
    }

    fn shell(&self, _: &str, line: &str) -> Output {
        Command::new("sh").args(["-ec", line]).output().expect("sh starts")
    }

    fn restore(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(warren_binary());
        command.arg("restore").args(arguments).args(["--name", &self.name]).output().expect("warren starts")
    }

    fn processes(&self, member: &str) -> BTreeMap<String, u32> {
        let table = docker(&["top", member, "-eo", "pid,args"]);
        let process = |line: &str| {
            let mut words = line.split_whitespace();
            let pid = words.next()?.parse().ok()?;
            let program = words.next()?;
            let daemon = words.next()?;
            // Pods of a node are in its cgroup too: only what was started for this very member counts.
            let ours = program.ends_with("warren")
                && ["node", "netd", "agent", "gateway", "controller"].contains(&daemon)
                && line.contains(&format!("/{member}"));
            ours.then(|| (daemon.to_owned(), pid))
        };
        table.lines().filter_map(process).collect()
    }

    fn install(&self, member: &str, program: &Path) {
        docker(&["cp", &program.to_string_lossy(), &format!("{member}:/warren")]);
    }

    fn logs(&self, member: &str) -> String {
        let output = Command::new("docker").args(["logs", "--tail", "200", member]).output();
        output.map(|output| text(&output)).unwrap_or_default()
    }

    fn again(&self) {
        let (nodes, api) = (self.nodes.to_string(), self.api.to_string());
        let (http, https) = (self.http().to_string(), (self.http() + 1).to_string());
        let ports = ["--api-port", &api, "--gateway-http", &http, "--gateway-https", &https];
        let said = self.warren(&[&["up", "--nodes", &nodes][..], &ports].concat());
        assert!(!said.is_empty(), "warren up says what it did");
    }

    fn warren(&self, arguments: &[&str]) -> String {
        succeed(Command::new(warren_binary()).args(arguments).args(["--name", &self.name]))
    }

    fn docker_command(&self, _: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(arguments);
        command
    }

    fn engines(&self) -> Vec<String> {
        vec![format!("{}-node-1", self.name)]
    }

    fn bring(&self, _: &[&str]) {}

    fn down(&mut self) {
        // Where a scenario broke off; most often nothing.
        let _ = Command::new("docker").args(["rm", "-f", &aside(&self.controller())]).output();
        let down = Command::new(warren_binary()).args(["down", "--name", &self.name]).output();
        if !down.is_ok_and(|output| output.status.success()) {
            eprintln!("warren down --name {} failed", self.name);
        }
    }

    fn left(&self) -> Vec<String> {
        let filter = format!("label=warren.cluster={}", self.name);
        let containers = docker(&["ps", "-aq", "--filter", &filter]);
        let networks = docker(&["network", "ls", "-q", "--filter", &filter]);
        let directory = self.directory();
        let directory = directory.exists().then(|| directory.display().to_string());
        let found = [containers, networks].into_iter().filter(|found| !found.is_empty());
        found.chain(directory).collect()
    }
}
