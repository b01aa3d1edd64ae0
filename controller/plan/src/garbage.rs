//! What is nobody's any more?
//!
//! Objects whose owners are all gone (by uid), dependents of an owner that is deleted in the foreground,
//! pods of nodes that do not exist, reserved service addresses without a service, and old events.

mod circles;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::Value;
use warren_objects::kinds;
use warren_state::{Key, Object, Snapshot, Transaction};

use crate::{
    events::{self, Event},
    object,
    outcome::Outcome,
    view::View,
};
use warren_vocabulary::{
    ipam,
    member::{Member, MemberRole},
    resources::{EVENTS, MEMBERS, NAMESPACES, NODES, SERVICEADDRESSES, SERVICES},
};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// How many seconds events are kept.
const EVENT_LIFE: i64 = 3_600;
/// How many expired events one step removes.
const EVENT_BATCH: usize = 256;

/// Owners that exist, and who depends on whom, by uid.
#[derive(Default)]
struct Family<'a> {
    living: BTreeMap<&'a str, &'a Arc<Object>>,
    dependents: BTreeMap<&'a str, Vec<&'a Arc<Object>>>,
    /// Objects that are set aside: they own what they own, and their owners wait for them.
    quarantined: BTreeSet<&'a str>,
    /// Objects that are deleted in the foreground and wait, in the end, for themselves.
    circles: BTreeSet<&'a str>,
}

impl<'a> Family<'a> {
    /// Looks at every object, and at its metadata once: most have no owner and are not being deleted. The second
    /// answer is those that are one or the other, in key order.
    fn of(snapshot: &'a Snapshot, quarantined: &'a [Arc<Object>]) -> (Self, Vec<&'a Arc<Object>>) {
        let (mut family, mut concerned) = (Self::default(), Vec::new());
        for object in snapshot.iter() {
            let Some(metadata) = object.value.get("metadata") else { continue };
            let owners = metadata.get("ownerReferences").and_then(Value::as_array);
            for owner in owners.into_iter().flatten() {
                family.dependents.entry(object::owner_uid(owner)).or_default().push(object);
            }
            if owners.is_some() || metadata.get("deletionTimestamp").is_some() {
                concerned.push(object);
            }
        }
        for object in quarantined {
            family.quarantined.insert(object::uid(object));
            for owner in object::owners(object) {
                family.dependents.entry(object::owner_uid(owner)).or_default().push(object);
            }
        }
        if !family.dependents.is_empty() {
            let known = snapshot.iter().map(|object| (object::uid(object), object));
            family.living = known.filter(|(uid, _)| family.dependents.contains_key(uid)).collect();
        }
        let waits: circles::Waits<'a> = concerned
            .iter()
            .filter(|object| waits_for_dependents(object))
            .map(|object| {
                (object::uid(object), family.blockers(object::uid(object)).map(object::uid).collect())
            })
            .collect();
        family.circles = circles::of(&waits);
        (family, concerned)
    }

    fn dependents(&self, uid: &str) -> &[&'a Arc<Object>] {
        self.dependents.get(uid).map(Vec::as_slice).unwrap_or_default()
    }

    /// The dependents that an owner, deleted in the foreground, waits for.
    fn blockers(&self, owner: &'a str) -> impl Iterator<Item = &'a Object> + use<'a, '_> {
        self.dependents(owner)
            .iter()
            .filter(move |dependent| blocks(dependent, owner))
            .map(|object| &***object)
    }
}

fn waits_for_dependents(object: &Object) -> bool {
    object::is_deleting(object) && object::finalizers(object).any(|finalizer| finalizer == FOREGROUND)
}

pub(crate) fn plan(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let (family, concerned) = Family::of(&view.world.snapshot, &view.world.quarantined);
    for object in concerned {
        outcome.each(object, |outcome| {
            if object::is_deleting(object) {
                finish(&family, object, outcome);
            } else {
                follow(view, &family, object, outcome);
            }
        });
    }
    pods_without_node(view, outcome);
    members_without_node(view, outcome);
    addresses_without_service(view, outcome);
    old_events(view, outcome);
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

fn judge(family: &Family<'_>, dependent: &Object, reference: &Value) -> Owner {
    let uid = object::owner_uid(reference);
    if family.quarantined.contains(uid) {
        return Owner::Lives;
    }
    match (is_within_reach(dependent, reference), family.living.get(uid)) {
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
fn is_within_reach(dependent: &Object, reference: &Value) -> Option<bool> {
    let field = |name| reference.get(name).and_then(Value::as_str).unwrap_or_default();
    let kind = kinds::named(field("apiVersion"), field("kind"))?;
    (!kind.namespaced || !dependent.key.namespace.is_empty()).then_some(kind.namespaced)
}

/// An object follows its owners when the last of them goes; while one lives, it only forgets the others.
fn follow(view: &View<'_>, family: &Family<'_>, object: &Arc<Object>, outcome: &mut Outcome<'_>) {
    let owners: Vec<(&Value, Owner)> =
        object::owners(object).map(|reference| (reference, judge(family, object, reference))).collect();
    if owners.is_empty() {
        return;
    }
    warn_of_foreign_owners(view, family, object, outcome);
    let any = |wanted: Owner| owners.iter().any(|(_, owner)| *owner == wanted);
    if any(Owner::Lives) {
        let lost = owners.iter().filter(|(_, owner)| *owner != Owner::Lives);
        let lost: Vec<&str> = lost.map(|(reference, _)| object::owner_uid(reference)).collect();
        let forgotten =
            object::edited(object, |value| lost.iter().for_each(|uid| object::disown(value, uid)));
        if let Some(value) = forgotten.filter(|_| !lost.is_empty()) {
            let transaction = Transaction::new().replace(object.key.clone(), object.revision, value);
            outcome.step(format!("{} forgets an owner that goes", object.key), transaction);
        }
    } else if any(Owner::Waits) {
        if let Some(transaction) = delete_in_foreground(view, family, object) {
            outcome.step(format!("delete {} before its owner", object.key), transaction);
        }
    } else if let Some(transaction) = object::delete(object, view.now) {
        outcome.step(format!("delete {}: its owner is gone", object.key), transaction);
    }
}

/// An owner must be in the same namespace, or in none: that somebody thought otherwise is told at the dependent.
fn warn_of_foreign_owners(
    view: &View<'_>,
    family: &Family<'_>,
    object: &Arc<Object>,
    outcome: &mut Outcome<'_>,
) {
    for reference in object::owners(object) {
        let Some(owner) = family.living.get(object::owner_uid(reference)) else { continue };
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
fn finish(family: &Family<'_>, object: &Arc<Object>, outcome: &mut Outcome<'_>) {
    let has = |name: &str| object::finalizers(object).any(|finalizer| finalizer == name);
    let uid = object::uid(object);
    let dependents = family.dependents(uid);
    if has(ORPHAN) {
        let orphan = |dependent: &&Arc<Object>| {
            if family.quarantined.contains(object::uid(dependent)) {
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
        // The dependents see for themselves that their owner waits. In a circle nobody would ever be the first.
        let circles = |dependent: &Object| {
            family.circles.contains(uid) && family.circles.contains(object::uid(dependent))
        };
        if !dependents.iter().any(|dependent| blocks(dependent, uid) && !circles(dependent)) {
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

fn blocks(dependent: &Object, owner: &str) -> bool {
    object::owners(dependent).any(|reference| {
        object::owner_uid(reference) == owner
            && reference.get("blockOwnerDeletion") == Some(&Value::Bool(true))
    })
}

/// A dependent with dependents of its own waits for them too.
fn delete_in_foreground(
    view: &View<'_>,
    family: &Family<'_>,
    dependent: &Arc<Object>,
) -> Option<Transaction> {
    if family.dependents(object::uid(dependent)).is_empty() {
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

fn pods_without_node(view: &View<'_>, outcome: &mut Outcome<'_>) {
    // By key: a node that cannot be read exists all the same.
    let set_aside = view.world.quarantined.iter().filter(|object| &*object.key.resource == NODES);
    let nodes = view.world.snapshot.list(NODES).chain(set_aside);
    let nodes: BTreeSet<&str> = nodes.map(|node| &*node.key.name).collect();
    for pod in &view.pods {
        let Some(node) = pod.node().filter(|node| !nodes.contains(node)) else { continue };
        let transaction = if object::finalizers(pod.object).next().is_none() {
            Some(object::remove(pod.object))
        } else {
            object::delete(pod.object, view.now)
        };
        if let Some(transaction) = transaction {
            outcome.step(format!("remove {}: node {node} does not exist", pod.object.key), transaction);
        }
    }
}

/// A node's member and its Node are made in one commit: who deletes the Node expels the member.
fn members_without_node(view: &View<'_>, outcome: &mut Outcome<'_>) {
    for object in view.world.snapshot.list(MEMBERS) {
        let Ok(member) = Member::from_object(object) else { continue };
        if member.role == MemberRole::Node && !view.world.exists(&Key::new(NODES, "", &member.name)) {
            outcome.step(format!("expel {}: its node was deleted", object.key), object::remove(object));
        }
    }
}

/// A service and its address are made in one commit, so a lone address was left behind.
fn addresses_without_service(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let set_aside = view.world.quarantined.iter().filter(|object| &*object.key.resource == SERVICES);
    let services = view.world.snapshot.list(SERVICES).chain(set_aside);
    let held: BTreeSet<&str> = services.flat_map(|service| object::service_addresses(service)).collect();
    let config = &view.world.config;
    let reserved = [config.dns_address.to_string(), ipam::first_service_address(config).to_string()];
    for address in view.world.snapshot.list(SERVICEADDRESSES) {
        if !held.contains(&*address.key.name) && !reserved.iter().any(|name| **name == *address.key.name) {
            outcome.step(format!("release {}", address.key), object::remove(address));
        }
    }
}

fn old_events(view: &View<'_>, outcome: &mut Outcome<'_>) {
    let last = |event: &Object| {
        let time = |pointer| {
            warren_state::at(&event.value, pointer).and_then(Value::as_str)?.parse::<Timestamp>().ok()
        };
        let told = time("/series/lastObservedTime")
            .or_else(|| time("/lastTimestamp"))
            .or_else(|| time("/eventTime"));
        // When it was written is no earlier than its creation, whatever past it tells of.
        told.map_or(object::created_at(event), |told| told.max(object::created_at(event)))
    };
    let mut expired = Vec::new();
    for event in view.world.snapshot.list(EVENTS) {
        let expiry = object::later(last(event), EVENT_LIFE);
        if expiry <= view.now {
            expired.push(event);
        } else {
            outcome.wake(expiry);
        }
    }
    for batch in expired.chunks(EVENT_BATCH) {
        let transaction = batch.iter().fold(Transaction::new(), |transaction, event| {
            transaction.delete(event.key.clone(), event.revision)
        });
        outcome.step(format!("forget {} old events", batch.len()), transaction);
    }
}
