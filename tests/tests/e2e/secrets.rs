//! Secrets at rest: on no disk of Warren's in the clear, by whatever key.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, warren_binary},
    eventually, text,
};

use crate::{
    state::{Controller, Scratch, ready_pod},
    supervision::kill,
    traffic::prepare,
};

const PASSWORD: &str = "hunter2-in-the-clear-7c1e";
/// As Secrets carry it.
const PASSWORD_BASE64: &str = "aHVudGVyMi1pbi10aGUtY2xlYXItN2MxZQ==";

/// A grep over whole directories; the answer is the files that hold the text.
fn files_with(words: &[&str], places: &[&Path]) -> String {
    let mut command = Command::new("grep");
    command.args(["-rlaF"]);
    for word in words {
        command.args(["-e", word]);
    }
    let output = command.args(places).output().expect("grep starts");
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const SECRET_PODS: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: PASSWORD}\n---\n\
    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: open}\ndata: {a: found-by-the-same-grep}\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: {name: keeper}\nspec:\n  terminationGracePeriodSeconds: 0\n  volumes:\n  \
    - {name: v, secret: {secretName: db}}\n  containers:\n  - name: idle\n    image: busybox:1.36\n    \
    command: [sleep, infinity]\n    volumeMounts: [{name: v, mountPath: /v}]\n    env:\n    \
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}\n    \
    - {name: OPEN, valueFrom: {configMapKeyRef: {name: open, key: a}}}\n  - name: plain\n    image: busybox:1.36\n    \
    command: [sleep, infinity]\n    env:\n    \
    - {name: OPEN, valueFrom: {configMapKeyRef: {name: open, key: a}}}\n";

/// The pod sees its Secret, both ways; `when` says when that was found not to be so.
fn secret_is_delivered(cluster: &Cluster, when: &str) {
    for command in [&["cat", "/v/password"][..], &["sh", "-c", "echo $PASSWORD"]] {
        let said = cluster.kubectl(&[&["exec", "keeper", "-c", "idle", "--"], command].concat());
        assert_eq!(said.trim(), PASSWORD, "{when}: {command:?}");
    }
}

/// Without a controller, a new agent starts a new container with the Secret, from what the last one kept.
fn secret_outlives_agent_and_container(cluster: &Cluster, pod: &Value) {
    let node = pod["spec"]["nodeName"].as_str().expect("a node");
    kill(cluster, node, "agent");
    let old = cluster.container(pod, "idle");
    cluster.docker_of(pod, &["kill", &old]);
    let uid = pod["metadata"]["uid"].as_str().expect("a uid");
    let said = eventually("the container runs again", || {
        let label = format!("label=warren.pod.uid={uid}");
        let ids = cluster
            .docker_of(pod, &["ps", "-q", "--no-trunc", "--filter", &label, "--filter", "name=_idle_"]);
        let new = ids.lines().find(|id| *id != old).ok_or("not yet")?.to_owned();
        let show = ["exec", &new, "sh", "-c", "echo $PASSWORD; cat /v/password"];
        let output = cluster.machines.try_docker(node, &show);
        if output.status.success() { Ok(text(&output)) } else { Err(text(&output)) }
    });
    assert_eq!(said.matches(PASSWORD).count(), 2, "{said}");
}

fn key_line(controller: &Controller<'_>) -> (String, String) {
    let file = fs::read_to_string(controller.data.join("keys/secrets.key")).expect("the key file");
    let line = file.lines().find(|line| !line.starts_with('#')).expect("a key");
    let (name, key) = line.split_once(' ').expect("a name and a key");
    (name.to_owned(), key.to_owned())
}

pub fn secrets_lie_on_no_disk_and_their_key_rotates(cluster: &Cluster) {
    prepare(cluster);
    let (controller, scratch) = (Controller::of(cluster), Scratch::new(cluster, "secrets"));
    cluster.apply(&SECRET_PODS.replace("PASSWORD}", &format!("{PASSWORD}}}")));
    let pod = ready_pod(cluster, "keeper");
    secret_is_delivered(cluster, "at first");
    let states: Vec<PathBuf> =
        cluster.members().iter().map(|member| cluster.machines.state(member)).collect();
    let backup = scratch.file("backup.tar");
    let clean = |when: &str| {
        controller.backup(&backup);
        let places: Vec<&Path> = states.iter().chain([&backup]).map(PathBuf::as_path).collect();
        let found = files_with(&[PASSWORD, PASSWORD_BASE64], &places);
        assert!(found.is_empty(), "{when}, the Secret lies readable in {found}");
        let control = files_with(&["found-by-the-same-grep"], &places);
        let node = pod["spec"]["nodeName"].as_str().expect("a node");
        for place in ["store.redb", "backup.tar", node] {
            assert!(control.contains(place), "this grep would not find a Secret in {place}: {control}");
        }
    };
    clean("at first");
    // Docker's own files are not ours: this is what the hint and the documentation say.
    let id = cluster.container(&pod, "idle");
    let environment = cluster.docker_of(&pod, &["inspect", "-f", "{{json .Config.Env}}", &id]);
    assert!(
        environment.contains(PASSWORD),
        "Docker no longer keeps environments: mend the hint and the docs"
    );

    let (old_name, old_key) = key_line(&controller);
    let mut rotate = Command::new(warren_binary());
    let rotate = rotate.args(["secrets", "rotate", "--kubeconfig"]).arg(cluster.kubeconfig());
    let rotated = rotate.output().expect("warren starts");
    assert!(rotated.status.success(), "{}", text(&rotated));
    let (new_name, new_key) = key_line(&controller);
    let said = text(&rotated);
    assert!(said.contains(&new_name) && said.contains("hint: pod default/keeper"), "{said}");
    assert!(new_name != old_name && new_key != old_key, "the key is the old one");
    let left = files_with(&[&format!("v1:{old_name}:"), &old_key], &[&controller.data]);
    assert!(left.is_empty(), "what the old key opens, or the key itself, lies in {left}");
    assert!(
        !files_with(&[&format!("v1:{new_name}:")], &[&controller.data]).is_empty(),
        "nothing is sealed anew"
    );
    clean("after the rotation");
    secret_is_delivered(cluster, "after the rotation");

    // Without its key, or with another, the controller does not start; with it, everything is there.
    let (key, away) = (controller.data.join("keys/secrets.key"), scratch.file("secrets.key"));
    controller.stop();
    secret_outlives_agent_and_container(cluster, &pod);
    fs::copy(&key, &away).expect("copied");
    fs::remove_file(&key).expect("removed");
    controller.refuses_to_start(&["keys/secrets.key", "it is missing", "warren restore FILE"]);
    assert!(!key.exists(), "a new key took the place of the lost one");
    let wrong = fs::read_to_string(&away).expect("text").replace(&new_name, "0badc0de");
    fs::write(&key, wrong).expect("written");
    controller.refuses_to_start(&["sealed by the key", &new_name, "0badc0de", "Put back the key file"]);
    let wrong = fs::read_to_string(&away).expect("text").replace(&new_key, &old_key);
    fs::write(&key, wrong).expect("written");
    controller.refuses_to_start(&["secrets.key", "warren restore FILE"]);
    fs::copy(&away, &key).expect("put back");
    controller.start();
    let data = &cluster.get(&["secret", "db"])["data"]["password"];
    assert_eq!(data, PASSWORD_BASE64, "the Secret is another");
    secret_is_delivered(cluster, "after the restart");
    cluster.kubectl(&["delete", "pod/keeper", "secret/db", "configmap/open"]);
}
