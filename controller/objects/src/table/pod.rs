//! The table of pods.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    human,
    json::{at, get, has, int, items, text, truth},
};

/// What the containers' statuses come to.
pub(crate) struct Summary {
    pub(crate) reason: String,
    pub(crate) ready: usize,
    pub(crate) restarts: i64,
    pub(crate) last_restart: Option<Timestamp>,
}

impl Summary {
    pub(crate) fn of(pod: &Value) -> Self {
        let status = get(pod, "status");
        let phase = text(status, "phase");
        let reason = if text(status, "reason").is_empty() { phase } else { text(status, "reason") };
        let mut summary = Self { reason: reason.to_owned(), ready: 0, restarts: 0, last_restart: None };
        let initialising = summary.add_init_containers(pod);
        if !initialising || condition(status, "Initialized") {
            summary.restarts = 0;
            summary.add_containers(status);
        }
        if !get(get(pod, "metadata"), "deletionTimestamp").is_null() {
            if text(status, "reason") == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if phase != "Succeeded" && phase != "Failed" {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Whether an init container has not ended well yet; the first such one gives the reason.
    fn add_init_containers(&mut self, pod: &Value) -> bool {
        for (index, container) in items(pod, "status.initContainerStatuses").iter().enumerate() {
            self.count_restarts(container);
            let (ended, waiting) =
                (at(container, "state.terminated"), text(container, "state.waiting.reason"));
            if !ended.is_null() && int(ended, "exitCode").unwrap_or(0) == 0 {
                continue;
            }
            self.reason = if !ended.is_null() {
                format!("Init:{}", end_of(ended))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", items(pod, "spec.initContainers").len())
            };
            return true;
        }
        false
    }

    /// The containers, last to first: the first one's reason stands.
    fn add_containers(&mut self, status: &Value) {
        let mut running = false;
        for container in items(status, "containerStatuses").iter().rev() {
            self.count_restarts(container);
            let (ended, waiting) =
                (at(container, "state.terminated"), text(container, "state.waiting.reason"));
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if !ended.is_null() {
                self.reason = end_of(ended);
            } else if truth(container, "ready") && has(get(container, "state"), "running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            self.reason = if condition(status, "Ready") { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count_restarts(&mut self, container: &Value) {
        self.restarts = self.restarts.saturating_add(int(container, "restartCount").unwrap_or(0));
        let finished = human::timestamp(at(container, "lastState.terminated.finishedAt"));
        self.last_restart = self.last_restart.max(finished);
    }
}

/// How a container ended: its reason, or the signal or exit code.
fn end_of(terminated: &Value) -> String {
    let reason = text(terminated, "reason");
    match int(terminated, "signal").unwrap_or(0) {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", int(terminated, "exitCode").unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    }
}

pub(crate) fn condition(status: &Value, kind: &str) -> bool {
    items(status, "conditions")
        .iter()
        .any(|found| text(found, "type") == kind && text(found, "status") == "True")
}
