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

mod addresses;
pub mod balance;
mod basic;
mod body;
mod budget;
mod certificate;
mod connection;
mod current;
mod demand;
mod endpoint;
mod external;
mod forwarding;
mod headers;
mod listener;
mod memory;
mod metrics;
mod path;
mod policy;
mod pool;
mod proxy;
mod resume;
mod rewrite;
pub mod routes;
#[cfg(test)]
mod routes_tests;
mod sockets;
mod tally;
mod upgrade;
mod upstream;
mod wire;

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context as _;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use warren_proto::control::{Consumer, feed_item::Item};
use warren_runtime::{
    connection::Controller,
    descriptors::Descriptors,
    feed::{Feed, FeedState},
    heartbeat,
    identity::Identity,
    tasks::{Bound, TaskSet},
};

pub use crate::{
    addresses::Refused,
    budget::available_memory,
    certificate::Certificates,
    current::Routes,
    endpoint::Endpoint,
    external::Names,
    listener::{Listeners, Serving, serve, serve_with},
    proxy::Patience,
    resume::witness::NAME as WITNESS,
    routes::Rules,
};

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
    /// Whose word about the clients behind them is taken.
    pub trusted_proxies: Vec<IpNet>,
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
    let certificates = Certificates::load(state_dir)?;
    let https = match config.https {
        Some(address) => Some((address, certificates.server_config()?)),
        None => None,
    };
    let controller_addresses = config.controller.to_socket_addrs().map(Vec::from_iter).unwrap_or_default();
    // The overlay's interface may come later than this process.
    let routes = Routes::asking(move || Refused::new(own_addresses(), controller_addresses.clone()));
    let names = Names::system()?;
    let controller = Controller::new(&config.controller, identity, state_dir.clone());
    let mut tasks = TaskSet::new(stop.clone());
    let feed = Feed::follow_sealed(
        &mut tasks,
        controller.clone(),
        Consumer::Gateway,
        state_dir.join("feeds").join("gateway.bin"),
        memory::directory(state_dir).as_deref(),
    );
    let in_force = InForce { routes: routes.clone(), certificates, names };
    // Clients may be waiting in the sockets already: they are not to meet a gateway without routes.
    if let Some(state) = feed.current() {
        in_force.apply(&state).await;
    }
    let listeners = Listeners {
        http: config.http,
        https,
        threads: config.threads,
        patience: Patience::default(),
        trusted_proxies: config.trusted_proxies,
        memory: available_memory(),
    };
    let serving = serve_with(listeners, &config.descriptors, &routes, &stop)?;
    let addresses = serving.addresses.clone();
    tasks.spawn("demand", demand::run(Arc::clone(&routes), controller.clone(), stop.clone()));
    heartbeat::start(controller, Consumer::Gateway, stop.clone());
    tasks.spawn("listeners", serving.wait());
    tasks.spawn("routes", follow(feed, in_force, stop));
    Ok(Bound { addresses, tasks })
}

/// The addresses of this machine, as far as its interfaces tell.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let addresses = interfaces.filter_map(|interface| interface.address);
    addresses
        .filter_map(|address| {
            let four = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            four.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .collect()
}

/// What a state of the feed becomes.
pub struct InForce {
    /// The route table.
    pub routes: Arc<Routes>,
    /// What HTTPS clients are shown.
    pub certificates: Arc<Certificates>,
    /// What names outside of the cluster stand for.
    pub names: Names,
}

/// Puts each state of the feed in force, and acknowledges it only then.
pub async fn follow(feed: Feed, in_force: InForce, stop: CancellationToken) -> anyhow::Result<()> {
    let mut states = feed.subscribe();
    let mut names = in_force.names.changes();
    loop {
        let state = states.borrow_and_update().clone();
        if let Some(state) = state {
            in_force.apply(&state).await;
            feed.acknowledge(state.cursor.revision);
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = names.changed() => {}
            changed = states.changed() => if changed.is_err() {
                // The follower ended; that is the end of the process, not of this task.
                stop.cancelled().await;
                return Ok(());
            },
        }
    }
}

impl InForce {
    /// Certificates first: a route that redirects to HTTPS may need one.
    async fn apply(&self, state: &FeedState) {
        let certificates = state.items.iter().filter_map(|(key, item)| match item {
            Item::TlsCertificate(certificate) => Some((key.as_str(), certificate)),
            _ => None,
        });
        self.certificates.publish(certificates);
        let mut rules = Rules::default();
        for (key, item) in state.items.iter() {
            match item {
                Item::HttpRoute(rule) => rules.routes.push((key, rule)),
                Item::BasicAuthentication(users) => drop(rules.users.insert(key, users)),
                _ => {}
            }
        }
        let external = rules.routes.iter().filter_map(|(_, rule)| rule.external.as_ref());
        self.names.want(external.clone());
        rules.external = self.names.known(external);
        self.routes.publish(state.cursor.revision, rules).await;
        tracing::debug!(revision = state.cursor.revision, "routes are in force");
    }
}
