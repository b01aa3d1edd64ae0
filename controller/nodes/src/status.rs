//! A pod's status from what its agent reports. Pure.
//!
//! The old status is the base: what the agent does not know (addresses, quality of service, the scheduler's
//! condition, foreign conditions) is kept.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use warren_proto::control::{ContainerStatus, PodStatus, container_state::State};

use crate::json::{seconds, set_condition, text_at};

/// What the node adds to the agent's report.
pub(crate) struct Observation<'a> {
    pub(crate) report: &'a PodStatus,
    /// The node's address in the underlay.
    pub(crate) host_ip: Option<&'a str>,
    pub(crate) now: Timestamp,
}

/// A container of the pod and what was reported about it.
struct ReportedContainer<'a> {
    name: &'a str,
    image: &'a str,
    status: Option<&'a ContainerStatus>,
    /// The restart count that was shown before: it never goes down, though a node may lose its memory.
    restarts_before: u64,
}

impl ReportedContainer<'_> {
    fn state(&self) -> Option<&State> {
        self.status?.state.as_ref()?.state.as_ref()
    }
    fn last(&self) -> Option<&State> {
        self.status?.last_state.as_ref()?.state.as_ref()
    }
    fn restarts(&self) -> u64 {
        self.status.map_or(0, |status| status.restart_count.into()).max(self.restarts_before)
    }
    fn ready(&self) -> bool {
        self.status.is_some_and(|status| status.ready)
    }
    fn exit_code(&self) -> Option<i32> {
        match self.state() {
            Some(State::Terminated(terminated)) => Some(terminated.exit_code),
            _ => None,
        }
    }
}

/// The pod's containers, sidecars apart from those that run to completion first.
struct Containers<'a> {
    main: Vec<ReportedContainer<'a>>,
    init: Vec<ReportedContainer<'a>>,
    sidecars: Vec<ReportedContainer<'a>>,
}

impl<'a> Containers<'a> {
    fn of(pod: &'a Value, report: &'a PodStatus) -> Self {
        let list = |field: &str| pod.pointer(field).and_then(Value::as_array).into_iter().flatten();
        let seen = |container: &'a Value| {
            let name = text_at(container, "/name");
            let reported = report.containers.iter().chain(&report.init_containers);
            let mut before = list("/status/containerStatuses").chain(list("/status/initContainerStatuses"));
            let before = before.find(|before| text_at(before, "/name") == name);
            ReportedContainer {
                name,
                image: text_at(container, "/image"),
                status: reported.into_iter().find(|status| status.name == name),
                restarts_before: before
                    .and_then(|before| before.get("restartCount"))
                    .and_then(Value::as_u64)
                    .unwrap_or_default(),
            }
        };
        let (sidecars, init): (Vec<_>, Vec<_>) = list("/spec/initContainers")
            .partition(|container| text_at(container, "/restartPolicy") == "Always");
        Self {
            main: list("/spec/containers").map(seen).collect(),
            init: init.into_iter().map(seen).collect(),
            sidecars: sidecars.into_iter().map(seen).collect(),
        }
    }

    fn initialized(&self) -> bool {
        self.init.iter().all(|container| container.exit_code() == Some(0))
    }

    /// Names of containers that are not ready, in the pod's order.
    fn unready(&self) -> Vec<&str> {
        let all = self.sidecars.iter().chain(&self.main);
        all.filter(|container| !container.ready()).map(|container| container.name).collect()
    }
}

/// The new status of `pod`.
pub(crate) fn next(pod: &Value, observation: &Observation<'_>) -> Value {
    let report = observation.report;
    let containers = Containers::of(pod, report);
    let mut status = pod.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
    let phase = phase(pod, &containers);
    status.insert("phase".into(), phase.into());
    if let Some(address) = observation.host_ip {
        status.insert("hostIP".into(), address.into());
        status.insert("hostIPs".into(), json!([{"ip": address}]));
    }
    if !status.contains_key("startTime")
        && let Some(started) = seconds(&report.started_at)
    {
        status.insert("startTime".into(), started.into());
    }
    for (field, text) in [("reason", &report.reason), ("message", &report.message)] {
        match text.as_str() {
            // Why a pod has failed stays true.
            "" if text_at(pod, "/status/phase") == "Failed" => continue,
            "" => status.remove(field),
            text => status.insert(field.into(), text.into()),
        };
    }
    let alone = containers.init.is_empty() && containers.sidecars.is_empty();
    let waiting = if alone { "ContainerCreating" } else { "PodInitializing" };
    status.insert("containerStatuses".into(), statuses(containers.main.iter(), waiting));
    if !containers.init.is_empty() || !containers.sidecars.is_empty() {
        let all = containers.init.iter().chain(&containers.sidecars);
        status.insert("initContainerStatuses".into(), statuses(all, "PodInitializing"));
    }
    conditions(&mut status, &containers, phase, observation);
    Value::Object(status)
}

/// As Kubernetes counts. A pod that has ended never begins again.
fn phase(pod: &Value, containers: &Containers<'_>) -> &'static str {
    match text_at(pod, "/status/phase") {
        "Succeeded" => return "Succeeded",
        "Failed" => return "Failed",
        _ => {}
    }
    let policy = text_at(pod, "/spec/restartPolicy");
    let failed = |container: &ReportedContainer<'_>| container.exit_code().is_some_and(|code| code != 0);
    if policy == "Never" && containers.init.iter().any(failed) {
        return "Failed";
    }
    if !containers.initialized() {
        return "Pending";
    }
    let (mut running, mut waiting, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for container in &containers.main {
        match (container.state(), container.last()) {
            (Some(State::Running(_)), _) => running += 1,
            (Some(State::Terminated(terminated)), _) => {
                stopped += 1;
                succeeded += usize::from(terminated.exit_code == 0);
            }
            (Some(State::Waiting(_)), Some(State::Terminated(_))) => stopped += 1,
            _ => waiting += 1,
        }
    }
    match () {
        () if waiting > 0 => "Pending",
        () if running > 0 => "Running",
        () if policy == "Always" || policy.is_empty() => "Running",
        () if stopped == succeeded => "Succeeded",
        () if policy == "Never" => "Failed",
        () => "Running",
    }
}

fn conditions(
    status: &mut Map<String, Value>,
    containers: &Containers<'_>,
    phase: &str,
    observation: &Observation<'_>,
) {
    let now = observation.now;
    let mut set = |kind: &str, value: bool, reason: &str, message: &str| {
        set_condition(status, kind, if value { "True" } else { "False" }, reason, message, now);
    };
    set("PodScheduled", true, "", "");
    let initialized = containers.initialized();
    let incomplete: Vec<_> =
        containers.init.iter().filter(|c| c.exit_code() != Some(0)).map(|c| c.name).collect();
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    set(
        "Initialized",
        initialized,
        if initialized { "" } else { "ContainersNotInitialized" },
        if initialized { "" } else { &message },
    );
    if matches!(phase, "Succeeded" | "Failed") {
        let reason = if phase == "Succeeded" { "PodCompleted" } else { "PodFailed" };
        set("ContainersReady", false, reason, "");
        set("Ready", false, reason, "");
        return;
    }
    let unready = containers.unready();
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    if !unready.is_empty() || !initialized {
        set("ContainersReady", false, "ContainersNotReady", &message);
        set("Ready", false, "ContainersNotReady", &message);
    } else {
        set("ContainersReady", true, "", "");
        let attached = observation.report.attached;
        let (reason, message) =
            if attached { ("", "") } else { ("NotAttached", "the pod is not plugged into the overlay yet") };
        set("Ready", attached, reason, message);
    }
}

fn statuses<'a>(containers: impl Iterator<Item = &'a ReportedContainer<'a>>, waiting: &str) -> Value {
    containers.map(|container| container_status(container, waiting)).collect()
}

fn container_status(container: &ReportedContainer<'_>, waiting: &str) -> Value {
    let Some(status) = container.status else {
        return json!({
            "name": container.name, "image": container.image, "imageID": "", "ready": false, "started": false,
            "restartCount": container.restarts(), "state": {"waiting": {"reason": waiting}}, "lastState": {},
        });
    };
    let image = if status.image.is_empty() { container.image } else { &status.image };
    let mut value = json!({
        "name": container.name, "image": image, "imageID": status.image_id, "ready": status.ready,
        "started": status.started, "restartCount": container.restarts(),
        "state": container.state().map_or_else(|| json!({"waiting": {"reason": waiting}}), state),
        "lastState": container.last().map_or_else(|| json!({}), state),
    });
    if !status.container_id.is_empty() {
        value["containerID"] = status.container_id.clone().into();
    }
    value
}

fn state(state: &State) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, text: &str| {
        if !text.is_empty() {
            fields.insert(name.into(), text.into());
        }
    };
    let kind = match state {
        State::Waiting(waiting) => {
            put("reason", &waiting.reason);
            put("message", &waiting.message);
            "waiting"
        }
        State::Running(running) => {
            put("startedAt", &seconds(&running.started_at).unwrap_or_default());
            "running"
        }
        State::Terminated(terminated) => {
            put("reason", &terminated.reason);
            put("message", &terminated.message);
            put("startedAt", &seconds(&terminated.started_at).unwrap_or_default());
            put("finishedAt", &seconds(&terminated.finished_at).unwrap_or_default());
            put("containerID", &terminated.container_id);
            fields.insert("exitCode".into(), terminated.exit_code.into());
            "terminated"
        }
    };
    json!({kind: fields})
}

#[cfg(test)]
mod tests {
    use warren_proto::control::{ContainerState, Running, Terminated, Waiting};

    use super::*;

    fn running() -> State {
        State::Running(Running { started_at: "2026-01-01T00:00:00.123456789Z".into() })
    }
    fn exited(exit_code: i32) -> State {
        State::Terminated(Terminated { exit_code, reason: "Error".into(), ..Terminated::default() })
    }
    fn waiting(reason: &str) -> State {
        State::Waiting(Waiting { reason: reason.into(), message: String::new() })
    }
    fn container(name: &str, state: State, ready: bool) -> ContainerStatus {
        let state = Some(ContainerState { state: Some(state) });
        ContainerStatus { name: name.into(), ready, started: ready, state, ..ContainerStatus::default() }
    }
    fn restarted(mut status: ContainerStatus, last: State) -> ContainerStatus {
        status.restart_count = 1;
        status.last_state = Some(ContainerState { state: Some(last) });
        status
    }
    fn pod(policy: &str, containers: &[&str], init: &[&str]) -> Value {
        let list =
            |names: &[&str]| names.iter().map(|name| json!({"name": name, "image": "i"})).collect::<Value>();
        json!({
            "metadata": {"name": "p"},
            "spec": {"restartPolicy": policy, "containers": list(containers), "initContainers": list(init)},
            "status": {"podIP": "10.42.1.2", "qosClass": "Burstable", "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2025-12-31T00:00:00Z"},
                {"type": "example.com/gate", "status": "True"},
            ]},
        })
    }
    fn report(containers: Vec<ContainerStatus>, init: Vec<ContainerStatus>) -> PodStatus {
        let started_at = "2026-01-01T00:00:00.5Z".into();
        PodStatus { attached: true, containers, init_containers: init, started_at, ..PodStatus::default() }
    }
    fn apply(pod: &Value, report: &PodStatus, now: &str) -> Value {
        next(pod, &Observation { report, host_ip: Some("192.0.2.1"), now: now.parse().expect("a time") })
    }
    const NOW: &str = "2026-01-01T00:00:10Z";

    fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
        let all = status["conditions"].as_array().expect("conditions");
        all.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
    }

    #[test]
    fn phases_follow_kubernetes() {
        let table: Vec<(&str, Vec<ContainerStatus>, &str)> = vec![
            ("Always", vec![], "Pending"),
            ("Always", vec![container("a", waiting("ErrImagePull"), false)], "Pending"),
            ("Always", vec![container("a", running(), false)], "Running"),
            ("Always", vec![container("a", exited(1), false)], "Running"),
            (
                "Always",
                vec![restarted(container("a", waiting("CrashLoopBackOff"), false), exited(1))],
                "Running",
            ),
            ("OnFailure", vec![container("a", exited(0), false)], "Succeeded"),
            ("OnFailure", vec![container("a", exited(1), false)], "Running"),
            ("Never", vec![container("a", exited(0), false)], "Succeeded"),
            ("Never", vec![container("a", exited(3), false)], "Failed"),
        ];
        for (policy, containers, expected) in table {
            let status = apply(&pod(policy, &["a"], &[]), &report(containers.clone(), vec![]), NOW);
            assert_eq!(status["phase"], expected, "{policy} {containers:?}");
        }
        let two = vec![container("a", running(), true), container("b", exited(1), false)];
        assert_eq!(apply(&pod("Never", &["a", "b"], &[]), &report(two, vec![]), NOW)["phase"], "Running");
    }

    #[test]
    fn init_containers_come_first() {
        let pod_always = pod("Always", &["a"], &["i", "j"]);
        let one = vec![container("i", exited(0), false), container("j", running(), false)];
        let status = apply(&pod_always, &report(vec![], one), NOW);
        assert_eq!(status["phase"], "Pending");
        assert_eq!(condition(&status, "Initialized")["status"], "False");
        assert_eq!(condition(&status, "Initialized")["message"], "containers with incomplete status: [j]");
        assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
        assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
        let failed = vec![container("i", exited(1), false)];
        assert_eq!(
            apply(&pod("Never", &["a"], &["i", "j"]), &report(vec![], failed), NOW)["phase"],
            "Failed"
        );
    }

    #[test]
    fn ready_needs_containers_and_attachment() {
        let base = pod("Always", &["a", "b"], &[]);
        let mut report =
            report(vec![container("a", running(), true), container("b", running(), false)], vec![]);
        let status = apply(&base, &report, NOW);
        assert_eq!(condition(&status, "Ready")["status"], "False");
        assert_eq!(condition(&status, "Ready")["message"], "containers with unready status: [b]");
        report.containers[1].ready = true;
        report.attached = false;
        let status = apply(&base, &report, NOW);
        assert_eq!(condition(&status, "ContainersReady")["status"], "True");
        assert_eq!(condition(&status, "Ready")["reason"], "NotAttached");
        report.attached = true;
        assert_eq!(condition(&apply(&base, &report, NOW), "Ready")["status"], "True");
    }

    #[test]
    fn what_the_agent_does_not_know_is_kept_and_times_are_whole_seconds() {
        let status =
            apply(&pod("Always", &["a"], &[]), &report(vec![container("a", running(), true)], vec![]), NOW);
        assert_eq!(status["podIP"], "10.42.1.2");
        assert_eq!(status["qosClass"], "Burstable");
        assert_eq!(status["hostIP"], "192.0.2.1");
        assert_eq!(status["startTime"], "2026-01-01T00:00:00Z");
        assert_eq!(status["containerStatuses"][0]["state"]["running"]["startedAt"], "2026-01-01T00:00:00Z");
        assert_eq!(condition(&status, "PodScheduled")["lastTransitionTime"], "2025-12-31T00:00:00Z");
        assert_eq!(condition(&status, "example.com/gate")["status"], "True");
    }

    #[test]
    fn the_same_report_later_changes_nothing_and_a_transition_has_its_time() {
        let mut base = pod("Always", &["a"], &[]);
        let mut report = report(vec![container("a", running(), true)], vec![]);
        base["status"] = apply(&base, &report, NOW);
        assert_eq!(base["status"], apply(&base, &report, "2026-01-01T01:00:00Z"));
        report.containers[0].ready = false;
        let status = apply(&base, &report, "2026-01-01T02:00:00Z");
        assert_eq!(condition(&status, "Ready")["lastTransitionTime"], "2026-01-01T02:00:00Z");
        assert_eq!(condition(&status, "Initialized")["lastTransitionTime"], NOW);
    }

    #[test]
    fn a_pod_that_ended_never_begins_again() {
        let mut base = pod("Never", &["a"], &[]);
        base["status"]["phase"] = "Succeeded".into();
        let status = apply(&base, &report(vec![container("a", running(), true)], vec![]), NOW);
        assert_eq!(status["phase"], "Succeeded");
        assert_eq!(condition(&status, "Ready")["reason"], "PodCompleted");
    }

    #[test]
    fn a_restart_count_never_goes_down() {
        let mut base = pod("Always", &["a"], &["i"]);
        let with = |count: u32| {
            let mut main = container("a", running(), true);
            let mut init = container("i", exited(0), false);
            (main.restart_count, init.restart_count) = (count, count);
            report(vec![main], vec![init])
        };
        let counts = |status: &Value| {
            ["containerStatuses", "initContainerStatuses"]
                .map(|field| status[field][0]["restartCount"].clone())
        };
        // A node that forgot, one that says nothing yet, and one that remembers.
        for (reported, shown) in [(Some(8), 8), (Some(1), 8), (None, 8), (Some(9), 9)] {
            let report = reported.map_or_else(|| report(vec![], vec![]), with);
            base["status"] = apply(&base, &report, NOW);
            assert_eq!(counts(&base["status"]), [json!(shown), json!(shown)], "{reported:?}");
        }
    }

    #[test]
    fn a_reason_comes_and_goes() {
        let mut base = pod("Always", &["a"], &[]);
        let mut report = report(vec![], vec![]);
        report.reason = "FailedCreatePodSandBox".into();
        base["status"] = apply(&base, &report, NOW);
        assert_eq!(base["status"]["reason"], "FailedCreatePodSandBox");
        report.reason.clear();
        assert!(apply(&base, &report, NOW).get("reason").is_none());
    }

    #[test]
    fn a_sidecar_runs_beside_the_others_and_is_reported_among_the_init_containers() {
        let mut base = pod("Always", &["a"], &["s"]);
        base["spec"]["initContainers"][0]["restartPolicy"] = "Always".into();
        let both = vec![container("s", running(), true), container("a", running(), true)];
        let status = apply(&base, &report(both, vec![]), NOW);
        assert_eq!(status["phase"], "Running");
        assert_eq!(condition(&status, "Ready")["status"], "True");
        assert_eq!(status["initContainerStatuses"][0]["name"], "s");
        assert_eq!(status["containerStatuses"].as_array().map(Vec::len), Some(1));
    }
}
