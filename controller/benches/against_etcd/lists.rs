//! A list of 10,000 pods: how long until its last byte, and how much memory the server has at most meanwhile.

use std::{path::Path, time::Instant};

use anyhow::ensure;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use warren_store::{EmbeddedStore, Key, Store as _, Transaction};

use crate::{
    peer::{self, Etcd, cpu_microseconds, forget_peak, median, memory},
    warren::Warren,
};

const PODS: usize = 10_000;
const ROUNDS: usize = 7;
/// Pods of one transaction.
const BATCH: usize = 500;

/// Of one list: milliseconds, milliseconds of CPU, and MiB of memory at most and beyond what there was.
#[derive(Default)]
struct Figures {
    time: Vec<f64>,
    cpu: Vec<f64>,
    peak: Vec<f64>,
    more: Vec<f64>,
}

pub(crate) async fn compare() -> anyhow::Result<()> {
    let (pods, rounds) = if peer::is_quick() { (500, 1) } else { (PODS, ROUNDS) };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let data = directory.path().join("warren");
    fill_ours(&data, pods).await?;
    let warren = Warren::start(&data)?;
    let etcd = Etcd::start(directory.path())?;
    let mut theirs = etcd.clients(1).await?.remove(0);
    for index in 0..pods {
        theirs.put(&format!("/registry/pods/{index:05}"), pod(index).to_string().as_bytes()).await?;
    }
    let mut ours = warren.clients(1).await?.remove(0);
    let processes = [warren.process.0.id(), etcd.process.0.id()];
    let mut figures: [Figures; 2] = Default::default();
    let mut length = 0;
    for round in 0..=rounds {
        for turn in 0..2 {
            let contender = (round + turn) % 2;
            let process = processes[contender];
            forget_peak(process)?;
            let (cpu, before) = (cpu_microseconds(process)?, memory(process, "VmRSS")?);
            let started = Instant::now();
            match contender {
                0 => length = ours.send(Method::GET, "/api/v1/pods", Bytes::new()).await?,
                _ => ensure!(theirs.list("/registry/pods/").await?.len() == pods, "etcd lost pods"),
            }
            let time = started.elapsed().as_secs_f64() * 1_000.0;
            // The first round warms up.
            if round > 0 {
                let peak = memory(process, "VmHWM")?;
                let figures = &mut figures[contender];
                figures.time.push(time);
                figures.cpu.push((cpu_microseconds(process)? - cpu) / 1_000.0);
                figures.peak.push(peak);
                figures.more.push(peak - before);
            }
        }
    }
    let [ours, theirs] = figures;
    let megabytes = length as f64 / 1e6;
    println!(
        "list of {pods} pods ({megabytes:.1} MB): warren {:.0} ms, etcd {:.0}, ratio {:.2}; server CPU: warren {:.0} ms, etcd \
         {:.0}; memory at most: warren {:.0} MiB ({:.0} more than before), etcd {:.0} ({:.0} more)",
        median(&ours.time),
        median(&theirs.time),
        median(&ours.time) / median(&theirs.time),
        median(&ours.cpu),
        median(&theirs.cpu),
        median(&ours.peak),
        median(&ours.more),
        median(&theirs.peak),
        median(&theirs.more),
    );
    Ok(())
}

/// A store full of pods, made before the controller opens it.
async fn fill_ours(data: &Path, pods: usize) -> anyhow::Result<()> {
    let store = EmbeddedStore::open_with_keys(&data.join("store"), &data.join("keys"))?;
    let indices: Vec<usize> = (0..pods).collect();
    for batch in indices.chunks(BATCH) {
        let mut transaction = Transaction::new();
        for index in batch {
            let key = Key::new("pods", "default", &format!("pod-{index:05}"));
            transaction = transaction.create(key, pod(*index));
        }
        store.commit(transaction).await?;
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(())
}

/// A pod as a running cluster has it, but finished: no planner has anything to do about it.
fn pod(index: usize) -> Value {
    let name = format!("pod-{index:05}");
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("00000000-0000-4000-8000-{index:012}"),
            "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1, "generateName": "pod-",
            "labels": {"app": "bench", "tier": "web", "pod-template-hash": "5d69dcc56c"},
        },
        "spec": {
            "containers": [{
                "name": "main", "image": "nginx:1.27", "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "readinessProbe": {
                    "httpGet": {"path": "/", "port": "http", "scheme": "HTTP"},
                    "periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
                },
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "restartPolicy": "Never", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30, "securityContext": {}, "enableServiceLinks": true,
            "serviceAccountName": "default", "serviceAccount": "default", "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {
            "phase": "Succeeded", "conditions": conditions, "qosClass": "Burstable",
            "startTime": "2026-01-01T00:00:00Z",
            "containerStatuses": [{
                "name": "main", "image": "nginx:1.27", "imageID": format!("sha256:{index:064x}"),
                "containerID": format!("docker://{index:064x}"), "ready": false, "started": false, "restartCount": 0,
                "lastState": {}, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
            }],
        },
    })
}
