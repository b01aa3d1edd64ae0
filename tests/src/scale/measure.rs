//! One size: a controller, so many nodes, their pods, and what changes cost then.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    controller::{Client, Controller},
    fleet::Fleet,
    settings::Settings,
};

/// After a stage, so that what it caused is over.
const REST: Duration = Duration::from_secs(3);
/// A controller counts as settled when a second costs no more than this much beyond the last one.
const CALM: f64 = 1.1;
const CLIENTS: usize = 8;
const REQUESTS_PER_CLIENT: usize = 8;
const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Endpoints of the watched service.
const ENDPOINTS: usize = 10;

/// What changes of one kind cost the controller, each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Processor time, in milliseconds, beyond what passes by itself.
    pub(crate) cpu_ms: f64,
    pub(crate) messages: f64,
    pub(crate) bytes: f64,
}

/// All figures of one size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) nodes: usize,
    pub(crate) pods: usize,
    /// Joining all nodes, in seconds.
    pub(crate) join_s: f64,
    /// From opening all feeds until each had its snapshot, in seconds.
    pub(crate) open_s: f64,
    pub(crate) node_bytes: f64,
    pub(crate) pod_bytes: f64,
    /// Processor time per node and second while nothing happens but heartbeats, in microseconds.
    pub(crate) beat_us: f64,
    /// The same with the reports of usage and tunnels.
    pub(crate) report_us: f64,
    /// Pods created, bound and told to their agents, per second.
    pub(crate) bindings: f64,
    /// Processor time per pod from its creation until it runs, in milliseconds.
    pub(crate) start_ms: f64,
    pub(crate) config_map: Cost,
    pub(crate) pod_status: Cost,
    pub(crate) endpoint: Cost,
    /// From the request of a change of an endpoint until the last node acknowledges it, in milliseconds.
    pub(crate) fan_out_median_ms: f64,
    pub(crate) fan_out_worst_ms: f64,
    /// Streams that broke, and reports that were refused.
    pub(crate) troubles: u64,
    /// Where the measurement ended before its end, and why.
    pub(crate) ended: Option<String>,
}

struct Run<'a> {
    settings: &'a Settings,
    controller: &'a Controller,
    client: Client,
    fleet: Fleet,
    figures: Figures,
}

/// Measures one size. What cannot be reached ends the measurement, and is said in the figures.
pub(crate) async fn measure(settings: &Settings, nodes: usize) -> anyhow::Result<Figures> {
    let controller = Controller::start(settings).await?;
    sleep(REST).await;
    let empty = controller.memory()?;
    let started = Instant::now();
    say(&format!("{nodes} nodes join"));
    let fleet = Fleet::join(&controller, settings, nodes).await?;
    let join_s = started.elapsed().as_secs_f64();
    let figures = Figures { nodes, pods: nodes * settings.pods, join_s, ..Figures::default() };
    let client = controller.client().await?;
    let mut run = Run { settings, controller: &controller, client, fleet, figures };
    if let Err(error) = run.stages(empty).await {
        say(&format!("{nodes} nodes: ended early: {error:#}"));
        run.figures.ended = Some(format!("{error:#}"));
    }
    run.figures.troubles = run.fleet.troubles();
    let Run { figures, fleet, .. } = run;
    drop(fleet);
    controller.stop()?;
    Ok(figures)
}

fn say(what: &str) {
    println!("  {what}");
}

impl Run<'_> {
    async fn stages(&mut self, empty: u64) -> anyhow::Result<()> {
        self.nodes(empty).await?;
        self.pods().await?;
        let idle = self.idle().await?;
        let changes = self.settings.changes;
        say(&format!("{changes} changes of each kind"));
        self.config_maps(idle).await?;
        self.pod_statuses(idle).await?;
        self.endpoints(idle).await?;
        self.reports().await
    }

    /// Processor time of the controller per second, over the watch.
    async fn idle(&self) -> anyhow::Result<f64> {
        let (before, started) = (self.controller.cpu()?, Instant::now());
        sleep(self.settings.watch).await;
        Ok((self.controller.cpu()? - before).as_secs_f64() / started.elapsed().as_secs_f64())
    }

    /// Waits until a second costs no more than the one before.
    async fn settled(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut last = f64::MAX;
        loop {
            let before = self.controller.cpu()?;
            sleep(REST).await;
            let now = (self.controller.cpu()? - before).as_secs_f64();
            if now >= last / CALM && now <= last * CALM || now < 0.05 {
                return Ok(());
            }
            last = now;
            anyhow::ensure!(
                started.elapsed() < self.settings.patience,
                "the controller does not come to rest"
            );
        }
    }

    async fn nodes(&mut self, empty: u64) -> anyhow::Result<()> {
        let (nodes, patience) = (self.figures.nodes, self.settings.patience);
        say("their feeds open");
        let started = Instant::now();
        self.fleet.work(patience).await?;
        self.figures.open_s = started.elapsed().as_secs_f64();
        loop {
            let ready = self.client.ready_nodes().await?;
            if ready == nodes {
                break;
            }
            anyhow::ensure!(started.elapsed() < patience, "{ready} of {nodes} nodes are ready");
            sleep(REST).await;
        }
        self.settled().await?;
        self.figures.node_bytes = (self.controller.memory()?.saturating_sub(empty)) as f64 / nodes as f64;
        say("nothing but heartbeats");
        let beats = self.fleet.beats();
        let (started, idle) = (Instant::now(), self.idle().await?);
        self.figures.beat_us = idle * 1e6 / nodes as f64;
        let each_second = (self.fleet.beats() - beats) as f64 / started.elapsed().as_secs_f64();
        // Two processes of each node beat; fewer answers mean that somebody was too slow for the rest to mean anything.
        let enough = 2.0 * nodes as f64 * 0.8;
        anyhow::ensure!(each_second >= enough, "{each_second:.0} heartbeats a second of {}", 2 * nodes);
        Ok(())
    }

    async fn pods(&mut self) -> anyhow::Result<()> {
        let pods = self.figures.pods;
        say(&format!("{pods} pods start"));
        self.client.post("/api/v1/namespaces/default/services", &service()).await?;
        self.client.post(SLICE, &slice(None)).await?;
        let before = (self.controller.cpu()?, self.controller.memory()?);
        let started = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(self.controller.client().await?);
        }
        stream::iter(0..pods)
            .map(|number| {
                let mut client = clients[number % CLIENTS].clone();
                async move { client.post(PODS, &pod(number)).await.map(drop) }
            })
            .buffer_unordered(CLIENTS * REQUESTS_PER_CLIENT)
            .try_collect::<()>()
            .await?;
        self.fleet.all_run(pods, self.settings.patience).await?;
        let took = self.fleet.last_bound().duration_since(started);
        self.figures.bindings = pods as f64 / took.as_secs_f64();
        self.figures.start_ms = (self.controller.cpu()? - before.0).as_secs_f64() * 1e3 / pods as f64;
        self.settled().await?;
        self.figures.pod_bytes = self.controller.memory()?.saturating_sub(before.1) as f64 / pods as f64;
        Ok(())
    }

    /// Makes changes at their pace; what each costs beyond the time that passes.
    async fn cost<F>(
        &self,
        idle: f64,
        count: usize,
        mut change: impl FnMut(usize) -> F,
    ) -> anyhow::Result<Cost>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        sleep(REST).await;
        let (cpu, sent, started) = (self.controller.cpu()?, self.fleet.sent(), Instant::now());
        let mut pace = tokio::time::interval(self.settings.pace);
        for number in 0..count {
            pace.tick().await;
            change(number).await?;
        }
        // What the last ones caused is still under way.
        sleep(REST).await;
        let by_itself = idle * started.elapsed().as_secs_f64();
        let (used, now) = ((self.controller.cpu()? - cpu).as_secs_f64(), self.fleet.sent());
        let each = |total: u64| total as f64 / count as f64;
        Ok(Cost {
            cpu_ms: (used - by_itself) * 1e3 / count as f64,
            messages: each(now.messages - sent.messages),
            bytes: each(now.bytes - sent.bytes),
        })
    }

    async fn config_maps(&mut self, idle: f64) -> anyhow::Result<()> {
        let client = &self.client;
        let create = |number| {
            let (mut client, map) = (client.clone(), config_map(number));
            async move { client.post(CONFIG_MAPS, &map).await.map(drop) }
        };
        self.figures.config_map = self.cost(idle, self.settings.changes, create).await?;
        Ok(())
    }

    async fn pod_statuses(&mut self, idle: f64) -> anyhow::Result<()> {
        let members = &self.fleet.members;
        let restart = |number: usize| {
            let member = Arc::clone(&members[number % members.len()]);
            async move {
                anyhow::ensure!(member.restart_a_pod().await?, "a node has no pod");
                Ok(())
            }
        };
        self.figures.pod_status = self.cost(idle, self.settings.changes, restart).await?;
        Ok(())
    }

    /// Each change is awaited everywhere before the next.
    async fn endpoints(&mut self, idle: f64) -> anyhow::Result<()> {
        let (fleet, client, patience) = (&self.fleet, &self.client, self.settings.patience);
        let times = std::sync::Mutex::new(Vec::new());
        let toggle = |number: usize| {
            let (mut client, times) = (client.clone(), &times);
            async move {
                fleet.await_all();
                let started = Instant::now();
                client.put(&format!("{SLICE}/watched"), &slice(Some(number))).await?;
                let applied = fleet.all_applied(patience).await?.duration_since(started);
                times
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .push(applied.as_secs_f64() * 1e3);
                Ok(())
            }
        };
        let cost = self.cost(idle, self.settings.changes, toggle).await?;
        let mut times = times.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        times.sort_by(f64::total_cmp);
        self.figures.fan_out_median_ms = times.get(times.len() / 2).copied().unwrap_or_default();
        self.figures.fan_out_worst_ms = times.last().copied().unwrap_or_default();
        self.figures.endpoint = cost;
        Ok(())
    }

    /// Last, as a controller that is short of time for them says little about the rest.
    async fn reports(&mut self) -> anyhow::Result<()> {
        say("usage and tunnels are reported");
        self.fleet.report_regularly(true);
        // The first ones come within one period.
        sleep(Duration::from_secs(10)).await;
        let idle = self.idle().await;
        self.fleet.report_regularly(false);
        self.figures.report_us = idle? * 1e6 / self.figures.nodes as f64;
        Ok(())
    }
}

fn config_map(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("change-{number}")},
        "data": {"text": "x".repeat(900)},
    })
}

fn pod(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "labels": {"app": "scale"}},
        "spec": {"containers": [{
            "name": "main", "image": "nginx:1",
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "ports": [{"containerPort": 80, "name": "http"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        }]},
    })
}

/// One whose endpoints nobody but us writes.
fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "watched"},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    })
}

/// The service's endpoints; with each change another one is not ready.
fn slice(change: Option<usize>) -> Value {
    let endpoint = |number: usize| {
        let ready = change.is_none_or(|change| change % ENDPOINTS != number);
        json!({"addresses": [format!("198.19.0.{}", number + 1)], "conditions": {"ready": ready}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "watched", "labels": {"kubernetes.io/service-name": "watched"}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
    })
}
