//! How it shows that a rollout has failed.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ContainerStatus;

use super::{
    answers,
    draft::Draft,
    status::{self, DEADLINE_EXCEEDED},
};
use crate::{
    Health, object,
    view::{PodView, View},
};

/// A container that was restarted so often without being ready crashes in a loop, whatever it does at the moment.
const MOST_RESTARTS: i32 = 3;
/// For so many seconds after a pod has found its node an image may be missing: a registry may be away for a moment.
const IMAGE_PATIENCE: i64 = 60;
/// The longest part of a node's words that is repeated, in characters.
const LONGEST: usize = 300;

const CRASH_LOOP: &str = "CrashLoopBackOff";
const NO_IMAGE: [&str; 3] = ["ImagePullBackOff", "ErrImagePull", "InvalidImageName"];

/// Why a rollout has failed.
pub(super) struct Cause {
    /// A word in `CamelCase`.
    pub(super) reason: &'static str,
    /// A sentence.
    pub(super) message: String,
}

/// Whether it has failed, or else when that may show without anything else happening.
type Finding = (Option<Cause>, Option<Timestamp>);

/// A sign sees the set that would come back, too.
type Sign = fn(&Draft<'_>, usize) -> Finding;

/// What shows it, the most telling first.
const SIGNS: [Sign; 3] = [|draft, _| pods(draft), errors, |draft, _| deadline(draft)];
/// Of a rollout that is complete what its pods answer is all that may still show it.
const SIGNS_OF_COMPLETE: [Sign; 1] = [errors];

/// Why the rollout has failed, if it has. `good` is the set that would come back.
pub(super) fn find(draft: &Draft<'_>, good: usize) -> Finding {
    let signs = if status::is_complete(draft) { &SIGNS_OF_COMPLETE[..] } else { &SIGNS };
    let mut again = None;
    for sign in signs {
        let (cause, at) = sign(draft, good);
        again = [again, at].into_iter().flatten().min();
        if cause.is_some() {
            return (cause, again);
        }
    }
    (None, again)
}

/// The gateways see more of the requests to its pods fail.
fn errors(draft: &Draft<'_>, good: usize) -> Finding {
    (answers::compare(draft, good), None)
}

/// The rollout has taken too long.
fn deadline(draft: &Draft<'_>) -> Finding {
    let Some(said) = status::exceeded(draft) else { return (None, None) };
    let words = new_pods(draft).into_iter().filter(|pod| !pod.ready()).find_map(|pod| words(&pod));
    let message = words.map_or_else(|| said.to_owned(), |words| format!("{said} {words}"));
    (Some(Cause { reason: DEADLINE_EXCEEDED, message }), None)
}

/// Of the new pods at least half cannot run: fewer may have met a bad node.
fn pods(draft: &Draft<'_>) -> Finding {
    let pods = new_pods(draft);
    let (mut first, mut failing, mut again) = (None, 0_usize, None);
    for pod in &pods {
        match state(draft.view, pod) {
            State::Fine => {}
            State::Waits(until) => again = [again, Some(until)].into_iter().flatten().min(),
            State::Fails(reason) => {
                failing += 1;
                first.get_or_insert((reason, pod));
            }
        }
    }
    let failed = first.filter(|_| failing.saturating_mul(2) >= pods.len());
    let cause = failed.map(|(reason, pod)| {
        let words = words(pod).unwrap_or_else(|| format!("Pod \"{}\" is not ready.", pod.name()));
        Cause { reason, message: words }
    });
    (cause, again)
}

fn new_pods<'a>(draft: &Draft<'a>) -> Vec<PodView<'a>> {
    let set = draft.new.and_then(|new| draft.sets[new].object);
    let pods = set.into_iter().flat_map(|set| draft.view.pods_of(object::uid(set)));
    pods.filter(|pod: &PodView<'_>| pod.active()).collect()
}

enum State {
    Fine,
    /// It lacks an image, which is borne until then.
    Waits(Timestamp),
    Fails(&'static str),
}

fn state(view: &View<'_>, pod: &PodView<'_>) -> State {
    // What was last heard of a node that is silent says nothing about the template.
    let node_lives = pod.node().is_some_and(|node| view.health(node) == Health::Alive);
    if pod.ready() || !node_lives {
        return State::Fine;
    }
    let mut found = State::Fine;
    for container in containers(pod) {
        let reason = waiting(container).map_or("", |(reason, _)| reason);
        if reason == CRASH_LOOP || (!container.ready && container.restart_count >= MOST_RESTARTS) {
            return State::Fails(CRASH_LOOP);
        }
        if let Some(reason) = NO_IMAGE.into_iter().find(|known| *known == reason) {
            let until = object::later(bound_at(pod), IMAGE_PATIENCE);
            if until <= view.now {
                return State::Fails(reason);
            }
            found = State::Waits(until);
        }
    }
    found
}

fn containers<'p>(pod: &'p PodView<'_>) -> impl Iterator<Item = &'p ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

fn waiting(container: &ContainerStatus) -> Option<(&str, &str)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref()?, waiting.message.as_deref().unwrap_or_default()))
}

/// When a pod found its node.
fn bound_at(pod: &PodView<'_>) -> Timestamp {
    let scheduled =
        pod.condition("PodScheduled").and_then(|condition| condition.last_transition_time.as_ref());
    scheduled.map_or_else(|| object::created_at(pod.object), |time| time.0)
}

/// What a pod that is not ready says of itself.
fn words(pod: &PodView<'_>) -> Option<String> {
    let of_container = containers(pod).filter(|container| !container.ready).find_map(container_words);
    let of_pod = || {
        ["PodScheduled", "Ready"].into_iter().find_map(|kind| {
            let condition = pod.condition(kind).filter(|condition| condition.status != "True")?;
            condition.message.clone().filter(|message| !message.is_empty())
        })
    };
    Some(format!("Pod \"{}\": {:.LONGEST$}", pod.name(), of_container.or_else(of_pod)?))
}

fn container_words(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref();
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = state.and_then(|state| state.terminated.as_ref()).or(last).map(|ended| {
        format!("ended with exit code {} ({})", ended.exit_code, ended.reason.as_deref().unwrap_or("Error"))
    });
    // What every container says before it runs explains nothing.
    let starting = |(reason, _): &(&str, &str)| ["ContainerCreating", "PodInitializing"].contains(reason);
    let waits = waiting(container).filter(|said| !starting(said));
    let waits = waits.map(|(reason, message)| match message {
        "" => reason.to_owned(),
        message => format!("{reason}: {message}"),
    });
    let parts: Vec<_> = [ended, waits].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("container {} {}", container.name, parts.join(", ")))
}
