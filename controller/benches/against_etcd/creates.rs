//! Creates per second with 64 clients under way, and the CPU time that one costs the server.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    peer::{self, Etcd, cpu_microseconds, median},
    warren::{self, Warren},
};

const CLIENTS: usize = 64;
const CONNECTIONS: usize = 8;
const ROUNDS: usize = 4;
const DURATION: Duration = Duration::from_secs(2);

/// What is created: a kind, its path, and an object of it.
struct Case {
    what: &'static str,
    path: &'static str,
    object: fn(&str) -> Value,
}

const CASES: [Case; 2] = [
    Case { what: "ConfigMaps of 1 kB", path: "/api/v1/namespaces/default/configmaps", object: config_map },
    Case { what: "Pods", path: "/api/v1/namespaces/default/pods", object: pod },
];

fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"text": "x".repeat(900)},
    })
}

/// For a scheduler that is not there: no planner looks for a place for it.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "bench", "tier": "web"}},
        "spec": {
            "schedulerName": "none",
            "containers": [{
                "name": "main", "image": "nginx:1",
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "ports": [{"containerPort": 80, "name": "http"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

/// No two objects have the same name.
static NEXT: AtomicUsize = AtomicUsize::new(0);

fn name() -> String {
    format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Per second, and microseconds of the server's CPU for one.
type Figures = (f64, f64);

pub(crate) async fn compare() -> anyhow::Result<()> {
    let quick = peer::is_quick();
    let (rounds, duration) = if quick { (1, Duration::from_millis(200)) } else { (ROUNDS, DURATION) };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let etcd = Etcd::start(directory.path())?;
    let warren = Warren::start(&directory.path().join("warren"))?;
    let mut theirs = etcd.clients(CONNECTIONS).await?;
    let mut ours = warren.clients(CONNECTIONS).await?;
    for case in &CASES {
        let mut figures: [Vec<Figures>; 2] = Default::default();
        for round in 0..=rounds {
            for turn in 0..2 {
                let contender = (round + turn) % 2;
                let measured = match contender {
                    0 => measure_ours(&warren, &ours, case, duration).await?,
                    _ => measure_theirs(&etcd, &theirs, case, duration).await?,
                };
                // The first round warms up.
                if round > 0 {
                    figures[contender].push(measured);
                }
                // Every turn begins with an empty collection.
                ours[0]
                    .send(Method::DELETE, &format!("{}?gracePeriodSeconds=0", case.path), Bytes::new())
                    .await?;
                theirs[0].remove("/registry/").await?;
            }
        }
        let [ours, theirs] = figures.map(|figures| {
            let (rates, costs): (Vec<f64>, Vec<f64>) = figures.into_iter().unzip();
            (median(&rates), median(&costs))
        });
        println!(
            "{} creates, {CLIENTS} clients: warren {:.0}/s, etcd's puts {:.0}/s, ratio {:.2}; server CPU per create: warren \
             {:.0} us, etcd {:.0}, ratio {:.2}",
            case.what,
            ours.0,
            theirs.0,
            ours.0 / theirs.0,
            ours.1,
            theirs.1,
            ours.1 / theirs.1
        );
    }
    Ok(())
}

async fn measure_ours(
    warren: &Warren,
    clients: &[warren::Client],
    case: &Case,
    duration: Duration,
) -> anyhow::Result<Figures> {
    let (path, object) = (case.path, case.object);
    measure(warren.process.0.id(), duration, |index| {
        let client = clients[index % clients.len()].clone();
        move || {
            let mut client = client.clone();
            async move {
                let body = object(&name()).to_string();
                client.send(Method::POST, path, body.into()).await.map(drop)
            }
        }
    })
    .await
}

async fn measure_theirs(
    etcd: &Etcd,
    clients: &[peer::Client],
    case: &Case,
    duration: Duration,
) -> anyhow::Result<Figures> {
    let object = case.object;
    measure(etcd.process.0.id(), duration, |index| {
        let client = clients[index % clients.len()].clone();
        move || {
            let mut client = client.clone();
            async move {
                let name = name();
                client.put(&format!("/registry/{name}"), object(&name).to_string().as_bytes()).await
            }
        }
    })
    .await
}

/// Each of the clients has one create under way, until the time is over.
async fn measure<C, F>(
    process: u32,
    duration: Duration,
    client: impl Fn(usize) -> C,
) -> anyhow::Result<Figures>
where
    C: Fn() -> F + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let before = cpu_microseconds(process)?;
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..CLIENTS {
        let create = client(index);
        tasks.spawn(async move {
            let mut count = 0_u64;
            while started.elapsed() < duration {
                create().await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut done = 0;
    while let Some(finished) = tasks.join_next().await {
        done += finished.context("a client panicked")??;
    }
    let done = done as f64;
    Ok((done / started.elapsed().as_secs_f64(), (cpu_microseconds(process)? - before) / done))
}
