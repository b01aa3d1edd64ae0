//! A machine: one set of namespaces (network, processes, mounts, host name) with a first process of its own.
//! Killing that one is a power cut: the kernel ends everything inside at once, containers too. What a disk would
//! keep is in the machine's directory; `/run` and `/dev/shm` are new at each boot, as on any machine.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use crate::{eventually, succeed, text};

/// The first process: tells by which identifier the world outside knows it, then reaps what is left to it.
const BOOT: &str = r#"
    read -r pid rest </proc/self/stat
    mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /dev/shm || exit 1
    mount --bind "$1/machine-id" /etc/machine-id && hostname "$2" && ip link set lo up || exit 1
    echo 0 >/proc/sys/net/ipv4/ip_forward && echo "$pid" >"$1/first" || exit 1
    while sleep 3600; do :; done
"#;

/// A machine of a cluster of plain processes.
pub struct Machine {
    /// Its host name, and its name in the cluster.
    pub name: String,
    /// Its address on the underlay.
    pub address: String,
    directory: PathBuf,
    power: Option<Power>,
}

struct Power {
    /// The first process, as the world outside knows it.
    first: u32,
    /// Ends when the machine does.
    boot: Child,
    daemons: BTreeMap<String, Child>,
    /// How long each daemon's log was when it was last started.
    began: BTreeMap<String, u64>,
}

impl Machine {
    /// A machine that was never switched on; `program` becomes its `warren`.
    pub fn new(name: &str, address: &str, directory: PathBuf, program: &Path) -> Self {
        fs::create_dir_all(directory.join("bin")).expect("a directory");
        let machine = Self { name: name.to_owned(), address: address.to_owned(), directory, power: None };
        // No two machines have the same one, and each keeps its own.
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        fs::write(machine.path("machine-id"), format!("{:032x}\n", hasher.finish())).expect("a file");
        // A link where that is possible: the program is large.
        fs::hard_link(program, machine.warren())
            .or_else(|_| fs::copy(program, machine.warren()).map(drop))
            .expect("the program can be installed");
        machine
    }

    /// A file of this machine's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Its `warren`.
    pub fn warren(&self) -> PathBuf {
        self.path("bin/warren")
    }

    /// Where its member keeps its state.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Its engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// The cgroup of its pods.
    fn cgroup(&self) -> String {
        self.name.clone()
    }

    /// The identifier of its first process.
    pub fn first(&self) -> u32 {
        self.power.as_ref().unwrap_or_else(|| panic!("{} is off", self.name)).first
    }

    /// Whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.power.is_some()
    }

    /// Switches it on; it has no network yet.
    pub fn boot(&mut self) {
        assert!(self.power.is_none(), "{} is on", self.name);
        let _ = fs::remove_file(self.path("first"));
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "sh", "-c", BOOT]);
        let log = File::create(self.path("boot.log")).expect("a log");
        command.arg("sh").arg(&self.directory).arg(&self.name).stdin(Stdio::null()).stderr(log);
        let mut boot = command.spawn().expect("unshare starts");
        let first = eventually("the machine boots", || {
            assert!(matches!(boot.try_wait(), Ok(None)), "{} does not boot", self.name);
            let said = fs::read_to_string(self.path("first")).unwrap_or_default();
            said.trim().parse().map_err(|_| "it has not said so".to_owned())
        });
        self.power = Some(Power { first, boot, daemons: BTreeMap::new(), began: BTreeMap::new() });
    }

    /// Cuts its power: when this returns, nothing of it runs.
    pub fn cut(&mut self) {
        let Some(mut power) = self.power.take() else { return };
        kill("KILL", power.first);
        let _ = power.boot.wait();
        for daemon in power.daemons.values_mut() {
            let _ = daemon.wait();
        }
    }

    /// A command on this machine.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first().to_string(), "-n", "-m", "-p", "-u", "--"]).arg(program.as_ref());
        command
    }

    /// Runs a shell command, which must succeed.
    pub fn shell(&self, line: &str) -> String {
        succeed(self.command("sh").args(["-c", line]))
    }

    /// Starts a daemon whose output goes to a log of that name.
    pub fn daemon(&mut self, what: &str, mut command: Command) {
        let log = OpenOptions::new().create(true).append(true).open(self.path(&format!("{what}.log")));
        let log = log.expect("a log");
        let length = log.metadata().expect("a file").len();
        let errors = log.try_clone().expect("a descriptor");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("it starts");
        let power = self.power.as_mut().expect("the machine is on");
        power.daemons.insert(what.to_owned(), child);
        power.began.insert(what.to_owned(), length);
    }

    /// Whether a daemon that was started still runs; the output of one that ended is in its log.
    pub fn runs(&mut self, what: &str) -> bool {
        let daemon = self.power.as_mut().and_then(|power| power.daemons.get_mut(what));
        daemon.is_some_and(|daemon| matches!(daemon.try_wait(), Ok(None)))
    }

    /// Stops a daemon by SIGTERM.
    pub fn stop(&mut self, what: &str) {
        assert!(self.runs(what), "{what} of {} does not run", self.name);
        self.end(what, "TERM");
    }

    /// Ends a daemon, if it still runs, by a signal.
    pub fn end(&mut self, what: &str, signal: &str) {
        let was_running = self.runs(what);
        let daemon = self.power.as_mut().and_then(|power| power.daemons.remove(what));
        let Some(mut daemon) = daemon.filter(|_| was_running) else { return };
        // nsenter waits for it in our name: the daemon itself is its only child.
        let waiting = daemon.id();
        let pids = self.pids();
        let pid = pids.iter().find(|pid| parent(**pid) == Some(waiting));
        // One that ends in this very moment needs no signal.
        pid.into_iter().for_each(|pid| kill(signal, *pid));
        eventually("the daemon stops", || match daemon.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{what}: {other:?}")),
        });
    }

    /// What a daemon has logged since it was last started.
    pub fn latest_log(&self, what: &str) -> String {
        let began = self.power.as_ref().and_then(|power| power.began.get(what)).copied().unwrap_or_default();
        let log = fs::read(self.path(&format!("{what}.log"))).unwrap_or_default();
        let began = usize::try_from(began).expect("a length").min(log.len());
        String::from_utf8_lossy(&log[began..]).into_owned()
    }

    /// What a daemon has logged.
    pub fn log(&self, what: &str) -> String {
        fs::read_to_string(self.path(&format!("{what}.log"))).unwrap_or_default()
    }

    /// Everything that was logged, by daemon.
    pub fn logs(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str().map(str::to_owned));
        let mut names: Vec<_> =
            names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned)).collect();
        names.sort();
        names.into_iter().map(|what| (what.clone(), self.log(&what))).collect()
    }

    /// Its processes, without those of containers, as the world outside knows them.
    pub fn pids(&self) -> Vec<u32> {
        let space = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = space(self.first());
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| own.is_some() && space(*pid) == own).collect()
    }

    /// Its Warren daemons by name, as the world outside knows them.
    pub fn daemons(&self) -> BTreeMap<String, u32> {
        let daemon = |pid: u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            let (program, daemon) = (words.next()?, words.next()?.into_owned());
            let known = ["node", "netd", "agent", "gateway", "controller"].contains(&daemon.as_str());
            (program.ends_with("warren") && known).then_some((daemon, pid))
        };
        self.pids().into_iter().filter_map(daemon).collect()
    }

    /// Starts its engine. Forwarding is off, so the engine sets its FORWARD policy to DROP, as on a fresh machine.
    pub fn start_engine(&mut self, live_restore: bool) {
        let mut command = self.command("dockerd");
        command.arg("--data-root").arg(self.path("docker"));
        command.arg("-H").arg(format!("unix://{}", self.socket().display()));
        command.arg("--cgroup-parent").arg(format!("/{}", self.cgroup()));
        command.args(["--userland-proxy=false", "--log-level", "warn"]);
        command.arg(format!("--live-restore={live_restore}"));
        self.daemon("dockerd", command);
    }

    /// Waits until its engine answers.
    pub fn engine_answers(&self) {
        eventually("the engine answers", || {
            let output = self.docker(&["version"]).output().expect("docker starts");
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        });
    }

    /// docker against its engine.
    pub fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(arguments);
        command
    }

    /// Runs `warren` on this machine, whatever comes of it.
    pub fn run_warren(&self, arguments: &[&str]) -> Output {
        self.command(self.warren()).args(arguments).output().expect("warren starts")
    }

    /// Puts a program in the place of its `warren`, as another file: what runs goes on with the old one.
    pub fn install(&self, program: &Path) {
        let new = self.path("bin/warren.new");
        fs::copy(program, &new).expect("it can be copied");
        fs::rename(&new, self.warren()).expect("it can be renamed");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::env::var_os("WARREN_KEEP").is_some() {
            return;
        }
        self.cut();
        remove_cgroups(&self.cgroup());
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Sends a signal; whoever is gone needs none.
pub fn kill(signal: &str, pid: u32) {
    let _ = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).output();
}

/// Ends the machine that an interrupted run left in `directory`, if it is still there.
pub fn remove_leftover(directory: &Path, name: &str) {
    let said = fs::read_to_string(directory.join("first")).unwrap_or_default();
    if let Ok(pid) = said.trim().parse::<u32>() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // The identifier may be somebody else's by now.
        if String::from_utf8_lossy(&line).contains(&*directory.to_string_lossy()) {
            kill("KILL", pid);
            eventually("the leftover ends", || {
                if Path::new(&format!("/proc/{pid}")).exists() { Err(pid.to_string()) } else { Ok(()) }
            });
        }
    }
    remove_cgroups(name);
}

/// Removes empty cgroups that killed containers left, in every hierarchy.
fn remove_cgroups(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        remove_cgroup(&hierarchy.join(name));
    }
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}
