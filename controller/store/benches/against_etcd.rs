//! Durable puts per second of the embedded store and of Debian's etcd on the same disk, in turns:
//! `cargo bench -p warren-store --bench against_etcd`.
//!
//! Needs etcd (package etcd-server). Both sync every write before they acknowledge it, and write values of 1 kB over
//! a few thousand keys. The store is a library in this process; etcd is asked over gRPC on loopback, as whoever uses
//! it must. The values for etcd are serialised beforehand, those for the store are not.

#![allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]

mod peer;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use peer::{Client, Etcd};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use warren_store::{EmbeddedStore, Key, Store, Transaction, Write};

const WRITERS: [usize; 3] = [1, 64, 256];
/// Keys of each writer.
const KEYS: usize = 32;
const ROUNDS: usize = 4;
const DURATION: Duration = Duration::from_secs(2);
/// Connections to etcd at most; its own benchmark has about ten clients on each.
const CONNECTIONS: usize = 16;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    peer::warn_if_slow();
    let (rounds, duration) =
        if peer::is_quick() { (1, Duration::from_millis(200)) } else { (ROUNDS, DURATION) };
    // On the disk of the build, not on a file system in memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let store = EmbeddedStore::open(&directory.path().join("warren"))?;
    let etcd = Etcd::start(directory.path())?;
    let clients = etcd.clients(CONNECTIONS).await?;
    for writers in WRITERS {
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..=rounds {
            for turn in 0..2 {
                let contender = (round + turn) % 2;
                let rate = match contender {
                    0 => ours(&store, writers, duration).await?,
                    _ => theirs(&clients, writers, duration).await?,
                };
                // The first round warms up.
                if round > 0 {
                    rates[contender].push(rate);
                }
            }
        }
        let [ours, theirs] = rates.map(|rates| peer::median(&rates));
        println!(
            "{writers} writers: warren {ours:.0} durable puts/s, etcd {theirs:.0}, ratio {:.2}",
            ours / theirs
        );
    }
    Ok(())
}

/// About 1 kB.
fn value(name: &str) -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x".repeat(900)}})
}

fn name(writer: usize, index: usize) -> String {
    format!("item-{writer}-{}", index % KEYS)
}

async fn ours(store: &Arc<EmbeddedStore>, writers: usize, duration: Duration) -> anyhow::Result<f64> {
    rate(writers, duration, |writer| {
        let store = Arc::clone(store);
        let values: Arc<Vec<Value>> = Arc::new((0..KEYS).map(|index| value(&name(writer, index))).collect());
        move |index| {
            let (store, values) = (Arc::clone(&store), Arc::clone(&values));
            async move {
                let key = Key::new("configmaps", "default", &name(writer, index));
                let write = Write::Put(key, values[index % KEYS].clone());
                store.commit(Transaction { preconditions: Vec::new(), writes: vec![write] }).await?;
                Ok(())
            }
        }
    })
    .await
}

async fn theirs(clients: &[Client], writers: usize, duration: Duration) -> anyhow::Result<f64> {
    rate(writers, duration, |writer| {
        let client = clients[writer % clients.len()].clone();
        let serialised = |index| value(&name(writer, index)).to_string().into_bytes();
        let values: Arc<Vec<Vec<u8>>> = Arc::new((0..KEYS).map(serialised).collect());
        move |index| {
            let (mut client, values) = (client.clone(), Arc::clone(&values));
            async move {
                let key = format!("/registry/configmaps/default/{}", name(writer, index));
                client.put(&key, &values[index % KEYS]).await
            }
        }
    })
    .await
}

/// Puts per second of several writers, each with one put under way; `writer` makes a writer's puts.
async fn rate<P, F>(writers: usize, duration: Duration, writer: impl Fn(usize) -> P) -> anyhow::Result<f64>
where
    P: Fn(usize) -> F + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..writers {
        let put = writer(index);
        tasks.spawn(async move {
            let mut count = 0;
            while started.elapsed() < duration {
                put(count).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut done = 0;
    while let Some(finished) = tasks.join_next().await {
        done += finished??;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
