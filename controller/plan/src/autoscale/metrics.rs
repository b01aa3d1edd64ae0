//! What each metric proposes: the largest proposal counts. One that cannot be had counts against shrinking.

use k8s_openapi::{
    api::autoscaling::v2::{
        ExternalMetricSource, MetricIdentifier, MetricSpec, MetricTarget, ObjectMetricSource,
        ResourceMetricSource,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};
use warren_objects::quantity;
use warren_state::Key;

use super::{
    ACTIVE, Look,
    calculation::{self, Goal, Proposal, Ratio, Tolerance},
    rules::Behavior,
    samples::{Question, Resource},
    target::Target,
};
use crate::{
    indexes::By,
    view::{PodView, View},
};
use warren_vocabulary::resources::SERVICES;

/// The metric of a Service that the gateways serve.
const REQUESTS: &str = "requests-per-second";
/// What is aimed at when no metric is given: so much of the processor time that is requested.
const DEFAULT_PERCENT: i32 = 80;

/// The size that the metrics propose.
pub(super) struct Found {
    pub(super) replicas: i64,
    /// The metric that proposes it.
    pub(super) metric: String,
    pub(super) statuses: Vec<Value>,
}

/// What one metric proposes.
struct Proposed {
    replicas: i64,
    metric: String,
    status: Value,
}

/// Why a metric cannot be had.
struct Missing {
    reason: &'static str,
    why: String,
    /// The same, with what was asked for.
    whole: String,
}

/// What metrics are evaluated for.
struct Evaluation<'e, 'a> {
    view: &'e View<'a>,
    target: &'e Target<'a>,
    pods: &'e [PodView<'a>],
    tolerance: Tolerance,
}

/// What the metrics propose together; nothing, and the draft says why, when they cannot be trusted to.
pub(super) fn evaluate(look: &mut Look<'_>, target: &Target<'_>, behavior: &Behavior) -> Option<Found> {
    if let Err((reason, told, why)) = selectable(look, target) {
        look.draft.say(ACTIVE, false, reason, &why);
        look.draft.warn(told, why.clone());
        look.draft.warn("FailedComputeMetricsReplicas", why);
        look.draft.fail(Vec::new());
        return None;
    }
    let pods = target.pods(look.view);
    let tolerance = Tolerance::of(behavior);
    let evaluation = Evaluation { view: look.view, target, pods: &pods, tolerance };
    let usual = [MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget { average_utilization: Some(DEFAULT_PERCENT), ..MetricTarget::default() },
        }),
        ..MetricSpec::default()
    }];
    let given = look.spec.metrics.as_deref().filter(|metrics| !metrics.is_empty()).unwrap_or(&usual);
    let (mut best, mut statuses) = (None::<Proposed>, Vec::new());
    let mut missing = Vec::new();
    for metric in given {
        match evaluation.metric(metric) {
            Ok(mut proposed) => {
                statuses.push(proposed.status.take());
                if best.as_ref().is_none_or(|best| proposed.replicas > best.replicas) {
                    best = Some(proposed);
                }
            }
            Err(why) => {
                // Each status stands at the place of its metric.
                statuses.push(json!({"type": ""}));
                missing.push(why);
            }
        }
    }
    for one in &missing {
        look.draft.warn(one.reason, one.why.clone());
    }
    let best = best.filter(|best| missing.is_empty() || best.replicas >= target.replicas);
    match (best, missing.first()) {
        (Some(best), _) => {
            let message =
                format!("the HPA was able to successfully calculate a replica count from {}", best.metric);
            look.draft.say(ACTIVE, true, "ValidMetricFound", &message);
            Some(Found { replicas: best.replicas, metric: best.metric, statuses })
        }
        (None, first) => {
            if let Some(Missing { reason, why, whole }) = first {
                let message = format!("the HPA was unable to compute the replica count: {why}");
                look.draft.say(ACTIVE, false, reason, &message);
                let (some, all) = (missing.len(), given.len());
                let message =
                    format!("invalid metrics ({some} invalid out of {all}), first error is: {whole}");
                look.draft.warn("FailedComputeMetricsReplicas", message);
            }
            look.draft.fail(statuses);
            None
        }
    }
}

/// Whether the target's pods are known, and no other autoscaler's business; or the condition's reason, the event's, and why.
fn selectable(look: &Look<'_>, target: &Target<'_>) -> Result<(), (&'static str, &'static str, String)> {
    if !target.has_selector() {
        let why = "the HPA target's scale is missing a selector".to_owned();
        return Err(("InvalidSelector", "SelectorRequired", why));
    }
    let object = look.autoscaler.object;
    let group = super::group(&object.key.namespace, look.spec);
    let all: Vec<String> = look
        .view
        .indexes
        .of(By::ScaleTarget, &group)
        .filter(|other| !crate::object::is_deleting(other))
        .map(|other| format!("{}/{}", other.key.namespace, other.key.name))
        .collect();
    if all.len() > 1 {
        let selector = target.selector_text();
        let all = all.join(" ");
        let why = format!("pods by selector {selector} are controlled by multiple HPAs: [{all}]");
        return Err(("AmbiguousSelector", "AmbiguousSelector", why));
    }
    Ok(())
}

impl Evaluation<'_, '_> {
    fn metric(&self, metric: &MetricSpec) -> Result<Proposed, Missing> {
        let absent = || "must populate information for the given metric source".to_owned();
        let missing = |reason, what: String, why: String| {
            let whole = format!("failed to get {what}: {why}");
            Missing { reason, why, whole }
        };
        match metric.type_.as_str() {
            "Resource" => {
                let source = metric.resource.as_ref();
                let proposed =
                    source.ok_or_else(absent).and_then(|of| self.resource(&of.name, None, &of.target));
                let name = source.map_or("", |source| &source.name);
                let what = format!("{name} resource metric value");
                proposed.map_err(|why| missing("FailedGetResourceMetric", what, why))
            }
            "ContainerResource" => {
                let source = metric.container_resource.as_ref();
                let proposed = source
                    .ok_or_else(absent)
                    .and_then(|of| self.resource(&of.name, Some(&of.container), &of.target));
                let name = source.map_or("", |source| &source.name);
                let what = format!("{name} container metric value");
                proposed.map_err(|why| missing("FailedGetContainerResourceMetric", what, why))
            }
            "Object" => {
                let proposed = metric.object.as_ref().ok_or_else(absent).and_then(|of| self.object(of));
                let what = "object metric value".to_owned();
                proposed.map_err(|why| missing("FailedGetObjectMetric", what, why))
            }
            "Pods" => {
                let name = metric.pods.as_ref().map_or("", |source| &source.metric.name);
                let why = format!("unable to get metric {name}: {NO_CUSTOM}");
                Err(missing("FailedGetPodsMetric", "pods metric value".to_owned(), why))
            }
            "External" => {
                let name = metric.external.as_ref().map_or("", |source| &source.metric.name);
                let why = metric.external.as_ref().map_or_else(absent, |source| self.external(source));
                Err(missing("FailedGetExternalMetric", format!("{name} external metric value"), why))
            }
            other => {
                let why = format!("unknown metric source type {other:?}");
                Err(Missing { reason: "InvalidMetricSourceType", whole: why.clone(), why })
            }
        }
    }

    /// What pods, or one container of each, use of the processor or the memory.
    fn resource(
        &self,
        name: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<Proposed, String> {
        let (goal, goal_name) = match (amount(target.average_value.as_ref()), target.average_utilization) {
            (Some(amount), _) => (Goal::Average(amount), "usage"),
            (None, Some(percent)) => (Goal::Utilization(i128::from(percent.max(1))), "utilization"),
            (None, None) => {
                let why = "neither an average utilization target nor an average value (usage) target was set";
                return Err(format!("invalid resource metric source: {why}"));
            }
        };
        let proposal = self.proposal(name, container, goal);
        let proposal = proposal.map_err(|why| format!("failed to get {name} {goal_name}: {why}"))?;
        let mut current = json!({"averageValue": decimal(proposal.average)});
        if let Some(percent) = proposal.utilization {
            current["averageUtilization"] = i32::try_from(percent).unwrap_or(i32::MAX).into();
        }
        let kind = if container.is_some() { "container resource" } else { "resource" };
        let what = if proposal.utilization.is_some() { " utilization (percentage of request)" } else { "" };
        let status = match container {
            Some(container) => json!({"type": "ContainerResource",
                "containerResource": {"name": name, "container": container, "current": current}}),
            None => json!({"type": "Resource", "resource": {"name": name, "current": current}}),
        };
        Ok(Proposed { replicas: proposal.replicas, metric: format!("{name} {kind}{what}"), status })
    }

    fn proposal(&self, name: &str, container: Option<&str>, goal: Goal) -> Result<Proposal, String> {
        let nothing = || format!("unable to get metrics for resource {name}: {NO_RESOURCE}");
        let resource = Resource::named(name).ok_or_else(nothing)?;
        let requests = matches!(goal, Goal::Utilization(_));
        let samples = Question { resource, container, requests }.ask(self.view, self.pods)?;
        let proposal = calculation::of_pods(&samples, goal, self.target.replicas, self.tolerance);
        proposal.ok_or_else(|| {
            let is_known = |sample: &super::samples::Sample| sample.state != super::samples::State::Missing;
            if samples.iter().any(is_known) {
                "did not receive metrics for targeted pods (pods might be unready)".to_owned()
            } else {
                nothing()
            }
        })
    }

    /// What gateways are asked for a Service.
    fn object(&self, source: &ObjectMetricSource) -> Result<Proposed, String> {
        let (described, metric) = (&source.described_object, &source.metric);
        let current = self.target.replicas;
        let namespace = &*self.target.object.key.namespace;
        let rate = self.requests(source).map_err(|why| {
            let (kind, object) = (&described.kind, &described.name);
            format!("unable to get metric {}: {kind} on {namespace} {object}/{why}", metric.name)
        })?;
        let (value, average) =
            (amount(source.target.value.as_ref()), amount(source.target.average_value.as_ref()));
        let (replicas, shown) = match (source.target.type_.as_str(), value, average) {
            ("AverageValue", _, Some(average)) | (_, None, Some(average)) => {
                let each = rate / i128::from(self.target.reported.max(1));
                let ratio = Ratio::new(rate, average.saturating_mul(i128::from(current)));
                let replicas = Ratio::new(rate, average).times(1);
                let replicas = if ratio.is_within(self.tolerance) { current } else { replicas };
                (replicas, json!({"averageValue": decimal(each)}))
            }
            (_, Some(value), _) => {
                let ratio = Ratio::new(rate, value);
                (self.by_ratio(ratio), json!({"value": decimal(rate)}))
            }
            (_, None, None) => {
                let why = "neither a value target nor an average value target was set";
                return Err(format!("invalid object metric source: {why}"));
            }
        };
        let described_object = json!(described);
        let status = json!({"type": "Object", "object": {"describedObject": described_object,
            "metric": identifier(metric), "current": shown}});
        Ok(Proposed { replicas, metric: format!("{} metric {}", described.kind, metric.name), status })
    }

    /// So many times the pods that are ready; those that are not yet make a target that should grow no smaller.
    fn by_ratio(&self, ratio: Ratio) -> i64 {
        let current = self.target.replicas;
        if ratio.is_within(self.tolerance) {
            return current;
        }
        let ready = self.pods.iter().filter(|pod| pod.phase() == "Running" && pod.ready()).count();
        let replicas = ratio.times(i64::try_from(ready).unwrap_or(i64::MAX));
        if ratio.direction().is_gt() { replicas.max(current) } else { replicas.min(current) }
    }

    /// Thousandths of a request per second.
    fn requests(&self, source: &ObjectMetricSource) -> Result<i128, String> {
        let (described, metric) = (&source.described_object, &source.metric);
        let is_core = described.api_version.as_deref().is_none_or(|version| ["", "v1"].contains(&version));
        let is_ours = is_core && described.kind == "Service" && metric.name == REQUESTS;
        if !is_ours || metric.selector.is_some() {
            return Err(NO_CUSTOM.to_owned());
        }
        let service = Key::new(SERVICES, &self.target.object.key.namespace, &described.name);
        let rate = self.view.world.usage.requests(&service);
        rate.map(i128::from).ok_or_else(|| "no gateway leads to it".to_owned())
    }

    /// Why there is no external metric.
    fn external(&self, source: &ExternalMetricSource) -> String {
        let name = &source.metric.name;
        let namespace = &self.target.object.key.namespace;
        let selector = source.metric.selector.as_ref().map_or("nil".to_owned(), |of| json!(of).to_string());
        let why = format!("unable to get external metric {namespace}/{name}/{selector}: {NO_EXTERNAL}");
        if source.target.average_value.is_some() {
            format!("failed to get {name} external metric: {why}")
        } else {
            format!("failed to get external metric {name}: {why}")
        }
    }
}

const NO_RESOURCE: &str = "no metrics returned from resource metrics API";
const NO_CUSTOM: &str = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";
const NO_EXTERNAL: &str = "unable to fetch metrics from external metrics API: no external metrics API (external.metrics.k8s.io) registered";

fn identifier(metric: &MetricIdentifier) -> Value {
    json!({"name": metric.name})
}

/// A quantity in thousandths, if it is a positive one.
fn amount(quantity: Option<&Quantity>) -> Option<i128> {
    quantity.and_then(|quantity| quantity::parse(&quantity.0).ok()).filter(|amount| *amount > 0)
}

/// Thousandths as Kubernetes spells them: with the largest suffix of which it is a whole number.
fn decimal(thousandths: i128) -> String {
    let mut amount = thousandths;
    let mut suffixes = ["m", "", "k", "M", "G", "T", "P", "E"].into_iter().peekable();
    while let Some(suffix) = suffixes.next() {
        if amount == 0 {
            return "0".to_owned();
        }
        if amount % 1_000 != 0 || suffixes.peek().is_none() {
            return format!("{amount}{suffix}");
        }
        amount /= 1_000;
    }
    amount.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_spelt_shortly() {
        for (amount, text) in [
            (0, "0"),
            (250, "250m"),
            (1_000, "1"),
            (12_500, "12500m"),
            (2_000_000, "2k"),
            (67_108_864_000, "67108864"),
            (5_000_000_000_000_000_000_000_000, "5000E"),
        ] {
            assert_eq!(decimal(amount), text);
        }
    }
}
