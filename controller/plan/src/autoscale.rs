//! How many pods should what an autoscaler looks after have?
//!
//! ```text
//!  target (its size, its pods) ──► each metric proposes a size ──► the largest ──► recent recommendations ──► rates
//! ```
//!
//! Each autoscaler looks about every 15 s. What it must remember between two looks is no state of the cluster: it is in a
//! [`ScalingRecord`], which comes with the plan and is given back with the next world.
//!
//! Source: <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>.

mod calculation;
mod draft;
mod limits;
mod metrics;
mod record;
mod rules;
mod samples;
mod target;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use warren_state::Key;

use crate::{
    object,
    outcome::Outcome,
    view::{Typed, View},
};
use draft::Draft;
use limits::Limits;
pub use record::ScalingRecord;
use rules::Behavior;
use target::Target;

const COMPONENT: &str = "horizontal-pod-autoscaler";
/// The planner's name in refusals.
pub(crate) const STAGE: &str = "autoscaling";
/// How often each autoscaler looks.
const PERIOD_SECONDS: i64 = 15;

/// The conditions of an autoscaler.
const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";

pub(crate) type Autoscaler<'a> = Typed<'a, HorizontalPodAutoscaler>;

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys.iter().filter(|key| !view.namespace_terminating(&key.namespace)) {
        outcome.unit(view, key, |outcome| {
            let Some(autoscaler) = view.typed::<HorizontalPodAutoscaler>(key) else { return };
            if let Some(spec) = autoscaler.spec.as_ref().filter(|_| !autoscaler.deleting()) {
                look(view, &autoscaler, spec, outcome);
            }
        });
    }
}

/// Which autoscalers look after the same: a namespace, and what is named there.
pub(crate) fn group(namespace: &str, spec: &HorizontalPodAutoscalerSpec) -> String {
    let target = &spec.scale_target_ref;
    let group = target.api_version.as_deref().and_then(|version| version.split_once('/'));
    let group = group.map_or("", |(group, _)| group);
    format!("{namespace}\0{group}\0{}\0{}", target.kind, target.name)
}

/// Looks, if it is time to.
fn look(
    view: &View<'_>,
    autoscaler: &Autoscaler<'_>,
    spec: &HorizontalPodAutoscalerSpec,
    outcome: &mut Outcome<'_>,
) {
    let before = view.world.scaling_records.get(&autoscaler.object.key);
    if let Some(next) = before.and_then(|before| before.next_look(autoscaler.object, view.now)) {
        return outcome.wake(next);
    }
    let now = Timestamp::from_second(view.now.as_second()).unwrap_or(view.now);
    let record = ScalingRecord::going_on(before, autoscaler.object, now);
    outcome.wake(object::later(now, PERIOD_SECONDS));
    let mut look = Look { view, autoscaler, spec, now, record, draft: Draft::new(view, autoscaler) };
    look.scale();
    look.finish(outcome);
}

/// One look.
struct Look<'a> {
    view: &'a View<'a>,
    autoscaler: &'a Autoscaler<'a>,
    spec: &'a HorizontalPodAutoscalerSpec,
    /// In whole seconds, as the status says it.
    now: Timestamp,
    record: ScalingRecord,
    draft: Draft<'a>,
}

impl<'a> Look<'a> {
    /// From the fewest pods to the most. An autoscaler never scales to zero.
    fn bounds(&self) -> (i64, i64) {
        let least = i64::from(self.spec.min_replicas.unwrap_or(1)).max(1);
        (least, i64::from(self.spec.max_replicas).max(least))
    }

    fn scale(&mut self) {
        let target = match Target::find(self.view, &self.autoscaler.object.key.namespace, self.spec) {
            Ok(target) => target,
            Err(why) => {
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {why}");
                self.draft.say(ABLE, false, "FailedGetScale", &message);
                return self.draft.warn("FailedGetScale", why);
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        self.draft.say(ABLE, true, "SucceededGetScale", message);
        self.record.begin_with(target.replicas, self.now);
        self.draft.set_current(target.replicas);
        let (least, most) = self.bounds();
        if target.replicas == 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            self.draft.say(ACTIVE, false, "ScalingDisabled", message);
            self.draft.settle(0, Vec::new());
        } else if target.replicas > most {
            self.draft.settle(most, Vec::new());
            self.draft.rescale(target, most, "Current number of replicas above Spec.MaxReplicas".to_owned());
        } else if target.replicas < least {
            self.draft.settle(least, Vec::new());
            self.draft.rescale(target, least, "Current number of replicas below Spec.MinReplicas".to_owned());
        } else {
            self.follow_metrics(target);
        }
    }

    fn follow_metrics(&mut self, target: Target<'a>) {
        let behavior = Behavior::of(self.spec.behavior.as_ref());
        let Some(found) = metrics::evaluate(self, &target, &behavior) else { return };
        let metrics::Found { replicas: proposed, metric, statuses } = found;
        let (least, most) = self.bounds();
        let limits = Limits { least, most, current: target.replicas, now: self.now, behavior: &behavior };
        let limited = limits.apply(proposed, &self.record);
        self.record.recommend(proposed, &limits);
        let (reason, message) = limited.stabilized;
        self.draft.say(ABLE, true, reason, message);
        let (reason, message) = limited.limit;
        self.draft.say(LIMITED, limited.is_limited, reason, message);
        self.draft.settle(limited.replicas, statuses);
        if limited.replicas != target.replicas {
            let reason = if proposed > target.replicas {
                format!("{metric} above target")
            } else {
                "All metrics below target".to_owned()
            };
            self.draft.rescale(target, limited.replicas, reason);
        }
    }

    /// Writes what has come of it, and notes what is to be remembered.
    fn finish(self, outcome: &mut Outcome<'_>) {
        let Self { autoscaler, now, mut record, draft, .. } = self;
        let change = draft.change();
        let refused = draft.refused();
        if draft.finish(now, outcome) {
            record.wants(now, change);
        } else {
            // The target is not to be changed for now: that is said, and the rest is written. What was asked to be woken
            // for is none of the next look's.
            outcome.reopen();
            refused.into_iter().for_each(|refused| _ = refused.finish(now, outcome));
        }
        outcome.keep_scaling_record(&autoscaler.object.key, Arc::new(record));
    }
}
