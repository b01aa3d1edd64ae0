//! What is known of the pods that are to be judged.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use warren_objects::quantity::{self, QuantityError};
use warren_proto::control::{ContainerUsage, PodUsage};

use crate::{
    object,
    usage::NodeUsage,
    view::{PodView, View},
};

/// For how long a pod that has started counts only when it is ready, and was for as long as was measured.
const START_SECONDS: i64 = 300;
/// A pod that was never ready says so by a last change of its readiness within so many seconds of its start.
const FIRST_READINESS_SECONDS: i64 = 30;
/// As much as can be counted of anything.
const MOST: i128 = i64::MAX as i128;
/// Billionths of a processor in a thousandth.
const NANOS: u64 = 1_000_000;

/// What is measured of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Cpu,
    Memory,
}

impl Resource {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "cpu" => Some(Self::Cpu),
            "memory" => Some(Self::Memory),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    /// In thousandths of a processor, or of a byte.
    fn amount<'u>(self, containers: impl Iterator<Item = &'u ContainerUsage>) -> i128 {
        let usages = containers.filter_map(|container| container.usage);
        let sum = |of: fn(&warren_proto::control::Usage) -> u64| {
            usages.fold(0_u64, |sum, usage| sum.saturating_add(of(&usage)))
        };
        match self {
            Self::Cpu => i128::from(sum(|usage| usage.cpu_nanos).div_ceil(NANOS)),
            Self::Memory => i128::from(sum(|usage| usage.memory_bytes)) * 1_000,
        }
    }
}

/// One pod. Amounts are in thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    /// What it requests; 0 when nobody asks.
    pub(super) request: i128,
    pub(super) state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// What it uses.
    Measured(i128),
    /// What it uses says nothing yet.
    Unready,
    /// Nobody knows what it uses.
    Missing,
}

/// What is asked of pods.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'q> {
    pub(super) resource: Resource,
    /// One of its containers; else all together.
    pub(super) container: Option<&'q str>,
    /// Whether it matters what they request.
    pub(super) requests: bool,
}

impl Question<'_> {
    /// What is known of pods, leaving aside those that have ended or are about to; or why they cannot be asked.
    pub(super) fn ask(self, view: &View<'_>, pods: &[PodView<'_>]) -> Result<Vec<Sample>, String> {
        let living = pods.iter().filter(|pod| pod.active());
        let sample = |pod: &PodView<'_>| {
            let request = if self.requests { self.request(pod)? } else { 0 };
            Ok(Sample { request, state: self.state(view, pod) })
        };
        living.map(sample).collect()
    }

    fn concerns(self, container: &str) -> bool {
        self.container.is_none_or(|wanted| wanted == container)
    }

    /// What a pod requests: each of its containers that run as long as it must request something.
    fn request(self, pod: &PodView<'_>) -> Result<i128, String> {
        let containers = pod.spec.iter().flat_map(running).filter(|container| self.concerns(&container.name));
        let mut sum: i128 = 0;
        for container in containers {
            let name = self.resource.name();
            let resources = container.resources.as_ref();
            let of =
                |all: Option<&std::collections::BTreeMap<_, _>>| all.and_then(|all| all.get(name)).cloned();
            let request = resources.and_then(|resources| of(resources.requests.as_ref()));
            // A limit without a request is a request; defaulting says so on pods, and we do not depend on it.
            let request = request.or_else(|| resources.and_then(|resources| of(resources.limits.as_ref())));
            let amount = request.and_then(|request| match quantity::parse(&request.0) {
                Ok(amount) => Some(amount.clamp(0, MOST)),
                Err(QuantityError::Range) => Some(MOST),
                Err(_) => None,
            });
            let (container, pod) = (&container.name, pod.name());
            let missing = || format!("missing request for {name} in container {container} of Pod {pod}");
            sum = sum.saturating_add(amount.ok_or_else(missing)?);
        }
        Ok(sum)
    }

    fn state(self, view: &View<'_>, pod: &PodView<'_>) -> State {
        if pod.phase() == "Pending" {
            return State::Unready;
        }
        let told = pod.node().and_then(|node| view.world.usage.pod(node, pod.uid()));
        let Some((of_node, usage)) = told.filter(|(_, usage)| self.is_complete(pod, usage)) else {
            return State::Missing;
        };
        if self.resource == Resource::Cpu && is_starting(pod, of_node, view.now) {
            return State::Unready;
        }
        let containers = usage.containers.iter().filter(|container| self.concerns(&container.name));
        State::Measured(self.resource.amount(containers))
    }

    /// Whether all of the pod's containers were measured that are said to run, and at least one.
    fn is_complete(self, pod: &PodView<'_>, usage: &PodUsage) -> bool {
        let measured = |name: &str| usage.containers.iter().any(|container| container.name == name);
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let run =
            statuses.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
        usage.containers.iter().any(|container| self.concerns(&container.name))
            && run.filter(|status| self.concerns(&status.name)).all(|status| measured(&status.name))
    }
}

/// The containers that run as long as the pod does.
fn running(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(sidecar))
}

/// Whether what was measured may be the work of starting: of a pod that has just begun, unless it is ready and has been for
/// as long as was measured; and of one that never was ready.
fn is_starting(pod: &PodView<'_>, of_node: &NodeUsage, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(started), Some(ready)) = (started, pod.condition("Ready")) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let is_unready = ready.status == "False";
    if object::later(started.0, START_SECONDS) > now {
        return is_unready || of_node.measured < after(changed, of_node.window());
    }
    is_unready && object::later(started.0, FIRST_READINESS_SECONDS) > changed
}

fn after(at: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    at.saturating_add(duration).unwrap_or(at)
}
