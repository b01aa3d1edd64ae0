//! The controller: store, planners, Kubernetes API and node-facing gRPC behind one TLS port.
//!
//! ```text
//!                    ┌─────────── one TLS port ───────────┐
//!  kubectl ────────► │ api ──► store ──► planners ─┐      │
//!  agents, netds ──► │ nodes ◄── watch ── store ◄──┘      │
//!                    └────────────────────────────────────┘
//! ```
//!
//! Every write to the store passes the gate (`warren-write`).
//!
//! This crate is the composition root: it wires the rooms together and decides nothing.

mod administrator;
mod api_service;
pub mod backup;
mod bootstrap;
mod connection_limit;
mod explanations;
mod guests;
mod networks;
mod operations;
mod patience;
mod planners;
mod refusals;
mod server;
mod signing_keys;
mod starts;
mod streams;
mod writes;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod gate_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod house;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod kinds_tests;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use warren_api::Api;
use warren_nodes::{CertificateAuthority, Nodes};
use warren_runtime::{
    CancellationToken,
    tasks::{Bound, TaskSet},
    tls,
};
use warren_store::{EmbeddedStore, Store};
use warren_tokens::Tokens;
use warren_vocabulary::ClusterConfig;
use warren_write::Gate;

pub use networks::WantedNetworks;
pub use warren_store::{Key, KeyError};
pub use warren_vocabulary::{Networks, dns_address, overlap};

use starts::{Part, Starts};
use writes::Writer;

/// How long clients of streams may take to read how their sessions ended.
const SEE_OFF: Duration = Duration::from_secs(3);

/// What a controller needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where state, keys and the administrator's kubeconfig are kept.
    pub data_dir: PathBuf,
    /// The one TLS port.
    pub listen: SocketAddr,
    /// Names and addresses by which clients and members reach it, beside `localhost` and `127.0.0.1`.
    pub sans: Vec<String>,
    /// The address by which pods reach the port; found when it is not given.
    pub advertise: Option<Ipv4Addr>,
    /// The cluster's networks, as far as they are asked for.
    pub networks: WantedNetworks,
    /// A backup to begin with; the data directory must then hold no state.
    pub restore: Option<PathBuf>,
    /// Objects that are set aside: kept, and neither planned for nor told to members.
    pub quarantine: Vec<Key>,
}

/// Starts a controller; it runs until `stop` is cancelled.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<Bound> {
    tls::install_provider();
    let directory = &config.data_dir;
    private_directory(directory)?;
    let (data, wanted) = (directory.clone(), config.restore.clone());
    tokio::task::spawn_blocking(move || backup::restore_if_wanted(&data, wanted.as_deref())).await??;
    let starts = Starts::begin(directory);
    let store = EmbeddedStore::open_with_keys(&directory.join("store"), &directory.join("keys"))?;
    let authority = CertificateAuthority::load_or_create(&directory.join("pki")).with_context(|| {
        format!("cannot use the certificate authority in {}", directory.join("pki").display())
    })?;
    starts.tell(&store.snapshot(), &command_line());
    let quarantined = quarantine(&config.quarantine, &*store);
    let mut cluster = ClusterConfig::of(networks::settle(&*store, config.networks).await?);
    let shared: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    cluster.ca_pem = authority.ca_pem().to_owned();
    let gate = Arc::new(Gate::new(&cluster));
    let writer = |name| Writer { store: Arc::clone(&shared), gate: Arc::clone(&gate), name };
    bootstrap::namespaces(&writer("bootstrap")).await?;
    bootstrap::ingress_class(&writer("bootstrap")).await?;
    bootstrap::priority_classes(&writer("bootstrap")).await?;
    bootstrap::service_network(&writer("bootstrap"), &cluster).await?;
    bootstrap::roles(&writer("bootstrap")).await?;

    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    administrator::write_kubeconfig(directory, &authority, address)?;

    let tokens = Tokens::new(&cluster.domain, signing_keys::load(&writer("signing-keys")).await?);
    let nodes = Nodes::new(
        Arc::clone(&shared),
        Arc::clone(&gate),
        Arc::clone(&authority),
        Arc::clone(&tokens),
        cluster.clone(),
    );
    nodes.prepare(quarantined.clone(), starts.watch(Part::Compiling));
    let connections = TaskTracker::new();
    let rooms = planners::Rooms {
        store: Arc::clone(&shared),
        gate: Arc::clone(&gate),
        nodes: Arc::clone(&nodes),
        starts: Arc::clone(&starts),
    };
    let planner = planners::make(rooms, cluster.clone(), quarantined)?;
    let api = warren_api::router(Api {
        store: Arc::clone(&shared),
        streams: Arc::new(streams::Tunnel::new(Arc::clone(&nodes))),
        observations: Arc::new(streams::Members::new(Arc::clone(&nodes))),
        places: Arc::new(explanations::Explanations::new(Arc::clone(&planner))),
        gate: Arc::clone(&gate),
        tokens: Arc::clone(&tokens),
        connections: connections.clone(),
    });
    let routes = server::Routes {
        http: operations::router(Arc::clone(&nodes))
            .merge(backup::router(Arc::clone(&store), directory.clone()))
            .merge(api),
        grpc: nodes.services().into_axum_router(),
        standing: {
            let nodes = Arc::clone(&nodes);
            Arc::new(move |peer| nodes.standing(peer))
        },
    };

    let mut tasks = TaskSet::new(stop.clone());
    let advertised = config.advertise.or_else(|| api_service::advertised(address));
    let mut sans = config.sans;
    sans.extend(api_service::names(&cluster));
    sans.extend(advertised.map(|address| address.to_string()));
    let certificates = server::Certificates::new(Arc::clone(&authority), sans)?;
    let reachable =
        api_service::keep(writer("api-service"), cluster.clone(), address, advertised, stop.clone());
    tasks.spawn("api service", reachable);
    let keeping = administrator::keep(directory.clone(), authority, address, stop.clone());
    tasks.spawn("administrator", keeping);
    tasks
        .spawn("signing keys", signing_keys::keep(writer("signing-keys"), Arc::clone(&tokens), stop.clone()));
    tasks.spawn("certificates", Arc::clone(&certificates).keep(stop.clone()));
    tasks.spawn(
        "server",
        server::serve(listener, certificates, routes, server::Limits::default(), stop.clone()),
    );
    tasks.spawn("nodes", Arc::clone(&nodes).run(stop.clone()));
    tasks.spawn("streams", see_off(connections, stop.clone()));
    tasks.spawn("start", finish(Arc::clone(&starts), Arc::clone(&nodes), stop.clone()));
    planners::start(&mut tasks, planner);
    tasks.spawn("store", close_at_the_end(store, stop));
    tracing::info!(%address, data = %directory.display(), "the controller runs");
    Ok(Bound { addresses: vec![("api", address)], tasks })
}

/// The objects that are set aside. One that does not exist (any more) is no reason not to start.
fn quarantine(keys: &[Key], store: &dyn Store) -> BTreeSet<Key> {
    let state = store.snapshot();
    for key in keys {
        if state.get(key).is_some() {
            tracing::warn!(%key, "an object is set aside: it is kept, and nothing is done for it until a start without --quarantine");
        } else {
            tracing::warn!(%key, "there is no such object to set aside");
        }
    }
    keys.iter().cloned().collect()
}

/// By which command this process was started.
fn command_line() -> String {
    std::env::args().collect::<Vec<_>>().join(" ")
}

/// Sees the start to its end, or to a stop before it.
async fn finish(starts: Arc<Starts>, nodes: Arc<Nodes>, stop: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        () = stop.cancelled() => {}
        () = nodes.compiled_once() => starts.finish(Part::Compiling),
    }
    stop.cancelled().await;
    starts.stop();
    Ok(())
}

fn private_directory(directory: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot create the data directory {}", directory.display()))
}

/// Clients of streams are told that their sessions end.
async fn see_off(connections: TaskTracker, stop: CancellationToken) -> anyhow::Result<()> {
    stop.cancelled().await;
    connections.close();
    if tokio::time::timeout(SEE_OFF, connections.wait()).await.is_err() {
        tracing::info!(
            connections = connections.len(),
            "clients of streams do not read their end; dropping them"
        );
    }
    Ok(())
}

/// Commits that are under way finish before the process ends.
async fn close_at_the_end(store: Arc<EmbeddedStore>, stop: CancellationToken) -> anyhow::Result<()> {
    stop.cancelled().await;
    tokio::task::spawn_blocking(move || store.close()).await?;
    Ok(())
}
