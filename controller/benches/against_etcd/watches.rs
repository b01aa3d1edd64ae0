//! One change, a thousand watchers: how long until the last of them has it, and the CPU time that one event costs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    peer::{self, Etcd, cpu_microseconds, median},
    warren::{self, Warren},
};

const WATCHERS: usize = 1_000;
const CONNECTIONS: usize = 20;
/// Changes in one turn, and turns of each contender.
const CHANGES: usize = 10;
const ROUNDS: usize = 4;
const PATH: &str = "/api/v1/namespaces/default/configmaps";

/// Longer than any change may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts what has arrived.
#[derive(Default)]
struct Arrivals {
    count: AtomicUsize,
    changed: Notify,
}

impl Arrivals {
    fn add(&self, events: usize, wanted_each: usize) {
        let before = self.count.fetch_add(events, Ordering::AcqRel);
        if (before + events) / wanted_each > before / wanted_each {
            self.changed.notify_one();
        }
    }

    /// Returns when so many have arrived in all.
    async fn reach(&self, wanted: usize) -> anyhow::Result<()> {
        let all = async {
            while self.count.load(Ordering::Acquire) < wanted {
                self.changed.notified().await;
            }
        };
        let count = || self.count.load(Ordering::Acquire);
        tokio::time::timeout(PATIENCE, all)
            .await
            .with_context(|| format!("{} of {wanted} events arrived within {PATIENCE:?}", count()))
    }
}

pub(crate) async fn compare() -> anyhow::Result<()> {
    let (watchers, rounds) = if peer::is_quick() { (100, 1) } else { (WATCHERS, ROUNDS) };
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let etcd = Etcd::start(directory.path())?;
    let warren = Warren::start(&directory.path().join("warren"))?;
    let (mut ours, our_arrivals) = watch_ours(&warren, watchers).await?;
    let (mut theirs, their_arrivals) = watch_theirs(&etcd, watchers).await?;
    let processes = [warren.process.0.id(), etcd.process.0.id()];
    let arrivals = [our_arrivals, their_arrivals];
    let mut times: [Vec<f64>; 2] = Default::default();
    let mut costs: [Vec<f64>; 2] = Default::default();
    let mut made = [0; 2];
    for round in 0..=rounds {
        for turn in 0..2 {
            let contender = (round + turn) % 2;
            let before = cpu_microseconds(processes[contender])?;
            for _ in 0..CHANGES {
                made[contender] += 1;
                let text = object(made[contender]);
                let started = Instant::now();
                match contender {
                    0 => drop(ours.send(Method::PUT, &format!("{PATH}/fan"), text.into()).await?),
                    _ => theirs.put("/registry/fan", text.as_bytes()).await?,
                }
                arrivals[contender].reach(made[contender] * watchers).await?;
                // The first round warms up.
                if round > 0 {
                    times[contender].push(started.elapsed().as_secs_f64() * 1_000.0);
                }
            }
            let spent = cpu_microseconds(processes[contender])? - before;
            if round > 0 {
                costs[contender].push(spent / (CHANGES * watchers) as f64);
            }
        }
    }
    let [ours, theirs] = times.map(|times| median(&times));
    let [our_cost, their_cost] = costs.map(|costs| median(&costs));
    println!(
        "one change to {watchers} watchers: warren {ours:.1} ms until the last has it, etcd {theirs:.1}, ratio {:.2}; server \
         CPU per event: warren {our_cost:.1} us, etcd {their_cost:.1}, ratio {:.2}",
        ours / theirs,
        our_cost / their_cost
    );
    Ok(())
}

/// About 1 kB, different each time.
fn object(number: usize) -> String {
    let data = json!({"number": number.to_string(), "text": "x".repeat(900)});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fan"}, "data": data}).to_string()
}

/// Watchers of one object; also a client that may change it.
async fn watch_ours(warren: &Warren, watchers: usize) -> anyhow::Result<(warren::Client, Arc<Arrivals>)> {
    let mut writer = warren.clients(1).await?.remove(0);
    let created = writer.json(Method::POST, PATH, object(0).into()).await?;
    let revision = created["metadata"]["resourceVersion"].as_str().context("a revision")?;
    let path = format!("{PATH}?watch=true&fieldSelector=metadata.name%3Dfan&resourceVersion={revision}");
    let clients = warren.clients(CONNECTIONS).await?;
    let arrivals = Arc::new(Arrivals::default());
    for index in 0..watchers {
        let mut client = clients[index % clients.len()].clone();
        let mut body = client.open(Method::GET, &path, Bytes::new()).await?.into_body();
        let arrivals = Arc::clone(&arrivals);
        tokio::spawn(async move {
            // Each event is a line.
            while let Some(Ok(frame)) = body.frame().await {
                let data = frame.into_data().unwrap_or_default();
                let lines = data.iter().filter(|byte| **byte == b'\n').count();
                arrivals.add(lines, watchers);
            }
        });
    }
    Ok((writer, arrivals))
}

async fn watch_theirs(etcd: &Etcd, watchers: usize) -> anyhow::Result<(peer::Client, Arc<Arrivals>)> {
    let writer = etcd.clients(1).await?.remove(0);
    let clients = etcd.clients(CONNECTIONS).await?;
    let arrivals = Arc::new(Arrivals::default());
    for index in 0..watchers {
        let mut events = clients[index % clients.len()].clone().watch("/registry/fan").await?;
        let arrivals = Arc::clone(&arrivals);
        tokio::spawn(async move {
            while let Ok(Some(response)) = events.message().await {
                arrivals.add(response.events.len(), watchers);
            }
        });
    }
    Ok((writer, arrivals))
}
