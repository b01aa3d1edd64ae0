//! What happens to the cluster's state: saved, lost, damaged, out of space, given back.

mod disk;
mod node;
mod restore;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, condition},
    eventually, text,
};

pub use disk::a_full_disk_refuses_writes_and_recovers;
pub use node::a_node_that_lost_its_state_joins_again;
pub use restore::{
    a_damaged_store_is_refused_with_the_mend_and_restored, a_lost_controller_is_restored_and_nobody_notices,
};

/// The controller and what lies in its data directory.
pub(crate) struct Controller<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) member: String,
    pub(crate) data: PathBuf,
}

impl<'a> Controller<'a> {
    pub(crate) fn of(cluster: &'a Cluster) -> Self {
        let member = format!("{}-controller", cluster.name);
        let data = cluster.machines.state(&member);
        assert!(data.join("store/store.redb").exists(), "{} holds no store", data.display());
        Self { cluster, member, data }
    }

    fn store(&self) -> PathBuf {
        self.data.join("store/store.redb")
    }

    pub(crate) fn stop(&self) {
        self.cluster.machines.halt(&self.member, "TERM");
    }

    /// Starts it, if it does not run, and waits until it serves.
    pub(crate) fn start(&self) {
        self.cluster.machines.resume(&self.member);
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
        self.cluster.machines.resume(&self.member);
        eventually("the controller says why it does not start", || {
            let logs = self.cluster.machines.latest_log(&self.member);
            if words.iter().all(|word| logs.contains(word)) { Ok(()) } else { Err(logs) }
        });
        assert!(!self.cluster.try_kubectl(&["get", "namespaces"]).status.success(), "it serves all the same");
        self.cluster.machines.halt(&self.member, "KILL");
    }

    fn restore(&self, file: &Path, arguments: &[&str]) -> Output {
        let file = file.to_str().expect("a path of ours");
        self.cluster.machines.restore(&[arguments, &[file]].concat())
    }

    pub(crate) fn backup(&self, file: &Path) {
        let file = file.to_str().expect("a path of ours");
        let said = self.cluster.warren(&["backup", "--force", file]);
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
            let started = cluster.docker_of(pod, &["inspect", "-f", "{{.State.StartedAt}}", &id]);
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            (name(pod), format!("{} {id} {started} {restarts}", pod["metadata"]["uid"]))
        };
        let nodes = cluster.items(&["nodes"]);
        let states = cluster.members().into_iter().map(|member| cluster.machines.state(&member));
        let files =
            states.flat_map(|state| ["identity/ca.pem", "identity/node.pem"].map(|file| state.join(file)));
        Self {
            pods: cluster.items(&["pods", "-l", "app=hello"]).iter().map(pod).collect(),
            nodes: nodes.iter().map(|node| (name(node), node["metadata"]["uid"].to_string())).collect(),
            identities: files.filter_map(|file| Some((file.clone(), fs::read(file).ok()?))).collect(),
            kubeconfig: cluster.machines.kubeconfig(),
        }
    }
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

fn names(cluster: &Cluster, arguments: &[&str]) -> BTreeSet<String> {
    let items = cluster.items(arguments);
    items.iter().filter_map(|item| Some(item["metadata"]["name"].as_str()?.to_owned())).collect()
}
