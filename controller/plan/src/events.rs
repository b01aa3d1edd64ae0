//! Events: what happened to an object, for people. How they are counted and combined says [`warren_objects::events`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use warren_objects::events::{Place, Telling};
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

/// What was told in this pass and is not in the state yet, by where it would be combined.
#[derive(Default)]
pub(crate) struct Told(BTreeMap<Key, Alike>);

/// Events that differ by their messages alone.
#[derive(Default)]
struct Alike {
    /// Those that are told for the first time.
    first: BTreeSet<Key>,
    /// How many were combined.
    combined: i64,
}

/// Adds the event to a transaction: it is told if and only if the thing happens. An event of the same object,
/// reason and message is counted, and many that are alike are combined. Nothing is told inside a namespace that is going
/// away.
pub(crate) fn record(view: &View<'_>, transaction: &mut Transaction, event: &Event<'_>) {
    let Some(namespace) = namespace(view, event) else { return };
    let involved = involved(event);
    let telling = telling(event, namespace, &involved);
    let place = place(view, &telling);
    let known = view.read(&place.key);
    if known.is_some() {
        // One that a client deletes meanwhile stays deleted: the step is planned anew.
        transaction.preconditions.push(Precondition::Exists(place.key.clone()));
    }
    put(view, transaction, &telling, place, known.map(|known| &**known));
}

/// Adds the event unless it is there already: for what goes on, and would be counted in every pass. Where events like it
/// are combined, that is told already: what goes on in several ways at once would be told in turns, for ever.
pub(crate) fn record_once(view: &View<'_>, transaction: &mut Transaction, event: &Event<'_>) {
    let Some(namespace) = namespace(view, event) else { return };
    let involved = involved(event);
    let telling = telling(event, namespace, &involved);
    if [telling.own_key(), telling.combined_key()].iter().all(|key| view.read(key).is_none()) {
        let place = place(view, &telling);
        put(view, transaction, &telling, place, None);
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

/// Where an event lies, if it may.
fn namespace<'e>(view: &View<'_>, event: &Event<'e>) -> Option<&'e str> {
    let about = &event.about.key;
    let namespace = if about.namespace.is_empty() { "default" } else { &*about.namespace };
    if about.namespace.is_empty() {
        view.read(&Key::new(resources::NAMESPACES, "", namespace));
    }
    (!view.namespace_terminating(namespace)).then_some(namespace)
}

fn telling<'e>(event: &'e Event<'_>, namespace: &'e str, involved: &'e Value) -> Telling<'e> {
    let Event { component, reason, message, warning, .. } = event;
    Telling { namespace, involved, component, host: "", reason, message, warning: *warning }
}

fn place(view: &View<'_>, telling: &Telling<'_>) -> Place {
    // By name, so that it is told anew when somebody deletes it.
    view.read(&telling.own_key());
    let told = view.told.borrow();
    let own = telling.own_key();
    let elsewhere = told
        .0
        .get(&telling.combined_key())
        .map_or(0, |alike| if alike.first.contains(&own) { 0 } else { alike.first.len() });
    telling.place(&view.world.snapshot, elsewhere, view.now)
}

fn put(
    view: &View<'_>,
    transaction: &mut Transaction,
    telling: &Telling<'_>,
    place: Place,
    known: Option<&Object>,
) {
    let mut told = view.told.borrow_mut();
    let alike = told.0.entry(telling.combined_key()).or_default();
    let mut times = 1;
    if place.combines {
        // The steps of a pass are written one after the other, and the last one counts for all.
        alike.combined = alike.combined.saturating_add(1);
        times = alike.combined;
    } else if known.is_none() {
        alike.first.insert(place.key.clone());
    }
    let key = &place.key;
    let uid = object::uuid(&["event", &key.namespace, &key.name, &view.world.snapshot.revision.to_string()]);
    let value = telling.value(&place, known, times, view.now, &uid);
    transaction.writes.push(Write::Put(place.key, value));
}

/// A reference to what an event is about.
fn involved(event: &Event<'_>) -> Value {
    let about = &event.about.key;
    let (api_version, kind) = object::type_of(event.about);
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
    involved
}
