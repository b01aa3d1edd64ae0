//! When may a pod that is being deleted be stopped? When nobody sends to it any more.
//!
//! A deleted pod's endpoint becomes *terminating* at some revision. Once every live gateway and netd has that
//! revision in force, the stop annotation releases the agent. Two more things are waited for: a pod that is a
//! service's last endpoint stays until its replacement is ready, and a pod of a headless service until clients'
//! copies of its DNS record have expired. All of it at most for [`BARRIER`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use warren_state::Transaction;

use crate::{
    endpoints, object,
    outcome::Outcome,
    selector,
    view::{PodView, View},
};
use warren_vocabulary::{STOP_ANNOTATION, resources::ENDPOINTSLICES};

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

pub(crate) fn plan(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let waiting = |pod: &&PodView<'_>| {
        pod.deleting()
            && pod.node().is_some()
            && object::annotation(&pod.object.value, STOP_ANNOTATION).is_none()
    };
    let mut waiting = view.pods.iter().filter(waiting).peekable();
    if waiting.peek().is_none() {
        return;
    }
    let mentions = mentions(view);
    for pod in waiting {
        outcome.each(pod.object, |outcome| plan_pod(view, pod, &mentions, outcome));
    }
}

fn plan_pod(view: &View<'_>, pod: &PodView<'_>, mentions: &Mentions, outcome: &mut Outcome<'_>) {
    let mention = mentions.pods.get(pod.uid());
    let began = object::deletion_began(pod.object).unwrap_or(view.now);
    let longest = if mention.is_some_and(|mention| mention.headless) { DNS_TTL } else { BARRIER };
    // In the future (times have whole seconds): the clock was set back since, and would never say that it is over.
    let began = if began > object::later(view.now, 1) { Timestamp::UNIX_EPOCH } else { began };
    let cap = object::later(began, longest);
    if object::deletion_grace(pod.object) != 0 && cap > view.now && !is_forgotten(view, pod, mentions) {
        outcome.wake(cap);
        return;
    }
    let stopped = object::edited(pod.object, |value| {
        object::annotate(value, STOP_ANNOTATION, object::time_text(view.now));
    });
    if let Some(value) = stopped {
        let transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
        outcome.step(format!("{} may stop", pod.object.key), transaction);
    }
}

/// Whether every consumer has stopped sending to the pod, and nobody would be left without an endpoint.
fn is_forgotten(view: &View<'_>, pod: &PodView<'_>, mentions: &Mentions) -> bool {
    let acknowledged = view.world.acknowledged;
    match mentions.pods.get(pod.uid()) {
        // It left the slices before this commit (a changed selector, say), or never was in one.
        None => acknowledged >= pod.object.revision,
        Some(mention) if mention.headless => false,
        Some(mention) => {
            !mention.unmarked
                && acknowledged >= mention.revision
                && !is_last_of_a_service(view, pod, mentions)
        }
    }
}

/// Whether a service leads to no ready pod, as far as its slices say, while another one is on its way.
fn is_last_of_a_service(view: &View<'_>, pod: &PodView<'_>, mentions: &Mentions) -> bool {
    pod.ready_when_last_heard()
        && view.services.iter().filter(|service| service.namespace() == pod.namespace()).any(|service| {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let Some(wanted) = selector.filter(|wanted| !wanted.is_empty()) else { return false };
            let mut others =
                view.pods_in(pod.namespace()).filter(|other| !other.deleting() && !other.terminal());
            selector::contains(pod.labels(), wanted)
                && !mentions.served.contains(&(pod.namespace().to_owned(), service.name().to_owned()))
                && others.any(|other| selector::contains(other.labels(), wanted))
        })
}

/// What the slices say.
#[derive(Default)]
struct Mentions {
    /// By pod uid.
    pods: BTreeMap<String, Mention>,
    /// Services with a ready endpoint, by namespace and name.
    served: BTreeSet<(String, String)>,
}

fn mentions(view: &View<'_>) -> Mentions {
    let mut mentions = Mentions::default();
    for (object, slice) in view.world.snapshot.typed::<EndpointSlice>(ENDPOINTSLICES) {
        if !endpoints::is_managed(&object.value) {
            continue;
        }
        for endpoint in &slice.endpoints {
            let Some(uid) = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_ref()) else {
                continue;
            };
            let mention = mentions.pods.entry(uid.clone()).or_default();
            mention.revision = mention.revision.max(object.revision);
            let terminating = endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating);
            mention.unmarked |= terminating != Some(true);
            mention.headless |= endpoints::is_headless(&object.value);
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true);
            if let Some(service) = endpoints::service_of(&object.value).filter(|_| ready) {
                mentions.served.insert((object.key.namespace.to_string(), service.to_owned()));
            }
        }
    }
    mentions
}
