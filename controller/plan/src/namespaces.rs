//! What does a namespace need when it lives, and what remains to be done when it goes?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};
use warren_state::{Key, Object, Precondition, Transaction};

use crate::{
    object::{self, Condition},
    outcome::Outcome,
    view::{Typed, View},
};
use warren_vocabulary::resources::{PODS, SERVICEACCOUNTS};

pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(namespace) = view.typed::<Namespace>(key) else { return };
            if namespace.deleting() {
                terminate(view, &namespace, outcome);
            } else if !view.namespace_terminating(namespace.name()) {
                give_service_account(view, &namespace, outcome);
            }
        });
    }
}

fn give_service_account(view: &View<'_>, namespace: &Typed<'_, Namespace>, outcome: &mut Outcome<'_>) {
    let key = Key::new(SERVICEACCOUNTS, namespace.name(), "default");
    if view.exists(&key) {
        return;
    }
    let revision = view.world.snapshot.revision.to_string();
    let value = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {
            "name": "default",
            "namespace": namespace.name(),
            "uid": object::uuid(&["serviceaccount", namespace.uid(), &revision]),
            "creationTimestamp": object::time_text(view.now),
        },
    });
    let mut transaction = Transaction::new().create(key, value);
    transaction.preconditions.push(Precondition::Exists(namespace.object.key.clone()));
    outcome.step(format!("service account of namespace {}", namespace.name()), transaction);
}

/// What Kubernetes says of every namespace that goes, besides of what is left in it: clients wait for these conditions to
/// be there. None of the three failures can arise here: kinds are known, and a deletion is a commit.
const NO_FAILURES: [Condition<'static>; 3] = [
    Condition {
        kind: "NamespaceDeletionDiscoveryFailure",
        status: "False",
        reason: "ResourcesDiscovered",
        message: "All resources successfully discovered",
    },
    Condition {
        kind: "NamespaceDeletionGroupVersionParsingFailure",
        status: "False",
        reason: "ParsedGroupVersions",
        message: "All legacy kube types successfully parsed",
    },
    Condition {
        kind: "NamespaceDeletionContentFailure",
        status: "False",
        reason: "ContentDeleted",
        message: "All content successfully deleted, may be waiting on finalization",
    },
];

/// Says in the namespace's conditions what is left in it, and which finalizers hold that.
fn explain(namespace: &mut Value, content: &[&Arc<Object>], now: Timestamp) {
    for condition in &NO_FAILURES {
        object::set_condition(namespace, condition, now);
    }
    let mut remaining: BTreeMap<String, usize> = BTreeMap::new();
    let mut holding: BTreeMap<&str, usize> = BTreeMap::new();
    for object in content {
        let resource = &*object.key.resource;
        let dot = if resource.contains('.') { "" } else { "." };
        *remaining.entry(format!("{resource}{dot}")).or_default() += 1;
        object::finalizers(object).for_each(|finalizer| *holding.entry(finalizer).or_default() += 1);
    }
    let remaining: Vec<String> = remaining
        .iter()
        .map(|(resource, count)| format!("{resource} has {count} resource instances"))
        .collect();
    let message = format!("Some resources are remaining: {}", remaining.join(", "));
    let kind = "NamespaceContentRemaining";
    let found = Condition { kind, status: "True", reason: "SomeResourcesRemain", message: &message };
    object::set_condition(namespace, &found, now);
    let holders: Vec<String> = holding
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let (status, reason, message) = if holders.is_empty() {
        let message = "All content-preserving finalizers finished".to_owned();
        ("False", "ContentHasNoFinalizers", message)
    } else {
        let text = format!("Some content in the namespace has finalizers remaining: {}", holders.join(", "));
        ("True", "SomeFinalizersRemain", text)
    };
    let held = Condition { kind: "NamespaceFinalizersRemaining", status, reason, message: &message };
    object::set_condition(namespace, &held, now);
}

/// Deletes the pods, when they are gone all other content, then the namespace: what runs may need its configuration,
/// its credentials and what protects it until its end.
fn terminate(view: &View<'_>, namespace: &Typed<'_, Namespace>, outcome: &mut Outcome<'_>) {
    let inside = |object: &&Arc<Object>| *object.key.namespace == *namespace.name();
    let of = |resource| view.world.snapshot.list_namespace(resource, namespace.name());
    let mut content: Vec<&Arc<Object>> = view.indexes.resources().flat_map(|resource| of(resource)).collect();
    let is_pod = |object: &Object| &*object.key.resource == PODS;
    let has_pods = content.iter().any(|object| is_pod(object));
    for object in content.iter().filter(|object| !has_pods || is_pod(object)) {
        let deletion = outcome.each(object, |_| object::delete(object, view.now));
        if let Some(transaction) = deletion.flatten() {
            outcome.step(format!("delete {} with its namespace", object.key), transaction);
        }
    }
    content.extend(view.world.quarantined.iter().filter(inside));
    let (key, revision) = (namespace.object.key.clone(), namespace.object.revision);
    if !content.is_empty() {
        let terminating = object::edited(namespace.object, |value| {
            object::object_at(value, &["status"]).insert("phase".into(), "Terminating".into());
            explain(value, &content, view.now);
        });
        if let Some(value) = terminating {
            outcome.step(format!("{key} is terminating"), Transaction::new().replace(key, revision, value));
        }
    } else if object::finalizers(namespace.object).next().is_none() {
        outcome.step(format!("remove {key}"), Transaction::new().delete(key, revision));
    } else if let Some(value) = object::edited(namespace.object, |value| {
        object::object_at(value, &["spec"]).insert("finalizers".into(), Value::Array(Vec::new()));
    }) {
        outcome.step(format!("finalize {key}"), Transaction::new().replace(key, revision, value));
    }
}
