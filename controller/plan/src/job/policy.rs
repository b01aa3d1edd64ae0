//! What a job's policies say of pods that failed, and of indexes that succeeded.

use k8s_openapi::api::{
    batch::v1::{
        PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
        SuccessPolicy,
    },
    core::v1::Pod,
};

use super::indexes::Indexes;
use crate::view::PodView;

/// What becomes of a pod that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// It counts against the limit of failures, as without a policy.
    Count,
    /// It does not count at all.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The job has failed, for this reason.
    FailJob(String),
}

/// The action of the first rule that fits a pod that failed.
pub(super) fn action(policy: Option<&PodFailurePolicy>, pod: &PodView<'_>) -> Action {
    let rules = policy.map(|policy| policy.rules.as_slice()).unwrap_or_default();
    let fitting = rules.iter().enumerate().find_map(|(index, rule)| {
        let fit = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(wanted), _) => exit_code(wanted, pod).map(|(container, code)| {
                format!(
                    "Container {container} for pod {}/{} failed with exit code {code} matching {} rule at index {index}",
                    pod.namespace(),
                    pod.name(),
                    rule.action
                )
            }),
            (None, Some(patterns)) => condition(patterns, pod).map(|kind| {
                format!(
                    "Pod {}/{} has condition {kind} matching {} rule at index {index}",
                    pod.namespace(),
                    pod.name(),
                    rule.action
                )
            }),
            (None, None) => None,
        };
        fit.map(|message| (rule.action.as_str(), message))
    });
    match fitting {
        Some(("Ignore", _)) => Action::Ignore,
        Some(("FailIndex", _)) => Action::FailIndex,
        Some(("FailJob", message)) => Action::FailJob(message),
        _ => Action::Count,
    }
}

/// The first container that ended with a code that fits; 0 fits nothing.
fn exit_code<'p>(wanted: &PodFailurePolicyOnExitCodesRequirement, pod: &'p Pod) -> Option<(&'p str, i32)> {
    let status = pod.status.as_ref()?;
    let mut all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    all.find_map(|container| {
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        let is_meant = wanted.container_name.as_ref().is_none_or(|name| *name == container.name);
        let fits = match wanted.operator.as_str() {
            "In" => wanted.values.contains(&code),
            "NotIn" => !wanted.values.contains(&code),
            _ => false,
        };
        (is_meant && code != 0 && fits).then_some((container.name.as_str(), code))
    })
}

fn condition<'r>(patterns: &'r [PodFailurePolicyOnPodConditionsPattern], pod: &Pod) -> Option<&'r str> {
    let said = pod.status.as_ref()?.conditions.as_ref()?;
    let pattern = patterns.iter().find(|pattern| {
        let status = if pattern.status.is_empty() { "True" } else { &pattern.status };
        said.iter().any(|condition| condition.type_ == pattern.type_ && condition.status == status)
    })?;
    Some(&pattern.type_)
}

/// The first rule by which so many indexes are enough.
pub(super) fn enough(policy: &SuccessPolicy, completed: &Indexes, completions: i64) -> Option<usize> {
    policy.rules.iter().position(|rule| {
        let (wanted, found) = match &rule.succeeded_indexes {
            Some(text) => {
                let set = Indexes::parse(text, completions);
                (set.count(), completed.count_within(&set))
            }
            None => (completions, completed.count()),
        };
        let wanted = rule.succeeded_count.map_or(wanted, i64::from);
        // A set that names no index asks for nothing, which is no reason to stop.
        wanted > 0 && found >= wanted
    })
}
