//! When may a pod that is being deleted be stopped? When nobody sends to it any more.
//!
//! A deleted pod's endpoint becomes *terminating* at some revision. Once every live gateway and netd has that
//! revision in force, or after [`BARRIER`] at the latest, the stop annotation releases the agent.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use warren_store::Transaction;

use crate::{STOP_ANNOTATION, endpoints, object, outcome::Outcome, resources::ENDPOINTSLICES, view::View};

/// The longest, in seconds, that a pod waits for the acknowledgements.
const BARRIER: i64 = 5;

/// Where a pod is still mentioned as an endpoint.
#[derive(Default)]
struct Mention {
    /// The newest revision of the slices that mention it.
    revision: u64,
    /// Some slice does not say yet that it is terminating.
    unmarked: bool,
}

pub(crate) fn plan(view: &View<'_>, outcome: &mut Outcome) {
    let waiting = |pod: &&crate::view::PodView<'_>| {
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
        let began = object::deletion_began(pod.object).unwrap_or(view.now);
        let cap = object::later(began, BARRIER);
        let released = match mentions.get(pod.uid()) {
            None => true,
            Some(_) if object::deletion_grace(pod.object) == 0 || cap <= view.now => true,
            Some(mention) => !mention.unmarked && view.world.acknowledged >= mention.revision,
        };
        if !released {
            outcome.wake(cap);
            continue;
        }
        let stopped = object::edited(pod.object, |value| {
            object::annotate(value, STOP_ANNOTATION, object::time_text(view.now));
        });
        if let Some(value) = stopped {
            let transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
            outcome.step(format!("{} may stop", pod.object.key), transaction);
        }
    }
}

fn mentions(view: &View<'_>) -> BTreeMap<String, Mention> {
    let mut mentions = BTreeMap::<String, Mention>::new();
    for (object, slice) in view.world.snapshot.typed::<EndpointSlice>(ENDPOINTSLICES) {
        if !endpoints::is_managed(&object.value) {
            continue;
        }
        for endpoint in &slice.endpoints {
            let Some(uid) = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_ref()) else {
                continue;
            };
            let mention = mentions.entry(uid.clone()).or_default();
            mention.revision = mention.revision.max(object.revision);
            let terminating = endpoint.conditions.as_ref().and_then(|conditions| conditions.terminating);
            mention.unmarked |= terminating != Some(true);
        }
    }
    mentions
}
