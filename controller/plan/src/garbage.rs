//! What has no owner any more?
//!
//! Objects whose owners are all gone (by uid), dependents of an owner that is deleted in the foreground,
//! pods of nodes that do not exist, reserved service addresses without a service, and old events.

pub(crate) mod circles;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use warren_objects::disruption::TARGET;
use warren_state::{Key, Object, Transaction};

use crate::{
    events::{self, Event},
    indexes::By,
    object::{self, Condition},
    outcome::Outcome,
    view::View,
};
use warren_vocabulary::{
    ipam,
    member::{Member, MemberRole},
    resources::{NAMESPACES, NODES, SERVICES},
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// How many seconds events are kept.
const EVENT_LIFE: i64 = 3_600;
/// How many expired events one step removes.
const EVENT_BATCH: usize = 256;

/// Who depends on an object. What is set aside depends on its owners, too: they wait for it.
fn dependents<'a>(view: &View<'a>, uid: &str) -> Vec<&'a Arc<Object>> {
    let owned = |object: &&Arc<Object>| object::owners(object).any(|owner| object::owner_uid(owner) == uid);
    let set_aside = view.world.quarantined.iter().filter(owned);
    view.indexes.of(By::Owner, uid).chain(set_aside).collect()
}

/// Whether an object is set aside: it owns what it owns.
fn is_set_aside(view: &View<'_>, uid: &str) -> bool {
    view.world.quarantined.iter().any(|object| object::uid(object) == uid)
}

/// Whether an object is being deleted in the foreground: it waits for its dependents.
pub(crate) fn waits_for_dependents(object: &Object) -> bool {
    object::is_deleting(object) && object::finalizers(object).any(|finalizer| finalizer == FOREGROUND)
}

/// Objects that have owners or are being deleted.
pub(crate) fn plan(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(object) = view.world.snapshot.get(key) else { return };
            if object::is_deleting(object) {
                finish(view, object, outcome);
            } else {
                follow(view, object, outcome);
            }
        });
    }
}

/// What an owner reference is worth.
#[derive(PartialEq)]
enum Owner {
    /// It lives, or is of a kind that is not served here and cannot be judged.
    Lives,
    /// It is being deleted in the foreground: it waits for its dependents.
    Waits,
    /// There is no such object any more.
    Gone,
}

fn judge(view: &View<'_>, dependent: &Object, reference: &Value) -> Owner {
    let uid = object::owner_uid(reference);
    if is_set_aside(view, uid) {
        return Owner::Lives;
    }
    match (is_within_reach(view, dependent, reference), view.by_uid(uid)) {
        (None, _) => Owner::Lives,
        // In another namespace there may be anything: in its own the owner does not exist.
        (Some(true), Some(owner)) if owner.key.namespace != dependent.key.namespace => Owner::Gone,
        (_, Some(owner)) if waits_for_dependents(owner) => Owner::Waits,
        (_, Some(_)) => Owner::Lives,
        (_, None) => Owner::Gone,
    }
}

/// Whether an owner is looked for in the dependent's own namespace (or else in none); nothing when it is of a kind
/// that is not served here, or that an object without a namespace cannot belong to.
fn is_within_reach(view: &View<'_>, dependent: &Object, reference: &Value) -> Option<bool> {
    let field = |name| reference.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = view.registry.named(field("apiVersion"), field("kind"))?;
    (!kind.namespaced || !dependent.key.namespace.is_empty()).then_some(kind.namespaced)
}

/// An object follows its owners when the last of them goes; while one lives, it only forgets the others.
fn follow(view: &View<'_>, object: &Arc<Object>, outcome: &mut Outcome<'_>) {
    let owners: Vec<(&Value, Owner)> =
        object::owners(object).map(|reference| (reference, judge(view, object, reference))).collect();
    if owners.is_empty() {
        return;
    }
    warn_of_foreign_owners(view, object, outcome);
    let any = |wanted: Owner| owners.iter().any(|(_, owner)| *owner == wanted);
    if any(Owner::Lives) {
        let lost = owners.iter().filter(|(_, owner)| *owner != Owner::Lives);
        let lost: Vec<&str> = lost.map(|(reference, _)| object::owner_uid(reference)).collect();
        if lost.is_empty() {
            return;
        }
        let forget = |value: &mut Value| lost.iter().for_each(|uid| object::disown(value, uid));
        if let Some(value) = object::edited(object, forget) {
            let transaction = Transaction::new().replace(object.key.clone(), object.revision, value);
            outcome.step(format!("{} forgets an owner that goes", object.key), transaction);
        }
    } else if any(Owner::Waits) {
        if let Some(transaction) = delete_in_foreground(view, object) {
            outcome.step(format!("delete {} before its owner", object.key), transaction);
        }
    } else if let Some(transaction) = object::delete(object, view.now) {
        outcome.step(format!("delete {}: its owner is gone", object.key), transaction);
    }
}

/// An owner must be in the same namespace, or in none: a reference that says otherwise is told at the dependent.
fn warn_of_foreign_owners(view: &View<'_>, object: &Arc<Object>, outcome: &mut Outcome<'_>) {
    for reference in object::owners(object) {
        let Some(owner) = view.by_uid(object::owner_uid(reference)) else { continue };
        if owner.key.namespace.is_empty() || owner.key.namespace == object.key.namespace {
            continue;
        }
        let message =
            format!("ownerRef {} does not exist in namespace {:?}", owner.key, &*object.key.namespace);
        let (component, reason) = ("garbage-collector-controller", "OwnerRefInvalidNamespace");
        let mut transaction = Transaction::new();
        let event = Event { about: object, component, reason, message, warning: true };
        events::record_once(view, &mut transaction, &event);
        outcome.step(format!("{} names an owner in another namespace", object.key), transaction);
    }
}

/// Carries on with an object that is being deleted.
fn finish(view: &View<'_>, object: &Arc<Object>, outcome: &mut Outcome<'_>) {
    let has = |name: &str| object::finalizers(object).any(|finalizer| finalizer == name);
    let uid = object::uid(object);
    if has(ORPHAN) {
        let dependents = dependents(view, uid);
        let orphan = |dependent: &&Arc<Object>| {
            if is_set_aside(view, object::uid(dependent)) {
                return None;
            }
            let value = object::edited(dependent, |value| object::disown(value, uid))?;
            Some(Transaction::new().replace(dependent.key.clone(), dependent.revision, value))
        };
        for (dependent, transaction) in dependents.iter().filter_map(|d| Some((d, orphan(d)?))) {
            outcome.step(format!("orphan {}", dependent.key), transaction);
        }
        if dependents.is_empty() {
            release(object, ORPHAN, outcome);
        }
    } else if has(FOREGROUND) {
        // The dependents see for themselves that their owner waits. In a circle no object would ever be the first.
        let circles =
            |dependent: &Object| view.indexes.circles(uid) && view.indexes.circles(object::uid(dependent));
        let holds = |dependent: &&Arc<Object>| object::blocks(dependent, uid) && !circles(dependent);
        if !dependents(view, uid).iter().any(holds) {
            release(object, FOREGROUND, outcome);
        }
    } else if object::finalizers(object).next().is_none() && is_finished(object) {
        outcome.step(format!("remove {}", object.key), object::remove(object));
    }
}

/// Pods end when their agent has stopped them, namespaces when they are empty; the rest needs nothing more.
fn is_finished(object: &Object) -> bool {
    match &*object.key.resource {
        NAMESPACES => false,
        _ => object::is_let_go(object),
    }
}

/// Deletes an object after its dependents: a dependent with dependents of its own waits for them too.
pub(crate) fn delete_in_foreground(view: &View<'_>, dependent: &Arc<Object>) -> Option<Transaction> {
    if dependents(view, object::uid(dependent)).is_empty() {
        return object::delete(dependent, view.now);
    }
    let value = object::edited(dependent, |value| {
        object::add_finalizer(value, FOREGROUND);
        object::mark_deleted(value, view.now, object::grace(dependent));
    })?;
    Some(Transaction::new().replace(dependent.key.clone(), dependent.revision, value))
}

/// Takes a finalizer off; with the last one the object goes.
fn release(object: &Arc<Object>, finalizer: &str, outcome: &mut Outcome<'_>) {
    let last = object::finalizers(object).all(|other| other == finalizer);
    let transaction = if last && is_finished(object) {
        object::remove(object)
    } else {
        let Some(value) = object::edited(object, |value| object::remove_finalizer(value, finalizer)) else {
            return;
        };
        Transaction::new().replace(object.key.clone(), object.revision, value)
    };
    outcome.step(format!("{finalizer} of {} is done", object.key), transaction);
}

/// Whether a node of this name exists, set aside or not. One that cannot be read exists all the same.
fn has_node(view: &View<'_>, name: &str) -> bool {
    view.world.exists(&Key::new(NODES, "", name))
}

/// Pods on nodes that do not exist.
pub(crate) fn plan_pods(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(pod) = view.typed::<Pod>(key) else { return };
            let Some(node) = pod.node().filter(|node| !has_node(view, node)) else { return };
            let transaction = if object::finalizers(pod.object).next().is_none() {
                Some(object::remove(pod.object))
            } else {
                let value = object::edited(pod.object, |value| end_without_node(value, view.now));
                value.map(|value| Transaction::new().replace(key.clone(), pod.object.revision, value))
            };
            if let Some(transaction) = transaction {
                outcome.step(format!("remove {key}: node {node} does not exist"), transaction);
            }
        });
    }
}

/// A pod that somebody holds though its node is gone: nobody will end it any more, and whoever counts it must learn how it
/// ended.
fn end_without_node(pod: &mut Value, now: Timestamp) {
    object::mark_deleted(pod, now, 0);
    object::object_at(pod, &["metadata"]).insert("deletionGracePeriodSeconds".into(), 0.into());
    let status = object::object_at(pod, &["status"]);
    if !["Succeeded", "Failed"].iter().any(|end| status.get("phase").is_some_and(|phase| phase == end)) {
        status.insert("phase".into(), "Failed".into());
        object::set_condition(pod, &disruption("DeletionByPodGC", "PodGC: node no longer exists"), now);
    }
}

/// The condition of a pod that ends for other reasons than its own.
pub(crate) fn disruption<'a>(reason: &'a str, message: &'a str) -> Condition<'a> {
    Condition { kind: TARGET, status: "True", reason, message }
}

/// A node's member and its Node are made in one commit: who deletes the Node expels the member.
pub(crate) fn plan_members(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    for key in keys {
        outcome.unit(view, key, |outcome| {
            let Some(object) = view.world.snapshot.get(key) else { return };
            let Ok(member) = Member::from_object(object) else { return };
            if member.role == MemberRole::Node && !has_node(view, &member.name) {
                outcome.step(format!("expel {key}: its node was deleted"), object::remove(object));
            }
        });
    }
}

/// A service and its address are made in one commit, so a lone address was left behind.
pub(crate) fn plan_addresses(view: &View<'_>, keys: &BTreeSet<Key>, outcome: &mut Outcome<'_>) {
    let config = &view.world.config;
    let reserved = [config.dns_address.to_string(), ipam::first_service_address(config).to_string()];
    let set_aside = view.world.quarantined.iter().filter(|object| &*object.key.resource == SERVICES);
    let held_aside: BTreeSet<&str> =
        set_aside.flat_map(|service| object::service_addresses(service)).collect();
    for key in keys.iter().filter(|key| !reserved.iter().any(|name| **name == *key.name)) {
        outcome.unit(view, key, |outcome| {
            let Some(address) = view.world.snapshot.get(key) else { return };
            if !view.indexes.any(By::ServiceAddress, &key.name) && !held_aside.contains(&*key.name) {
                outcome.step(format!("release {key}"), object::remove(address));
            }
        });
    }
}

/// When an event has been kept for long enough.
pub(crate) fn expiry(event: &Object) -> Timestamp {
    let time = |pointer| warren_state::at(&event.value, pointer).and_then(Value::as_str)?.parse().ok();
    let told =
        time("/series/lastObservedTime").or_else(|| time("/lastTimestamp")).or_else(|| time("/eventTime"));
    // When it was written is no earlier than its creation, whatever past it tells of.
    let created = object::created_at(event);
    object::later(told.map_or(created, |told: Timestamp| told.max(created)), EVENT_LIFE)
}

/// Events that are old enough by now; they are in the order in which they expire.
pub(crate) fn forget_events(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let mut expired = Vec::new();
    for (at, key) in &view.indexes.expiries {
        if *at > view.now {
            outcome.wake(*at);
            break;
        }
        // One that happens again, or goes otherwise, is not what it was.
        expired.extend(view.world.snapshot.get(key).filter(|event| !outcome.writes(&event.key)));
    }
    for batch in expired.chunks(EVENT_BATCH) {
        let transaction = batch.iter().fold(Transaction::new(), |transaction, event| {
            transaction.delete(event.key.clone(), event.revision)
        });
        outcome.step(format!("forget {} old events", batch.len()), transaction);
    }
}
