//! What members say, cut to what may be stored or decided by. Pure.
//!
//! A member is believed about its own pods and its own machine, and only as far as it can know: every text has the
//! length that Kubernetes gives it, and every address is one by which a machine can be reached.

use std::net::IpAddr;

use serde_json::Value;
use warren_plan::{Answered, Answers, Traffic, maker};
use warren_proto::control::{
    ContainerState, ContainerStatus, EventReport, NodeReport, PodStatus, TrafficReport, Usage, UsageReport,
    container_state::State,
};
use warren_store::{Key, Snapshot};
use warren_vocabulary::resources::SERVICES;

use crate::{json::text_at, reports::own_pod};

/// Names, identifiers, times.
const NAME: usize = 256;
const IMAGE: usize = 1_024;
const REASON: usize = 256;
/// Of an event, as in Kubernetes.
const EVENT_REASON: usize = 128;
const EVENT_MESSAGE: usize = 1_024;
/// Of a container's state: what it left in its termination message, or why it waits.
const CONTAINER_MESSAGE: usize = 4_096;
/// Of a condition, or of the pod as a whole.
const CONDITION_MESSAGE: usize = 32 << 10;
const CUT: &str = "...";
/// As in Kubernetes.
const NAMES_OF_AN_IMAGE: usize = 5;
/// More than any machine has, and safe to calculate with.
const MOST_MILLIS: i64 = 1_000_000_000;
const MOST_BYTES: i64 = 1 << 56;
/// Billionths of a processor, and thousandths of a request per second.
const MOST_NANOS: u64 = MOST_MILLIS.unsigned_abs() * 1_000_000;
const MOST_REQUESTS: u64 = 1_000_000_000_000;
/// The most that one pod can have answered between two reports.
const MOST_ANSWERS: u64 = 1_000_000_000;
/// Of so many pods a gateway tells at most what they answered.
const MOST_ANSWERING: usize = 4_000;
/// The largest network that a member can have has no more addresses for pods.
const MOST_PODS: u32 = 4_093;

/// Cuts a text to so many bytes, and shows that it was cut.
fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest - CUT.len()));
        text.push_str(CUT);
        text.shrink_to_fit();
    }
}

fn cut_all<const N: usize>(texts: [&mut String; N], longest: usize) {
    texts.into_iter().for_each(|text| cut(text, longest));
}

pub(crate) fn pod(report: &mut PodStatus) {
    cut_all([&mut report.uid, &mut report.namespace, &mut report.name, &mut report.started_at], NAME);
    cut(&mut report.reason, REASON);
    cut(&mut report.message, CONDITION_MESSAGE);
    report.containers.iter_mut().chain(&mut report.init_containers).for_each(container);
}

fn container(status: &mut ContainerStatus) {
    cut(&mut status.name, NAME);
    cut_all([&mut status.image, &mut status.image_id, &mut status.container_id], IMAGE);
    for state in [&mut status.state, &mut status.last_state].into_iter().flatten() {
        container_state(state);
    }
}

fn container_state(state: &mut ContainerState) {
    match &mut state.state {
        Some(State::Waiting(waiting)) => {
            cut(&mut waiting.reason, REASON);
            cut(&mut waiting.message, CONTAINER_MESSAGE);
        }
        Some(State::Running(running)) => cut(&mut running.started_at, NAME),
        Some(State::Terminated(ended)) => {
            cut_all([&mut ended.started_at, &mut ended.finished_at], NAME);
            cut(&mut ended.container_id, IMAGE);
            cut(&mut ended.reason, REASON);
            cut(&mut ended.message, CONTAINER_MESSAGE);
        }
        None => {}
    }
}

pub(crate) fn event(report: &mut EventReport) {
    cut_all([&mut report.pod_uid, &mut report.pod_namespace, &mut report.pod_name, &mut report.time], NAME);
    cut(&mut report.field_path, IMAGE);
    cut(&mut report.reason, EVENT_REASON);
    cut(&mut report.message, EVENT_MESSAGE);
}

pub(crate) fn node(report: &mut NodeReport) {
    let NodeReport { machine_id, boot_id, kernel_version, os_image, .. } = report;
    cut_all([machine_id, boot_id, kernel_version, os_image], NAME);
    let NodeReport { architecture, container_runtime_version, warren_version, .. } = report;
    cut_all([architecture, container_runtime_version, warren_version], NAME);
    cut(&mut report.message, CONDITION_MESSAGE);
    for image in &mut report.images {
        image.names.truncate(NAMES_OF_AN_IMAGE);
        image.names.iter_mut().for_each(|name| cut(name, IMAGE));
        image.size_bytes = image.size_bytes.clamp(0, MOST_BYTES);
    }
    report.cpu_millis = report.cpu_millis.clamp(0, MOST_MILLIS);
    report.memory_bytes = report.memory_bytes.clamp(0, MOST_BYTES);
    report.ephemeral_storage_bytes = report.ephemeral_storage_bytes.clamp(0, MOST_BYTES);
    report.max_pods = report.max_pods.min(MOST_PODS);
}

/// Keeps what is about the node's own pods and their containers: it decides how many of them there are. Pods come out in
/// the order of their uids, each once.
pub(crate) fn usage(report: &mut UsageReport, snapshot: &Snapshot, node: &str) {
    report.pods.retain_mut(|pod| {
        let Some(own) = own_pod(snapshot, node, &pod.namespace, &pod.name, &pod.uid) else { return false };
        let containers: Vec<&str> = ["/spec/containers", "/spec/initContainers"]
            .iter()
            .filter_map(|list| own.value.pointer(list).and_then(Value::as_array))
            .flatten()
            .map(|container| text_at(container, "/name"))
            .collect();
        pod.containers.retain(|container| containers.contains(&container.name.as_str()));
        pod.containers.truncate(containers.len());
        true
    });
    report.pods.sort_by(|one, other| one.uid.cmp(&other.uid));
    report.pods.dedup_by(|one, other| one.uid == other.uid);
    let containers = report.pods.iter_mut().flat_map(|pod| &mut pod.containers);
    let usages = containers.filter_map(|container| container.usage.as_mut());
    usages.chain(report.node.as_mut()).for_each(amounts);
}

fn amounts(usage: &mut Usage) {
    usage.cpu_nanos = usage.cpu_nanos.min(MOST_NANOS);
    usage.memory_bytes = usage.memory_bytes.min(MOST_BYTES.unsigned_abs());
}

/// What a gateway says of services that are there: they decide how much of it is kept.
pub(crate) fn traffic(report: &TrafficReport, snapshot: &Snapshot) -> Traffic {
    let rate = |told: &warren_proto::control::ServiceTraffic| {
        let service = snapshot.get(&Key::new(SERVICES, &told.namespace, &told.name))?;
        Some((service.key.clone(), told.requests_per_thousand_seconds.min(MOST_REQUESTS)))
    };
    report.services.iter().filter_map(rate).collect()
}

/// What a gateway says that the pods of services that are there answered.
pub(crate) fn answers(report: &TrafficReport, snapshot: &Snapshot) -> Answers {
    let is_there = |told: &&warren_proto::control::ServiceTraffic| {
        !told.pods.is_empty() && snapshot.get(&Key::new(SERVICES, &told.namespace, &told.name)).is_some()
    };
    let services = report.services.iter().filter(is_there);
    let pods = services.flat_map(|told| told.pods.iter().map(|pod| (&told.namespace, pod)));
    let mut answers = Answers::new();
    for (namespace, pod) in pods.take(MOST_ANSWERING).filter(|(_, pod)| pod.name.len() <= NAME) {
        let Some(maker) = maker(namespace, &pod.name) else { continue };
        let requests = pod.requests.min(MOST_ANSWERS);
        let answered = Answered { requests, failures: pod.failures.min(requests) };
        let sum: &mut Answered = answers.entry(maker).or_default();
        *sum = sum.and(answered);
    }
    answers
}

/// What a member calls its address in the underlay. `None` for one that others cannot reach it by: a controller on the
/// same machine may be dialled over loopback.
pub(crate) fn address(text: &str) -> Result<Option<IpAddr>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: IpAddr =
        text.parse().map_err(|_| format!("{:?} is no IP address", warren_runtime::rate::shown(text)))?;
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let leads_elsewhere = address.is_loopback() || address.is_unspecified() || address.is_multicast();
    Ok((!leads_elsewhere && !is_broadcast).then_some(address))
}

#[cfg(test)]
mod tests {
    use warren_proto::control::{Image, Terminated};

    use super::*;

    fn long() -> String {
        "\u{e9}".repeat(1 << 20)
    }

    #[test]
    fn a_cut_text_is_whole_characters_and_shows_it() {
        let mut text = long();
        cut(&mut text, 1_024);
        assert!(text.len() <= 1_024 && text.ends_with("\u{e9}..."), "{}", text.len());
        let mut short = "x".repeat(1_024);
        cut(&mut short, 1_024);
        assert_eq!(short, "x".repeat(1_024));
    }

    #[test]
    fn nothing_that_is_stored_of_a_report_is_long() {
        use prost::Message as _;
        let ended =
            Terminated { reason: long(), message: long(), container_id: long(), ..Terminated::default() };
        let state = Some(ContainerState { state: Some(State::Terminated(ended)) });
        let status = ContainerStatus {
            name: long(),
            image: long(),
            image_id: long(),
            container_id: long(),
            state: state.clone(),
            last_state: state,
            ..ContainerStatus::default()
        };
        let mut report = PodStatus {
            uid: long(),
            namespace: long(),
            name: long(),
            reason: long(),
            message: long(),
            started_at: long(),
            containers: vec![status.clone()],
            init_containers: vec![status],
            ..PodStatus::default()
        };
        pod(&mut report);
        assert!(report.encoded_len() < 64 << 10, "{}", report.encoded_len());
        let mut report = EventReport {
            pod_uid: long(),
            pod_namespace: long(),
            pod_name: long(),
            field_path: long(),
            reason: long(),
            message: long(),
            time: long(),
            warning: true,
        };
        event(&mut report);
        assert!(report.encoded_len() < 4 << 10, "{}", report.encoded_len());
        let mut report = NodeReport {
            machine_id: long(),
            boot_id: long(),
            kernel_version: long(),
            os_image: long(),
            architecture: long(),
            container_runtime_version: long(),
            warren_version: long(),
            message: long(),
            images: vec![Image { names: vec![long(); 9], size_bytes: i64::MAX }],
            cpu_millis: i64::MAX,
            memory_bytes: i64::MIN,
            max_pods: u32::MAX,
            ..NodeReport::default()
        };
        node(&mut report);
        assert!(report.encoded_len() < 48 << 10, "{}", report.encoded_len());
        assert_eq!((report.cpu_millis, report.memory_bytes, report.max_pods), (MOST_MILLIS, 0, MOST_PODS));
    }

    #[test]
    fn an_address_is_one_by_which_a_machine_is_reached() {
        assert_eq!(address("192.0.2.1"), Ok(Some("192.0.2.1".parse().expect("an address"))));
        assert_eq!(address("::ffff:192.0.2.1"), Ok(Some("192.0.2.1".parse().expect("an address"))));
        assert_eq!(address("fd00::1"), Ok(Some("fd00::1".parse().expect("an address"))));
        let elsewhere = ["", "127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"];
        for elsewhere in elsewhere.iter().chain(&["::ffff:127.0.0.1"]) {
            assert_eq!(address(elsewhere), Ok(None), "{elsewhere}");
        }
        for bad in ["host", "192.0.2.1:80", "192.0.2.1\n", "$(reboot)"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
