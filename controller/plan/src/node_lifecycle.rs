//! Is a node there, and what becomes of its pods when it is not?
//!
//! Silence makes a node suspect (its pods leave the endpoints), then lost (Ready=Unknown, tainted, its pods
//! are marked for deletion so that they are replaced). When most nodes vanish at the same time it is more
//! likely that the controller is cut off than that they died: then the brake holds the evictions.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};
use serde_json::{Value, json};
use warren_state::{Key, Transaction};

use crate::{
    Liveness,
    events::{self, Event},
    garbage,
    object::{self, Condition},
    outcome::Outcome,
    view::{NODE_LOST, PodView, Typed, View},
};
use warren_vocabulary::{
    Health,
    health::{LOST_AFTER, SUSPECT_AFTER},
    resources::NODES,
};

/// Keys of the taints that this planner owns.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// How long pods stay on a node that answers but is not ready, unless they say otherwise. It is also the
/// toleration that Kubernetes' admission adds to every pod, for either taint.
const DEFAULT_TOLERATION_SECONDS: i64 = 300;
const COMPONENT: &str = "node-controller";

/// What a node's silence means.
pub fn health(liveness: &Liveness) -> Health {
    Health::after(liveness.silent_for)
}

pub(crate) fn plan_nodes(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    let braked = brakes(view.silent, view.indexes.nodes);
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(node) = view.typed::<Node>(key) else { return };
            if braked && view.health(node.name()) == Health::Lost {
                outcome.problem(key.clone(), brake_message(view.silent, view.indexes.nodes));
            }
            plan_node(view, &node, braked, outcome);
        });
    }
}

/// What becomes of single pods on nodes that have gone, or want to be rid of them.
pub(crate) fn plan_pods(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    let braked = brakes(view.silent, view.indexes.nodes);
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(pod) = view.typed::<Pod>(key).filter(|pod| !pod.terminal()) else { return };
            let node = pod.node().and_then(|node| view.typed::<Node>(&Key::new(NODES, "", node)));
            let Some(node) = node else { return };
            let health = view.health(node.name());
            if health != Health::Suspect && !(braked && health == Health::Lost) {
                plan_pod(view, &node, &pod, health, outcome);
            }
        });
    }
}

/// More than half of the nodes, at least two of at least three. The suspect ones are silent, too: nodes that vanish
/// together are not noticed in the same instant, and the first of them must not be evicted before the second is missed.
pub(crate) fn brakes(silent: usize, all: usize) -> bool {
    all >= 3 && silent >= 2 && silent * 2 > all
}

fn brake_message(silent: usize, all: usize) -> String {
    format!(
        "{silent} of {all} nodes are silent at the same time: their pods are kept, because it is more likely that \
         the controller is cut off; restore the connection, or delete the nodes that are gone for good"
    )
}

/// How long until a node that goes on being silent is suspect, or lost. Liveness is not part of the store, so nothing
/// but time tells us that it may have changed.
pub(crate) fn next_silence(liveness: &Liveness) -> Option<Duration> {
    let rests = [SUSPECT_AFTER, LOST_AFTER].map(|bound| bound.checked_sub(liveness.silent_for));
    rests.into_iter().flatten().find(|rest| !rest.is_zero())
}

/// What the Ready condition should say; `None` keeps it.
fn ready_condition(node: &Typed<'_, Node>, health: Health, liveness: &Liveness) -> Option<[String; 3]> {
    let text =
        |status: &str, reason: &str, message: &str| Some([status.into(), reason.into(), message.into()]);
    match health {
        Health::Suspect => return None,
        Health::Lost => return text("Unknown", "NodeStatusUnknown", "Agent stopped posting node status."),
        Health::Alive => {}
    }
    let runtime = object::condition(&node.object.value, "ContainerRuntimeReady");
    let runtime_ready = runtime.is_some_and(|condition| condition["status"] == "True");
    if !runtime_ready {
        let said =
            runtime.and_then(|condition| condition["message"].as_str()).filter(|said| !said.is_empty());
        let message =
            format!("container runtime is down: {}", said.unwrap_or("the agent has not reported it yet"));
        return text("False", "KubeletNotReady", &message);
    }
    if !liveness.network_ready {
        return text(
            "False",
            "KubeletNotReady",
            "network is not ready: netd has not taken its feed into force yet",
        );
    }
    text("True", "KubeletReady", "the agent is posting ready status")
}

fn plan_node(view: &View<'_>, node: &Typed<'_, Node>, braked: bool, outcome: &mut Outcome<'_>) {
    let Some(liveness) = view.world.nodes.get(node.name()) else { return };
    let health = view.health(node.name());
    let Some([status, reason, message]) = ready_condition(node, health, liveness) else { return };
    let ready = object::condition(&node.object.value, "Ready");
    let before = ready.and_then(|ready| ready["status"].as_str());
    let stale = ready.is_none_or(|ready| {
        ready["status"] != *status || ready["reason"] != *reason || ready["message"] != *message
    });
    let taints = changed_taints(&node.object.value, &status, view.now);
    // Looked at before it is copied: what is true of most nodes most of the time changes nothing.
    if !stale && taints.is_none() {
        return;
    }
    let mut value = node.object.value.clone();
    if stale {
        let wanted = Condition { kind: "Ready", status: &status, reason: &reason, message: &message };
        object::set_condition(&mut value, &wanted, view.now);
        set_heartbeat(&mut value, view.now);
    }
    taints.into_iter().for_each(|taints| set_taints(&mut value, taints));
    let mut transaction = Transaction::new().replace(node.object.key.clone(), node.object.revision, value);
    if before != Some(status.as_str()) && (before.is_some() || status == "True") {
        let name = node.name();
        let (reason, warning) = if status == "True" { ("NodeReady", false) } else { ("NodeNotReady", true) };
        let message = format!("Node {name} status is now: {reason}");
        let about = node.object;
        events::record(
            view,
            &mut transaction,
            &Event { about, component: COMPONENT, reason, message, warning },
        );
    }
    if braked && health == Health::Lost {
        let event = Event {
            about: node.object,
            component: COMPONENT,
            reason: "EvictionBrake",
            message: brake_message(view.silent, view.indexes.nodes),
            warning: true,
        };
        events::record(view, &mut transaction, &event);
    }
    outcome.step(format!("node {} is Ready={status}", node.name()), transaction);
}

fn set_heartbeat(value: &mut Value, now: Timestamp) {
    let list = value.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in list.into_iter().flatten().filter(|condition| condition["type"] == "Ready") {
        object::object_at(condition, &[]).insert("lastHeartbeatTime".into(), object::time_text(now).into());
    }
}

/// Taints by Ready: Unknown is unreachable, False is not-ready, True is neither. Others' taints are kept; those that pods
/// leave for are told when that was first seen, for pods may have said how long they stay.
fn changed_taints(value: &Value, ready: &str, now: Timestamp) -> Option<Vec<Value>> {
    let wanted = match ready {
        "Unknown" => Some(UNREACHABLE),
        "False" => Some(NOT_READY),
        _ => None,
    };
    let current = warren_state::at(value, "/spec/taints").and_then(Value::as_array);
    let current = current.map(Vec::as_slice).unwrap_or_default();
    let ours = |taint: &Value| taint["key"] == UNREACHABLE || taint["key"] == NOT_READY;
    let mut taints: Vec<_> =
        current.iter().filter(|taint| !ours(taint) || taint["key"].as_str() == wanted).cloned().collect();
    for taint in taints.iter_mut().filter(|taint| taint["effect"] == "NoExecute") {
        let fields = object::object_at(taint, &[]);
        let time = fields.entry("timeAdded").or_insert(Value::Null);
        if time.is_null() {
            *time = object::time_text(now).into();
        }
    }
    for effect in ["NoSchedule", "NoExecute"] {
        let Some(key) = wanted else { break };
        if !taints.iter().any(|taint| taint["key"] == key && taint["effect"] == effect) {
            taints.push(json!({ "key": key, "effect": effect, "timeAdded": object::time_text(now) }));
        }
    }
    (taints != current).then_some(taints)
}

fn set_taints(value: &mut Value, taints: Vec<Value>) {
    let spec = object::object_at(value, &["spec"]);
    if taints.is_empty() {
        spec.remove("taints");
    } else {
        spec.insert("taints".into(), Value::Array(taints));
    }
}

fn plan_pod(
    view: &View<'_>,
    node: &Typed<'_, Node>,
    pod: &PodView<'_>,
    health: Health,
    outcome: &mut Outcome<'_>,
) {
    let evict = !pod.deleting() && is_due(view, node, pod, health, outcome);
    let word = match health {
        Health::Lost => pod.ready(),
        _ => pod.marked_lost(),
    };
    if !evict && !word {
        return;
    }
    let Some(value) = object::edited(pod.object, |value| {
        mark_ready(pod, value, health, view.now);
        if evict {
            let message = "Taint manager: deleting due to NoExecute taint";
            object::set_condition(value, &garbage::disruption("DeletionByTaintManager", message), view.now);
            let grace =
                pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
            object::mark_deleted(value, view.now, grace.max(1));
        }
    }) else {
        return;
    };
    let mut transaction = Transaction::new().replace(pod.object.key.clone(), pod.object.revision, value);
    if evict {
        let message = format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name());
        let (about, reason) = (pod.object, "TaintManagerEviction");
        events::record(
            view,
            &mut transaction,
            &Event { about, component: COMPONENT, reason, message, warning: false },
        );
    }
    let verb = if evict { "evict" } else { "update readiness of" };
    outcome.step(format!("{verb} {} on {health:?} node {}", pod.object.key, node.name()), transaction);
}

/// On a lost node no pod is ready. When the node answers again, the agent's last word stands again.
fn mark_ready(pod: &PodView<'_>, value: &mut Value, health: Health, now: Timestamp) {
    let mut set = |status, reason, message| {
        object::set_condition(value, &Condition { kind: "Ready", status, reason, message }, now);
    };
    match health {
        Health::Lost if pod.ready() => set("False", NODE_LOST, "the node stopped answering"),
        Health::Alive if pod.marked_lost() && pod.ready_when_last_heard() => set("True", "", ""),
        Health::Alive if pod.marked_lost() => set("False", "ContainersNotReady", ""),
        _ => {}
    }
}

/// Whether a pod must leave its node by now.
fn is_due(
    view: &View<'_>,
    node: &Typed<'_, Node>,
    pod: &PodView<'_>,
    health: Health,
    outcome: &mut Outcome<'_>,
) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    // The taint of a lost node may not be written yet; eviction follows the taint, one pass later.
    let mut due = false;
    for taint in taints.iter().filter(|taint| taint.effect == "NoExecute") {
        let ours = taint.key == UNREACHABLE || taint.key == NOT_READY;
        if taint.key == UNREACHABLE && health != Health::Lost {
            continue;
        }
        let matching: Vec<_> = tolerations
            .iter()
            .filter(|t| tolerates(t, &taint.key, taint.value.as_deref(), "NoExecute"))
            .collect();
        let seconds = if matching.iter().any(|toleration| toleration.toleration_seconds.is_none()) {
            continue;
        } else {
            let asked = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min();
            match asked {
                // What admission adds to every pod is nobody's wish: a lost node's pods are replaced at once.
                Some(DEFAULT_TOLERATION_SECONDS) | None if taint.key == UNREACHABLE => 0,
                None if ours => DEFAULT_TOLERATION_SECONDS,
                None => 0,
                Some(asked) => asked.max(0),
            }
        };
        // Not in the future: that is a clock that was set back since, and a lost node's pods do not wait for it.
        let added = match &taint.time_added {
            Some(time) => time.0.min(view.now),
            None if seconds == 0 => view.now,
            // It is told next when it was seen.
            None => continue,
        };
        let since = added.max(placed_at(pod).min(view.now));
        let at = object::later(since, seconds);
        due |= at <= view.now;
        outcome.wake(at);
    }
    due
}

/// When a pod came to its node: it stays as long as it says from then on.
fn placed_at(pod: &PodView<'_>) -> Timestamp {
    let scheduled = object::condition(&pod.object.value, "PodScheduled");
    let time = scheduled.and_then(|condition| condition["lastTransitionTime"].as_str()?.parse().ok());
    time.unwrap_or_else(|| object::created_at(pod.object))
}

/// Whether a toleration covers a taint.
pub(crate) fn tolerates(toleration: &Toleration, key: &str, value: Option<&str>, effect: &str) -> bool {
    let exists = toleration.operator.as_deref() == Some("Exists");
    let wanted = toleration.key.as_deref().unwrap_or_default();
    let effect_fits = toleration.effect.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == effect);
    let key_fits = if wanted.is_empty() { exists } else { wanted == key };
    let value_fits = exists || toleration.value.as_deref().unwrap_or_default() == value.unwrap_or_default();
    effect_fits && key_fits && value_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brake_needs_most_of_at_least_three() {
        for (lost, all, expected) in [
            (1, 1, false),
            (2, 2, false),
            (1, 3, false),
            (2, 3, true),
            (2, 4, false),
            (3, 4, true),
            (2, 5, false),
        ] {
            assert_eq!(brakes(lost, all), expected, "{lost} of {all}");
        }
    }

    #[test]
    fn tolerations_match_as_kubernetes_says() {
        let toleration = |json: Value| serde_json::from_value::<Toleration>(json).expect("valid");
        for (json, expected) in [
            (json!({"operator": "Exists"}), true),
            (json!({}), false),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), true),
        ] {
            assert_eq!(
                tolerates(&toleration(json.clone()), "k", Some("v"), "NoSchedule"),
                expected,
                "{json}"
            );
        }
    }
}
