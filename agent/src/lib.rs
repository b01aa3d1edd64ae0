//! The agent: pods on Docker.
//!
//! It follows the controller's feed, compares it with what the container engine holds ([`plan`], pure), and starts
//! what is missing ([`driver`]). It knows neither Kubernetes nor netlink: instructions arrive fully resolved, and
//! netd plugs pods into the overlay. What it must remember lies in the labels of its containers and in small files,
//! so that it can be restarted at any time without a pod noticing.

mod clock;
pub mod driver;
pub mod netd;
mod node;
pub mod report;
pub mod runtime;
pub mod streams;
pub mod tokens;
mod usage;
pub mod volumes;

pub use warren_agent_plan as plan;

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use warren_proto::{ATTACH_SOCKET, control::Consumer};
use warren_runtime::{
    CancellationToken, connection::Controller, feed::Feed, heartbeat, identity::Identity, tasks::Bound,
    tasks::TaskSet,
};

use driver::{Driver, Parts};
use netd::NetdLinks;
use runtime::{Scope, docker::DockerEngine, spec::Surroundings};
use tokens::ControllerIssuer;
use volumes::Volumes;

/// What the agent must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's state directory; the same path inside and outside a node container.
    pub state_dir: PathBuf,
    /// HOST:PORT.
    pub controller: String,
    /// Path of the Docker engine's socket.
    pub docker_socket: String,
    /// Value of the label `warren.cluster`.
    pub cluster: String,
    /// The cgroup under which all pods live; none for the engine's default.
    pub cgroup_parent: Option<String>,
    /// Where `hostPath` volumes begin; none for the machine's root.
    pub host_path_prefix: Option<PathBuf>,
    /// The image of sandboxes, run with the command `pause`.
    pub sandbox_image: String,
    /// How many processes each container may have whose pod does not say; none for any number.
    pub pids_limit: Option<u32>,
}

/// Starts the agent. It runs until `stop` is cancelled.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<Bound> {
    let identity = Identity::load(&config.state_dir)?.with_context(|| {
        format!("no identity in {}: join the cluster first (warren join)", config.state_dir.display())
    })?;
    let node = identity.name.clone();
    let controller = Controller::new(&config.controller, identity, config.state_dir.clone());
    let feeds = config.state_dir.join("feeds");
    for dir in [&feeds, &config.state_dir.join("pods")] {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let mut tasks = TaskSet::new(stop.clone());
    let volumes = Volumes::new(
        &config.state_dir,
        &config.cluster,
        &node,
        config.host_path_prefix.clone(),
        &config.docker_socket,
    );
    let kept = feeds.join("agent.bin");
    let feed = Feed::follow_sealed(&mut tasks, controller.clone(), Consumer::Agent, kept, volumes.memory());
    let scope = Scope { cluster: config.cluster.clone(), node: node.clone() };
    let engine = Arc::new(DockerEngine::new(&config.docker_socket, scope.clone()));
    let parts = Parts {
        engine: Arc::clone(&engine),
        links: Arc::new(NetdLinks::new(config.state_dir.join(ATTACH_SOCKET))),
        issuer: ControllerIssuer::new(controller.clone()),
        volumes,
        around: Surroundings {
            scope,
            cgroup_parent: config.cgroup_parent.clone(),
            sandbox_image: config.sandbox_image.clone(),
            pids_limit: config.pids_limit,
        },
        recall_file: config.state_dir.join("agent.json"),
        past_dir: config.state_dir.join("past"),
    };
    let driver = Driver::start(&mut tasks, parts, feed);
    let outbox = Arc::clone(driver.outbox());
    tasks.spawn("reports", report::run(outbox, controller.clone(), stop.clone()));
    let inventory = Arc::clone(driver.inventory());
    tasks.spawn("usage", usage::run(Arc::clone(&inventory), controller.clone(), stop.clone()));
    let report = node::run(engine, inventory, controller.clone(), config.state_dir, stop.clone());
    tasks.spawn("node report", report);
    tasks.spawn("sessions", streams::run(driver, controller.clone(), stop.clone()));
    heartbeat::start(controller, Consumer::Agent, stop);
    tracing::info!(node, cluster = config.cluster, "the agent runs");
    Ok(Bound { addresses: Vec::new(), tasks })
}
