//! What happens to the cluster's state: saved, lost, damaged, out of space, given back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, condition, docker, warren_binary},
    eventually,
    load::Load,
};

use crate::{
    traffic::settled,
    usage::{demo, gateway},
};

pub(crate) fn prepare(cluster: &Cluster) {
    cluster.nodes_ready(3);
    cluster.apply(demo());
    cluster.rolled_out("deployment/hello");
    settled(cluster, 6);
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The controller's container and what lies in its data directory.
pub(crate) struct Controller<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) container: String,
    pub(crate) data: PathBuf,
}

impl<'a> Controller<'a> {
    pub(crate) fn of(cluster: &'a Cluster) -> Self {
        let container = format!("{}-controller", cluster.name);
        let data = Path::new("/var/lib/warren").join(&cluster.name).join(&container);
        assert!(data.join("store/store.redb").exists(), "{} holds no store", data.display());
        Self { cluster, container, data }
    }

    fn store(&self) -> PathBuf {
        self.data.join("store/store.redb")
    }

    pub(crate) fn stop(&self) {
        docker(&["stop", &self.container]);
    }

    pub(crate) fn start(&self) {
        docker(&["start", &self.container]);
        self.answers();
    }

    pub(crate) fn answers(&self) {
        eventually("the API answers", || {
            let output = self.cluster.try_kubectl(&["get", "namespaces"]);
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        });
    }

    /// Starts it, and waits until it has said why it does not run.
    pub(crate) fn refuses_to_start(&self, words: &[&str]) {
        let since = docker(&["inspect", "-f", "{{.State.FinishedAt}}", &self.container]);
        docker(&["start", &self.container]);
        eventually("the controller says why it does not start", || {
            let logs = Command::new("docker").args(["logs", "--since", &since, &self.container]).output();
            let logs = text(&logs.expect("docker starts"));
            if words.iter().all(|word| logs.contains(word)) { Ok(()) } else { Err(logs) }
        });
        assert!(!self.cluster.try_kubectl(&["get", "namespaces"]).status.success(), "it serves all the same");
        docker(&["kill", &self.container]);
    }

    fn restore(&self, file: &Path, arguments: &[&str]) -> Output {
        let mut command = Command::new(warren_binary());
        command.arg("restore").arg(file).args(arguments);
        command.output().expect("warren starts")
    }

    pub(crate) fn backup(&self, file: &Path) {
        let file = file.to_str().expect("a path of ours");
        let said = self.cluster.warren(&["backup", file]);
        assert!(said.contains("keep the file secret"), "{said}");
        let mode = fs::metadata(file).expect("a backup").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "who reads a backup has the cluster");
    }
}

/// A directory for one scenario.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(cluster: &Cluster, scenario: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{}-{scenario}-{}", cluster.name, std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whatever must be the same before and after nothing happened: each pod with its containers and their starts,
/// each node, and what the members are recognised by.
#[derive(Debug, PartialEq)]
pub(crate) struct Facts {
    pods: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
    identities: BTreeMap<PathBuf, Vec<u8>>,
    kubeconfig: String,
}

impl Facts {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let pod = |pod: &Value| {
            let id = cluster.container(pod, "hello");
            let started = docker(&["inspect", "-f", "{{.State.StartedAt}}", &id]);
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            (name(pod), format!("{} {id} {started} {restarts}", pod["metadata"]["uid"]))
        };
        let nodes = cluster.items(&["nodes"]);
        let state = Path::new("/var/lib/warren").join(&cluster.name);
        let files = fs::read_dir(&state)
            .expect("the members' state")
            .flatten()
            .flat_map(|member| ["identity/ca.pem", "identity/node.pem"].map(|file| member.path().join(file)));
        Self {
            pods: cluster.items(&["pods", "-l", "app=hello"]).iter().map(pod).collect(),
            nodes: nodes.iter().map(|node| (name(node), node["metadata"]["uid"].to_string())).collect(),
            identities: files.filter_map(|file| Some((file.clone(), fs::read(file).ok()?))).collect(),
            kubeconfig: cluster.warren(&["kubeconfig"]),
        }
    }
}

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n")
}

/// A pod that does nothing, and goes at once when asked to.
pub(crate) fn idle_pod(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n  - {{name: idle, image: 'busybox:1.36', command: [sleep, infinity]}}\n"
    )
}

pub(crate) fn ready_pod(cluster: &Cluster, name: &str) -> Value {
    eventually("the pod is ready", || {
        let pod = cluster.get(&["pod", name]);
        if condition(&pod, "Ready") == "True" { Ok(pod) } else { Err(pod["status"].to_string()) }
    })
}

/// Writes numbered objects, one after the other, while a backup is taken; the answer is how many were acknowledged
/// before it began.
fn backup_while_writing(cluster: &Cluster, controller: &Controller<'_>, file: &Path) -> usize {
    let (stop, written) = (AtomicBool::new(false), std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                let number = written.load(Ordering::SeqCst);
                cluster.kubectl(&[
                    "create",
                    "configmap",
                    &format!("written-{number:04}"),
                    "--from-literal=a=b",
                ]);
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
        let at_least = |count: usize| {
            eventually("the writer writes", || match written.load(Ordering::SeqCst) {
                found if found >= count => Ok(found),
                found => Err(format!("{found} of {count}")),
            })
        };
        let before = at_least(2);
        controller.backup(file);
        let during = written.load(Ordering::SeqCst);
        at_least(during + 2);
        stop.store(true, Ordering::SeqCst);
        before
    })
}

fn names(cluster: &Cluster, arguments: &[&str]) -> BTreeSet<String> {
    let items = cluster.items(arguments);
    items.iter().filter_map(|item| Some(item["metadata"]["name"].as_str()?.to_owned())).collect()
}

/// Damaged and misplaced backups are refused, with the mend, and leave everything as it was.
fn bad_restores_are_refused(controller: &Controller<'_>, scratch: &Scratch, file: &Path) {
    let whole = fs::read(file).expect("a backup");
    let damaged = scratch.file("damaged.tar");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bytes, word) in
        [(&whole[..whole.len() / 2], "cut off"), (&flipped[..], "damaged"), (&b""[..], "backup")]
    {
        fs::write(&damaged, bytes).expect("written");
        let output = controller.restore(&damaged, &["--replace", "--name", &controller.cluster.name]);
        let said = text(&output);
        assert!(!output.status.success() && said.contains("damaged.tar"), "{said}");
        assert!(said.contains(word) && said.contains("another copy"), "{word:?}: {said}");
    }
}

pub fn a_lost_controller_is_restored_and_nobody_notices(cluster: &Cluster) {
    prepare(cluster);
    let (controller, scratch) = (Controller::of(cluster), Scratch::new(cluster, "restore"));
    let file = scratch.file("backup.tar");
    cluster.apply(&idle_pod("departed"));
    let departed = ready_pod(cluster, "departed")["metadata"]["uid"].clone();
    let acknowledged = backup_while_writing(cluster, &controller, &file);
    let occupied = text(&controller.restore(&file, &["--name", &cluster.name]));
    assert!(occupied.contains("--replace"), "{occupied}");

    // Life goes on after the backup.
    cluster.apply(&idle_pod("newcomer"));
    let newcomer = ready_pod(cluster, "newcomer")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    cluster.kubectl(&["delete", "pod", "departed"]);
    let before = Facts::of(cluster);

    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    docker(&["kill", &controller.container]);
    fs::remove_dir_all(&controller.data).expect("the disk is lost");
    bad_restores_are_refused(&controller, &scratch, &file);
    assert!(!controller.data.join("store").exists(), "a refused backup leaves nothing");
    let output = controller.restore(&file, &["--name", &cluster.name]);
    assert!(output.status.success(), "{}", text(&output));
    print!("{}", text(&output));
    cluster.nodes_ready(3);
    let numbers: Vec<String> = names(cluster, &["configmaps"]).into_iter().collect();
    let numbers: Vec<&String> = numbers.iter().filter(|name| name.starts_with("written-")).collect();
    assert!(numbers.len() >= acknowledged, "{acknowledged} were acknowledged before, {numbers:?} came back");
    for (index, name) in numbers.iter().enumerate() {
        assert_eq!(**name, format!("written-{index:04}"), "the backup has a hole: {numbers:?}");
    }

    // What came after the backup is gone, from the nodes too; what went since is back under its own name.
    let gone = cluster.try_kubectl(&["get", "pod", "newcomer"]);
    assert!(text(&gone).contains("NotFound"), "{}", text(&gone));
    eventually("the newcomer's containers are gone", || {
        match docker(&["ps", "-aq", "--filter", &format!("label=warren.pod.uid={newcomer}")]) {
            none if none.is_empty() => Ok(()),
            left => Err(left),
        }
    });
    assert_eq!(ready_pod(cluster, "departed")["metadata"]["uid"], departed);
    load.more(200);
    assert_eq!(Facts::of(cluster), before, "a pod, a node or an identity changed");

    // Agents, netds and the gateway follow the restored controller.
    for replicas in ["8", "6"] {
        cluster.kubectl(&["scale", "deployment/hello", &format!("--replicas={replicas}")]);
        cluster.rolled_out("deployment/hello");
        settled(cluster, replicas.parse().expect("a number"));
        load.more(100);
    }
    let report = load.stop();
    println!("a lost controller: {} requests, {} failed", report.requests, report.failures.len());
    report.assert_flawless();
    cluster.kubectl(&["delete", "pod", "departed"]);
    cluster.kubectl(
        &[&["delete", "configmap"][..], &numbers.iter().map(|n| n.as_str()).collect::<Vec<_>>()].concat(),
    );
}

pub fn a_damaged_store_is_refused_with_the_mend_and_restored(cluster: &Cluster) {
    prepare(cluster);
    let (controller, scratch) = (Controller::of(cluster), Scratch::new(cluster, "damaged"));
    let file = scratch.file("backup.tar");
    controller.backup(&file);
    let before = Facts::of(cluster);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(100);
    controller.stop();
    let whole = fs::read(controller.store()).expect("readable");
    // One bit of each copy of an object, since the file holds pages that are no longer in use, too.
    let mut flipped = whole.clone();
    let word = b"\"matchLabels\":";
    let copies = whole.windows(word.len()).enumerate().filter(|(_, window)| *window == word);
    let copies: Vec<usize> = copies.map(|(index, _)| index).collect();
    assert!(!copies.is_empty(), "this test would damage nothing");
    copies.iter().for_each(|index| flipped[index + 3] ^= 0x20);
    let data = controller.data.to_str().expect("a path of ours");
    for (bytes, what, beside) in
        [(&flipped[..], "bits are flipped", false), (&whole[..whole.len() / 2], "half is cut off", true)]
    {
        println!("the store's file: {what}");
        controller.stop();
        fs::write(controller.store(), bytes).expect("written");
        controller.refuses_to_start(&["store.redb", "warren restore FILE"]);
        // Through Docker; and beside the data directory, as where the controller is a plain process.
        let place = if beside { &["--data-dir", data][..] } else { &["--name", &cluster.name] };
        let occupied = text(&controller.restore(&file, place));
        assert!(occupied.contains("--replace"), "{occupied}");
        let output = controller.restore(&file, &[place, &["--replace"]].concat());
        assert!(output.status.success(), "{}", text(&output));
        if beside {
            assert!(text(&output).contains("systemctl restart"), "{}", text(&output));
            controller.start();
        }
    }
    cluster.nodes_ready(3);
    let aside = fs::read_dir(&controller.data).expect("a directory").flatten();
    let aside: Vec<PathBuf> = aside
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("replaced-")))
        .collect();
    assert_eq!(aside.len(), 2, "the damaged state is kept for a look");
    // As deploy/faults.md says: it holds the keys of then.
    aside.iter().for_each(|path| fs::remove_dir_all(path).expect("removed"));
    load.more(200);
    load.stop().assert_flawless();
    assert_eq!(Facts::of(cluster), before, "a pod, a node or an identity changed");
}

/// The controller's data directory on a small file system of its own, until dropped.
struct SmallDisk<'a> {
    controller: &'a Controller<'a>,
    saved: PathBuf,
}

impl<'a> SmallDisk<'a> {
    fn mount(controller: &'a Controller<'a>, scratch: &Scratch) -> Self {
        let saved = scratch.file("data");
        controller.stop();
        let line = format!(
            "cp -a {data} {saved} && mount -t tmpfs -o size=64m,mode=700 tmpfs {data} && cp -a {saved}/. {data}",
            data = controller.data.display(),
            saved = saved.display()
        );
        let output = Command::new("sh").args(["-ec", &line]).output().expect("sh starts");
        assert!(output.status.success(), "{}", text(&output));
        let disk = Self { controller, saved };
        controller.start();
        disk
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let line = format!(
            "docker stop {container} >/dev/null; rm -rf {saved}; rm -f {data}/ballast; cp -a {data} {saved}; \
             umount {data} || umount -l {data}; find {data} -mindepth 1 -delete; cp -a {saved}/. {data}; \
             docker start {container} >/dev/null",
            container = self.controller.container,
            data = self.controller.data.display(),
            saved = self.saved.display()
        );
        if !Command::new("sh").args(["-c", &line]).status().is_ok_and(|status| status.success()) {
            eprintln!("the controller's data directory could not be put back");
        }
    }
}

pub fn a_full_disk_refuses_writes_and_recovers(cluster: &Cluster) {
    prepare(cluster);
    let (controller, scratch) = (Controller::of(cluster), Scratch::new(cluster, "full"));
    let disk = SmallDisk::mount(&controller, &scratch);
    cluster.nodes_ready(3);
    for name in ["first", "second"] {
        cluster.apply(&config_map(name));
    }
    let before = Facts::of(cluster);
    let started = docker(&["inspect", "-f", "{{.State.StartedAt}}", &controller.container]);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(100);

    let ballast = controller.data.join("ballast");
    let _ = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k", "status=none", &format!("of={}", ballast.display())])
        .output()
        .expect("dd starts");
    // The file has pages left that are in no use; they go first.
    let mut accepted = BTreeSet::new();
    let refused = eventually("a write is refused", || {
        let name = format!("filler-{:04}", accepted.len());
        let filler = "x".repeat(200_000);
        let manifest =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: {filler}}}\n");
        let output = cluster.try_kubectl_with_input(&["create", "-f", "-"], &manifest);
        if !output.status.success() {
            return Ok(text(&output));
        }
        accepted.insert(name);
        Err(format!("{} were accepted", accepted.len()))
    });
    println!("a full disk says: {}", refused.trim());
    for word in ["InsufficientStorage", "disk is full", "free space on the file system"] {
        assert!(refused.contains(word), "{word} is missing in {refused}");
    }
    let raw = cluster.try_kubectl(&["create", "configmap", "more", "--from-literal=a=b", "-v=8"]);
    assert!(text(&raw).contains("\"code\":507"), "{}", text(&raw));

    // Reads and watches, the pods and their traffic go on; what frees space is accepted.
    cluster.nodes_ready(3);
    assert_eq!(Facts::of(cluster), before, "a pod, a node or an identity changed");
    load.more(200);
    cluster.kubectl(&["delete", "configmap", "second"]);
    let still = text(&cluster.try_kubectl(&["create", "configmap", "more", "--from-literal=a=b"]));
    assert!(still.contains("InsufficientStorage"), "{still}");
    let backup = scratch.file("backup.tar");
    controller.backup(&backup);

    // Space returns, and with it the writes, without a restart.
    fs::remove_file(&ballast).expect("removed");
    eventually("writes are accepted again", || {
        let output = cluster.try_kubectl_with_input(&["apply", "-f", "-"], &config_map("more"));
        if output.status.success() { Ok(()) } else { Err(text(&output)) }
    });
    cluster.apply(&idle_pod("afterwards"));
    ready_pod(cluster, "afterwards");
    cluster.kubectl(&["delete", "pod", "afterwards"]);
    load.more(100);
    let report = load.stop();
    println!("a full disk: {} requests, {} failed", report.requests, report.failures.len());
    report.assert_flawless();
    let now = docker(&["inspect", "-f", "{{.State.StartedAt}}", &controller.container]);
    assert_eq!(now, started, "the controller was restarted");

    // Nothing was lost, nothing that was refused is there: also after a restart, on the disk that it had before.
    drop(disk);
    controller.answers();
    cluster.nodes_ready(3);
    let mut expected: BTreeSet<String> = ["first", "more"].map(str::to_owned).into();
    expected.append(&mut accepted);
    let ours = |name: &String| ["fi", "se", "mo"].iter().any(|start| name.starts_with(start));
    let found: BTreeSet<String> = names(cluster, &["configmaps"]).into_iter().filter(ours).collect();
    assert_eq!(found, expected);
    assert_eq!(Facts::of(cluster), before, "a pod, a node or an identity changed");
    let all: Vec<&str> =
        ["delete", "configmap"].into_iter().chain(expected.iter().map(String::as_str)).collect();
    cluster.kubectl(&all);
}

pub fn a_node_that_lost_its_state_joins_again(cluster: &Cluster) {
    prepare(cluster);
    let node = format!("{}-node-2", cluster.name);
    let state = Path::new("/var/lib/warren").join(&cluster.name).join(&node);
    let others = |cluster: &Cluster| -> BTreeMap<String, String> {
        let here = |pod: &Value| pod["spec"]["nodeName"] != node.as_str();
        let pods = cluster.items(&["pods", "-l", "app=hello"]).into_iter().filter(here);
        pods.map(|pod| (pod["metadata"]["uid"].to_string(), cluster.container(&pod, "hello"))).collect()
    };
    let before = others(cluster);
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(100);
    let output = Command::new("find").arg(&state).args(["-mindepth", "1", "-delete"]).output();
    assert!(output.expect("find starts").status.code().is_some(), "find was killed");
    // What runs goes on: the daemons hold what they need.
    load.more(100);
    assert!(load.report().failures.is_empty(), "{:?}", load.report().failures);
    cluster.nodes_ready(3);

    let since = docker(&["inspect", "-f", "{{.State.StartedAt}}", &node]);
    docker(&["restart", "-t", "1", &node]);
    eventually("the node says that it must join again", || {
        let logs = Command::new("docker").args(["logs", "--since", &since, &node]).output();
        let logs = text(&logs.expect("docker starts"));
        let mend = logs.contains("cannot join") && logs.contains("warren token create");
        if mend { Ok(()) } else { Err(logs) }
    });
    // A local cluster's mend is `warren up`: it forgets the former member and hands out a new token.
    cluster.machines.again();
    cluster.nodes_ready(3);
    cluster.rolled_out("deployment/hello");
    settled(cluster, 6);
    eventually("nothing of the former life is left", || {
        let bound = cluster.items(&["pods", "-A", "--field-selector", &format!("spec.nodeName={node}")]);
        let known: BTreeSet<String> =
            bound.iter().filter_map(|pod| Some(pod["metadata"]["uid"].as_str()?.to_owned())).collect();
        let filter = format!("label=warren.node={node}");
        let format = "{{.Label \"warren.pod.uid\"}}";
        let there = docker(&["ps", "-a", "--filter", &filter, "--format", format]);
        match there.lines().find(|uid| !uid.is_empty() && !known.contains(*uid)) {
            None => Ok(()),
            Some(uid) => Err(format!("containers of pod {uid}")),
        }
    });
    load.more(100);
    let report = load.stop();
    println!("a node without its state: {} requests, {} failed", report.requests, report.failures.len());
    let kept = others(cluster);
    assert!(before.iter().all(|(uid, id)| kept.get(uid) == Some(id)), "a pod of another node was touched");
}
