//! Waits until the cluster is as it should be, and says early and precisely when it will not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bollard::query_parameters::InspectContainerOptions;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    access::{self, Api},
    containers::{Member, Role},
    up::Up,
};
use crate::output;

const API_TIMEOUT: Duration = Duration::from_secs(60);
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
/// Containers are looked at less often than the API.
const CONTAINER_POLL: Duration = Duration::from_secs(1);
/// How much of a failed member's log is shown.
const LOG_LINES: usize = 15;

/// Waits until the controller answers as ready.
pub(crate) async fn for_api(up: &Up) -> anyhow::Result<Api> {
    let deadline = Instant::now() + API_TIMEOUT;
    let controller = up.layout.cluster.controller();
    let mut watch = ContainerWatch::default();
    loop {
        let obstacle = match api_once(up).await {
            Ok(api) => return Ok(api),
            Err(obstacle) => obstacle,
        };
        watch.check(up, [controller.as_str()]).await?;
        if Instant::now() > deadline {
            return Err(obstacle.context(format!(
                "the controller is not ready after {} s: see docker logs {controller}",
                API_TIMEOUT.as_secs()
            )));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn api_once(up: &Up) -> anyhow::Result<Api> {
    let written = access::administrator_file(&up.engine, &up.layout.cluster).await?;
    let written = written.context("the administrator's kubeconfig is not written yet")?;
    let text = access::localized(&written, &up.layout.cluster, up.layout.ports.api)?;
    let api = Api::from_kubeconfig(&text).await?;
    api.text("/readyz").await.context("the API does not answer as ready")?;
    Ok(api)
}

/// Waits until all nodes are Ready, and the gateway is connected and answers. A member that had to be
/// waited for is reported as `done`.
pub(crate) async fn for_members(up: &Up, api: &Api, members: &[Member], done: &str) -> anyhow::Result<()> {
    let members: Vec<&Member> = members.iter().filter(|member| member.role != Role::Controller).collect();
    let deadline = Instant::now() + MEMBERS_TIMEOUT;
    let mut pending: BTreeSet<&str> = BTreeSet::new();
    let mut watch = ContainerWatch::default();
    loop {
        let waiting = obstacles(up, api, &members).await;
        for name in pending.iter().filter(|name| !waiting.contains_key(*name)) {
            up.progress.done(format_args!("{name} {done}"));
        }
        pending = waiting.keys().copied().collect();
        if waiting.is_empty() {
            return Ok(());
        }
        up.progress.now(format_args!(
            "{} of {} members ready; waiting for {}",
            members.len() - waiting.len(),
            members.len(),
            pending.iter().copied().collect::<Vec<_>>().join(", ")
        ));
        watch.check(up, pending.iter().copied()).await?;
        if Instant::now() > deadline {
            let all: Vec<String> = waiting.iter().map(|(name, why)| format!("{name} ({why})")).collect();
            bail!(
                "not ready after {} s: {}: see docker logs {}",
                MEMBERS_TIMEOUT.as_secs(),
                all.join(", "),
                pending.first().copied().unwrap_or_default()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The members that are not ready, each with the reason.
async fn obstacles<'a>(up: &Up, api: &Api, members: &[&'a Member]) -> BTreeMap<&'a str, String> {
    let asked = async {
        let nodes = api.get::<serde_json::Value>("/api/v1/nodes").await?;
        let overlay = api.get::<serde_json::Value>("/warren/v1/overlay").await?;
        anyhow::Ok((nodes, overlay))
    };
    let (nodes, overlay) = match asked.await {
        Ok(answers) => answers,
        Err(error) => {
            let why = output::chain(&error.context("the API does not answer"));
            return members.iter().map(|member| (member.name.as_str(), why.clone())).collect();
        }
    };
    let mut waiting = BTreeMap::new();
    for member in members {
        let obstacle = match disconnected(&overlay, &member.name) {
            Some(why) => Some(why),
            None if member.role == Role::Node => not_ready(&nodes, &member.name),
            None => gateway_is_silent(up.layout.ports.http).await,
        };
        waiting.extend(obstacle.map(|why| (member.name.as_str(), why)));
    }
    waiting
}

/// Why a node is not Ready, if so.
fn not_ready(nodes: &serde_json::Value, name: &str) -> Option<String> {
    let items = nodes["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(node) = items.iter().find(|node| node["metadata"]["name"] == name) else {
        return Some("has not joined".to_owned());
    };
    let conditions = node["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(condition) if condition["status"] == "True" => None,
        Some(condition) => Some(condition["message"].as_str().unwrap_or("NotReady").to_owned()),
        None => Some("has not reported yet".to_owned()),
    }
}

/// Which of a member's daemons is not connected to the controller, if any. A node that was just
/// restarted counts as Ready for a while longer; its streams tell the truth at once.
fn disconnected(overlay: &serde_json::Value, name: &str) -> Option<String> {
    let members = overlay["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(member) = members.iter().find(|member| member["name"] == name) else {
        return Some("has not joined".to_owned());
    };
    let processes = member["processes"].as_object();
    let silent =
        processes.iter().flat_map(|processes| processes.iter()).find(|(_, state)| state["connected"] != true);
    match silent {
        Some((process, _)) => Some(format!("its {process} is not connected")),
        None if processes.is_none_or(serde_json::Map::is_empty) => {
            Some("none of its daemons is connected".to_owned())
        }
        None => None,
    }
}

/// Why the gateway's address does not answer HTTP, if so.
async fn gateway_is_silent(port: u16) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: warren.invalid\r\nConnection: close\r\n\r\n").await?;
        let mut start = [0; 5];
        stream.read_exact(&mut start).await?;
        std::io::Result::Ok(start == *b"HTTP/")
    };
    match tokio::time::timeout(Duration::from_secs(2), ask).await {
        Ok(Ok(true)) => None,
        _ => Some(format!("does not answer on 127.0.0.1:{port}")),
    }
}

/// Notices when a container that is waited for does not stay up.
#[derive(Debug, Default)]
struct ContainerWatch {
    last: Option<Instant>,
}

impl ContainerWatch {
    async fn check(&mut self, up: &Up, names: impl IntoIterator<Item = &str>) -> anyhow::Result<()> {
        if self.last.is_some_and(|last| last.elapsed() < CONTAINER_POLL) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        for name in names {
            let inspected = up.engine.docker.inspect_container(name, None::<InspectContainerOptions>).await;
            let inspected = inspected.with_context(|| format!("cannot look at the container {name}"))?;
            let state = inspected.state.unwrap_or_default();
            if state.running == Some(true) && state.restarting != Some(true) {
                continue;
            }
            let log = up.engine.last_lines(name, LOG_LINES).await;
            let last_error = log.lines().rev().find(|line| line.starts_with("error: ")).unwrap_or_default();
            up.progress.done(log.trim_end());
            bail!(
                "the container {name} does not stay up (exit code {}): {}",
                state.exit_code.unwrap_or_default(),
                last_error.strip_prefix("error: ").unwrap_or("its last lines are above")
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_ready_when_its_condition_says_so() {
        let nodes = |status: &str| {
            json!({"items": [{"metadata": {"name": "n"}, "status": {"conditions": [
                {"type": "Ready", "status": status, "message": "no network"}]}}]})
        };
        assert_eq!(not_ready(&nodes("True"), "n"), None);
        assert_eq!(not_ready(&nodes("False"), "n").as_deref(), Some("no network"));
        assert_eq!(not_ready(&nodes("True"), "other").as_deref(), Some("has not joined"));
        assert_eq!(not_ready(&json!({}), "n").as_deref(), Some("has not joined"));
    }

    #[test]
    fn a_member_is_connected_when_all_its_daemons_are() {
        let overlay =
            |processes: serde_json::Value| json!({"members": [{"name": "n", "processes": processes}]});
        let both = json!({"agent": {"connected": true}, "netd": {"connected": true}});
        assert_eq!(disconnected(&overlay(both), "n"), None);
        let one = json!({"agent": {"connected": true}, "netd": {"connected": false}});
        assert_eq!(disconnected(&overlay(one), "n").as_deref(), Some("its netd is not connected"));
        assert!(disconnected(&overlay(json!({})), "n").is_some());
        assert!(disconnected(&json!({}), "n").is_some());
    }
}
