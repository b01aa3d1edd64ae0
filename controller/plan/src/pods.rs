//! Pods that a controller makes: their names, and what they are made of; and how a planner ends one.

use serde_json::{Value, json};
use warren_state::{Key, Object, Transaction};

use crate::{
    events::{self, Event},
    object,
    outcome::Outcome,
    view::View,
};
use warren_vocabulary::resources::PODS;

/// How many pods of one owner may wait for a node: more are made when these have found one. A number that nobody can run
/// (a slip of the finger will do) must not fill the memory with pods.
const WAITING: usize = 500;
/// The same by the size of their template.
const WAITING_BYTES: usize = 64 << 20;
/// The longest prefix of a pod's name: five letters follow.
const PREFIX: usize = 58;

/// Ends the pod that an event is about, for the reason that the event tells.
pub(crate) fn fail(view: &View<'_>, event: &Event<'_>, step: &str, outcome: &mut Outcome<'_>) {
    let pod = event.about;
    let value = object::edited_within(pod, &["status"], |value| {
        let status = object::object_at(value, &["status"]);
        for (field, text) in [("phase", "Failed"), ("reason", event.reason), ("message", &event.message)] {
            status.insert(field.into(), text.into());
        }
    });
    let Some(value) = value else { return };
    let mut transaction = Transaction::new().replace(pod.key.clone(), pod.revision, value);
    events::record(view, &mut transaction, event);
    outcome.step(format!("{} {step}", pod.key), transaction);
}

/// How many pods of an owner may wait for a node at the same time.
pub(crate) fn most_waiting(owner: &Object) -> usize {
    (WAITING_BYTES / owner.json().len().max(1)).clamp(1, WAITING)
}

/// What the names of pods begin with.
pub(crate) fn prefix(name: &str) -> String {
    let mut prefix = format!("{name}-");
    while prefix.len() > PREFIX {
        prefix.pop();
    }
    prefix
}

/// Names that no pod of the owner has had: what they end with is made of the revision that this plan is made from, which
/// never comes again. An older pod may still run on a node that is cut off, and must not meet one of its name. There are
/// more than anybody takes, and the same one may come twice.
pub(crate) fn new_names(view: &View<'_>, owner: &Object, prefix: &str) -> impl Iterator<Item = String> {
    let snapshot = &view.world.snapshot;
    let (epoch, revision) = (snapshot.epoch.to_string(), snapshot.revision.to_string());
    let name = move |ordinal: u64| {
        let parts = ["pod", object::uid(owner), &epoch, &revision, &ordinal.to_string()];
        format!("{prefix}{}", object::letters(&parts, 5))
    };
    (0..).map(name).filter(|name| !view.world.exists(&Key::new(PODS, &owner.key.namespace, name)))
}

/// What pods are made of where their owner has one template.
pub(crate) fn template(owner: &Object) -> Value {
    warren_state::at(&owner.value, "/spec/template").cloned().unwrap_or_default()
}

/// A complete pod. Its uid is new for each life of the name: the revision that it was planned from is part of it.
pub(crate) fn new_pod(view: &View<'_>, owner: &Object, template: &Value, prefix: &str, name: &str) -> Value {
    let part = |pointer: &str| warren_state::at(template, pointer).filter(|value| !value.is_null()).cloned();
    let revision = view.world.snapshot.revision.to_string();
    // What the template leaves out is filled in where the pod is let in.
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": prefix,
            "namespace": &*owner.key.namespace,
            "uid": object::uuid(&["pod", object::uid(owner), name, &revision]),
            "creationTimestamp": object::time_text(view.now),
            "generation": 1,
            "ownerReferences": [object::controller_reference(owner)],
        },
        "spec": part("/spec").unwrap_or_else(|| json!({})),
        "status": { "phase": "Pending" },
    });
    for name in ["labels", "annotations", "finalizers"] {
        if let Some(value) = part(&format!("/metadata/{name}")) {
            object::object_at(&mut pod, &["metadata"]).insert(name.to_owned(), value);
        }
    }
    pod
}
