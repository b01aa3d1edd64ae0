//! Events: what happened to an object, for people.

use serde_json::{Value, json};
use warren_state::{Key, Object, Precondition, Transaction, Write};

use crate::{object, outcome::Outcome, view::View};
use warren_vocabulary::resources;

/// Something worth telling about an object.
pub(crate) struct Event<'a> {
    /// What it happened to.
    pub(crate) about: &'a Object,
    /// Who tells it: "deployment-controller".
    pub(crate) component: &'a str,
    /// A word in CamelCase.
    pub(crate) reason: &'a str,
    /// A sentence.
    pub(crate) message: String,
    /// Whether it needs attention.
    pub(crate) warning: bool,
}

/// Adds the event to a transaction: it is told if and only if the thing happens. An event of the same object,
/// reason and message is counted. Nothing is told inside a namespace that is going away.
pub(crate) fn record(view: &View<'_>, transaction: &mut Transaction, event: &Event<'_>) {
    let Some(key) = key(view, event) else { return };
    let value = match view.read(&key) {
        Some(existing) => {
            // One that a client deletes meanwhile stays deleted: the step is planned anew.
            transaction.preconditions.push(Precondition::Exists(key.clone()));
            repeated(view, existing)
        }
        None => first(view, event, &key),
    };
    transaction.writes.push(Write::Put(key, value));
}

/// Adds the event unless it is there already: for what goes on, and would be counted in every pass.
pub(crate) fn record_once(view: &View<'_>, transaction: &mut Transaction, event: &Event<'_>) {
    if let Some(key) = key(view, event).filter(|key| view.read(key).is_none()) {
        let value = first(view, event, &key);
        transaction.writes.push(Write::Put(key, value));
    }
}

/// The same as a step of its own.
pub(crate) fn once(view: &View<'_>, outcome: &mut Outcome<'_>, event: &Event<'_>) {
    let mut transaction = Transaction::new();
    record_once(view, &mut transaction, event);
    if !transaction.writes.is_empty() {
        outcome.step(format!("event about {}", event.about.key), transaction);
    }
}

fn key(view: &View<'_>, event: &Event<'_>) -> Option<Key> {
    let about = &event.about.key;
    let namespace = if about.namespace.is_empty() { "default" } else { &*about.namespace };
    if about.namespace.is_empty() {
        view.read(&Key::new(resources::NAMESPACES, "", namespace));
    }
    if view.namespace_terminating(namespace) {
        return None;
    }
    let uid = object::uid(event.about);
    let hash = object::hex16(&[uid, event.component, event.reason, &event.message]);
    Some(Key::new(resources::EVENTS, namespace, &format!("{:.236}.{hash}", about.name)))
}

fn repeated(view: &View<'_>, existing: &Object) -> Value {
    let mut value = existing.value.clone();
    // A number of 32 bits in the API.
    let count = value.get("count").and_then(Value::as_i64).unwrap_or(1).clamp(0, i64::from(i32::MAX) - 1);
    let fields = object::object_at(&mut value, &[]);
    fields.insert("count".into(), (count + 1).into());
    fields.insert("lastTimestamp".into(), object::time_text(view.now).into());
    value
}

fn first(view: &View<'_>, event: &Event<'_>, key: &Key) -> Value {
    let about = &event.about.key;
    let (api_version, kind) = object::type_of(event.about);
    let now = object::time_text(view.now);
    // By convention (kubelet, and `kubectl describe node` relies on it) a Node's events carry its name as uid.
    let uid = if kind == "Node" { &*about.name } else { object::uid(event.about) };
    let mut involved = json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": &*about.name,
        "uid": uid,
        "resourceVersion": event.about.revision.to_string(),
    });
    if !about.namespace.is_empty() {
        object::object_at(&mut involved, &[]).insert("namespace".into(), (*about.namespace).into());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": &*key.name,
            "namespace": &*key.namespace,
            "uid": object::uuid(&["event", &key.namespace, &key.name, &view.world.snapshot.revision.to_string()]),
            "creationTimestamp": now,
        },
        "involvedObject": involved,
        "reason": event.reason,
        "message": event.message,
        "type": if event.warning { "Warning" } else { "Normal" },
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "eventTime": null,
        "source": { "component": event.component },
        "reportingComponent": event.component,
        "reportingInstance": "",
    })
}
