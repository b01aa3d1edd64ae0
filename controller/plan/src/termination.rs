//! When may a pod that is being deleted be stopped? When no consumer sends to it any more.
//!
//! A deleted pod's endpoint becomes *terminating* at some revision. Once every live gateway and netd has that
//! revision in force, the stop annotation releases the agent. Two more things are waited for: a pod that is a
//! service's last endpoint stays until its replacement is ready, and a pod of a headless service until clients'
//! copies of its DNS record have expired. All of it at most for [`BARRIER`].

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::{Endpoint, EndpointSlice},
};
use warren_state::{Key, Transaction};

use crate::{
    endpoints,
    indexes::By,
    object,
    outcome::Outcome,
    view::{PodView, Typed, View},
};
use warren_vocabulary::STOP_ANNOTATION;

/// The longest, in seconds, that a pod waits for anything.
const BARRIER: i64 = 5;
/// How long, in seconds, clients may keep the DNS record of a headless service's pod: netd's TTL, and one second
/// for the acknowledgement that precedes it.
const DNS_TTL: i64 = 6;

/// Where a pod is still mentioned as an endpoint.
#[derive(Default)]
struct Mention {
    /// The newest revision of the slices that mention it.
    revision: u64,
    /// Some slice does not say yet that it is terminating.
    unmarked: bool,
    /// Some slice is a headless service's.
    headless: bool,
}

/// Whether a pod is being deleted and has not been released yet.
pub(crate) fn is_waiting(pod: &PodView<'_>) -> bool {
    pod.deleting() && pod.node().is_some() && object::annotation(&pod.object.value, STOP_ANNOTATION).is_none()
}

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            if let Some(pod) = view.typed::<Pod>(key).filter(is_waiting) {
                plan_pod(view, &pod, outcome);
            }
        });
    }
}

fn plan_pod(view: &View<'_>, pod: &PodView<'_>, outcome: &mut Outcome<'_>) {
    let mention = mention(view, pod);
    let mention = mention.as_ref();
    let began = object::deletion_began(pod.object).unwrap_or(view.now);
    let longest = if mention.is_some_and(|mention| mention.headless) { DNS_TTL } else { BARRIER };
    // In the future (times have whole seconds): the clock was set back since, and would never say that it is over.
    let began = if began > object::later(view.now, 1) { Timestamp::UNIX_EPOCH } else { began };
    let cap = object::later(began, longest);
    if object::deletion_grace(pod.object) != 0 && cap > view.now && !is_forgotten(view, pod, mention, outcome)
    {
        outcome.wake(cap);
        return;
    }
    let stopped = object::edited_within(pod.object, &["metadata"], |value| {
        object::annotate(value, STOP_ANNOTATION, object::time_text(view.now));
    });
    if let Some(value) = stopped {
        let transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
        outcome.step(format!("{} may stop", pod.object.key), transaction);
    }
}

/// Whether every consumer has stopped sending to the pod, and no service would be left without an endpoint.
fn is_forgotten(
    view: &View<'_>,
    pod: &PodView<'_>,
    mention: Option<&Mention>,
    outcome: &mut Outcome<'_>,
) -> bool {
    // It left the slices before this commit (a changed selector, say), or never was in one.
    let revision = mention.map_or(pod.object.revision, |mention| mention.revision);
    let acknowledged = view.world.acknowledged >= revision;
    if !acknowledged {
        outcome.await_acknowledgement(revision);
    }
    match mention {
        None => acknowledged,
        Some(mention) if mention.headless => false,
        Some(mention) => !mention.unmarked && acknowledged && !is_last_of_a_service(view, pod),
    }
}

/// Whether a service leads to no ready pod, as far as its slices say, while another one is on its way.
fn is_last_of_a_service(view: &View<'_>, pod: &PodView<'_>) -> bool {
    pod.ready_when_last_heard()
        && view.services_selecting(pod.namespace(), pod.labels()).any(|service| {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let Some(wanted) = selector.filter(|_| !is_served(view, &service)) else { return false };
            let others = view.pods_labelled(pod.namespace(), wanted);
            others.iter().any(|other| !other.deleting() && !other.terminal())
        })
}

/// Whether a service has a ready endpoint.
fn is_served(view: &View<'_>, service: &Typed<'_, Service>) -> bool {
    let ready = |endpoint: &Endpoint| {
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
            && uid(endpoint).is_some()
    };
    let slices = view.slices_of(service.namespace(), service.name());
    slices
        .filter_map(|slice| slice.typed::<EndpointSlice>().ok())
        .any(|slice| slice.endpoints.iter().any(ready))
}

fn uid(endpoint: &Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.uid.as_deref()
}

/// What the slices say of a pod.
fn mention(view: &View<'_>, pod: &PodView<'_>) -> Option<Mention> {
    let mut mention: Option<Mention> = None;
    for object in view.indexes.of(By::Mention, pod.uid()) {
        let Ok(slice) = object.typed::<EndpointSlice>() else { continue };
        let terminating = |endpoint: &Endpoint| {
            endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating) == Some(true)
        };
        let mut of_pod = slice.endpoints.iter().filter(|endpoint| uid(endpoint) == Some(pod.uid()));
        let mention = mention.get_or_insert_default();
        mention.revision = mention.revision.max(object.revision);
        mention.unmarked |= !of_pod.all(terminating);
        mention.headless |= endpoints::is_headless(&object.value);
    }
    mention
}
