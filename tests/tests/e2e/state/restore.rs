//! A store that is saved, lost or damaged, and given back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use warren_tests::{
    cluster::{Cluster, warren_binary},
    eventually,
    load::Load,
    text,
};

use super::{Controller, Facts, Scratch, idle_pod, names, ready_pod};
use crate::{
    traffic::{prepare, settled},
    usage::gateway,
};

/// Writes numbered objects, one after the other, while a backup is taken; the answer is how many were acknowledged
/// before it began.
fn backup_while_writing(cluster: &Cluster, controller: &Controller<'_>, file: &Path) -> usize {
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
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
        let output = controller.restore(&damaged, &["--replace"]);
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
    let occupied = text(&controller.restore(&file, &[]));
    assert!(occupied.contains("--replace"), "{occupied}");

    // Life goes on after the backup.
    cluster.apply(&idle_pod("newcomer"));
    let newcomer = ready_pod(cluster, "newcomer");
    let label = format!("label=warren.pod.uid={}", newcomer["metadata"]["uid"].as_str().expect("a uid"));
    cluster.kubectl(&["delete", "pod", "departed"]);
    let before = Facts::of(cluster);

    let load = Load::start(gateway(cluster), "/", 6);
    load.more(200);
    cluster.machines.halt(&controller.member, "KILL");
    fs::remove_dir_all(&controller.data).expect("the disk is lost");
    fs::create_dir(&controller.data).expect("a new disk is in its place");
    bad_restores_are_refused(&controller, &scratch, &file);
    assert!(!controller.data.join("store").exists(), "a refused backup leaves nothing");
    let output = controller.restore(&file, &[]);
    assert!(output.status.success(), "{}", text(&output));
    print!("{}", text(&output));
    controller.start();
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
        match cluster.docker_of(&newcomer, &["ps", "-aq", "--filter", &label]) {
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

fn restore_beside(controller: &Controller<'_>, file: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(warren_binary());
    command.arg("restore").arg(file).args(arguments).arg("--data-dir").arg(&controller.data);
    command.output().expect("warren starts")
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
    for (bytes, what, beside) in
        [(&flipped[..], "bits are flipped", false), (&whole[..whole.len() / 2], "half is cut off", true)]
    {
        println!("the store's file: {what}");
        controller.stop();
        fs::write(controller.store(), bytes).expect("written");
        controller.refuses_to_start(&["store.redb", "warren restore FILE"]);
        // As this cluster's administrator does it; and into the data directory, as where it is a plain process.
        let restore = |arguments: &[&str]| match beside {
            false => controller.restore(&file, arguments),
            true => restore_beside(&controller, &file, arguments),
        };
        let occupied = text(&restore(&[]));
        assert!(occupied.contains("--replace"), "{occupied}");
        let output = restore(&["--replace"]);
        assert!(output.status.success(), "{}", text(&output));
        assert!(!beside || text(&output).contains("systemctl restart"), "{}", text(&output));
        controller.start();
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
