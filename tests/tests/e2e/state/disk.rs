//! A disk without space.

use std::{collections::BTreeSet, path::PathBuf};

use warren_tests::{cluster::Cluster, eventually, load::Load, text};

use super::{Controller, Facts, Scratch, idle_pod, names, ready_pod};
use crate::{traffic::prepare, usage::gateway};

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n")
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
        let output = controller.cluster.machines.shell(&controller.member, &line);
        assert!(output.status.success(), "{}", text(&output));
        let disk = Self { controller, saved };
        controller.start();
        disk
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let Controller { cluster, member, data } = self.controller;
        let (data, saved) = (data.display(), self.saved.display());
        let line = format!(
            "rm -rf {saved}; rm -f {data}/ballast; cp -a {data} {saved}; umount {data} || umount -l {data}; \
             find {data} -mindepth 1 -delete; cp -a {saved}/. {data}"
        );
        cluster.machines.halt(member, "TERM");
        let output = cluster.machines.shell(member, &line);
        if !output.status.success() {
            eprintln!("the controller's data directory could not be put back: {}", text(&output));
        }
        cluster.machines.resume(member);
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
    let process = || cluster.machines.processes(&controller.member);
    let started = process();
    let load = Load::start(gateway(cluster), "/", 6);
    load.more(100);

    let ballast = controller.data.join("ballast").display().to_string();
    let on_disk = |line: &str| cluster.machines.shell(&controller.member, line);
    let filled = text(&on_disk(&format!("dd if=/dev/zero bs=64k status=none of={ballast}")));
    assert!(filled.contains("No space left"), "{filled}");
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
    assert!(on_disk(&format!("rm {ballast}")).status.success(), "{ballast} cannot be removed");
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
    assert_eq!(process(), started, "the controller was restarted");

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
