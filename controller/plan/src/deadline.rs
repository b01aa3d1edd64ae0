//! How long may a pod run? One that has been on its node for longer than its `activeDeadlineSeconds` fails; its node
//! stops what runs of it.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/#lifecycle>.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use warren_state::Key;

use crate::{
    events::Event,
    object,
    outcome::Outcome,
    pods,
    view::{PodView, View},
};

const REASON: &str = "DeadlineExceeded";
const MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// When the pod's time is over: `None` for pods that have no deadline, or have not begun, or are over.
pub(crate) fn of(pod: &PodView<'_>) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let started = pod.status.as_ref()?.start_time.as_ref()?.0;
    pod.active().then(|| object::later(started, seconds))
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(pod) = view.typed::<Pod>(key) else { return };
            match of(&pod) {
                Some(deadline) if deadline > view.now => outcome.wake(deadline),
                Some(_) => end(view, &pod, outcome),
                None => {}
            }
        });
    }
}

fn end(view: &View<'_>, pod: &PodView<'_>, outcome: &mut Outcome<'_>) {
    let (about, component, reason, message) = (pod.object, "kubelet", REASON, MESSAGE.to_owned());
    let event = Event { about, component, reason, message, warning: false };
    pods::fail(view, &event, "has run for as long as it may", outcome);
}
