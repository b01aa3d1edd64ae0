//! warren-gateway: the one address of a cluster. A process of its own, with its own feed and its own
//! last-known-good routes; the controller decides its routes and never sits in the traffic's path.
//!
//! ```text
//!  feed ──► routes (pure table) ──► current (in force, barrier, acknowledge)
//!                                      │
//!  client ──► listener ──► proxy ──────┴─► balance ──► pool / upstream ──► pod
//!             (threads)    (headers, retries, hold)     (connections)
//!                │
//!                └─► resume: the supervisor holds what must outlive this process
//! ```

pub mod balance;
mod body;
mod certificate;
mod connection;
mod current;
mod endpoint;
mod headers;
mod listener;
mod metrics;
mod pool;
mod proxy;
mod resume;
pub mod routes;
#[cfg(test)]
mod routes_tests;
mod sockets;
mod upgrade;
mod upstream;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use warren_proto::control::{Consumer, feed_item::Item};
use warren_runtime::{
    connection::Controller,
    descriptors::Descriptors,
    feed::{Feed, State},
    heartbeat,
    identity::Identity,
    tasks::{Bound, TaskSet},
};

pub use crate::{
    certificate::server_config,
    current::Routes,
    endpoint::Endpoint,
    listener::{Listeners, Serving, serve, serve_with},
    resume::witness::NAME as WITNESS,
};

/// How long a backend may think before the client is told that it does not answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// How a gateway is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen for HTTP.
    pub http: SocketAddr,
    /// Where to listen for HTTPS, if at all.
    pub https: Option<SocketAddr>,
    /// Worker threads; 0 for one per core.
    pub threads: usize,
    /// The member's state directory.
    pub state_dir: PathBuf,
    /// The controller, HOST:PORT.
    pub controller: String,
    /// Sockets that an earlier process left with the supervisor, and the way to leave ours.
    pub descriptors: Descriptors,
}

/// Starts the gateway: it serves the last accepted routes from its first connection on, and follows the controller.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<Bound> {
    let state_dir = &config.state_dir;
    let identity = Identity::load(state_dir)?.with_context(|| {
        format!(
            "{} holds no identity: join this member first with `warren node --gateway --token ...`",
            state_dir.display()
        )
    })?;
    let https = match config.https {
        Some(address) => Some((address, server_config(state_dir)?)),
        None => None,
    };
    let routes = Routes::new();
    let controller = Controller::new(&config.controller, identity, state_dir.clone());
    let mut tasks = TaskSet::new(stop.clone());
    let feed = Feed::follow(
        &mut tasks,
        controller.clone(),
        Consumer::Gateway,
        state_dir.join("feeds").join("gateway.bin"),
    );
    // Clients may be waiting in the sockets already: they are not to meet a gateway without routes.
    if let Some(state) = feed.current() {
        apply(&state, &routes).await;
    }
    let listeners =
        Listeners { http: config.http, https, threads: config.threads, response_timeout: RESPONSE_TIMEOUT };
    let serving = serve_with(listeners, &config.descriptors, &routes, &stop)?;
    let addresses = serving.addresses.clone();
    heartbeat::start(controller, Consumer::Gateway, stop.clone());
    tasks.spawn("listeners", serving.wait());
    tasks.spawn("routes", follow(feed, routes, stop));
    Ok(Bound { addresses, tasks })
}

/// Puts each state of the feed in force, and acknowledges it only then.
pub async fn follow(feed: Feed, routes: Arc<Routes>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut states = feed.subscribe();
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(state) = state {
            apply(&state, &routes).await;
            feed.acknowledge(state.cursor.revision);
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = states.changed() => if changed.is_err() {
                // The follower ended; that is the end of the process, not of this task.
                stop.cancelled().await;
                return Ok(());
            },
        }
    }
}

async fn apply(state: &State, routes: &Routes) {
    let rules = state.items.iter().filter_map(|(key, item)| match item {
        Item::HttpRoute(rule) => Some((key.as_str(), rule)),
        _ => None,
    });
    routes.publish(state.cursor.revision, rules).await;
    tracing::debug!(revision = state.cursor.revision, "routes are in force");
}
